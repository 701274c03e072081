//! kube-rs, the client that Rust programs are written with: what it lists, reads and watches.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Config, ResourceExt as _};

use crate::api::fixture::Server;
use crate::api::kube::tests::pod;
use crate::domain::record;
use crate::domain::token::Role;
use crate::domain::world::{Effect, Record, Table};
use crate::kube::fixture::world;

/// A client that was given nothing but the kubeconfig.
async fn client(server: &Server) -> Client {
    let token = server.token("ann", Role::Read, None);
    let url = server.url("");
    let file = crate::client::kubeconfig::Kubeconfig::new(&url, &server.authority_pem, &token);
    let file = Kubeconfig::from_yaml(&file.to_yaml()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn names<K: kube::Resource>(objects: impl IntoIterator<Item = K>) -> Vec<String> {
    objects.into_iter().map(|object| object.name_any()).collect()
}

#[tokio::test]
async fn kube_rs_lists_what_it_has_types_for_and_discovers_the_rest() {
    let server = Server::start(world()).await;
    let client = client(&server).await;
    assert!(client.apiserver_version().await.unwrap().git_version.contains("+kgit"));

    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let running = ListParams::default().fields("status.phase=Running").labels("app=web");
    let listed = pods.list(&running.limit(2)).await.unwrap();
    assert_eq!(names(listed.items), ["web-7c5ddbdf54-aaaaa", "web-7c5ddbdf54-bbbbb"]);
    assert!(listed.metadata.continue_.is_some());
    assert!(pods.get_opt("nobody").await.unwrap().is_none());

    let deployments: Api<Deployment> = Api::all(client.clone());
    let listed = deployments.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items[0].status.as_ref().unwrap().ready_replicas, Some(2));
    let services: Api<Service> = Api::all(client.clone());
    let listed = services.list(&ListParams::default()).await.unwrap();
    assert_eq!(names(listed), ["kubernetes", "public", "web"]);

    let kind = GroupVersionKind::gvk("kgit.dev", "v1", "Source");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let sources: Api<DynamicObject> = Api::all_with(client, &resource);
    let source = sources.get("source").await.unwrap();
    assert_eq!(source.data["status"]["phase"], "Followed");
}

/// Reads on until all pods of that set are known, and only these. Tells how often it was sent back to
/// the list.
async fn follow(
    mut events: impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin,
    known: &mut BTreeSet<String>,
    wanted: &[&str],
) -> usize {
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let (mut lists, mut breaks, mut listing) = (0, 0, BTreeSet::new());
    while *known != wanted {
        match events.next().await.unwrap() {
            Ok(Event::Apply(pod)) => drop(known.insert(pod.name_any())),
            Ok(Event::Delete(pod)) => assert!(known.remove(&pod.name_any())),
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(pod)) => drop(listing.insert(pod.name_any())),
            Ok(Event::InitDone) => {
                lists += 1;
                *known = std::mem::take(&mut listing);
            }
            // What breaks off is taken up again by the client.
            Err(error) => {
                breaks += 1;
                assert!(breaks < MOST_BREAKS, "{error}");
            }
        }
    }
    lists
}

/// A connection that breaks, and another that was about to be used; more is no recovery.
const MOST_BREAKS: usize = 10;

const WEB: [&str; 3] = ["web-7c5ddbdf54-aaaaa", "web-7c5ddbdf54-bbbbb", "web-7c5ddbdf54-ccccc"];

fn made(server: &Server, name: &str) -> Effect {
    let view = server.api.master.view();
    let mut made: record::Pod = (*view.world.pods[&pod(WEB[2])].value).clone();
    made.key = pod(name);
    made.uid = kgit_protocol::ids::PodUid::new(format!("uid-of-{name}"));
    Effect::Put(made.key.clone(), Record::Pod(std::sync::Arc::new(made)))
}

fn removed(name: &str) -> Effect {
    Effect::Remove(pod(name), Table::Pod)
}

#[tokio::test]
async fn a_watcher_of_kube_rs_loses_nothing_by_a_restart_of_the_master() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let server = Server::start(world()).await;
        let pods: Api<Pod> = Api::namespaced(client(&server).await, "default");
        let mut events = pin!(watcher(pods, config.labels("app=web")));
        let mut known = BTreeSet::new();
        assert_eq!(follow(&mut events, &mut known, &WEB).await, 1);
        server.commits.send(vec![made(&server, "new"), removed(WEB[0])]).await.unwrap();
        let now = ["new", WEB[1], WEB[2]];
        assert_eq!(follow(&mut events, &mut known, &now).await, 0, "told, without a list");

        // What happens while nobody is told is in no watch: the client is sent back to the list.
        let meanwhile = vec![removed("new"), made(&server, "newer"), removed(WEB[1])];
        let server = server.restarted(&meanwhile).await;
        let now = ["newer", WEB[2]];
        assert_eq!(follow(&mut events, &mut known, &now).await, 1);
        server.commits.send(vec![made(&server, "newest")]).await.unwrap();
        let now = ["newer", "newest", WEB[2]];
        assert_eq!(follow(&mut events, &mut known, &now).await, 0);
    }
}
