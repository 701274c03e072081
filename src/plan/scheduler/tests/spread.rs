//! Topology spread constraints.

use insta::assert_snapshot;

use super::places;

const ZONES: &str = "a zone=1 | b zone=1 | c zone=2 | d zone=3 | e";

/// A hard constraint over zones; `rest` of it after `maxSkew`.
fn hard(rest: &str) -> String {
    soft_or_hard("DoNotSchedule", rest)
}

fn soft_or_hard(answer: &str, rest: &str) -> String {
    format!(
        "app=web ; topologySpreadConstraints: [{{topologyKey: zone, whenUnsatisfiable: {answer}, \
         labelSelector: {{matchLabels: {{app: web}}}}, {rest}}}]\n"
    )
}

#[test]
fn no_zone_has_more_pods_than_the_emptiest_by_more_than_the_skew() {
    let one = "a default/p1 app=web";
    assert_snapshot!(places(ZONES, one, &[hard("maxSkew: 1"), hard("maxSkew: 2")].concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → d c
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 2}] → b a c d
    ");
    let two = "
        a default/p1 app=web
        c default/p2 app=web
    ";
    assert_snapshot!(places(ZONES, two, &[hard("maxSkew: 1"), hard("maxSkew: 2")].concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → d
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 2}] → b a c d
    ");
    let lopsided = "
        a default/p1 app=web
        b default/p2 app=web
        c default/p3 app=web
    ";
    let asked = [hard("maxSkew: 1"), hard("maxSkew: 2"), hard("maxSkew: 3")];
    assert_snapshot!(places(ZONES, lopsided, &asked.concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → d
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 2}] → d c
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 3}] → d a b c
    ");
}

#[test]
fn only_pods_that_are_selected_live_and_of_the_namespace_count() {
    let pods = "
        a default/p1 app=web ending
        a default/p2 app=db
        a other/p3 app=web
        c default/p4 app=web
    ";
    assert_snapshot!(places(ZONES, pods, &hard("maxSkew: 1")), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → b a d");
}

#[test]
fn a_constraint_without_a_selector_counts_nothing() {
    let pods = "a default/p1 app=web";
    let asked = "app=web ; topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]";
    assert_snapshot!(places(ZONES, pods, asked), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}] → b a c d");
}

#[test]
fn too_few_domains_count_as_an_empty_one() {
    let pods = "
        a default/p1 app=web
        c default/p2 app=web
        d default/p3 app=web
    ";
    let asked = [
        hard("maxSkew: 1"),
        hard("maxSkew: 1, minDomains: 3"),
        hard("maxSkew: 1, minDomains: 4"),
        hard("maxSkew: 2, minDomains: 4"),
    ];
    assert_snapshot!(places(ZONES, pods, &asked.concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → b a c d
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, minDomains: 3}] → b a c d
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, minDomains: 4}] → 0/5 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), 4 node(s) didn't match pod topology spread constraints
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 2, minDomains: 4}] → b a c d
    ");
}

