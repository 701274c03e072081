//! `kgit port-forward`.

use std::net::IpAddr;
use std::sync::Arc;

use clap::Args;
use kgit_protocol::stream::Channel;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::{object, pod, pods_path};
use crate::cli::talk::CHUNK_BYTES;
use crate::client::http::{Client, ClientError, encoded};
use crate::client::socket::{Receiver, Sender};
use crate::kube::json::{items, text};
use crate::kube::remote::CHANNELS_V4;

/// The channels of the one port that each connection asks for.
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// The first message of each channel repeats the port.
const PORT_BYTES: usize = 2;
/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;

/// Forward one or more local ports to a pod
#[derive(Debug, Args)]
pub struct PortForwardArgs {
    /// The pod, or KIND/NAME of what leads to one: `deployment/web`, `service/web`
    #[arg(value_name = "POD")]
    pub pod: String,
    /// A port of the pod or service: the same one here, another (LOCAL:REMOTE), or any (:REMOTE)
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    pub ports: Vec<String>,
    #[command(flatten)]
    pub place: Where,
    /// The local addresses to listen on
    #[arg(long, value_delimiter = ',', default_values_t = ["127.0.0.1".to_owned(), "::1".to_owned()])]
    pub address: Vec<String>,
}

/// What a listener leads to.
#[derive(Clone, Debug)]
struct Way {
    client: Arc<Client>,
    path: String,
    local: u16,
}

pub async fn run(args: &PortForwardArgs, context: &Context) -> Result<Exit, CliError> {
    let client = Arc::new(context.client()?);
    let pod = pod(&client, &args.place, &args.pod).await?;
    let phase = text(&pod, "/status/phase");
    if phase != "Running" {
        let message =
            format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(CliError::usage(message, "`kgit describe` says what it waits for"));
    }
    let service = match args.pod.split_once('/') {
        Some(("service" | "services" | "svc", _)) => {
            Some(object(&client, &args.place, &args.pod).await?)
        }
        _ => None,
    };
    let (failed, mut ended) = tokio::sync::mpsc::channel(1);
    for words in &args.ports {
        let (local, remote) = words.rsplit_once(':').unwrap_or((words, words));
        let port = target(&pod, service.as_ref(), remote)?;
        let local = local_port(local, remote, port)?;
        for (listener, way) in listeners(args, &client, &pod, local, port).await? {
            tokio::spawn(serve(listener, way, failed.clone()));
        }
    }
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(CliError::io("wait for Ctrl-C"))?;
            Ok(Exit::Interrupted)
        }
        Some(error) = ended.recv() => Err(error),
    }
}

/// As asked for, or the same as the remote one; `:80` takes any that is free.
fn local_port(local: &str, remote: &str, port: u16) -> Result<u16, CliError> {
    match local {
        "" => Ok(0),
        same if same == remote => Ok(same.parse().unwrap_or(port)),
        other => number(other),
    }
}

fn number(text: &str) -> Result<u16, CliError> {
    let wrong = || CliError::usage(format!("`{text}` is no port"), "write LOCAL:REMOTE: 8080:80");
    text.parse().map_err(|_| wrong())
}

/// The pod's port behind `remote`: a port of the service, if it was one that was named.
fn target(pod: &Value, service: Option<&Value>, remote: &str) -> Result<u16, CliError> {
    let Some(service) = service else { return pod_port(pod, remote) };
    let is_meant = |port: &&Value| {
        port["port"].as_u64().is_some_and(|number| number.to_string() == remote)
            || text(port, "/name") == remote
    };
    let port = items(service, "/spec/ports").iter().find(is_meant).ok_or_else(|| {
        let name = text(service, "/metadata/name");
        CliError::usage(
            format!("Service {name} does not have a service port {remote}"),
            "`kgit describe service` lists them",
        )
    })?;
    match &port["targetPort"] {
        Value::String(name) => pod_port(pod, name),
        Value::Number(number) => pod_port(pod, &number.to_string()),
        _ => pod_port(pod, &port["port"].to_string()),
    }
}

/// A number, or the name of one of the containers' ports.
fn pod_port(pod: &Value, named: &str) -> Result<u16, CliError> {
    if named.parse::<u16>().is_ok() {
        return number(named);
    }
    let containers = items(pod, "/spec/containers").iter();
    let mut ports = containers.flat_map(|container| items(container, "/ports"));
    let found = ports.find(|port| text(port, "/name") == named);
    found.map_or_else(|| number(named), |port| number(&port["containerPort"].to_string()))
}

