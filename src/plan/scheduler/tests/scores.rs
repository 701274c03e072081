//! Which of several nodes is the best.

use insta::assert_snapshot;

use super::places;

#[test]
fn the_node_with_the_most_room_is_taken() {
    let pods = "
        a default/p1 cpu=2 mem=2Gi
        b default/p2 cpu=1 mem=1Gi
    ";
    assert_snapshot!(places("a | b", pods, "cpu=100m mem=100Mi"), @"cpu=100m mem=100Mi → b a");
    assert_snapshot!(places("a | b cpu=8 mem=16Gi", "", "cpu=1 mem=1Gi"), @"cpu=1 mem=1Gi → b a");
}

#[test]
fn cpu_and_memory_are_used_up_evenly() {
    let pods = "
        a default/p1 cpu=2
        b default/p2 mem=4Gi
    ";
    assert_snapshot!(places("a | b", pods, "cpu=1 mem=100Mi\ncpu=100m mem=2Gi"), @"
    cpu=1 mem=100Mi → b a
    cpu=100m mem=2Gi → a b
    ");
}

#[test]
fn pods_that_ask_for_nothing_are_counted_with_something() {
    let pods = "
        a default/p1
        a default/p2
        b default/p3
    ";
    assert_snapshot!(places("a | b", pods, ";"), @"; → b a");
}

#[test]
fn nodes_without_the_taint_that_speaks_against_the_pod_come_first() {
    let nodes = "a taint=x=y:PreferNoSchedule | b taint=x=y:PreferNoSchedule taint=z=z:PreferNoSchedule | c";
    let full = "c default/p1 cpu=3 mem=6Gi";
    assert_snapshot!(places(nodes, full, "
        cpu=100m
        cpu=100m ; nodeSelector: {kubernetes.io/hostname: b}
        cpu=100m ; tolerations: [{key: x, operator: Exists}]
        cpu=100m ; tolerations: [{operator: Exists}]
    "), @"
    cpu=100m → c a b
    cpu=100m ; nodeSelector: {kubernetes.io/hostname: b} → b
    cpu=100m ; tolerations: [{key: x, operator: Exists}] → a b c
    cpu=100m ; tolerations: [{operator: Exists}] → b a c
    ");
}

#[test]
fn the_weights_of_preferred_nodes_add_up() {
    let wish = |weight: u32, key: &str, value: &str| {
        format!(
            "{{weight: {weight}, preference: {{matchExpressions: \
             [{{key: {key}, operator: In, values: ['{value}']}}]}}}}"
        )
    };
    let asked = |wishes: &[String]| {
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        format!("cpu=100m ; affinity: {{nodeAffinity: {{{preferred}: [{}]}}}}\n", wishes.join(", "))
    };
    let all = [
        asked(&[wish(1, "zone", "2")]),
        asked(&[wish(50, "zone", "1"), wish(40, "disk", "ssd"), wish(20, "zone", "2")]),
        asked(&[wish(50, "zone", "1"), wish(40, "disk", "ssd"), wish(5, "zone", "2")]),
        asked(&[wish(1, "zone", "none")]),
    ];
    let nodes = "a zone=1 | b zone=2 disk=ssd | c";
    assert_snapshot!(places(nodes, "", &all.concat()), @"
    cpu=100m ; affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: zone, operator: In, values: ['2']}]}}]}} → b a c
    cpu=100m ; affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 50, preference: {matchExpressions: [{key: zone, operator: In, values: ['1']}]}}, {weight: 40, preference: {matchExpressions: [{key: disk, operator: In, values: ['ssd']}]}}, {weight: 20, preference: {matchExpressions: [{key: zone, operator: In, values: ['2']}]}}]}} → b a c
    cpu=100m ; affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 50, preference: {matchExpressions: [{key: zone, operator: In, values: ['1']}]}}, {weight: 40, preference: {matchExpressions: [{key: disk, operator: In, values: ['ssd']}]}}, {weight: 5, preference: {matchExpressions: [{key: zone, operator: In, values: ['2']}]}}]}} → a b c
    cpu=100m ; affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: zone, operator: In, values: ['none']}]}}]}} → b a c
    ");
}
