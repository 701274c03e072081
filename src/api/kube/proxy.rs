//! `…/pods/{name}/proxy` and `…/services/{name}/proxy`: a request is passed on to a port of a pod,
//! by way of its node's tunnel, and the answer comes back. Plain HTTP; bodies flow both ways as
//! they come, and what the pod upgrades to is carried too. Links in pages are left as they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, LOCATION, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};
use axum::response::{IntoResponse as _, Response};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::stream::{ConnectRequest, StreamRequest};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::logs::refused;
use crate::api::kube::streams::{allowed, note};
use crate::api::state::Api;
use crate::api::tunnels::StreamRefused;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::record::Pod;
use crate::domain::service::ServiceState;
use crate::domain::world::World;
use crate::kube::status::Status;

/// What is meant if neither the path nor the pod's manifest names a port.
const HTTP_PORT: u16 = 80;
/// The parts of a path up to and with `proxy`: `/api/v1/namespaces/N/pods/NAME/proxy`.
const PATH_PARTS: usize = 8;
/// What concerns one connection and not the next one. Source: RFC 9110, 7.6.1.
const OF_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// Spreads the requests over a service's endpoints.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// `[http:]NAME[:PORT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named<'a> {
    name: &'a str,
    port: Option<&'a str>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    node: NodeName,
    pod: PodUid,
    port: u16,
    /// What the pod hears in `Host`.
    host: String,
    shown: String,
}

pub async fn of_pod(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (namespace, name) = named(&path);
    allowed(&caller, "pods/proxy", namespace)?;
    let backend = pod_backend(&api.master.view().world, namespace, Named::parse(name)?)?;
    pass_on(&api, &caller, backend, request).await
}

pub async fn of_service(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (namespace, name) = named(&path);
    allowed(&caller, "services/proxy", namespace)?;
    let backend = service_backend(&api.master.view().world, namespace, Named::parse(name)?)?;
    pass_on(&api, &caller, backend, request).await
}

/// The namespace and the name among the parts of a path.
fn named(path: &[(String, String)]) -> (&str, &str) {
    let part = |wanted: &str| {
        path.iter().find(|(key, _)| key == wanted).map_or("", |(_, value)| value.as_str())
    };
    (part("namespace"), part("name"))
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return Err(Status::bad_request(format!("invalid name \"{text}\"")).into()),
        };
        if !matches!(scheme, "" | "http") {
            let message = format!("requests are passed on by http only, not by {scheme}");
            return Err(Status::bad_request(message).into());
        }
        Ok(Self { name, port: Some(port).filter(|port| !port.is_empty()) })
    }
}

fn pod_backend(world: &World, namespace: &str, named: Named<'_>) -> Result<Backend, ApiError> {
    let key = ObjectKey::new(Kind::Pod, namespace, named.name);
    let pod = world.pods.get(&key).ok_or_else(|| Status::not_found("", "pods", named.name))?;
    let port = match named.port {
        Some(text) => text
            .parse()
            .map_err(|_| Status::bad_request(format!("\"{text}\" is no port of a pod")))?,
        None => first_port(pod).unwrap_or(HTTP_PORT),
    };
    to_pod(pod, port)
}

fn first_port(pod: &Pod) -> Option<u16> {
    pod.template.containers.iter().find_map(|container| container.ports.first()).map(|it| it.port)
}

fn to_pod(pod: &Pod, port: u16) -> Result<Backend, ApiError> {
    let name = &pod.key.name;
    let unscheduled = || Status::bad_request(format!("pod {name} does not have a host assigned"));
    let placed = pod.placed.as_ref().ok_or_else(unscheduled)?;
    let address = placed.spec.address.map_or_else(|| name.to_string(), |it| it.to_string());
    Ok(Backend {
        node: placed.node.clone(),
        pod: pod.uid.clone(),
        port,
        host: format!("{address}:{port}"),
        shown: format!("{} on {}", pod.key, placed.node),
    })
}

/// One of the service's ready endpoints.
fn service_backend(world: &World, namespace: &str, named: Named<'_>) -> Result<Backend, ApiError> {
    let name = named.name;
    let key = ObjectKey::new(Kind::Service, namespace, name);
    let state = world.services.get(&key).ok_or_else(|| Status::not_found("", "services", name))?;
    let index = port_index(state, named.port).ok_or_else(|| {
        let asked = named.port.unwrap_or_default();
        Status::unavailable(format!("no endpoints available for service \"{name}:{asked}\""))
    })?;
    let ready = state.endpoints().filter(|(endpoint, _)| endpoint.ready);
    let targets: Vec<_> = ready
        .filter_map(|(endpoint, _)| {
            let target = endpoint.targets.get(index).copied().flatten()?;
            Some((world.pod_by_uid(endpoint.pod.as_ref()?)?, target))
        })
        .collect();
    if targets.is_empty() {
        let message = format!("no endpoints available for service \"{name}\"");
        return Err(Status::unavailable(message).into());
    }
    let (pod, target) = targets[TURN.fetch_add(1, Ordering::Relaxed) % targets.len()];
    to_pod(pod, target)
}

/// Which of the service's ports is meant, by name or number; the only one needs no name.
fn port_index(state: &ServiceState, asked: Option<&str>) -> Option<usize> {
    let ports = &state.service.ports;
    match asked {
        None if ports.len() == 1 => Some(0),
        None => ports.iter().position(|port| port.name.is_none()),
        Some(asked) => ports
            .iter()
            .position(|port| port.name.as_deref() == Some(asked) || asked.parse() == Ok(port.port)),
    }
}

