//! `kgit doctor`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Args;
use kgit_agent::runtime::docker::{DEFAULT_SOCKET, parse_socket};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::client::http::Client;
use crate::client::kubeconfig::Kubeconfig;
use crate::daemon::net::{Lack, lacks};
use crate::daemon::{config, now};
use crate::kube::dto::ClusterStatus;
use crate::kube::human;

/// Below this a pull or a backup is likely to fail.
const LOW_DISK_BYTES: u64 = 2 << 30;
/// Tokens and certificates bear with this much.
const MAX_SKEW_SECONDS: i64 = 30;
/// The oldest Docker API that the agent speaks.
const OLDEST_API: (u32, u32) = (1, 41);
/// The engine answers this small question at once, or something is wrong.
const ENGINE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// `/version` of an engine is about 1 KB.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Look for what may keep kgit from working here: engine, data, disk, clock, git
///
/// Each line is ok, warn or fail, with what to do. Exits with 1 if something fails.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The data directory [default: /var/lib/kgit for root, ~/.local/share/kgit for others]
    #[arg(long, value_name = "DIR", env = "KGIT_DATA")]
    data: Option<PathBuf>,
    /// The Docker engine's socket
    #[arg(long, value_name = "PATH", env = "DOCKER_HOST", default_value = DEFAULT_SOCKET, value_parser = parse_socket)]
    docker: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), hint: None }
    }
    fn warn(what: impl Into<String>, hint: &'static str) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), hint: Some(hint) }
    }
    fn fail(what: impl Into<String>, hint: &'static str) -> Self {
        Self { verdict: Verdict::Fail, what: what.into(), hint: Some(hint) }
    }
}

pub async fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, CliError> {
    let data = config::data_directory(args.data.as_deref());
    let mut findings = vec![
        engine(&args.docker).await,
        data_directory(&data),
        disk(&data),
        port(&data).await,
        cgroups(),
        git().await,
    ];
    findings.extend(services());
    findings.extend(master(context, &data).await);
    match context.for_programs() {
        true => context.print_json(&findings)?,
        false => findings.iter().try_for_each(|finding| print(&line(finding)))?,
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Found } else { Exit::Success })
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    match finding.hint {
        Some(hint) => format!("{verdict}  {}\n      {hint}\n", finding.what),
        None => format!("{verdict}  {}\n", finding.what),
    }
}

async fn engine(path: &str) -> Finding {
    const INSTALL: &str = "install Docker (Debian, Ubuntu: `apt-get install docker.io`), start it, and let this \
         user reach its socket";
    let asked = tokio::time::timeout(ENGINE_TIMEOUT, ask_engine(path)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Finding::fail(format!("no container engine at {path}: {error}"), INSTALL);
        }
        Err(_) => return Finding::fail(format!("the engine at {path} does not answer"), INSTALL),
    };
    let field = |name: &str| answer[name].as_str().unwrap_or("?").to_owned();
    let (version, api) = (field("Version"), field("ApiVersion"));
    let what = format!("container engine {version}, API {api}, at {path}");
    match api_number(&api) {
        Some(number) if number >= OLDEST_API => Finding::ok(what),
        _ => Finding::fail(what, "kgit needs Docker API 1.41 (Docker 20.10) or newer: upgrade"),
    }
}

fn api_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

async fn ask_engine(path: &str) -> std::io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(path).await?;
    let request = "GET /version HTTP/1.0\r\nHost: docker\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
    let body = answer.find('{').map_or("", |start| &answer[start..]);
    let end = body.rfind('}').map_or(0, |end| end + 1);
    serde_json::from_str(&body[..end]).map_err(std::io::Error::other)
}

fn data_directory(data: &Path) -> Finding {
    let shown = data.display();
    match std::fs::metadata(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let above = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
            if let Err(error) = rustix::fs::access(above, rustix::fs::Access::WRITE_OK) {
                return Finding::fail(
                    format!("data directory {shown} can't be made in {}: {error}", above.display()),
                    "name another with --data",
                );
            }
            Finding::ok(format!("data directory {shown} is not there yet; `kgit up` makes it"))
        }
        Err(error) => Finding::fail(
            format!("data directory {shown}: {error}"),
            "run as its owner, or name another with --data",
        ),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Finding::warn(
            format!("data directory {shown} can be read by others"),
            "it holds keys: `chmod 700` it",
        ),
        Ok(_) => Finding::ok(format!("data directory {shown}")),
    }
}

fn disk(data: &Path) -> Finding {
    let there = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Err(error) => Finding::warn(
            format!("free space at {}: {error}", there.display()),
            "look at it with `df`",
        ),
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let what = format!("{} GiB free at {}", free >> 30, there.display());
            match free < LOW_DISK_BYTES {
                true => Finding::warn(what, "make room: pulls and backups need some"),
                false => Finding::ok(what),
            }
        }
    }
}

