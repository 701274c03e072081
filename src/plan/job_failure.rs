//! What the failure of a Job's pod means, by the Job's `podFailurePolicy`.
//!
//! Source: upstream's `job/pod_failure_policy.go`: the first rule that fits decides; without one,
//! the failure counts.

use kgit_protocol::observation::{ContainerObservation, ContainerState};

use crate::domain::record::{EndedBy, Pod};
use crate::domain::workload::{DISRUPTED, ExitCodes, FailureAction, FailureRule};

/// What is to be done about a failed pod, and why, for people.
pub fn judge(rules: &[FailureRule], pod: &Pod) -> (FailureAction, String) {
    for (index, rule) in rules.iter().enumerate() {
        if let Some(what) = fits(rule, pod) {
            return (rule.action, format!("pod {}: {what} (rule {index})", pod.key.name));
        }
    }
    (FailureAction::Count, String::new())
}

/// What of the pod the rule is about.
fn fits(rule: &FailureRule, pod: &Pod) -> Option<String> {
    let disrupted = pod.deletion.is_some_and(|deletion| deletion.by == EndedBy::Disruption);
    if disrupted && rule.conditions.iter().any(|condition| condition == DISRUPTED) {
        return Some(format!("has the condition {DISRUPTED}"));
    }
    let codes = rule.exit_codes.as_ref()?;
    let observed = pod.observed.as_ref()?;
    let all = observed.all_containers();
    let (container, code) =
        all.filter_map(|it| Some((it, exit_code(it)?))).find(|(it, code)| {
            codes.container.as_ref().is_none_or(|name| *name == it.name) && has(codes, *code)
        })?;
    Some(format!("container {} ended with {code}", container.name))
}

fn exit_code(container: &ContainerObservation) -> Option<i64> {
    match &container.state {
        ContainerState::Terminated(end) => Some(end.exit_code),
        ContainerState::Waiting { .. }
        | ContainerState::Running { .. }
        | ContainerState::Unknown => None,
    }
}

/// Success is never what a rule is about.
fn has(codes: &ExitCodes, code: i64) -> bool {
    let listed = codes.values.iter().any(|value| i64::from(*value) == code);
    code != 0 && listed == codes.inside
}
