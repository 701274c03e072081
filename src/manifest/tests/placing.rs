//! Where pods are to run, who comes first, and how many may be away: what is refused, and why.

use super::{accepted, report};
use crate::domain::autoscaling::DisruptionBound;
use crate::domain::resource::{IntOrPercent, ReferenceKind, Spec};

/// What is said of a Pod with this field of its spec.
fn of_pod(field: &str) -> String {
    let text = format!(
        "=== a.yaml\napiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  \
         containers: [{{name: a, image: 'a:1'}}]\n  {field}\n"
    );
    messages(&text)
}

/// The errors and warnings alone, without their places.
fn messages(text: &str) -> String {
    let report = report(text);
    let said = report
        .lines()
        .filter(|line| ["error:", "warning:", "hint:"].iter().any(|kind| line.starts_with(kind)));
    said.collect::<Vec<_>>().join("\n")
}

fn all(cases: &[&str], of: fn(&str) -> String) -> String {
    let each = cases.iter().map(|case| format!("{case}\n{}\n", of(case)));
    each.collect::<Vec<_>>().join("\n")
}

#[test]
fn node_affinity_is_checked_as_upstream_does() {
    insta::assert_snapshot!(all(&[
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: [b]}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.uid, operator: In, values: [b]}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b, c]}]}]}}}",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: Exists, values: [b]}]}]}}}",
        "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}",
        "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}",
    ], of_pod), @"
    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}
    error: `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms` is required

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: [b]}]}]}}}
    error: `Gt` and `Lt` need one whole number

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]}]}}}
    error: `Gt` and `Lt` need one whole number

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]}}}
    error: `in` is not one of `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt`, `Lt`
    hint: did you mean `In`?

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}
    error: `In` and `NotIn` need values

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.uid, operator: In, values: [b]}]}]}}}
    error: `metadata.uid` can't be matched: only `metadata.name` can

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b, c]}]}]}}}
    error: must be exactly one name

    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: Exists, values: [b]}]}]}}}
    error: `Exists` is not one of `In`, `NotIn`

    affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}
    error: 0 is out of range: 1 to 100

    affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}
    error: 101 is out of range: 1 to 100
    ");
}

#[test]
fn pod_affinity_is_checked_as_upstream_does() {
    insta::assert_snapshot!(all(&[
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}",
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}, topologyKey: 'a b'}]}}",
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}, topologyKey: zone, namespaces: [A_B]}]}}",
        "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}, topologyKey: zone}]}}",
        "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 200, podAffinityTerm: {labelSelector: {}, topologyKey: zone}}]}}",
        "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 2, podAffinityTerm: {labelSelector: {}, topologyKey: zone, matchLabelKeys: ['']}}]}}",
    ], of_pod), @"
    affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}
    error: `spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey` is required

    affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}, topologyKey: 'a b'}]}}
    error: `a b` is not a valid label key

    affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}, topologyKey: zone, namespaces: [A_B]}]}}
    error: `A_B` is not a valid name: lower-case letters, digits and `-`, at most 63
    hint: `a-b` would do

    affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}, topologyKey: zone}]}}
    error: `Gt` is not one of `In`, `NotIn`, `Exists`, `DoesNotExist`

    affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 200, podAffinityTerm: {labelSelector: {}, topologyKey: zone}}]}}
    error: 200 is out of range: 1 to 100

    affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 2, podAffinityTerm: {labelSelector: {}, topologyKey: zone, matchLabelKeys: ['']}}]}}
    error: `` is not a valid label key
    ");
}

#[test]
fn spread_constraints_are_checked_as_upstream_does() {
    insta::assert_snapshot!(all(&[
        "topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: '', whenUnsatisfiable: DoNotSchedule}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ''}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: Never}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, minDomains: 0}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: honor}]",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]",
    ], of_pod), @"
    topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
    error: 0 is out of range: at least 1

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: '', whenUnsatisfiable: DoNotSchedule}]
    error: `spec.topologySpreadConstraints[0].topologyKey` is required

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ''}]
    error: `spec.topologySpreadConstraints[0].whenUnsatisfiable` is required

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: Never}]
    error: `Never` is not one of `DoNotSchedule`, `ScheduleAnyway`

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}]
    error: has a meaning only where `whenUnsatisfiable` is `DoNotSchedule`

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, minDomains: 0}]
    error: 0 is out of range: at least 1

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: honor}]
    error: `honor` is not one of `Honor`, `Ignore`
    hint: did you mean `Honor`?

    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
    error: a constraint of this kind on this `topologyKey` is there already
    ");
}

