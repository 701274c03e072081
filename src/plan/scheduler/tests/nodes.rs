//! Nodes by name, label, taint and state.

use insta::assert_snapshot;

use super::places;

#[test]
fn node_selectors_ask_for_every_label() {
    assert_snapshot!(places("a zone=1 disk=ssd | b zone=1 | c zone=2 disk=ssd | d", "", "
        ; nodeSelector: {}
        ; nodeSelector: {zone: '1'}
        ; nodeSelector: {zone: '1', disk: ssd}
        ; nodeSelector: {zone: '3'}
        ; nodeSelector: {disk: hdd}
        ; nodeSelector: {kubernetes.io/hostname: d}
        ; nodeName: b
        ; nodeName: nowhere
        ; nodeName: b, nodeSelector: {zone: '2'}
    "), @"
    ; nodeSelector: {} → b a c d
    ; nodeSelector: {zone: '1'} → b a
    ; nodeSelector: {zone: '1', disk: ssd} → a
    ; nodeSelector: {zone: '3'} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; nodeSelector: {disk: hdd} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; nodeSelector: {kubernetes.io/hostname: d} → d
    ; nodeName: b → b
    ; nodeName: nowhere → 0/4 nodes are available: 4 node(s) didn't match the requested node name
    ; nodeName: b, nodeSelector: {zone: '2'} → 0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 3 node(s) didn't match the requested node name
    ");
}

/// One required term.
fn required(term: &str) -> String {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    format!("; affinity: {{nodeAffinity: {{{required}: {{nodeSelectorTerms: [{term}]}}}}}}\n")
}

#[test]
fn node_affinity_has_six_operators_and_any_term_will_do() {
    let label = |key: &str, rest: &str| {
        required(&format!("{{matchExpressions: [{{key: {key}, {rest}}}]}}"))
    };
    let asked = [
        label("zone", "operator: In, values: ['1']"),
        label("zone", "operator: In, values: ['1', '2']"),
        label("zone", "operator: In, values: ['3']"),
        label("zone", "operator: NotIn, values: ['1']"),
        label("zone", "operator: NotIn, values: ['1', '2']"),
        label("zone", "operator: Exists"),
        label("zone", "operator: DoesNotExist"),
        label("gen", "operator: Gt, values: ['9']"),
        label("gen", "operator: Gt, values: ['10']"),
        label("gen", "operator: Lt, values: ['10']"),
        label("gen", "operator: Lt, values: ['9']"),
        label("zone", "operator: Gt, values: ['0']"),
        required("{matchFields: [{key: metadata.name, operator: In, values: [b]}]}"),
        required("{matchFields: [{key: metadata.name, operator: NotIn, values: [b]}]}"),
        required("{matchFields: [{key: metadata.name, operator: In, values: [x]}]}"),
        required(
            "{matchExpressions: [{key: zone, operator: Exists}], \
             matchFields: [{key: metadata.name, operator: In, values: [d]}]}",
        ),
        required("{}"),
        required(
            "{matchExpressions: [{key: zone, operator: In, values: ['1']}]}, \
             {matchExpressions: [{key: gen, operator: Exists}]}",
        ),
        required(
            "{matchExpressions: [{key: zone, operator: In, values: ['1']}, \
             {key: gen, operator: Exists}]}",
        ),
    ];
    let nodes = "a zone=1 gen=9 | b zone=1 gen=10 | c zone=2 gen=old | d";
    assert_snapshot!(places(nodes, "", &asked.concat()), @"
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: ['1']}]}]}}} → b a
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: ['1', '2']}]}]}}} → b a c
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: ['3']}]}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: NotIn, values: ['1']}]}]}}} → d c
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: NotIn, values: ['1', '2']}]}]}}} → d
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Exists}]}]}}} → b a c
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: DoesNotExist}]}]}}} → d
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gen, operator: Gt, values: ['9']}]}]}}} → b
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gen, operator: Gt, values: ['10']}]}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gen, operator: Lt, values: ['10']}]}]}}} → a
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gen, operator: Lt, values: ['9']}]}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Gt, values: ['0']}]}]}}} → b a c
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b]}]}]}}} → b
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: NotIn, values: [b]}]}]}}} → a c d
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [x]}]}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Exists}], matchFields: [{key: metadata.name, operator: In, values: [d]}]}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}} → 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: ['1']}]}, {matchExpressions: [{key: gen, operator: Exists}]}]}}} → b a c
    ; affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: ['1']}, {key: gen, operator: Exists}]}]}}} → b a
    ");
}

