//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{
    ExecAction, HTTPGetAction, LifecycleHandler, Probe as WrittenProbe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kgit_protocol::pod::{ContainerPort, Handler, Probe};

use crate::manifest::findings::did_you_mean;
use crate::manifest::lower::Object;
use crate::manifest::path::Path;

/// A probe whose success may need several results in a row, or one that may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Readiness,
    LivenessOrStartup,
}

/// What may be done, of which exactly one is.
#[derive(Default)]
struct Actions<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    sleep: Option<&'a SleepAction>,
}

/// `None` also where the probe is of a sort that kgit does not run; that was said already.
pub fn probe(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    kind: ProbeKind,
    written: &WrittenProbe,
    ports: &[ContainerPort],
) -> Option<Probe> {
    let actions = Actions {
        exec: written.exec.as_ref(),
        http: written.http_get.as_ref(),
        tcp: written.tcp_socket.as_ref(),
        sleep: None,
    };
    if written.grpc.is_some() {
        return None;
    }
    let mut number = |key, value: Option<i32>, default, least| {
        object.count(&path.key(key), value.map(i64::from), default, least)
    };
    let initial_delay_seconds = number("initialDelaySeconds", written.initial_delay_seconds, 0, 0);
    let period_seconds = zero_is_default(written.period_seconds);
    let period_seconds = number("periodSeconds", period_seconds, 10, 1);
    let timeout_seconds = number("timeoutSeconds", zero_is_default(written.timeout_seconds), 1, 1);
    let success_threshold = zero_is_default(written.success_threshold);
    let success_threshold = number("successThreshold", success_threshold, 1, 1);
    let failure_threshold = zero_is_default(written.failure_threshold);
    let failure_threshold = number("failureThreshold", failure_threshold, 3, 1);
    if kind == ProbeKind::LivenessOrStartup && success_threshold != 1 {
        let message = "must be 1 for liveness and startup probes";
        object.error(&path.key("successThreshold"), message);
    }
    let handler = action(object, path, &actions, ports)?;
    Some(Probe {
        handler,
        initial_delay_seconds,
        period_seconds,
        timeout_seconds,
        success_threshold,
        failure_threshold,
    })
}

/// Kubernetes fills its defaults in for a zero as well.
fn zero_is_default(written: Option<i32>) -> Option<i32> {
    written.filter(|value| *value != 0)
}

pub fn hook(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &LifecycleHandler,
    ports: &[ContainerPort],
) -> Option<Handler> {
    let actions = Actions {
        exec: written.exec.as_ref(),
        http: written.http_get.as_ref(),
        tcp: written.tcp_socket.as_ref(),
        sleep: written.sleep.as_ref(),
    };
    action(object, path, &actions, ports)
}

fn action(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    actions: &Actions<'_>,
    ports: &[ContainerPort],
) -> Option<Handler> {
    let given = [
        actions.exec.is_some(),
        actions.http.is_some(),
        actions.tcp.is_some(),
        actions.sleep.is_some(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        0 => {
            object.error(path, "needs one of `exec`, `httpGet` and `tcpSocket`");
            None
        }
        1 => one_action(object, path, actions, ports),
        _ => {
            object.error(path, "may have only one of `exec`, `httpGet`, `tcpSocket` and `sleep`");
            None
        }
    }
}

fn one_action(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    actions: &Actions<'_>,
    ports: &[ContainerPort],
) -> Option<Handler> {
    if let Some(exec) = actions.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            let parent = path.key("exec");
            object.required(&parent.key("command"));
        }
        return Some(Handler::Exec { command });
    }
    if let Some(http) = actions.http {
        return http_get(object, &path.key("httpGet"), http, ports);
    }
    if let Some(tcp) = actions.tcp {
        let parent = path.key("tcpSocket");
        let port = port(object, &parent.key("port"), &tcp.port, ports)?;
        return Some(Handler::Tcp { host: filled(tcp.host.clone()), port });
    }
    let seconds = actions.sleep?.seconds;
    let parent = path.key("sleep");
    Some(Handler::Sleep { seconds: object.count(&parent.key("seconds"), Some(seconds), 0, 0) })
}

fn http_get(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &HTTPGetAction,
    ports: &[ContainerPort],
) -> Option<Handler> {
    let schemes = [("HTTP", false), ("HTTPS", true)];
    let https = object.choice(&path.key("scheme"), written.scheme.as_deref(), false, &schemes);
    let headers = written.http_headers.iter().flatten();
    let headers = headers.map(|header| (header.name.clone(), header.value.clone())).collect();
    let port = port(object, &path.key("port"), &written.port, ports)?;
    let path = filled(written.path.clone()).unwrap_or_else(|| "/".to_owned());
    Some(Handler::Http { host: filled(written.host.clone()), port, path, https, headers })
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A number, or the name of one of the container's ports.
fn port(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &IntOrString,
    ports: &[ContainerPort],
) -> Option<u16> {
    let name = match written {
        IntOrString::Int(0) if !object.says(path) => {
            object.required(path);
            return None;
        }
        IntOrString::Int(number) => return Some(object.port(path, i64::from(*number))),
        IntOrString::String(name) => name,
    };
    let found = ports.iter().find(|port| port.name.as_deref() == Some(name));
    if found.is_none() {
        let hint = did_you_mean(name, ports.iter().filter_map(|port| port.name.as_deref()));
        let hint = hint.or_else(|| {
            name.parse::<u16>().is_ok().then(|| "write the number without quotes".to_owned())
        });
        let message = format!("the container has no port named `{name}`");
        object.error_with_hint(path, message, hint);
    }
    found.map(|port| port.port)
}
