//! `kgit.dev/v1 Cluster`: the repo's own settings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use crate::domain::desired::Settings;
use crate::domain::diagnostic::Severity;
use crate::domain::resource::IntOrPercent;
use crate::manifest::decode::decode;
use crate::manifest::findings::Findings;
use crate::manifest::lower::workload::percent;
use crate::manifest::path::Path;
use crate::manifest::tree::Node;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields that every object has, so that they are known")]
struct Cluster {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<ObjectMeta>,
    #[serde(default)]
    spec: Option<ClusterSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterSpec {
    #[serde(default)]
    prune_budget: Option<IntOrString>,
    #[serde(default)]
    rebalance_budget: Option<u32>,
    #[serde(default)]
    wave_deadline_seconds: Option<u32>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    exclude: Option<Vec<String>>,
}

/// `None` if there is something wrong with it; that is among the findings.
pub fn settings(root: &Node<'_>, findings: &mut Findings<'_>) -> Option<Settings> {
    let mut poisoned = Vec::new();
    let before = findings.errors();
    let cluster: Cluster = decode(root, findings, &mut poisoned)?;
    let spec = cluster.spec.unwrap_or_default();
    let mut settings = Settings {
        include: spec.include.unwrap_or_default(),
        exclude: spec.exclude.unwrap_or_default(),
        // None may move at all: as if nothing were said.
        rebalance_budget: spec.rebalance_budget.filter(|budget| *budget > 0),
        ..Settings::default()
    };
    settings.wave_deadline_seconds =
        spec.wave_deadline_seconds.unwrap_or(settings.wave_deadline_seconds);
    match budget(spec.prune_budget.as_ref()) {
        None => {
            let path = Path::ROOT.key("spec");
            let span = path.key("pruneBudget").find(root).value;
            let hint = Some("a number, or a percentage such as `20%`".to_owned());
            let message = "this is not a budget";
            findings.push(Severity::Error, span, "invalid-value", message, hint);
        }
        Some(None) => {}
        Some(Some(budget)) => {
            // A number is meant as it stands; a percentage of few objects would stop every step.
            if matches!(budget, IntOrPercent::Int(_)) {
                settings.prune_budget_floor = 0;
            }
            settings.prune_budget = budget;
        }
    }
    (findings.errors() == before).then_some(settings)
}

/// `None` if it can't be read, `Some(None)` if nothing was written.
fn budget(written: Option<&IntOrString>) -> Option<Option<IntOrPercent>> {
    match written {
        None => Some(None),
        Some(IntOrString::Int(number)) => Some(Some(IntOrPercent::Int((*number).try_into().ok()?))),
        Some(IntOrString::String(text)) => {
            let budget = percent(text)?;
            matches!(budget, IntOrPercent::Percent(0..=100)).then_some(Some(budget))
        }
    }
}