#[test]
fn nodes_that_the_pod_may_not_run_on_count_only_where_it_says_so() {
    let pods = "
        a default/p1 app=web
        c default/p2 app=web
    ";
    let picky = |rest: &str| {
        let spread = hard(rest);
        format!("{}, nodeSelector: {{disk: ssd}}\n", spread.trim_end())
    };
    let nodes = "a zone=1 disk=ssd | b zone=1 | c zone=2 disk=ssd | d zone=3";
    let asked = [
        picky("maxSkew: 1"),
        picky("maxSkew: 1, nodeAffinityPolicy: Ignore"),
        picky("maxSkew: 1, nodeAffinityPolicy: Honor"),
    ];
    assert_snapshot!(places(nodes, pods, &asked.concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}], nodeSelector: {disk: ssd} → a c
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, nodeAffinityPolicy: Ignore}], nodeSelector: {disk: ssd} → 0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, 2 node(s) didn't match pod topology spread constraints
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, nodeAffinityPolicy: Honor}], nodeSelector: {disk: ssd} → a c
    ");
    for state in ["cordoned", "lost"] {
        let nodes = format!("a zone=1 | c zone=2 | d zone=3 {state}");
        let asked = [hard("maxSkew: 1"), hard("maxSkew: 1, nodeTaintsPolicy: Honor")];
        let found = places(&nodes, pods, &asked.concat());
        let found: Vec<_> = found.lines().map(|line| line.ends_with("→ a c")).collect();
        assert_eq!(found, [false, true], "{state}");
    }
    // A pod that may stay on a lost node for a while does not go there.
    let stays = "{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute}";
    let asked = hard("maxSkew: 1, nodeTaintsPolicy: Honor");
    let asked = format!("{}, tolerations: [{stays}]\n", asked.trim_end());
    let found = places("a zone=1 | c zone=2 | d zone=3 lost", pods, &asked);
    assert!(found.trim_end().ends_with("→ a c"), "{found}");
    let nodes = "a zone=1 | c zone=2 | d zone=3 taint=x=y:NoSchedule";
    let asked = [hard("maxSkew: 1"), hard("maxSkew: 1, nodeTaintsPolicy: Honor")];
    assert_snapshot!(places(nodes, pods, &asked.concat()), @"
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → 0/3 nodes are available: 1 node(s) had untolerated taint {x: y}, 2 node(s) didn't match pod topology spread constraints
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, nodeTaintsPolicy: Honor}] → a c
    ");
}

#[test]
fn a_full_zone_still_counts_as_the_emptiest() {
    let pods = "
        a default/p1 app=web
        c default/p2 app=web
        d default/full cpu=4
    ";
    let asked = hard("maxSkew: 1").replace("app=web ;", "app=web cpu=1 ;");
    assert_snapshot!(places("a zone=1 | c zone=2 | d zone=3", pods, &asked), @"app=web cpu=1 ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → 0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match pod topology spread constraints");
}

#[test]
fn labels_named_as_keys_are_added_to_the_selector() {
    let pods = "
        a default/p1 app=web hash=old
        c default/p2 app=web hash=new
    ";
    let keyed = hard("maxSkew: 1, matchLabelKeys: [hash]");
    let asked = [
        keyed.replace("app=web ;", "app=web hash=new ;"),
        keyed.replace("app=web ;", "app=web hash=old ;"),
        keyed.replace("app=web ;", "app=web hash=other ;"),
        keyed,
    ];
    assert_snapshot!(places("a zone=1 | c zone=2", pods, &asked.concat()), @"
    app=web hash=new ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, matchLabelKeys: [hash]}] → a
    app=web hash=old ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, matchLabelKeys: [hash]}] → c
    app=web hash=other ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, matchLabelKeys: [hash]}] → a c
    app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, maxSkew: 1, matchLabelKeys: [hash]}] → a c
    ");
}

#[test]
fn several_constraints_hold_together() {
    let both = "app=web ; topologySpreadConstraints: [\
        {topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}, \
        {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]";
    let pods = "
        a default/p1 app=web
        c default/p2 app=web
    ";
    assert_snapshot!(places("a zone=1 | b zone=1 | c zone=2 | d zone=2", pods, both), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}, {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}] → b d");
    assert_snapshot!(places("a zone=1 | b zone=1 | c zone=2 | d zone=2 | e", pods, both), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}, {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}] → b d");
}

#[test]
fn soft_constraints_order_nodes_and_keep_none_away() {
    let soft = soft_or_hard("ScheduleAnyway", "maxSkew: 1");
    let pods = "
        a default/p1 app=web
        b default/p2 app=web
        c default/p3 app=web
    ";
    assert_snapshot!(places(ZONES, pods, &soft), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → d a b c e");
    assert_snapshot!(places("a zone=1 | c zone=2", pods, &soft), @"app=web ; topologySpreadConstraints: [{topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}, maxSkew: 1}] → a c");
}

#[test]
fn pods_without_constraints_are_spread_over_hosts() {
    let own = "a default/new cpu=10m";
    assert_snapshot!(places("a | b", own, "cpu=10m"), @"cpu=10m → b a");
}
