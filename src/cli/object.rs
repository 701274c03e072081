//! How objects are named on the command line: `pods`, `pod web-1`, `deploy/web`.

use clap::Args;

use crate::cli::error::CliError;
use crate::kube::resource_type::{ResourceType, SERVED, by_word};

/// In which namespace to look.
#[derive(Clone, Debug, Default, Args)]
pub struct Where {
    /// The namespace to look in [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Where {
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

/// Types and, perhaps, a name.
#[derive(Debug)]
pub struct Named {
    pub types: Vec<&'static ResourceType>,
    pub names: Vec<String>,
}

/// Reads `KIND[,KIND…] [NAME…]`, `KIND/NAME`, and `all`.
pub fn named(words: &[String]) -> Result<Named, CliError> {
    let (first, rest) = words
        .split_first()
        .ok_or_else(|| CliError::usage("no kind was named", "name one: `pods`"))?;
    if let Some((kind, name)) = first.split_once('/') {
        return Ok(Named { types: vec![of_word(kind)?], names: vec![name.to_owned()] });
    }
    if first == "all" {
        return Ok(Named { types: SERVED.iter().filter(|ty| ty.in_all).collect(), names: vec![] });
    }
    let types: Result<_, _> = first.split(',').map(of_word).collect();
    Ok(Named { types: types?, names: rest.to_vec() })
}

/// One object: `KIND NAME` or `KIND/NAME`.
pub fn one(words: &[String]) -> Result<(&'static ResourceType, String), CliError> {
    let found = named(words)?;
    match (found.types.as_slice(), found.names.as_slice()) {
        ([ty], [name]) => Ok((ty, name.clone())),
        _ => Err(CliError::usage("this takes one object", "name it: KIND NAME, or KIND/NAME")),
    }
}

fn of_word(word: &str) -> Result<&'static ResourceType, CliError> {
    by_word(word).ok_or_else(|| {
        // Some are served by two API groups.
        let mut known: Vec<_> = SERVED.iter().map(|ty| ty.plural).collect();
        known.sort_unstable();
        known.dedup();
        let near = known.iter().find(|plural| strsim::jaro_winkler(plural, word) > 0.85);
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known.join(", ")),
        };
        CliError::usage(format!("kgit has no kind `{word}`"), hint)
    })
}
