//! Reading over real TLS: credentials, lists, tables, watches, refused writes, logs.

use std::sync::Arc;

use futures_util::StreamExt as _;
use kgit_protocol::ids::{Digest, NodeName};
use kgit_protocol::stream::StreamRequest;
use serde_json::{Value, json};

use crate::api::fixture::{FakeAgent, Server};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::token::Role;
use crate::domain::world::{Effect, Record, Table, World, node_key};
use crate::kube::fixture::world;

pub(super) struct Reader {
    pub(super) server: Server,
    client: reqwest::Client,
    token: String,
}

impl Reader {
    pub(super) async fn start(role: Role) -> Self {
        Self::of(world(), role).await
    }

    pub(super) async fn of(world: World, role: Role) -> Self {
        let server = Server::start(world).await;
        let (client, token) = (server.client(), server.token("ann", role, None));
        Self { server, client, token }
    }

    pub(super) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.server.url(path)).bearer_auth(&self.token)
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let response = self.request(reqwest::Method::GET, path).send().await.unwrap();
        response.json().await.unwrap()
    }

    async fn get_as(&self, accept: &str, path: &str) -> Value {
        let request = self.request(reqwest::Method::GET, path).header("accept", accept);
        request.send().await.unwrap().json().await.unwrap()
    }

    pub(super) async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await;
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends effects to the loop and waits until they are history.
    pub(super) async fn commit(&self, effects: Vec<Effect>) {
        let mut newest = self.server.api.history.newest();
        let before = *newest.borrow_and_update();
        self.server.commits.send(effects).await.unwrap();
        newest.wait_for(|version| *version > before).await.unwrap();
    }

    pub(super) async fn watch(&self, path: &str) -> Lines {
        let response = self.request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { stream: Box::pin(response.bytes_stream()), read: Vec::new() }
    }
}

pub(super) struct Lines {
    stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    read: Vec<u8>,
}

impl Lines {
    /// The next line as `TYPE name`.
    pub(super) async fn next(&mut self) -> String {
        let Some(event) = self.event().await else { return "end".to_owned() };
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }

    pub(super) async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            match self.stream.next().await {
                Some(bytes) => self.read.extend_from_slice(&bytes.unwrap()),
                None => return None,
            }
        }
    }
}

pub(super) fn pod(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Pod, "default", name)
}

#[tokio::test]
async fn without_credentials_there_are_health_checks_and_nothing_else() {
    let server = Server::start(world()).await;
    let client = server.client();
    let code = async |path: &str| client.get(server.url(path)).send().await.unwrap().status();
    assert_eq!(code("/healthz").await, 200);
    for path in ["/version", "/api", "/api/v1/pods", "/nowhere", "/kgit/v1/status"] {
        assert_eq!(code(path).await, 401, "{path}");
    }
    let join = server.token("rack", Role::Join, Some(1));
    let with_join = client.get(server.url("/api/v1/pods")).bearer_auth(join).send().await.unwrap();
    assert_eq!(with_join.status(), 403);
}

#[tokio::test]
async fn a_list_obeys_namespaces_selectors_and_limits() {
    let reader = Reader::start(Role::Read).await;
    let in_default = "/api/v1/namespaces/default/pods";
    assert_eq!(reader.names(in_default).await.len(), 4);
    assert!(reader.names("/api/v1/namespaces/other/pods").await.is_empty());
    assert_eq!(reader.names("/api/v1/pods?labelSelector=app%3Dlonely").await, ["lonely"]);
    let on_no_node = "/api/v1/pods?fieldSelector=spec.nodeName%3D";
    assert_eq!(reader.names(on_no_node).await, ["lonely"]);

    let first = reader.get("/api/v1/pods?limit=3").await;
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = reader.names(&format!("/api/v1/pods?limit=3&continue={token}")).await;
    assert_eq!(rest, ["web-7c5ddbdf54-ccccc"]);

    let some = "/api/v1/pods?labelSelector=app%3Dweb&limit=2";
    let first = reader.get(some).await;
    let count = first["metadata"]["remainingItemCount"].as_u64().unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = reader.names(&format!("{some}&continue={token}")).await;
    assert_eq!((rest.len() as u64, reader.names(some).await.len()), (count, 2));
    assert!(rest.iter().all(|name| name.starts_with("web-")), "{rest:?}");
}

