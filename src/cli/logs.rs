//! `kgit logs`.

use std::io::Write as _;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::{container, pod, pods_path};
use crate::client::http::{Client, ClientError, encoded};
use crate::kube::json::{items, text};

/// With a selector, lines of each container, as with kubectl: more would be a flood.
const TAIL_OF_MANY: u64 = 10;
/// What is kept of a line that does not end: it is printed in pieces then.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Prints what pods' containers wrote
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The pod, or KIND/NAME of what it belongs to: `deploy/web` picks one of its pods
    #[arg(required_unless_present = "selector")]
    pub pod: Option<String>,
    #[command(flatten)]
    pub place: Where,
    /// Of all pods with these labels: `app=web`; the last 10 lines of each, unless --tail says more
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "pod")]
    pub selector: Option<String>,
    /// The container, where the pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// All containers of the pods
    #[arg(long, conflicts_with = "container")]
    pub all_containers: bool,
    /// Begin each line with the pod and the container
    #[arg(long)]
    pub prefix: bool,
    /// Go on with what is written
    #[arg(short, long)]
    pub follow: bool,
    /// How many containers may be followed at once
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub max_log_requests: usize,
    /// Of the container before this one
    #[arg(short, long)]
    pub previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
    /// Only what is newer than this: `90s`, `5m`, `3h`
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub since: Option<u64>,
    /// Only what is newer than this moment: `2026-11-21T09:30:00Z`
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    pub since_time: Option<String>,
    /// At most so many bytes of each container
    #[arg(long, value_name = "BYTES")]
    pub limit_bytes: Option<u64>,
    /// With the time of each line
    #[arg(long)]
    pub timestamps: bool,
}

/// One container's log.
struct Log {
    pod: String,
    container: String,
}

type Lines = Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

pub async fn run(args: &LogsArgs, context: &Context) -> Result<Exit, CliError> {
    let client = context.client()?;
    let logs = args.logs(&client).await?;
    if args.follow && logs.len() > args.max_log_requests {
        return Err(CliError::usage(
            format!("{} containers would be followed at once", logs.len()),
            format!("--max-log-requests allows more than {}", args.max_log_requests),
        ));
    }
    let mut opened = Vec::with_capacity(logs.len());
    if args.follow {
        for log in &logs {
            opened.push(args.open(&client, log).await?);
        }
        print(stream::select_all(opened)).await?;
        return Ok(Exit::Success);
    }
    for log in &logs {
        print(args.open(&client, log).await?).await?;
    }
    Ok(Exit::Success)
}

impl LogsArgs {
    async fn logs(&self, client: &Client) -> Result<Vec<Log>, CliError> {
        let pods = match (&self.selector, &self.pod) {
            (Some(selector), _) => {
                let path = pods_path(self.place.namespace());
                let path = format!("{path}?labelSelector={}", encoded(selector));
                let list: Value = client.get(&path).await?;
                items(&list, "/items").to_vec()
            }
            (None, Some(named)) => vec![pod(client, &self.place, named).await?],
            (None, None) => Vec::new(),
        };
        if pods.is_empty() {
            eprintln!("No resources found in {} namespace.", self.place.namespace());
        }
        Ok(pods.iter().flat_map(|pod| self.logs_of(pod)).collect())
    }

    fn logs_of(&self, pod: &Value) -> Vec<Log> {
        let name = text(pod, "/metadata/name");
        let log = |container: String| Log { pod: name.to_owned(), container };
        if !self.all_containers {
            return vec![log(container(pod, self.container.as_deref()))];
        }
        let all = items(pod, "/spec/initContainers").iter().chain(items(pod, "/spec/containers"));
        all.map(|it| log(text(it, "/name").to_owned())).collect()
    }

    async fn open(&self, client: &Client, log: &Log) -> Result<Lines, CliError> {
        let pods = pods_path(self.place.namespace());
        let path = format!("{pods}/{}/log?{}", encoded(&log.pod), self.query(&log.container));
        let bytes = client.bytes(&path).await?;
        if !self.prefix && !self.follow {
            return Ok(Box::pin(bytes));
        }
        let prefix = match self.prefix {
            true => format!("[pod/{}/{}] ", log.pod, log.container),
            false => String::new(),
        };
        Ok(Box::pin(in_lines(bytes, prefix)))
    }

    fn query(&self, container: &str) -> String {
        let mut query = format!(
            "container={}&follow={}&previous={}&timestamps={}",
            encoded(container),
            self.follow,
            self.previous,
            self.timestamps
        );
        let of_many = self.selector.as_ref().map(|_| TAIL_OF_MANY);
        let numbers = [
            ("tailLines", self.tail.or(of_many)),
            ("sinceSeconds", self.since),
            ("limitBytes", self.limit_bytes),
        ];
        for (name, number) in numbers {
            query.extend(number.map(|number| format!("&{name}={number}")));
        }
        query.extend(self.since_time.as_ref().map(|at| format!("&sinceTime={}", encoded(at))));
        query
    }
}

/// Whole lines, so that those of several logs do not get into each other.
fn in_lines(
    bytes: impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static,
    prefix: String,
) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
    let start = (Box::pin(bytes), BytesMut::new(), prefix);
    stream::unfold(start, |(mut bytes, mut read, prefix)| async move {
        loop {
            if let Some(end) = read.iter().rposition(|byte| *byte == b'\n') {
                let lines = prefixed(&read.split_to(end + 1), &prefix);
                return Some((Ok(lines), (bytes, read, prefix)));
            }
            match bytes.next().await {
                Some(Ok(more)) if read.len() <= MAX_LINE_BYTES => read.extend_from_slice(&more),
                Some(Ok(more)) => {
                    let piece = prefixed(&std::mem::take(&mut read), &prefix);
                    read.extend_from_slice(&more);
                    return Some((Ok(piece), (bytes, read, prefix)));
                }
                Some(Err(error)) => return Some((Err(error), (bytes, read, prefix))),
                None if read.is_empty() => return None,
                None => {
                    let last = prefixed(&std::mem::take(&mut read), &prefix);
                    return Some((Ok(last), (bytes, read, prefix)));
                }
            }
        }
    })
}

fn prefixed(lines: &[u8], prefix: &str) -> Bytes {
    if prefix.is_empty() {
        return Bytes::copy_from_slice(lines);
    }
    let mut shown = BytesMut::with_capacity(lines.len() + prefix.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        shown.extend_from_slice(prefix.as_bytes());
        shown.extend_from_slice(line);
    }
    shown.freeze()
}

/// Prints until the end, or until nobody reads any more.
async fn print(
    mut bytes: impl Stream<Item = Result<Bytes, ClientError>> + Unpin,
) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    while let Some(bytes) = bytes.next().await {
        let written = out.write_all(&bytes?).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written.map_err(CliError::io("write the log"))?,
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_each_has_its_prefix() {
        let pieces = ["one\ntw", "o\nth", "ree"].map(|piece| Ok(Bytes::from(piece)));
        let lines = in_lines(stream::iter(pieces), "[web] ".to_owned());
        let lines: Vec<Bytes> = lines.map(Result::unwrap).collect().await;
        assert_eq!(lines, ["[web] one\n", "[web] two\n", "[web] three"]);
    }
}
