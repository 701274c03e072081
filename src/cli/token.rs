//! `kgit token`.

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::context::{Context, print};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::client::http::encoded;
use crate::domain::token;
use crate::kube::dto::{Done, TokenCreated, TokenRequest, Tokens, VERSION};
use crate::kube::table::aligned;

/// How long a join token is good for if nobody says otherwise: long enough to walk to the host.
const JOIN_VALID_HOURS: u64 = 24;

/// Create, list and revoke tokens
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; this is the only time that it is shown
    Create(CreateArgs),
    /// List tokens, without their secrets
    List,
    /// Make a token worthless, at once
    Revoke {
        /// As `kgit token list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What its holder may do
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Who is behind it; the audit shows this
    #[arg(long, default_value = "node")]
    name: String,
    /// How long it is good for, in hours; 0: for ever [default: 24 for join tokens, else 0]
    #[arg(long, value_name = "HOURS")]
    valid: Option<u64>,
    /// How many nodes may join with it; 0: any number [default: 1 for join tokens]
    #[arg(long, value_name = "NUMBER")]
    uses: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Make one node a member of the cluster
    #[default]
    Join,
    /// See everything but the values of Secrets
    Read,
    /// Also approve, prune, suspend, and work in pods or end them
    Write,
    /// Everything
    Admin,
}

pub async fn run(args: &TokenArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        TokenCommand::Create(args) => create(args, context).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { id } => {
            let path = format!("/kgit/v1/tokens/{}", encoded(id));
            let done: Done = context.client()?.delete(&path).await?;
            eprintln!("{}", done.message);
            Ok(Exit::Success)
        }
    }
}

async fn create(args: &CreateArgs, context: &Context) -> Result<Exit, CliError> {
    let is_join = args.role == Role::Join;
    let hours = args.valid.unwrap_or(if is_join { JOIN_VALID_HOURS } else { 0 });
    let uses = args.uses.unwrap_or(u32::from(is_join));
    let request = TokenRequest {
        version: VERSION,
        name: args.name.clone(),
        role: match args.role {
            Role::Join => token::Role::Join,
            Role::Read => token::Role::Read,
            Role::Write => token::Role::Write,
            Role::Admin => token::Role::Admin,
        },
        valid_seconds: (hours > 0).then(|| hours.saturating_mul(3600)),
        uses: (uses > 0).then_some(uses),
    };
    let created: TokenCreated = context.client()?.post("/kgit/v1/tokens", &request).await?;
    match context.for_programs() {
        true => context.print_json(&created)?,
        false => print(&format!("{}\n", created.token))?,
    }
    Ok(Exit::Success)
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let tokens: Tokens = context.client()?.get("/kgit/v1/tokens").await?;
    if context.for_programs() {
        context.print_json(&tokens)?;
        return Ok(Exit::Success);
    }
    let title = ["ID", "NAME", "ROLE", "CREATED", "EXPIRES", "USES LEFT", "STATE"];
    let mut lines = vec![title.map(str::to_owned).to_vec()];
    for token in tokens.tokens {
        lines.push(vec![
            token.id,
            token.name,
            format!("{:?}", token.role).to_lowercase(),
            token.created.to_string(),
            token.expires.map_or("never".to_owned(), |at| at.to_string()),
            token.uses_left.map_or("any".to_owned(), |uses| uses.to_string()),
            if token.revoked { "revoked" } else { "valid" }.to_owned(),
        ]);
    }
    print(&aligned(&lines))?;
    Ok(Exit::Success)
}