#[tokio::test]
async fn a_table_is_sent_where_it_is_asked_for() {
    let reader = Reader::start(Role::Read).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = reader.get_as(table, "/apis/apps/v1/deployments").await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][1], "2/3");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");

    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = reader.request(reqwest::Method::GET, "/api/v1/pods?limit=1");
    let text = request.header("accept", as_table).send().await.unwrap().text().await.unwrap();
    assert_eq!(text.matches("\"rows\"").count(), 1, "{text}");
    let table: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(table["rows"].as_array().unwrap().len(), 1);
    assert!(table["metadata"]["continue"].is_string());

    let path = "/api/v1/pods?includeObject=Nonsense";
    let request = reader.request(reqwest::Method::GET, path).header("accept", as_table);
    assert_eq!(request.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn metadata_alone_is_sent_where_it_is_asked_for() {
    let reader = Reader::start(Role::Read).await;
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = reader.get_as(partial, "/api/v1/pods").await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert!(list["items"][0].get("spec").is_none());
}

#[tokio::test]
async fn a_node_in_a_list_has_its_tunnels_condition() {
    let reader = Reader::start(Role::Read).await;
    for path in ["/api/v1/nodes", "/api/v1/nodes?fieldSelector=metadata.name%3Da"] {
        let list = reader.get(path).await;
        assert!(list["items"][0]["status"].to_string().contains("TunnelReady"), "{path}: {list}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_upstreams_words() {
    let reader = Reader::start(Role::Read).await;
    let status = reader.get("/apis/apps/v1/namespaces/default/deployments/nope").await;
    assert_eq!(status["message"], "deployments.apps \"nope\" not found");
    assert_eq!(status["code"], 404);
    let status = reader.get("/apis/apps/v1/gadgets").await;
    assert_eq!(status["message"], "the server could not find the requested resource");
    let status = reader.get("/api/v1/pods?labelSelector=a+b").await;
    assert_eq!(status["reason"], "BadRequest");
}

#[tokio::test]
async fn a_write_is_refused_and_says_where_to_change_the_manifest() {
    let reader = Reader::start(Role::Admin).await;
    let refused = async |method, path: &str| -> Value {
        reader.request(method, path).json(&json!({})).send().await.unwrap().json().await.unwrap()
    };
    let path = "/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa";
    let status = refused(reqwest::Method::PATCH, path).await;
    assert_eq!(status["code"], 405);
    let scale = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    let scaled = refused(reqwest::Method::PATCH, scale).await;
    assert!(scaled["message"].as_str().unwrap().contains("apps/web.yaml:1:1"), "{scaled}");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("apps/web.yaml:1:1 of Deployment `web`"), "{message}");
}

#[tokio::test]
async fn a_pod_that_a_workload_made_is_ended_for_who_may_write() {
    let path = "/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa";
    let delete = async |reader: &Reader, path: &str, body: Value| -> Value {
        let request = reader.request(reqwest::Method::DELETE, path).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    };
    let reader = Reader::start(Role::Read).await;
    assert_eq!(delete(&reader, path, json!({})).await["code"], 403);
    let writer = Reader::start(Role::Write).await;
    let uid = writer.get(path).await["metadata"]["uid"].clone();
    let dry = delete(&writer, path, json!({"dryRun": ["All"]})).await;
    assert_eq!((&dry["kind"], &dry["metadata"]["uid"]), (&json!("Pod"), &uid));
    let other = json!({"preconditions": {"uid": "other"}});
    assert_eq!(delete(&writer, path, other).await["code"], 409);
    assert_eq!(delete(&writer, &format!("{path}x"), json!({})).await["code"], 404);
    assert_eq!(delete(&writer, path, json!("now")).await["code"], 400);
    assert!(writer.server.records.entered.lock().unwrap().is_empty());
    let done = delete(&writer, path, json!({"gracePeriodSeconds": 3})).await;
    assert_eq!((&done["kind"], &done["metadata"]["uid"]), (&json!("Pod"), &uid));
    assert_eq!(
        *writer.server.records.entered.lock().unwrap(),
        ["ann ends Pod/default/web-7c5ddbdf54-aaaaa within Some(3)"]
    );
}

#[tokio::test]
async fn only_an_admin_sees_the_values_of_secrets() {
    let path = "/api/v1/namespaces/default/secrets/password";
    let masked = Reader::start(Role::Write).await.get(path).await;
    assert_eq!(masked["data"]["word"], "KioqKio=");
    let shown = Reader::start(Role::Admin).await.get(path).await;
    assert_eq!(shown["data"]["word"], "aHVudGVyMg==");
}

#[tokio::test]
async fn a_watch_tells_what_comes_changes_leaves_its_selector_and_goes() {
    let reader = Reader::start(Role::Read).await;
    let version = reader.get("/api/v1/pods").await["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let path = format!("/api/v1/pods?watch=1&labelSelector=app%3Dlonely&resourceVersion={version}");
    let mut lines = reader.watch(&path).await;

    let lonely = (*reader.server.api.master.view().world.pods[&pod("lonely")].value).clone();
    let mut second = lonely.clone();
    second.key = pod("second");
    let put =
        |pod: crate::domain::record::Pod| Effect::Put(pod.key.clone(), Record::Pod(Arc::new(pod)));
    reader.commit(vec![put(second.clone())]).await;
    assert_eq!(lines.next().await, "ADDED second");
    let mut labelled = second.clone();
    labelled.labels.insert("extra".to_owned(), "1".to_owned());
    reader.commit(vec![put(labelled)]).await;
    assert_eq!(lines.next().await, "MODIFIED second");
    // A write that changes nothing that is shown is not told.
    let mut told = second.clone();
    told.labels.insert("extra".to_owned(), "1".to_owned());
    told.drifts_told = 7;
    reader.commit(vec![put(told)]).await;
    let mut left = second.clone();
    left.labels.clear();
    reader.commit(vec![put(left)]).await;
    assert_eq!(lines.next().await, "DELETED second");
    reader.commit(vec![Effect::Remove(pod("lonely"), Table::Pod)]).await;
    assert_eq!(lines.next().await, "DELETED lonely");
}

#[tokio::test]
async fn a_watch_goes_on_from_an_earlier_version_and_is_sent_back_from_too_early_a_one() {
    let reader = Reader::start(Role::Read).await;
    let version = reader.server.api.master.view().world.version;
    reader.commit(vec![Effect::Remove(pod("lonely"), Table::Pod)]).await;
    let path = format!("/api/v1/pods?watch=True&resourceVersion={version}");
    assert_eq!(reader.watch(&path).await.next().await, "DELETED lonely");
    let event = reader.get("/api/v1/pods?watch=true&resourceVersion=2").await;
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!((status["code"].as_u64(), status["reason"].as_str()), (Some(410), Some("Expired")));
}

#[tokio::test]
async fn initial_events_end_with_a_marked_bookmark() {
    let reader = Reader::start(Role::Read).await;
    let path = "/api/v1/nodes?watch=1&sendInitialEvents=true&allowWatchBookmarks=true\
                &resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let mut lines = reader.watch(path).await;
    assert_eq!(lines.next().await, "ADDED a");
    assert_eq!(lines.next().await, "BOOKMARK ");
    assert_eq!(lines.next().await, "end");
}

#[tokio::test]
async fn logs_are_what_the_agent_says_in_a_stream_of_its_tunnel() {
    let reader = Reader::start(Role::Read).await;
    let _agent = FakeAgent::start(&reader.server.api, "a", |request| match request {
        StreamRequest::Logs(request) => {
            Ok(format!("{:?} lines\n", request.tail_lines).into_bytes())
        }
        other => Err(format!("{other:?}")),
    });
    let path = "/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa/log?tailLines=1";
    let response = reader.request(reqwest::Method::GET, path).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "Some(1) lines\n");
    let status = reader.get("/api/v1/namespaces/default/pods/lonely/log").await;
    assert_eq!(status["message"], "pod lonely does not have a host assigned");
}

#[tokio::test]
async fn a_request_is_passed_on_to_a_pod_without_the_callers_token() {
    let reader = Reader::start(Role::Write).await;
    let _agent = FakeAgent::start(&reader.server.api, "a", |request| match request {
        StreamRequest::Connect(connect) => {
            let said = format!("port {}", connect.port);
            let head =
                format!("HTTP/1.1 302 Found\r\nlocation: /in\r\ncontent-length: {}", said.len());
            Ok(format!("{head}\r\n\r\n{said}").into_bytes())
        }
        other => Err(format!("{other:?}")),
    });
    let path = "/api/v1/namespaces/default/pods/http:web-7c5ddbdf54-aaaaa:8080/proxy";
    let client = reader.server.client_that_stays();
    let request =
        client.get(reader.server.url(&format!("{path}/a?b=c"))).bearer_auth(&reader.token);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], format!("{path}/in"));
    assert_eq!(response.text().await.unwrap(), "port 8080");
    let request = client.get(reader.server.url(path)).bearer_auth(&reader.token);
    assert_eq!(request.send().await.unwrap().headers()["location"], format!("{path}/"));
    let service = "/api/v1/namespaces/default/services/web/proxy/";
    let request = client.get(reader.server.url(service)).bearer_auth(&reader.token);
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "port 8080");
    let status = reader.get("/api/v1/namespaces/default/services/public/proxy/").await;
    assert_eq!(status["message"], "no endpoints available for service \"public\"");
    let entered = reader.server.records.entered.lock().unwrap();
    assert_eq!(entered.len(), 1, "written down once: {entered:?}");
}

