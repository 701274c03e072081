//! `kgit logs`.

use std::io::Write as _;

use clap::Args;
use futures_util::StreamExt as _;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::{container, pod};
use crate::client::http::{Client, encoded};
use crate::kube::json::text;

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
    /// Only what is newer than this: `90s`, `5m`, `3h`
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
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
        let pod = pod(client, &self.place, &self.pod).await?;
        let namespace = encoded(self.place.namespace());
        let name = encoded(text(&pod, "/metadata/name"));
        let query = self.query(&container(&pod, self.container.as_deref()));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log?{query}");
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

    fn query(&self, container: &str) -> String {
        let mut query = format!(
            "container={}&follow={}&previous={}&timestamps={}",
            encoded(container),
            self.follow,
            self.previous,
            self.timestamps
        );
        if let Some(lines) = self.tail {
            query.push_str(&format!("&tailLines={lines}"));
        }
        if let Some(seconds) = self.since {
            query.push_str(&format!("&sinceSeconds={seconds}"));
        }
        query
    }
}

/// `90`, `90s`, `5m`, `3h`, `2d`: seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
    let unit = units.iter().find_map(|(unit, long)| Some((text.strip_suffix(unit)?, *long)));
    let (number, long) = unit.unwrap_or((text, 1));
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(long))
        .ok_or_else(|| "write a number and a unit: `90s`, `5m`, `3h`, `2d`".to_owned())
}
