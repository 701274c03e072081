//! `kgit node`: orders about machines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::orders::send;
use crate::client::http::{Client, ClientError, encoded};
use crate::domain::key::Kind;
use crate::domain::node_order::{NodeOrder, TaintOrder};
use crate::domain::plan::Waiting;
use crate::kube::dto::{ClusterStatus, Done, NodeRequest, Order, VERSION};
use crate::kube::json::text;
use crate::kube::node::{DRAIN_ANNOTATION, DRAINED};

/// Give orders about nodes
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Let no new pods onto a node
    Cordon(NamedArgs),
    /// Let pods onto a node again, after a cordon, a drain or a fence
    Uncordon(NamedArgs),
    Drain(DrainArgs),
    Label(LabelArgs),
    Taint(TaintArgs),
    Fence(NamedFenceArgs),
    Remove(RemoveArgs),
    Reset(ResetArgs),
}

#[derive(Debug, Args)]
struct NamedArgs {
    /// The node's name
    name: String,
}

/// Clear a node: let no new pods onto it, and end those on it as disruption budgets allow
///
/// Waits until nothing is left but the pods of DaemonSets. The order stands even if this command
/// is interrupted; `kgit node uncordon` takes it back.
#[derive(Debug, Args)]
struct DrainArgs {
    /// The node's name
    name: String,
    /// Give pods this long to end, instead of their own grace periods
    #[arg(long, value_name = "SECONDS")]
    grace_seconds: Option<u32>,
    /// End pods that have an emptyDir too: what is in it is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// End pods too that no workload replaces
    #[arg(long)]
    force: bool,
    /// Only give the order
    #[arg(long)]
    no_wait: bool,
}

/// Set labels of a node, or take them away
#[derive(Debug, Args)]
struct LabelArgs {
    /// The node's name
    name: String,
    /// KEY=VALUE sets a label, KEY- takes it away
    #[arg(required = true, value_name = "LABEL", allow_hyphen_values = true)]
    labels: Vec<String>,
}

/// Set taints of a node, or take them away
#[derive(Debug, Args)]
struct TaintArgs {
    /// The node's name
    name: String,
    /// KEY=VALUE:EFFECT sets a taint (NoSchedule, PreferNoSchedule, NoExecute), KEY:EFFECT- or
    /// KEY- takes it away
    #[arg(required = true, value_name = "TAINT")]
    taints: Vec<String>,
}

/// Declare a node that is not heard of dead: what ran there is replaced at once
///
/// Make sure that the machine is off, or that nothing on it is still running: pods that must not
/// run twice are replaced as well.
#[derive(Debug, Args)]
struct NamedFenceArgs {
    /// The node's name
    name: String,
}

/// Take out a node that is gone for good
///
/// Its pods are replaced; claims whose data is on it are shown as lost. If it comes back all the
/// same, it ends what it runs.
#[derive(Debug, Args)]
struct RemoveArgs {
    /// The node's name
    name: String,
}

/// Free the name of a node that is gone for good
///
/// Its pods are placed anew, and another machine may join under its name. If the old machine comes
/// back, it ends what it runs.
#[derive(Debug, Args)]
struct ResetArgs {
    /// The node's name
    name: String,
}

pub async fn run(args: &NodeArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        NodeCommand::Cordon(args) => order(context, &args.name, NodeOrder::Cordon).await,
        NodeCommand::Uncordon(args) => order(context, &args.name, NodeOrder::Uncordon).await,
        NodeCommand::Drain(args) => drain(context, args).await,
        NodeCommand::Label(args) => {
            let labels = args.labels.iter().map(|text| label(text));
            let labels = labels.collect::<Result<BTreeMap<_, _>, CliError>>()?;
            order(context, &args.name, NodeOrder::Label { labels }).await
        }
        NodeCommand::Taint(args) => {
            let taints = args.taints.iter().map(|text| taint(text));
            let taints = taints.collect::<Result<Vec<_>, CliError>>()?;
            order(context, &args.name, NodeOrder::Taint { taints }).await
        }
        NodeCommand::Fence(args) => order(context, &args.name, NodeOrder::Fence).await,
        NodeCommand::Remove(args) => order(context, &args.name, NodeOrder::Remove).await,
        NodeCommand::Reset(reset) => {
            let order = Order { version: VERSION, ..Order::default() };
            send(context, &format!("nodes/{}/reset", encoded(&reset.name)), &order).await
        }
    }
}

async fn order(context: &Context, name: &str, order: NodeOrder) -> Result<Exit, CliError> {
    let request = NodeRequest { version: VERSION, order };
    let path = format!("/kgit/v1/nodes/{}/orders", encoded(name));
    let done: Done = context.client()?.post(&path, &request).await?;
    match context.for_programs() {
        true => context.print_json(&done)?,
        false => eprintln!("{}", done.message),
    }
    Ok(Exit::Success)
}