#[tokio::test]
async fn the_apis_own_endpoints_are_its_nodes() {
    let reader = Reader::start(Role::Read).await;
    let path = "/api/v1/namespaces/default/endpoints";
    let subset = json!({
        "addresses": [{"ip": "10.42.0.1", "nodeName": "a"}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    });
    let shown = reader.get(&format!("{path}/kubernetes")).await;
    assert_eq!(shown["subsets"], json!([subset]));
    let version = shown["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let list = reader.get(path).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = reader.watch(&format!("{path}?watch=1&resourceVersion={from}")).await;
    let node = Record::Node(Arc::new(crate::api::fixture::node("b", Digest::of(b"key"))));
    reader.commit(vec![Effect::Put(node_key(&NodeName::new("b")), node)]).await;
    let event = lines.event().await.unwrap();
    assert_eq!((&event["type"], name_of(&event)), (&json!("MODIFIED"), "kubernetes"));
    let shown = &event["object"];
    assert_ne!(shown["metadata"]["resourceVersion"], version);
    assert_eq!(shown["subsets"][0]["addresses"][1]["nodeName"], "b");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let shown = reader.get(slices).await;
    assert_eq!(shown["endpoints"][1]["conditions"]["ready"], true);
}

fn name_of(event: &Value) -> &str {
    event["object"]["metadata"]["name"].as_str().unwrap()
}

const EXEC: &str = "/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa/exec";

#[tokio::test]
async fn what_can_not_be_run_is_refused_before_the_connection_is_upgraded() {
    let reader = Reader::start(Role::Write).await;
    let cases = [
        (
            "/api/v1/namespaces/default/pods/gone/exec?stdout=true&command=ls",
            404,
            "pods \"gone\" not found",
        ),
        (
            "/api/v1/namespaces/default/pods/lonely/exec?stdout=true&command=ls",
            400,
            "pod lonely does not have a host assigned",
        ),
        (
            &format!("{EXEC}?stdout=true&command=ls&container=db"),
            400,
            "container db is not valid for pod web-7c5ddbdf54-aaaaa",
        ),
        (
            &format!("{EXEC}?command=ls"),
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            &format!("{EXEC}?stdout=true"),
            400,
            "you must specify at least 1 command for the container",
        ),
        (&format!("{EXEC}?stdout=true&command=ls"), 400, "Upgrade request required"),
        (
            "/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa/portforward",
            400,
            "Upgrade request required",
        ),
    ];
    for (path, code, message) in cases {
        let status = reader.get(path).await;
        let told = (status["code"].as_u64(), status["message"].as_str());
        assert_eq!(told, (Some(code), Some(message)), "{path}");
    }
    assert!(reader.server.records.entered.lock().unwrap().is_empty(), "nothing was started");
}

#[tokio::test]
async fn to_read_is_not_enough_to_work_inside_a_pod() {
    let reader = Reader::start(Role::Read).await;
    for verb in ["exec", "attach", "portforward", "proxy"] {
        let path = format!("/api/v1/namespaces/default/pods/web-7c5ddbdf54-aaaaa/{verb}?stdout=1");
        for method in [reqwest::Method::GET, reqwest::Method::POST] {
            let response = reader.request(method, &path).send().await.unwrap();
            assert_eq!(response.status(), 403);
            let status: Value = response.json().await.unwrap();
            let said = status["message"].as_str().unwrap();
            assert!(said.contains(&format!("cannot create resource \"pods/{verb}\"")), "{said}");
        }
    }
}

#[tokio::test]
async fn discovery_lists_every_type_in_both_forms() {
    let reader = Reader::start(Role::Read).await;
    let core = reader.get("/api/v1").await;
    let names = core["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap());
    assert!(names.clone().any(|name| name == "pods/log"), "{:?}", names.collect::<Vec<_>>());
    let accept = crate::kube::discovery::AGGREGATED;
    let request = reader.request(reqwest::Method::GET, "/apis").header("accept", accept);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], accept);
    let groups: Value = response.json().await.unwrap();
    let names: Vec<_> = groups["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "apps",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "autoscaling",
            "batch",
            "coordination.k8s.io",
            "discovery.k8s.io",
            "kgit.dev",
            "metrics.k8s.io",
            "policy",
            "scheduling.k8s.io",
            "storage.k8s.io"
        ]
    );
}
