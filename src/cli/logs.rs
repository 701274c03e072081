//! `kgit logs`.

use std::io::Write as _;

use clap::Args;
use futures_util::StreamExt as _;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::client::http::{Client, encoded};
use crate::kube::json::{items, text};

/// Prints what a pod's container wrote
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The pod, or KIND/NAME of what it belongs to: `deploy/web` picks one of its pods
    pub pod: String,
    #[command(flatten)]
    pub place: Where,
    /// The container, where the pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on with what is written
    #[arg(short, long)]
    pub follow: bool,
    /// Of the container before this one
    #[arg(short, long)]
    pub previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
    /// Only of the last seconds
    #[arg(long, value_name = "SECONDS")]
    pub since: Option<u64>,
    /// With the time of each line
    #[arg(long)]
    pub timestamps: bool,
}

pub async fn run(args: &LogsArgs, context: &Context) -> Result<Exit, CliError> {
    args.copy(&context.client()?).await
}

impl LogsArgs {
    async fn copy(&self, client: &Client) -> Result<Exit, CliError> {
        let pod = self.pod_name(client).await?;
        let namespace = encoded(self.place.namespace());
        let path =
            format!("/api/v1/namespaces/{namespace}/pods/{}/log?{}", encoded(&pod), self.query());
        let mut bytes = Box::pin(client.bytes(&path).await?);
        let mut out = std::io::stdout().lock();
        while let Some(bytes) = bytes.next().await {
            let written = out.write_all(&bytes?).and_then(|()| out.flush());
            match written {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                written => written.map_err(CliError::io("write the log"))?,
            }
        }
        Ok(Exit::Success)
    }

    fn query(&self) -> String {
        let mut query = format!(
            "follow={}&previous={}&timestamps={}",
            self.follow, self.previous, self.timestamps
        );
        if let Some(container) = &self.container {
            query.push_str(&format!("&container={}", encoded(container)));
        }
        if let Some(lines) = self.tail {
            query.push_str(&format!("&tailLines={lines}"));
        }
        if let Some(seconds) = self.since {
            query.push_str(&format!("&sinceSeconds={seconds}"));
        }
        query
    }

    /// A pod's own name, or the first pod that the workload's selector finds.
    async fn pod_name(&self, client: &Client) -> Result<String, CliError> {
        let Some((kind, name)) = self.pod.split_once('/') else { return Ok(self.pod.clone()) };
        if matches!(kind, "pod" | "pods" | "po") {
            return Ok(name.to_owned());
        }
        let (ty, name) = crate::cli::object::one(std::slice::from_ref(&self.pod))?;
        let place = self.place.namespace();
        let workload: serde_json::Value =
            client.get(&format!("{}/{}", ty.path(Some(place)), encoded(&name))).await?;
        let labels = crate::kube::json::fields(&workload, "/spec/selector/matchLabels");
        let labels =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        let selector = encoded(&labels.collect::<Vec<_>>().join(","));
        let path = format!("/api/v1/namespaces/{place}/pods?labelSelector={selector}");
        let pods: serde_json::Value = client.get(&path).await?;
        let first = items(&pods, "/items").first();
        let pod = first.map(|pod| text(pod, "/metadata/name").to_owned());
        pod.ok_or_else(|| {
            CliError::usage(format!("{} has no pods", self.pod), "`kgit describe` says why")
        })
    }
}
