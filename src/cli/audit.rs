//! `kgit audit`.

use clap::{Args, Subcommand};

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::domain::audit::{Body, Entry};
use crate::domain::words::printable;
use crate::kube::dto::{Entries, Reconciles, Verified};
use crate::kube::reconcile::trigger_text;
use crate::kube::table::aligned;
use crate::plan::text::{self, Line};

/// Entries that are asked for at a time.
const PAGE: usize = 500;

/// Show what was done, when, and why
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List reconciles, and what was ordered beside them, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Only those before this one
        #[arg(long, value_name = "RECONCILE")]
        before: Option<u64>,
    },
    /// Show one reconcile or order: its trigger, its steps with their reasons, and its outcome
    Show {
        /// Its number
        reconcile: u64,
    },
    /// Check that nobody changed or cut off the log; exits with 1 if somebody did
    Verify,
    /// Print every entry, one line of JSON each
    Export,
}

pub async fn run(args: &AuditArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        None => list(context, 20, None).await,
        Some(AuditCommand::List { limit, before }) => list(context, *limit, *before).await,
        Some(AuditCommand::Show { reconcile }) => show(context, *reconcile).await,
        Some(AuditCommand::Verify) => verify(context).await,
        Some(AuditCommand::Export) => export(context).await,
    }
}

async fn list(context: &Context, limit: usize, before: Option<u64>) -> Result<Exit, CliError> {
    let mut path = format!("/kgit/v1/audit/reconciles?limit={limit}");
    if let Some(before) = before {
        path.push_str(&format!("&before={before}"));
    }
    let found: Reconciles = context.client()?.get(&path).await?;
    if context.for_programs() {
        context.print_json(&found)?;
        return Ok(Exit::Success);
    }
    let title = ["RECONCILE", "WHEN", "STEPS", "UNFORESEEN", "STATE", "TRIGGER"];
    let mut lines = vec![title.map(str::to_owned).to_vec()];
    for line in found.reconciles {
        lines.push(vec![
            line.reconcile.to_string(),
            line.at.to_string(),
            line.steps.to_string(),
            line.deviations.to_string(),
            line.state,
            trigger_text(&line.trigger),
        ]);
    }
    print(&aligned(&lines))?;
    Ok(Exit::Success)
}

async fn show(context: &Context, reconcile: u64) -> Result<Exit, CliError> {
    let path = format!("/kgit/v1/audit/reconciles/{reconcile}");
    let found: Entries = context.client()?.get(&path).await?;
    match context.for_programs() {
        true => context.print_json(&found)?,
        false => found.entries.iter().try_for_each(|entry| print(&entry_text(entry)))?,
    }
    Ok(Exit::Success)
}

fn entry_text(entry: &Entry) -> String {
    let head = format!("#{} {}  ", entry.sequence, entry.at);
    let said = match &entry.body {
        Body::Triggered { by, forecast } => {
            format!("triggered by {}; {} steps foreseen", trigger_text(by), forecast.len())
        }
        Body::Planned { steps, beyond } => {
            let lines = steps.iter().map(|step| Line { said: &step.said, reasons: &step.reasons });
            let mut shown = format!("planned\n{}", text::plan(lines, &[]));
            for step in steps.iter().filter(|step| step.deviation.is_some()) {
                let why = step.deviation.as_deref().unwrap_or_default();
                shown.push_str(&format!("     not foreseen: {}: {why}\n", text::said(&step.said)));
            }
            if *beyond > 0 {
                shown.push_str(&format!("     and {beyond} more steps\n"));
            }
            return format!("{head}{shown}");
        }
        Body::Outcome { lines } => format!("outcome\n     {}", lines.join("\n     ")),
        Body::Finished { steps, deviations, missing, waiting, superseded } => {
            let how = if *superseded { "superseded by a newer commit" } else { "finished" };
            let mut shown = format!("{how}: {steps} steps, {deviations} of them not foreseen");
            for said in missing {
                shown.push_str(&format!("\n     foreseen, not done: {}", text::said(said)));
            }
            for waiting in waiting {
                shown.push_str(&format!("\n     still waiting: {waiting}"));
            }
            shown
        }
        Body::Anchor { removed_through, by, .. } => {
            format!("{by} removed the entries up to {removed_through}")
        }
        Body::Ordered { by, what } => printable(&format!("{by} ordered: {what}")),
        Body::Redacted => "redacted".to_owned(),
        Body::Redaction { sequence, by } => format!("{by} redacted entry {sequence}"),
        Body::Restored { by } => format!("{by} restored a backup; what came after it is lost"),
        Body::Omitted { steps, lines, .. } => {
            format!("{steps} steps and {lines} lines more than are kept")
        }
    };
    format!("{head}{said}\n")
}

async fn verify(context: &Context) -> Result<Exit, CliError> {
    let found: Verified = context.client()?.get("/kgit/v1/audit/verify").await?;
    match context.for_programs() {
        true => context.print_json(&found)?,
        false => print(&verified_text(&found))?,
    }
    let damaged = !found.problems.is_empty() || found.witnesses.iter().any(|w| !w.agrees);
    Ok(if damaged { Exit::Found } else { Exit::Success })
}

fn verified_text(found: &Verified) -> String {
    let mut text = match &found.head {
        Some(head) => format!(
            "{} entries, the newest is #{} ({})\n",
            found.entries,
            head.sequence,
            head.digest.short()
        ),
        None => "the log is empty\n".to_owned(),
    };
    for witness in &found.witnesses {
        let says = if witness.agrees { "agrees" } else { "DISAGREES" };
        text.push_str(&format!("node {} {says} (#{})\n", witness.node, witness.head.sequence));
    }
    for problem in &found.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}

async fn export(context: &Context) -> Result<Exit, CliError> {
    let (client, mut from) = (context.client()?, 1);
    loop {
        let path = format!("/kgit/v1/audit/entries?from={from}&limit={PAGE}");
        let page: Entries = client.get(&path).await?;
        let Some(last) = page.entries.last() else { return Ok(Exit::Success) };
        from = last.sequence + 1;
        for entry in &page.entries {
            let line = serde_json::to_string(entry)
                .map_err(|error| CliError::io("write JSON")(error.into()))?;
            print(&format!("{line}\n"))?;
        }
    }
}