/// Whether a master could listen where it would, or is the one that does.
async fn port(data: &Path) -> Finding {
    let before = std::fs::read_to_string(config::listen_file(data)).ok();
    let address = before.as_deref().map_or(config::DEFAULT_LISTEN, str::trim);
    match std::net::TcpListener::bind(address) {
        Ok(_) => Finding::ok(format!("{address} is free for the master")),
        Err(_) if own_master_answers(data).await => {
            Finding::ok(format!("{address} is this data directory's master"))
        }
        Err(error) if before.is_some() => Finding::fail(
            format!("{address}, where agents and clients know this master, is not free: {error}"),
            "stop what listens there: `ss -ltnp` names it",
        ),
        Err(error) => Finding::warn(
            format!("{address} is not free: {error}"),
            "`kgit up` takes another port; name one with --listen",
        ),
    }
}

async fn own_master_answers(data: &Path) -> bool {
    let kubeconfig = Kubeconfig::read(&config::kubeconfig(data)).ok();
    match kubeconfig.and_then(|kubeconfig| Client::new(&kubeconfig).ok()) {
        Some(client) => client.get::<ClusterStatus>("/kgit/v1/status").await.is_ok(),
        None => false,
    }
}

fn cgroups() -> Finding {
    let two = Path::new("/sys/fs/cgroup/cgroup.controllers");
    let Ok(controllers) = std::fs::read_to_string(two) else {
        return Finding::ok("cgroups, version 1");
    };
    let missing: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|wanted| !controllers.split_whitespace().any(|have| have == *wanted))
        .collect();
    match missing.is_empty() {
        true => Finding::ok("cgroups, version 2, can limit CPU, memory and processes"),
        false => Finding::warn(
            format!("cgroups can't limit {}", missing.join(", ")),
            "resource limits of pods will not all hold; enable the controllers at boot",
        ),
    }
}

async fn git() -> Finding {
    let mut command = tokio::process::Command::new("git");
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    match command.output().await {
        Ok(output) if output.status.success() => {
            Finding::ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Finding::warn(
            "there is no `git` command",
            "kgit itself needs none; remote repositories over ssh need `ssh`",
        ),
    }
}

/// What Services need of this host beyond an engine.
fn services() -> Vec<Finding> {
    let lacks = lacks();
    if lacks.is_empty() {
        return vec![Finding::ok("services can have addresses and names on this host")];
    }
    lacks.into_iter().map(lack).collect()
}

fn lack(lack: Lack) -> Finding {
    match lack {
        Lack::Root => Finding::warn(
            "this user may set no rules: services have no addresses and names, only node ports",
            "run kgit as root for cluster addresses and DNS",
        ),
        Lack::Nft => Finding::warn(
            "there is no `nft` command: services have no addresses, only node ports",
            "install it (Debian, Ubuntu: `apt-get install nftables`)",
        ),
        Lack::Route => Finding::warn(
            "there is no `ip` command: this host itself can't reach services",
            "install it (Debian, Ubuntu: `apt-get install iproute2`)",
        ),
        Lack::Forwarding => Finding::warn(
            "this host forwards nothing, so node ports are not reached from outside",
            "Docker turns it on as it starts; else `sysctl -w net.ipv4.ip_forward=1`",
        ),
        Lack::Conntrack => Finding::warn(
            "there is no `conntrack` command: UDP clients of a service may keep to a pod that is gone",
            "install it (Debian, Ubuntu: `apt-get install conntrack`)",
        ),
    }
}

/// The master that the kubeconfig leads to: whether it answers, its clock, its source.
async fn master(context: &Context, data: &Path) -> Vec<Finding> {
    let Ok(client) = context.client_in(data) else {
        let hint = "`kgit up` starts one; --kubeconfig names another";
        return vec![Finding::warn("no master is known on this machine", hint)];
    };
    let status: ClusterStatus = match client.get("/kgit/v1/status").await {
        Ok(status) => status,
        Err(error) => {
            let what = format!("the master at {}: {error}", client.server());
            return vec![Finding::fail(what, "is it running? look at its output")];
        }
    };
    let skew = (now().0 - status.now.0) / 1000;
    let clock = match skew.abs() > MAX_SKEW_SECONDS {
        true => Finding::fail(
            format!("this clock and the master's are {} apart", human::duration(skew.abs())),
            "let both follow NTP: certificates and tokens depend on it",
        ),
        false => Finding::ok("this clock agrees with the master's"),
    };
    let source = match &status.source.error {
        Some(error) => Finding::fail(
            format!("the source {} can't be read: {error}", status.source.location),
            "check its path, its branch, and who may read it",
        ),
        None => Finding::ok(format!("the source {} is followed", status.source.location)),
    };
    let answers = Finding::ok(format!("the master at {} answers", client.server()));
    vec![answers, clock, source]
}