async fn listeners(
    args: &PortForwardArgs,
    client: &Arc<Client>,
    pod: &Value,
    mut local: u16,
    port: u16,
) -> Result<Vec<(TcpListener, Way)>, CliError> {
    let name = encoded(text(pod, "/metadata/name"));
    let pods = pods_path(text(pod, "/metadata/namespace"));
    let path = format!("{pods}/{name}/portforward?ports={port}");
    let (mut all, mut refused) = (Vec::new(), None);
    for address in &args.address {
        match listen(address, local).await {
            Ok(listener) => {
                let at = listener.local_addr().map_err(CliError::io("listen"))?;
                local = at.port();
                println!("Forwarding from {at} -> {port}");
                let way = Way { client: Arc::clone(client), path: path.clone(), local };
                all.push((listener, way));
            }
            Err(error) => refused = Some((address, error)),
        }
    }
    match refused {
        // A host without IPv6 has the other one.
        Some((address, error)) if all.is_empty() => {
            Err(CliError::io(format!("listen on {address}, port {local}"))(error))
        }
        _ => Ok(all),
    }
}

async fn listen(address: &str, port: u16) -> std::io::Result<TcpListener> {
    let address = if address == "localhost" { "127.0.0.1" } else { address };
    let address: IpAddr = address.parse().map_err(std::io::Error::other)?;
    TcpListener::bind((address, port)).await
}

/// Forwards each connection, until the pod is gone.
async fn serve(listener: TcpListener, way: Way, failed: tokio::sync::mpsc::Sender<CliError>) {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                let _ = failed.send(CliError::io("accept a connection")(error)).await;
                return;
            }
        };
        println!("Handling connection for {}", way.local);
        let (way, failed) = (way.clone(), failed.clone());
        tokio::spawn(async move {
            match forward(connection, &way).await {
                Err(ClientError::Refused(status)) if status.code == 404 => {
                    let _ = failed.send(ClientError::Refused(status).into()).await;
                }
                Err(error) => eprintln!("a connection to port {} failed: {error}", way.local),
                Ok(()) => {}
            }
            drop(seat);
        });
    }
}

async fn forward(connection: TcpStream, way: &Way) -> Result<(), ClientError> {
    let (sender, receiver) = way.client.socket(&way.path, CHANNELS_V4).await?;
    let (read, write) = connection.into_split();
    tokio::select! {
        ended = back(receiver, write) => ended,
        error = there(sender, read) => Err(error),
    }
}

/// Until the pod ends its direction.
async fn back(
    mut receiver: Receiver,
    mut write: tokio::net::tcp::OwnedWriteHalf,
) -> Result<(), ClientError> {
    let mut begun = [false; 2];
    while let Some(message) = receiver.next().await? {
        let channel = message.first().copied().unwrap_or(ERROR);
        let first = begun.get_mut(usize::from(channel)).map(|begun| std::mem::replace(begun, true));
        let skip = if first == Some(false) { PORT_BYTES } else { 0 };
        let data = message.get(1 + skip..).unwrap_or_default();
        match channel {
            // Whoever connected may have gone.
            DATA if write.write_all(data).await.is_err() => return Ok(()),
            ERROR if !data.is_empty() => eprintln!("{}", String::from_utf8_lossy(data)),
            _ => {}
        }
    }
    // It may have gone already, too.
    let _ = write.shutdown().await;
    Ok(())
}

/// Sends what comes, then its end; returns only when the connection to the master broke.
async fn there(mut sender: Sender, mut read: tokio::net::tcp::OwnedReadHalf) -> ClientError {
    let mut piece = vec![0; CHUNK_BYTES];
    let mut is_open = true;
    loop {
        let sent = tokio::select! {
            length = read.read(&mut piece), if is_open => match length {
                Ok(length) if length > 0 => sender.send(DATA, &piece[..length]).await,
                Ok(_) | Err(_) => {
                    is_open = false;
                    sender.send(Channel::CloseStdin.number(), &[DATA]).await
                }
            },
            pinged = sender.ping() => pinged,
        };
        if let Err(error) = sent {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_is_a_number_a_name_or_what_a_service_makes_of_it() {
        let pod =
            json!({"spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [
            {"name": "web", "port": 80, "targetPort": "http"},
            {"port": 81, "targetPort": 9000},
            {"port": 82},
        ]}});
        let of_pod = |named: &str| target(&pod, None, named).map_err(|error| error.to_string());
        let of_service =
            |named: &str| target(&pod, Some(&service), named).map_err(|error| error.to_string());
        assert_eq!(of_pod("80"), Ok(80));
        assert_eq!(of_pod("http"), Ok(8080));
        assert_eq!(of_pod("https"), Err("`https` is no port".to_owned()));
        assert_eq!(of_service("80"), Ok(8080));
        assert_eq!(of_service("web"), Ok(8080));
        assert_eq!(of_service("81"), Ok(9000));
        assert_eq!(of_service("82"), Ok(82));
        let missing = "Service web does not have a service port 83".to_owned();
        assert_eq!(of_service("83"), Err(missing));
    }

    #[test]
    fn the_local_port_is_the_same_unless_another_is_asked_for() {
        let local = |local, remote, port| local_port(local, remote, port).ok();
        assert_eq!(local("80", "80", 8080), Some(80));
        assert_eq!(local("http", "http", 8080), Some(8080));
        assert_eq!(local("9000", "80", 8080), Some(9000));
        assert_eq!(local("", "80", 8080), Some(0));
        assert_eq!(local("x", "80", 8080), None);
    }
}
