//! Exec, attach and port-forward: who may, which container is meant, and over what.
//!
//! Everything that can be refused is refused before the connection is upgraded, as a `Status`.
//! What is started is in the audit log before it is.

pub mod port_forward;
mod terminal;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, FromRequestParts as _, Path, Query, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use kgit_protocol::ids::{NodeName, PodUid};
use kgit_protocol::stream::{AttachRequest, Ends, ExecRequest, StreamRequest};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::logs::{container, refused};
use crate::api::kube::read::is_true;
use crate::api::kube::streams::port_forward::Forward;
use crate::api::state::Api;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::token::Role;
use crate::kube::remote::{CHANNELS_V4, CHANNELS_V5, PORT_FORWARD, SPDY, TUNNELLED_PORT_FORWARD};
use crate::kube::status::Status;
use crate::master::event::Event;

/// With which SPDY clients say what they speak; several times, the best first.
const VERSIONS: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// A message of a client: a piece of standard input, or of a connection.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// How much of a command goes into the audit log.
const AUDITED_COMMAND_CHARS: usize = 512;

type Pairs = Query<Vec<(String, String)>>;

/// A pod that is asked for, as its path names it.
type Named = Path<(String, String)>;

/// Where the pod runs.
struct Place {
    namespace: String,
    pod: String,
    uid: PodUid,
    node: NodeName,
}

pub async fn exec(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Named,
    Query(query): Pairs,
    request: Request,
) -> Result<Response, ApiError> {
    let (place, container) = terminal_place(&api, &caller, "exec", &namespace, &name, &query)?;
    let ends = ends(&query)?;
    let words = query.into_iter().filter(|(key, _)| key == "command");
    let command: Vec<String> = words.map(|(_, word)| word).collect();
    if command.is_empty() {
        let message = "you must specify at least 1 command for the container";
        return Err(Status::bad_request(message).into());
    }
    let wire = Wire::of(request, &[CHANNELS_V5, CHANNELS_V4], &[CHANNELS_V4]).await?;
    let said: String = command.join(" ").chars().take(AUDITED_COMMAND_CHARS).collect();
    let what = format!("to run in {}, container {container}: {said}", place.shown());
    note(&api, &caller, what).await?;
    let order = ExecRequest { pod: place.uid.clone(), container, command, ends };
    open_terminal(&api, &place, &StreamRequest::Exec(order), ends, wire).await
}

pub async fn attach(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Named,
    Query(query): Pairs,
    request: Request,
) -> Result<Response, ApiError> {
    let (place, container) = terminal_place(&api, &caller, "attach", &namespace, &name, &query)?;
    let ends = ends(&query)?;
    let wire = Wire::of(request, &[CHANNELS_V5, CHANNELS_V4], &[CHANNELS_V4]).await?;
    note(&api, &caller, format!("to attach to {}, container {container}", place.shown())).await?;
    let order = AttachRequest { pod: place.uid.clone(), container, ends };
    open_terminal(&api, &place, &StreamRequest::Attach(order), ends, wire).await
}

pub async fn port_forward(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Named,
    Query(query): Pairs,
    request: Request,
) -> Result<Response, ApiError> {
    allowed(&caller, "pods/portforward", &namespace)?;
    let (place, _) = place(&api, &namespace, &name, None)?;
    let protocols = [TUNNELLED_PORT_FORWARD, CHANNELS_V4];
    let wire = Wire::of(request, &protocols, &[PORT_FORWARD]).await?;
    let ports = port_forward::ports(&query)?;
    let forward = Forward { api: api.clone(), node: place.node.clone(), pod: place.uid.clone() };
    if api.forwards.is_new(&caller.token_id, &place.uid, api.now()) {
        note(&api, &caller, format!("to forward ports of {}", place.shown())).await?;
    }
    Ok(match wire {
        Wire::Socket(upgrade) if is_tunnelled(&upgrade) => {
            upgrade.on_upgrade(|socket| port_forward::spdy_in_websocket(forward, socket))
        }
        Wire::Socket(upgrade) => {
            upgrade.on_upgrade(|socket| port_forward::websocket(forward, ports, socket))
        }
        Wire::Spdy(upgrade, version) => {
            upgraded(upgrade, |wire| port_forward::spdy(forward, TokioIo::new(wire)));
            switching(version)
        }
    })
}

fn is_tunnelled(upgrade: &WebSocketUpgrade) -> bool {
    upgrade.selected_protocol().is_some_and(|chosen| chosen == TUNNELLED_PORT_FORWARD)
}

async fn open_terminal(
    api: &Api,
    place: &Place,
    request: &StreamRequest,
    ends: Ends,
    wire: Wire,
) -> Result<Response, ApiError> {
    let stream = api.tunnels.open(&place.node, request).await.map_err(refused)?;
    Ok(match wire {
        Wire::Socket(upgrade) => upgrade.on_upgrade(|socket| terminal::websocket(stream, socket)),
        Wire::Spdy(upgrade, version) => {
            upgraded(upgrade, move |wire| terminal::spdy(stream, ends, TokioIo::new(wire)));
            switching(version)
        }
    })
}

