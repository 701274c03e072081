//! HTTP probes: as Kubernetes makes them, any answer from 200 to 399 is a success, redirects are
//! not followed to other hosts, certificates are not checked, no proxy is used.

use std::sync::OnceLock;
use std::time::Duration;

use crate::decide::outcome::ProbeResult;
use crate::link::tls::unchecked;

#[derive(Debug)]
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub path: String,
    pub https: bool,
    pub headers: Vec<(String, String)>,
}

pub(super) async fn get(target: &Target, timeout: Duration) -> ProbeResult {
    let scheme = if target.https { "https" } else { "http" };
    let slash = if target.path.starts_with('/') { "" } else { "/" };
    let url = format!("{scheme}://{}:{}{slash}{}", target.host, target.port, target.path);
    let Some(client) = client() else {
        return ProbeResult::Failure("no HTTP client could be made".to_owned());
    };
    let mut request = client.get(&url).timeout(timeout);
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    match request.send().await {
        Ok(answer) if (200..400).contains(&answer.status().as_u16()) => ProbeResult::Success,
        Ok(answer) => {
            let code = answer.status().as_u16();
            ProbeResult::Failure(format!("HTTP probe failed with statuscode: {code}"))
        }
        Err(error) if error.is_timeout() => {
            ProbeResult::Failure(format!("Get {url:?}: context deadline exceeded"))
        }
        Err(error) => ProbeResult::Failure(format!("Get {url:?}: {}", root_cause(&error))),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// One client for all probes: making one costs more than a probe.
fn client() -> Option<&'static reqwest::Client> {
    static CLIENT: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(unchecked())
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .pool_max_idle_per_host(0)
                .user_agent("kube-probe/1.33 (kgit)")
                .build()
                .ok()
        })
        .as_ref()
}