async fn pass_on(
    api: &Api,
    caller: &Caller,
    backend: Backend,
    mut request: Request,
) -> Result<Response, ApiError> {
    if api.forwards.is_new(&caller.token_id, &backend.pod, api.now()) {
        note(api, caller, format!("to pass requests on to {}", backend.shown)).await?;
    }
    let Some((prefix, rest)) = split_path(request.uri().path()) else {
        let to = format!("{}/", request.uri().path());
        return Ok((StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]).into_response());
    };
    let prefix = prefix.to_owned();
    let uri = uri_at(rest, request.uri().query())?;
    let connect = ConnectRequest { pod: backend.pod.clone(), port: backend.port };
    let stream = api.tunnels.open(&backend.node, &StreamRequest::Connect(connect)).await;
    let stream = stream.map_err(|error| unconnected(&backend, error))?;
    let wire = TokioIo::new(stream.into_wire());
    let (mut sender, connection) =
        http1::handshake(wire).await.map_err(|error| unanswered(&backend, &error))?;
    // Ends when the pod, or whoever asked, is done.
    tokio::spawn(connection.with_upgrades());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    for_the_pod(request.headers_mut(), &backend.host);
    let answer = sender.send_request(request).await;
    let mut answer = answer.map_err(|error| unanswered(&backend, &error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        let pods = hyper::upgrade::on(&mut answer);
        tokio::spawn(carry(upgrade, pods));
    } else {
        without_connection(answer.headers_mut());
    }
    back_through_here(answer.headers_mut(), &prefix);
    Ok(answer.map(Body::new))
}

fn unconnected(backend: &Backend, error: StreamRefused) -> ApiError {
    match error {
        StreamRefused::Agent { message, .. } => {
            let message = format!("error trying to reach {}: {message}", backend.shown);
            Status::unavailable(message).into()
        }
        error => refused(error),
    }
}

fn unanswered(backend: &Backend, error: &hyper::Error) -> ApiError {
    let message =
        format!("error trying to reach port {} of {}: {error}", backend.port, backend.shown);
    Status::unavailable(message).into()
}

/// What leads to the proxy, and the path behind it. `None`: it ends without a slash, and links in
/// the pod's pages would lead past the proxy.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let (at, _) = path.match_indices('/').nth(PATH_PARTS - 1)?;
    Some(path.split_at(at))
}

fn uri_at(path: &str, query: Option<&str>) -> Result<Uri, ApiError> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Ok(text.parse().map_err(|_| Status::bad_request(format!("invalid path: {path}")))?)
}

/// The caller's token is for the API, not for pods.
fn for_the_pod(headers: &mut HeaderMap, host: &str) {
    let upgrade = headers.get(UPGRADE).cloned();
    without_connection(headers);
    headers.remove(AUTHORIZATION);
    headers.remove(PROXY_AUTHORIZATION);
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

fn without_connection(headers: &mut HeaderMap) {
    let listed = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<String> =
        listed.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect();
    for name in listed {
        headers.remove(name);
    }
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
}

/// A redirect to a path of the pod's own leads through the proxy again.
fn back_through_here(headers: &mut HeaderMap, prefix: &str) {
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(to) = to.filter(|to| to.starts_with('/') && !to.starts_with("//")) else { return };
    if let Ok(to) = HeaderValue::from_str(&format!("{prefix}{to}")) {
        headers.insert(LOCATION, to);
    }
}

async fn carry(client: OnUpgrade, pod: OnUpgrade) {
    let (Ok(client), Ok(pod)) = tokio::join!(client, pod) else { return };
    let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
    // Either side may just go away.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_carry_a_scheme_and_a_port() {
        let read = |text| Named::parse(text).map_err(|error| error.0.message);
        assert_eq!(read("web"), Ok(Named { name: "web", port: None }));
        assert_eq!(read("web:8080"), Ok(Named { name: "web", port: Some("8080") }));
        assert_eq!(read("http:web:"), Ok(Named { name: "web", port: None }));
        assert_eq!(read("http:web:main"), Ok(Named { name: "web", port: Some("main") }));
        let https = "requests are passed on by http only, not by https".to_owned();
        assert_eq!(read("https:web:443"), Err(https));
    }

    #[test]
    fn the_pod_gets_the_path_behind_the_proxy_as_it_was_written() {
        let base = "/api/v1/namespaces/default/pods/web:8080/proxy";
        assert_eq!(split_path(base), None);
        assert_eq!(split_path(&format!("{base}/")), Some((base, "/")));
        assert_eq!(split_path(&format!("{base}/a%2Fb//c")), Some((base, "/a%2Fb//c")));
    }

    #[test]
    fn the_callers_credentials_stay_here_and_redirects_come_back() {
        let header = |name: &str, value: &str| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let mut headers = HeaderMap::from_iter([
            header("authorization", "Bearer secret"),
            header("connection", "keep-alive, x-hop"),
            header("x-hop", "1"),
            header("accept", "*/*"),
        ]);
        for_the_pod(&mut headers, "10.0.0.1:80");
        assert_eq!(
            headers,
            HeaderMap::from_iter([header("accept", "*/*"), header("host", "10.0.0.1:80")])
        );
        let redirected = |to: &str| {
            let mut headers = HeaderMap::from_iter([header("location", to)]);
            back_through_here(&mut headers, "/proxy");
            headers[LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(redirected("/login"), "/proxy/login");
        assert_eq!(redirected("https://elsewhere/"), "https://elsewhere/");
        assert_eq!(redirected("//elsewhere/"), "//elsewhere/");
    }
}