impl Place {
    fn shown(&self) -> String {
        format!("Pod/{}/{} on {}", self.namespace, self.pod, self.node)
    }
}

/// Refuses whoever may not do more than read; `what` is like `pods/exec`.
pub(super) fn allowed(caller: &Caller, what: &str, namespace: &str) -> Result<(), ApiError> {
    let to =
        format!("create resource \"{what}\" in API group \"\" in the namespace \"{namespace}\"");
    caller.must_be(Role::Write, &to)
}

fn terminal_place(
    api: &Api,
    caller: &Caller,
    verb: &str,
    namespace: &str,
    name: &str,
    query: &[(String, String)],
) -> Result<(Place, String), ApiError> {
    allowed(caller, &format!("pods/{verb}"), namespace)?;
    let named = query.iter().find(|(key, _)| key == "container");
    place(api, namespace, name, Some(named.map_or("", |(_, value)| value)))
}

/// Where the pod runs and, if one is asked for (empty: the only one), its container.
fn place(
    api: &Api,
    namespace: &str,
    name: &str,
    asked: Option<&str>,
) -> Result<(Place, String), ApiError> {
    let view = api.master.view();
    let key = ObjectKey::new(Kind::Pod, namespace, name);
    let pod = view.world.pods.get(&key).ok_or_else(|| Status::not_found("", "pods", name))?;
    let container = asked.map_or_else(|| Ok(String::new()), |asked| container(pod, asked))?;
    let unscheduled = || Status::bad_request(format!("pod {name} does not have a host assigned"));
    let node = pod.node().ok_or_else(unscheduled)?.clone();
    let (namespace, pod_name) = (namespace.to_owned(), name.to_owned());
    Ok((Place { namespace, pod: pod_name, uid: pod.uid.clone(), node }, container))
}

fn ends(query: &[(String, String)]) -> Result<Ends, ApiError> {
    let asked = |name: &str| query.iter().any(|(key, value)| key == name && is_true(value));
    let tty = asked("tty");
    // A terminal has one output.
    let stderr = asked("stderr") && !tty;
    let ends = Ends { stdin: asked("stdin"), stdout: asked("stdout"), stderr, tty };
    if !(ends.stdin || ends.stdout || ends.stderr) {
        let message = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Status::bad_request(message).into());
    }
    Ok(ends)
}

/// Has it written down before anything is started.
pub(super) async fn note(api: &Api, caller: &Caller, what: String) -> Result<(), ApiError> {
    tracing::info!(by = %caller.name, "ordered {what}");
    let by = caller.name.clone();
    Ok(api.master.ask(|reply| Event::Entered { by, what, reply }).await?)
}

/// What the connection is to become.
enum Wire {
    Socket(WebSocketUpgrade),
    Spdy(OnUpgrade, &'static str),
}

impl Wire {
    async fn of(
        mut request: Request,
        sockets: &[&'static str],
        spdy: &[&'static str],
    ) -> Result<Self, ApiError> {
        let headers = request.headers();
        let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
        if upgrade.is_some_and(|to| to.eq_ignore_ascii_case(SPDY)) {
            let version = spoken(headers, spdy).ok_or_else(|| unspoken(spdy))?;
            return Ok(Self::Spdy(hyper::upgrade::on(&mut request), version));
        }
        if upgrade.is_none() {
            return Err(Status::bad_request("Upgrade request required").into());
        }
        let (mut parts, _) = request.into_parts();
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        let upgrade = upgrade.map_err(|error| Status::bad_request(error.to_string()))?;
        let upgrade = upgrade
            .max_message_size(MAX_MESSAGE_BYTES)
            .max_frame_size(MAX_MESSAGE_BYTES)
            .protocols(sockets.iter().copied());
        match upgrade.selected_protocol() {
            Some(_) => Ok(Self::Socket(upgrade)),
            None => Err(unspoken(sockets)),
        }
    }
}

fn unspoken(known: &[&str]) -> ApiError {
    let message = format!("unable to negotiate protocol: this server speaks {}", known.join(", "));
    Status::bad_request(message).into()
}

/// The best that both sides speak; headers may hold lists.
fn spoken(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    let offered = headers.get_all(VERSIONS).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|list| list.split(',')).map(str::trim).collect();
    known.iter().copied().find(|version| offered.contains(version))
}

fn switching(version: &'static str) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(VERSIONS, HeaderValue::from_static(version));
    response
}

/// Goes on with `work` once the connection is handed over.
fn upgraded<W: Future<Output = ()> + Send>(
    upgrade: OnUpgrade,
    work: impl FnOnce(Upgraded) -> W + Send + 'static,
) {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(wire) => work(wire).await,
            Err(error) => tracing::debug!(%error, "a client went away before it was served"),
        }
    });
}