#[test]
fn taints_keep_away_what_does_not_tolerate_them() {
    let nodes = "a | b taint=db=main:NoSchedule | c taint=db=spare:NoExecute | d taint=db=main:PreferNoSchedule";
    assert_snapshot!(places(nodes, "", "
        ;
        ; tolerations: [{operator: Exists}]
        ; tolerations: [{key: db, operator: Exists}]
        ; tolerations: [{key: db, operator: Exists, effect: NoSchedule}]
        ; tolerations: [{key: db, operator: Exists, effect: NoExecute}]
        ; tolerations: [{key: db, value: main}]
        ; tolerations: [{key: db, value: main, effect: NoSchedule}]
        ; tolerations: [{key: db, value: spare}]
        ; tolerations: [{key: db, value: main}, {key: db, value: spare}]
        ; tolerations: [{key: db, value: other}]
        ; tolerations: [{key: other, operator: Exists}]
        ; tolerations: [{key: db, operator: Exists, effect: NoExecute, tolerationSeconds: 10}]
        ; nodeName: b
        ; nodeName: b, tolerations: [{key: db, operator: Exists}]
    "), @"
    ; → a d
    ; tolerations: [{operator: Exists}] → b a c d
    ; tolerations: [{key: db, operator: Exists}] → b a c d
    ; tolerations: [{key: db, operator: Exists, effect: NoSchedule}] → b a d
    ; tolerations: [{key: db, operator: Exists, effect: NoExecute}] → a c d
    ; tolerations: [{key: db, value: main}] → b a d
    ; tolerations: [{key: db, value: main, effect: NoSchedule}] → b a d
    ; tolerations: [{key: db, value: spare}] → a c d
    ; tolerations: [{key: db, value: main}, {key: db, value: spare}] → b a c d
    ; tolerations: [{key: db, value: other}] → a d
    ; tolerations: [{key: other, operator: Exists}] → a d
    ; tolerations: [{key: db, operator: Exists, effect: NoExecute, tolerationSeconds: 10}] → a c d
    ; nodeName: b → 0/4 nodes are available: 1 node(s) had untolerated taint {db: main}, 3 node(s) didn't match the requested node name
    ; nodeName: b, tolerations: [{key: db, operator: Exists}] → b
    ");
}

#[test]
fn nothing_goes_to_nodes_that_are_closed_or_not_heard_of() {
    let nodes = "a cordoned | b lost | c silent | d pods=0 | e cordoned taint=x=y:NoSchedule";
    assert_snapshot!(places(nodes, "", "
        ;
        ; tolerations: [{operator: Exists}]
        ; tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]
        ; tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists}]
        ; nodeName: a
        ; nodeName: b
    "), @"
    ; → 0/5 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 node(s) were unschedulable
    ; tolerations: [{operator: Exists}] → a e
    ; tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}] → a
    ; tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists}] → 0/5 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 node(s) were unschedulable
    ; nodeName: a → 0/5 nodes are available: 2 node(s) were unschedulable, 3 node(s) didn't match the requested node name
    ; nodeName: b → 0/5 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 2 node(s) didn't match the requested node name, 2 node(s) were unschedulable
    ");
}

#[test]
fn without_nodes_there_is_nothing_to_count() {
    assert_snapshot!(places("", "", ";"), @"; → 0/0 nodes are available: no node has joined yet");
}

#[test]
fn reasons_are_counted_in_one_line_sorted_as_upstream_does() {
    let nodes = "a cpu=1 | b cpu=1 | c cordoned | d zone=1 taint=dedicated=db:NoSchedule | e lost | f cpu=1 mem=1Gi";
    assert_snapshot!(places(nodes, "", "
        cpu=2
        cpu=2 mem=2Gi
        cpu=2 ; nodeSelector: {zone: '1'}
    "), @"
    cpu=2 → 0/6 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 1 node(s) were unschedulable, 3 Insufficient cpu
    cpu=2 mem=2Gi → 0/6 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 1 node(s) were unschedulable, 3 Insufficient cpu
    cpu=2 ; nodeSelector: {zone: '1'} → 0/6 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 1 node(s) were unschedulable, 3 node(s) didn't match Pod's node affinity/selector
    ");
}
