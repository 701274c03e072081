//! `kgit up`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kgit_agent::policy::NodePolicy;
use kgit_agent::runtime::crash::CrashPoint;

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::master::{MasterOptions, stopped};
use crate::cli::node_options::NodeOptions;
use crate::daemon::config;
use crate::daemon::up::{self, Up, UpConfig};
use crate::domain::diagnostic::Severity;
use crate::manifest::render::Rendered;
use crate::master::view::View;

/// Run the manifests of a folder or a Git repository on this machine's Docker
///
/// A master and an agent in one process, until Ctrl-C. Containers go on after that; `kgit down`
/// stops them.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// A folder, a Git repository or a URL
    #[arg(value_name = "PATH", default_value = ".")]
    source: String,
    #[command(flatten)]
    options: MasterOptions,
    #[command(flatten)]
    node: NodeOptions,
}

/// How often the progress is drawn anew while nothing changes, for its clock.
const REDRAW: Duration = Duration::from_millis(250);

pub async fn run(args: UpArgs) -> Result<Exit, CliError> {
    let data = args.options.data();
    let config = UpConfig {
        master: args.options.config(args.source),
        docker_socket: args.node.docker.clone(),
        policy: args.node.policy(NodePolicy::for_own_machine()),
        crash: std::env::var("KGIT_CRASH_AT").ok().and_then(|text| engine_crash(&text)),
    };
    let mut up = up::start(&config).await?;
    eprintln!("kgit runs {} on {}", config.master.source, up::host_name());
    eprintln!("kubeconfig: {}", config::kubeconfig(&data).display());
    let watching = tokio::spawn(show(up.master.handle.clone()));
    let ended = tokio::select! {
        stopped = stopped() => stopped.map(|()| Exit::Success),
        error = up.failed() => Err(error.into()),
    };
    watching.abort();
    finish(up, &data, &ended).await;
    ended
}

/// `docker:` in front tells a call to the engine from a commit of the store.
fn engine_crash(text: &str) -> Option<CrashPoint> {
    CrashPoint::parse(text.strip_prefix("docker:")?)
}

async fn finish(up: Up, data: &std::path::Path, ended: &Result<Exit, CliError>) {
    up.stop(data).await;
    if ended.is_ok() {
        eprintln!("stopped; containers go on, `kgit down` stops them");
    }
}

/// Says what is wrong with the manifests and how far things are, whenever that changes.
async fn show(master: crate::master::handle::Handle) {
    let bar = progress_bar();
    let mut versions = master.versions();
    let mut last = String::new();
    let mut commit = None;
    loop {
        let view = master.view();
        let now = view.source.commit.as_ref().map(|commit| commit.id.clone());
        if now != commit {
            commit = now;
            bar.suspend(|| tell_findings(&view));
        }
        let line = summary(&view);
        if line != last {
            match &bar {
                bar if bar.is_hidden() => eprintln!("{line}"),
                bar => bar.set_message(line.clone()),
            }
            last = line;
        }
        // Also without a new version: the source may have failed.
        let _ = tokio::time::timeout(REDRAW, versions.changed()).await;
    }
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}

fn tell_findings(view: &View) {
    let worth = |severity: Severity| severity != Severity::Note;
    for diagnostic in view.diagnostics.iter().filter(|found| worth(found.severity)) {
        eprintln!("{}", Rendered(diagnostic));
    }
}

/// `commit 1a2b3c4: 5 of 6 pods ready, 2 waits`.
fn summary(view: &View) -> String {
    if let Some(error) = &view.source.error {
        return format!("the source can't be read: {error}");
    }
    let Some(commit) = &view.source.commit else { return "reading the source".to_owned() };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in view.world.pods.values() {
        let state = match (pod.deletion.is_some(), pod.is_ready(), pod.is_finished()) {
            (true, ..) => "ending",
            (_, true, _) => "ready",
            (.., true) => "finished",
            _ => "starting",
        };
        *counts.entry(state).or_default() += 1;
    }
    let pods: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let pods =
        if pods.is_empty() { "no pods".to_owned() } else { format!("pods: {}", pods.join(", ")) };
    let mut line = format!("commit {}: {pods}", commit.short());
    if let Some(waiting) = view.waits.values().flatten().next() {
        line.push_str(&format!("; {} waits for {}", waiting.object, waiting.for_what));
    }
    line
}
