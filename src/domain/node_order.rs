//! What people order about nodes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum NodeOrder {
    /// Nothing new goes there.
    Cordon,
    /// As before a cordon, a drain or a fence.
    Uncordon,
    /// Nothing new goes there, and what is there goes.
    Drain {
        /// Instead of the pods' own.
        #[serde(default)]
        grace_seconds: Option<u32>,
        #[serde(default)]
        delete_empty_dirs: bool,
        #[serde(default)]
        force: bool,
    },
    /// `None` takes a label away.
    Label {
        labels: BTreeMap<String, Option<String>>,
    },
    Taint {
        taints: Vec<TaintOrder>,
    },
    /// It is dead: whatever ran there may run elsewhere.
    Fence,
    /// It is gone for good, and the data on it.
    Remove,
}

/// One taint set or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintOrder {
    pub key: String,
    #[serde(default)]
    pub value: String,
    /// `None`, where one is taken away: every effect.
    #[serde(default)]
    pub effect: Option<String>,
    #[serde(default)]
    pub remove: bool,
}

impl fmt::Display for NodeOrder {
    /// For the audit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordon => f.write_str("cordon"),
            Self::Uncordon => f.write_str("uncordon"),
            Self::Drain { grace_seconds, delete_empty_dirs, force } => {
                f.write_str("drain")?;
                if let Some(seconds) = grace_seconds {
                    write!(f, " within {seconds} s")?;
                }
                let flags = [(*delete_empty_dirs, "emptyDirs"), (*force, "pods of no workload")];
                for (_, what) in flags.iter().filter(|(set, _)| *set) {
                    write!(f, ", {what} too")?;
                }
                Ok(())
            }
            Self::Label { labels } => {
                let all = labels.iter().map(|(key, value)| match value {
                    Some(value) => format!(" {key}={value}"),
                    None => format!(" {key}-"),
                });
                write!(f, "label{}", all.collect::<String>())
            }
            Self::Taint { taints } => {
                let all = taints.iter().map(|taint| {
                    let effect = taint.effect.as_deref().unwrap_or("*");
                    let end = if taint.remove { "-" } else { "" };
                    format!(" {}={}:{effect}{end}", taint.key, taint.value)
                });
                write!(f, "taint{}", all.collect::<String>())
            }
            Self::Fence => f.write_str("fence"),
            Self::Remove => f.write_str("removal for good"),
        }
    }
}
