//! `kgit why`.

use clap::Args;

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::{Where, one};
use crate::client::http::encoded;
use crate::kube::dto::Why;
use crate::kube::reconcile::trigger_text;
use crate::plan::text::{because, said};

/// Say why an object is what it is: the steps that made it so, back to the commit
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// KIND NAME or KIND/NAME
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: &WhyArgs, context: &Context) -> Result<Exit, CliError> {
    let (ty, name) = one(&args.object)?;
    let place = encoded(args.place.namespace());
    let path = format!("/kgit/v1/why/{}/{place}/{}", ty.plural, encoded(&name));
    let why: Why = context.client()?.get(&path).await?;
    match context.for_programs() {
        true => context.print_json(&why)?,
        false => print(&text(&why))?,
    }
    Ok(Exit::Success)
}

fn text(why: &Why) -> String {
    let mut text = format!("{}\n", why.object);
    for owner in &why.owners {
        text.push_str(&format!("  exists for {owner}\n"));
    }
    if why.steps.is_empty() {
        text.push_str("  the audit log names no step that made it\n");
    }
    for found in &why.steps {
        let (step, at) = (&found.step, found.at);
        text.push_str(&format!("\n{at}  {}  (reconcile {})\n", said(&step.said), found.reconcile));
        for reason in &step.reasons {
            text.push_str(&format!("    because {}\n", because(reason)));
        }
        if let Some(deviation) = &step.deviation {
            text.push_str(&format!("    not foreseen: {deviation}\n"));
        }
        text.push_str(&format!("    set off by {}\n", trigger_text(&found.trigger)));
    }
    for waiting in &why.waits {
        text.push_str(&format!("\nwaits for {}\n", waiting.for_what));
    }
    text
}
