//! `kgit exec`.

use clap::Args;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::{container, pod, pods_path};
use crate::cli::talk::{Own, exit_of, own_input, talk};
use crate::cli::terminal::{Raw, Sizes, is_there};
use crate::client::http::encoded;
use crate::kube::json::text;
use crate::kube::remote::{CHANNELS_V4, CHANNELS_V5};

/// Execute a command in a container
///
/// kgit ends with the exit code that the command ended with.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The pod, or KIND/NAME of what it belongs to: `deploy/web` picks one of its pods
    pub pod: String,
    #[command(flatten)]
    pub place: Where,
    #[command(flatten)]
    pub ends: EndsArgs,
    /// Container name. If omitted, the pod's annotation names it, or it is the first one
    #[arg(short, long)]
    pub container: Option<String>,
    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What of this terminal is handed on.
#[derive(Clone, Copy, Debug, Args)]
pub struct EndsArgs {
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Stdin is a TTY
    #[arg(short, long)]
    pub tty: bool,
}

impl EndsArgs {
    /// A terminal is only handed on if there is one.
    pub fn tty(self) -> bool {
        if self.tty && self.stdin && !is_there() {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
            return false;
        }
        self.tty
    }

    fn query(self, tty: bool) -> String {
        format!("stdin={}&stdout=true&stderr={}&tty={tty}", self.stdin, !tty)
    }
}

pub async fn run(args: &ExecArgs, context: &Context) -> Result<Exit, CliError> {
    let client = context.client()?;
    let pod = pod(&client, &args.place, &args.pod).await?;
    let command = args.command.iter().map(|word| format!("&command={}", encoded(word)));
    let command: String = command.collect();
    converse(context, &pod, args.container.as_deref(), "exec", args.ends, &command).await
}

/// Talks to a process of the pod from this terminal.
pub async fn converse(
    context: &Context,
    pod: &Value,
    named: Option<&str>,
    verb: &str,
    ends: EndsArgs,
    query: &str,
) -> Result<Exit, CliError> {
    let client = context.client()?;
    let tty = ends.tty();
    let path = format!(
        "{}/{}/{verb}?container={}&{}{query}",
        pods_path(text(pod, "/metadata/namespace")),
        encoded(text(pod, "/metadata/name")),
        encoded(&container(pod, named)),
        ends.query(tty),
    );
    let socket = client.socket(&path, &format!("{CHANNELS_V5}, {CHANNELS_V4}")).await?;
    let raw = (tty && ends.stdin).then(Raw::enter).transpose()?;
    let sizes = tty.then(Sizes::follow).transpose()?;
    let input = ends.stdin.then(own_input);
    let ended = talk(socket, input, sizes, &mut Own).await;
    // Before anything is said in the terminal.
    drop(raw);
    exit_of(ended?)
}