/// How often a drain is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A master may be away for so long, to be upgraded or restored; the drain itself waits for ever.
const MASTER_PATIENCE: Duration = Duration::from_secs(10 * 60);

async fn drain(context: &Context, args: &DrainArgs) -> Result<Exit, CliError> {
    let wanted = NodeOrder::Drain {
        grace_seconds: args.grace_seconds,
        delete_empty_dirs: args.delete_emptydir_data,
        force: args.force,
    };
    let exit = order(context, &args.name, wanted).await?;
    if args.no_wait {
        return Ok(exit);
    }
    let mut watch = DrainWatch::new(context.client()?, &args.name);
    let mut heard = Instant::now();
    loop {
        match watch.look().await {
            Ok(Progress::Drained) => return Ok(exit),
            Ok(Progress::TakenBack) => {
                eprintln!("somebody took the order back");
                return Ok(Exit::Error);
            }
            Ok(Progress::UnderWay) => heard = Instant::now(),
            Err(error) if error.may_pass() && heard.elapsed() < MASTER_PATIENCE => {
                watch.tell("the master does not answer; the drain goes on once it is back");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

enum Progress {
    UnderWay,
    Drained,
    TakenBack,
}

/// A drain, and what was told of it.
struct DrainWatch<'a> {
    client: Client,
    node: &'a str,
    told_state: String,
    told_waits: Vec<String>,
}

impl<'a> DrainWatch<'a> {
    fn new(client: Client, node: &'a str) -> Self {
        Self { client, node, told_state: String::new(), told_waits: Vec::new() }
    }

    async fn look(&mut self) -> Result<Progress, ClientError> {
        let path = format!("/api/v1/nodes/{}", encoded(self.node));
        let pointer = format!("/metadata/annotations/{}", DRAIN_ANNOTATION.replace('/', "~1"));
        let node: Value = self.client.get(&path).await?;
        let state = text(&node, &pointer);
        if state.is_empty() {
            return Ok(Progress::TakenBack);
        }
        self.tell(state);
        if state == DRAINED {
            return Ok(Progress::Drained);
        }
        self.tell_waits().await?;
        Ok(Progress::UnderWay)
    }

    fn tell(&mut self, state: &str) {
        if self.told_state != state {
            eprintln!("{state}");
            state.clone_into(&mut self.told_state);
        }
    }

    /// What keeps the node's pods there, each thing once for as long as it lasts.
    async fn tell_waits(&mut self) -> Result<(), ClientError> {
        let status: ClusterStatus = self.client.get("/kgit/v1/status").await?;
        let of_node = |waiting: &&Waiting| {
            waiting.object.kind == Kind::Node && &*waiting.object.name == self.node
        };
        let waits: Vec<String> =
            status.waits.iter().filter(of_node).map(|waiting| waiting.for_what.clone()).collect();
        for wait in waits.iter().filter(|wait| !self.told_waits.contains(wait)) {
            eprintln!("waits for {wait}");
        }
        self.told_waits = waits;
        Ok(())
    }
}

/// `key=value`, or `key-`.
fn label(text: &str) -> Result<(String, Option<String>), CliError> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), Some(value.to_owned())));
    }
    let key = text.strip_suffix('-').filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| {
        CliError::usage(
            format!("`{text}` is no label"),
            "write KEY=VALUE to set one, KEY- to take it away",
        )
    })?;
    Ok((key.to_owned(), None))
}

/// `key=value:effect`, `key:effect`, `key:effect-`, or `key-`.
fn taint(text: &str) -> Result<TaintOrder, CliError> {
    let (rest, remove) = match text.strip_suffix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (what, effect) = match rest.split_once(':') {
        Some((what, effect)) => (what, Some(effect.to_owned())),
        None => (rest, None),
    };
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    if key.is_empty() || (effect.is_none() && !remove) {
        let hint = "write KEY=VALUE:EFFECT to set one, KEY:EFFECT- or KEY- to take it away";
        return Err(CliError::usage(format!("`{text}` is no taint"), hint));
    }
    Ok(TaintOrder { key: key.to_owned(), value: value.to_owned(), effect, remove })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_taints_are_written_as_kubectl_has_them() {
        assert_eq!(label("a=b").unwrap(), ("a".into(), Some("b".into())));
        assert_eq!(label("a-").unwrap(), ("a".into(), None));
        assert!(label("a").is_err());
        let read = |text| taint(text).map(|it| (it.key, it.value, it.effect, it.remove)).ok();
        let (some, none) = (Some("NoExecute".to_owned()), None);
        assert_eq!(read("a=b:NoExecute"), Some(("a".into(), "b".into(), some.clone(), false)));
        assert_eq!(read("a:NoExecute-"), Some(("a".into(), String::new(), some, true)));
        assert_eq!(read("a-"), Some(("a".into(), String::new(), none, true)));
        assert_eq!(read("a=b"), None);
    }
}