#[test]
fn tolerations_and_priorities_are_checked_as_upstream_does() {
    insta::assert_snapshot!(all(&[
        "tolerations: [{key: a, operator: Exists, value: b}]",
        "tolerations: [{operator: Equal, value: b}]",
        "tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}]",
        "tolerations: [{key: a, operator: Exists, effect: Never}]",
        "priorityClassName: high",
        "priorityClassName: system-node-critical",
        "priority: 5",
        "preemptionPolicy: Sometimes",
    ], of_pod), @"
    tolerations: [{key: a, operator: Exists, value: b}]
    error: `Exists` takes no value

    tolerations: [{operator: Equal, value: b}]
    error: must be `Exists` where there is no `key`

    tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}]
    error: only what is tolerated of `NoExecute` has an end

    tolerations: [{key: a, operator: Exists, effect: Never}]
    error: `Never` is not one of `NoSchedule`, `PreferNoSchedule`, `NoExecute`

    priorityClassName: high
    error: Pod `p` refers to PriorityClass `high`, which no manifest defines

    priorityClassName: system-node-critical


    priority: 5
    warning: `priority` has no effect: it follows from `priorityClassName`

    preemptionPolicy: Sometimes
    error: `Sometimes` is not one of `PreemptLowerPriority`, `Never`
    ");
}

fn of_class(fields: &str) -> String {
    let (name, rest) = fields.split_once(' ').unwrap();
    let kind = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass";
    messages(&format!("=== a.yaml\n{kind}\nmetadata: {{name: {name}}}\n{rest}\n"))
}

#[test]
fn priority_classes_leave_the_highest_to_the_system() {
    insta::assert_snapshot!(all(&[
        "high value: 1000000000",
        "high value: 1000000001",
        "high value: -5",
        "system-own value: 5",
        "high preemptionPolicy: Sometimes",
    ], of_class), @"
    high value: 1000000000


    high value: 1000000001
    error: 1000000001 is out of range: at most 1000000000

    high value: -5


    system-own value: 5
    error: names that begin with `system-` are taken

    high preemptionPolicy: Sometimes
    error: `Sometimes` is not one of `PreemptLowerPriority`, `Never`
    ");
}

fn of_budget(fields: &str) -> String {
    let kind = "apiVersion: policy/v1\nkind: PodDisruptionBudget";
    messages(&format!("=== a.yaml\n{kind}\nmetadata: {{name: b}}\nspec: {{{fields}}}\n"))
}

#[test]
fn budgets_say_one_bound_as_a_number_or_a_share() {
    insta::assert_snapshot!(all(&[
        "minAvailable: 1, maxUnavailable: 1",
        "minAvailable: -1",
        "maxUnavailable: some",
        "maxUnavailable: 1, unhealthyPodEvictionPolicy: Never",
        "maxUnavailable: 50%, selector: {matchExpressions: [{key: a, operator: Exists}]}",
    ], of_budget), @"
    minAvailable: 1, maxUnavailable: 1
    error: says the same as `minAvailable` in another way: give one of the two

    minAvailable: -1
    error: -1 is negative
    hint: a number, or a percentage such as `25%`

    maxUnavailable: some
    error: `some` is not a percentage
    hint: a number, or a percentage such as `25%`

    maxUnavailable: 1, unhealthyPodEvictionPolicy: Never
    error: `Never` is not one of `IfHealthyBudget`, `AlwaysAllow`

    maxUnavailable: 50%, selector: {matchExpressions: [{key: a, operator: Exists}]}
    ");
}

#[test]
fn a_budget_without_a_bound_lets_nothing_go() {
    let text = "=== b.yaml\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {}\n";
    let budget = accepted(text, "PodDisruptionBudget/default/b");
    let Spec::DisruptionBudget(spec) = &budget.spec else { panic!() };
    assert_eq!(spec.bound, DisruptionBound::MaxUnavailable(IntOrPercent::Int(0)));
    assert_eq!(spec.selector, None);
}

#[test]
fn a_pod_refers_to_its_class_and_templates_without_wishes_keep_their_digest() {
    let class =
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 5\n";
    let text = format!(
        "=== a.yaml\n{class}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  \
         priorityClassName: high\n  containers: [{{name: a, image: 'a:1'}}]\n"
    );
    let pod = accepted(&text, "Pod/default/p");
    assert_eq!(pod.references[0].to.to_string(), "PriorityClass/high");
    assert_eq!(pod.references[0].kind, ReferenceKind::Needs);
    let plain = accepted(&text.replace("  priorityClassName: high\n", ""), "Pod/default/p");
    let written = serde_json::to_value(&**plain.template().unwrap()).unwrap();
    let placement = written["placement"].as_object().unwrap();
    let fields: Vec<&str> = placement.keys().map(String::as_str).collect();
    // An upgrade that adds fields to what was written must not roll what runs.
    assert_eq!(fields, ["node_affinity", "node_name", "node_selector", "tolerations"]);
}
