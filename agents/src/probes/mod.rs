//! Making probes and running lifecycle hooks. Counting their results is `decide::probing`'s.

mod http;

use std::net::Ipv4Addr;
use std::time::Duration;

use kgit_protocol::pod::Handler;
use tokio::net::TcpStream;

use crate::decide::outcome::ProbeResult;
use crate::runtime::{ExecResult, Runtime};

/// How long a hook may take where nothing says so: hooks are bounded by the grace period, or by
/// the container's life.
pub const HOOK_LIMIT: Duration = Duration::from_secs(600);

/// Tries once. `None`: the engine could not be asked, of which its own state tells.
pub async fn attempt(
    runtime: &impl Runtime,
    id: &str,
    address: Option<Ipv4Addr>,
    handler: &Handler,
    timeout: Duration,
) -> Option<ProbeResult> {
    let to = |host: &Option<String>| {
        host.clone().unwrap_or_else(|| address.unwrap_or(Ipv4Addr::LOCALHOST).to_string())
    };
    match handler {
        Handler::Exec { command } => match runtime.exec(id, command, timeout).await {
            Ok(result) if result.code == 0 => Some(ProbeResult::Success),
            Ok(result) if was_not_run(&result) => Some(ProbeResult::Error(result.output)),
            Ok(result) => Some(ProbeResult::Failure(format!(
                "command exited with {}: {}",
                result.code, result.output
            ))),
            Err(_) => None,
        },
        Handler::Http { host, port, path, https, headers } => {
            let target = http::Target {
                host: to(host),
                port: *port,
                path: path.clone(),
                https: *https,
                headers: headers.clone(),
            };
            Some(http::get(&target, timeout).await)
        }
        Handler::Tcp { host, port } => Some(dial(&to(host), *port, timeout).await),
        Handler::Sleep { seconds } => {
            tokio::time::sleep(Duration::from_secs(u64::from(*seconds))).await;
            Some(ProbeResult::Success)
        }
    }
}

/// The engine says with a code of its own that there was no command that could have ended with
/// one: it does not exist, or the engine failed.
fn was_not_run(result: &ExecResult) -> bool {
    matches!(result.code, 126 | 127) && result.output.contains("OCI runtime exec failed")
}

async fn dial(host: &str, port: u16, timeout: Duration) -> ProbeResult {
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => ProbeResult::Success,
        Ok(Err(error)) => ProbeResult::Failure(format!("dial tcp {host}:{port}: {error}")),
        Err(_) => ProbeResult::Failure(format!("dial tcp {host}:{port}: timeout")),
    }
}

/// Runs a lifecycle hook to its end.
pub async fn run_hook(
    runtime: &impl Runtime,
    id: &str,
    address: Option<Ipv4Addr>,
    handler: &Handler,
) -> Result<(), String> {
    match attempt(runtime, id, address, handler, HOOK_LIMIT).await {
        Some(ProbeResult::Success) => Ok(()),
        Some(ProbeResult::Failure(message) | ProbeResult::Error(message)) => Err(message),
        None => Err("the hook could not be run".to_owned()),
    }
}
