//! Pods that want to be near others, or away from them.

use insta::assert_snapshot;

use super::places;

const NODES: &str = "a zone=1 | b zone=1 | c zone=2 | d";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn term(app: &str, key: &str, rest: &str) -> String {
    format!("{{labelSelector: {{matchLabels: {{app: {app}}}}}, topologyKey: {key}{rest}}}")
}

fn near(terms: &str) -> String {
    format!("; affinity: {{podAffinity: {{{REQUIRED}: [{terms}]}}}}\n")
}

fn away(terms: &str) -> String {
    format!("; affinity: {{podAntiAffinity: {{{REQUIRED}: [{terms}]}}}}\n")
}

#[test]
fn a_pod_goes_where_the_pods_are_that_it_needs() {
    let pods = "a default/db app=db";
    let asked = [
        near(&term("db", "zone", "")),
        near(&term("db", "kubernetes.io/hostname", "")),
        near(&term("web", "zone", "")),
        near(&term("db", "rack", "")),
        near(&[term("db", "zone", ""), term("db", "kubernetes.io/hostname", "")].join(", ")),
        near(&[term("db", "zone", ""), term("web", "zone", "")].join(", ")),
    ];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}]}} → b a
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: kubernetes.io/hostname}]}} → a
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: rack}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}, {labelSelector: {matchLabels: {app: db}}, topologyKey: kubernetes.io/hostname}]}} → a
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}, {labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ");
}

#[test]
fn the_first_of_pods_that_want_to_be_together_begins_where_it_can() {
    let own = near(&term("web", "zone", ""));
    let asked = [
        own.clone(),
        own.replacen(';', "app=web ;", 1),
        near(&[term("web", "zone", ""), term("web", "rack", "")].join(", ")).replacen(
            ';',
            "app=web ;",
            1,
        ),
    ];
    assert_snapshot!(places(NODES, "", &asked.concat()), @"
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    app=web ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → b a c
    app=web ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}, {labelSelector: {matchLabels: {app: web}}, topologyKey: rack}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ");
    let pods = "c default/w1 app=web";
    assert_snapshot!(places(NODES, pods, &own.replacen(';', "app=web ;", 1)), @"app=web ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → c");
}

#[test]
fn a_pod_stays_away_from_pods_and_they_from_it() {
    let pods = "a default/db app=db";
    let asked = [
        away(&term("db", "zone", "")),
        away(&term("db", "kubernetes.io/hostname", "")),
        away(&term("web", "zone", "")),
        away(&term("db", "rack", "")),
        away(&[term("db", "kubernetes.io/hostname", ""), term("web", "zone", "")].join(", ")),
    ];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}]}} → d c
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: kubernetes.io/hostname}]}} → b c d
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → b a c d
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: rack}]}} → b a c d
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: kubernetes.io/hostname}, {labelSelector: {matchLabels: {app: web}}, topologyKey: zone}]}} → b c d
    ");
    let shy = away(&term("web", "zone", ""));
    let pods = format!("a default/db app=db {shy}");
    assert_snapshot!(places(NODES, &pods, "app=web\napp=other\napp=web ; nodeName: b"), @"
    app=web → d c
    app=other → b a c d
    app=web ; nodeName: b → 0/4 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules, 3 node(s) didn't match the requested node name
    ");
    let shy_on_host = away(&term("web", "kubernetes.io/hostname", ""));
    let pods = format!("a default/db app=db {shy_on_host}");
    assert_snapshot!(places(NODES, &pods, "app=web"), @"app=web → b c d");
}

#[test]
fn pods_that_end_still_keep_others_away() {
    let pods = "a default/db app=db ending";
    assert_snapshot!(places(NODES, pods, &away(&term("db", "zone", ""))), @"; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}]}} → d c");
}

#[test]
fn terms_are_about_the_own_namespace_unless_they_name_others() {
    let pods = "
        namespace east tier=prod
        namespace west tier=test
        a east/db app=db
        c west/db app=db
    ";
    let asked = [
        near(&term("db", "zone", "")),
        near(&term("db", "zone", ", namespaces: [east]")),
        near(&term("db", "zone", ", namespaces: [east, west]")),
        near(&term("db", "zone", ", namespaceSelector: {}")),
        near(&term("db", "zone", ", namespaceSelector: {matchLabels: {tier: test}}")),
        near(&term(
            "db",
            "zone",
            ", namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: east}}",
        )),
        near(&term(
            "db",
            "zone",
            ", namespaces: [east], namespaceSelector: {matchLabels: {tier: test}}",
        )),
        away(&term("db", "zone", ", namespaces: [west]")),
    ];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaces: [east]}]}} → b a
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaces: [east, west]}]}} → b a c
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaceSelector: {}}]}} → b a c
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaceSelector: {matchLabels: {tier: test}}}]}} → c
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: east}}}]}} → b a
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaces: [east], namespaceSelector: {matchLabels: {tier: test}}}]}} → b a c
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: db}}, topologyKey: zone, namespaces: [west]}]}} → b a d
    ");
}

#[test]
fn keys_of_labels_narrow_a_term_to_pods_that_share_them_or_do_not() {
    let pods = "
        a default/w1 app=web hash=old
        c default/w2 app=web hash=new
    ";
    let same = away(&term("web", "zone", ", matchLabelKeys: [hash]"));
    let other = away(&term("web", "zone", ", mismatchLabelKeys: [hash]"));
    let asked = [
        same.replacen(';', "app=web hash=new ;", 1),
        same.replacen(';', "app=web hash=old ;", 1),
        same.replacen(';', "app=web ;", 1),
        other.replacen(';', "app=web hash=new ;", 1),
        other.replacen(';', "app=web hash=old ;", 1),
    ];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    app=web hash=new ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone, matchLabelKeys: [hash]}]}} → b a d
    app=web hash=old ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone, matchLabelKeys: [hash]}]}} → d c
    app=web ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone, matchLabelKeys: [hash]}]}} → d
    app=web hash=new ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone, mismatchLabelKeys: [hash]}]}} → d c
    app=web hash=old ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: zone, mismatchLabelKeys: [hash]}]}} → b a d
    ");
}

#[test]
fn a_term_without_a_selector_is_about_nobody() {
    let pods = "a default/db app=db";
    let asked = [near("{topologyKey: zone}"), away("{topologyKey: zone}")];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    ; affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}} → 0/4 nodes are available: 4 node(s) didn't match pod affinity rules
    ; affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}} → b a c d
    ");
}

fn wish(kind: &str, weight: u32, term: &str) -> String {
    format!(
        "; affinity: {{{kind}: {{{PREFERRED}: [{{weight: {weight}, podAffinityTerm: {term}}}]}}}}\n"
    )
}

#[test]
fn wishes_order_nodes_and_keep_none_away() {
    let pods = "c default/db app=db";
    let asked = [
        wish("podAffinity", 100, &term("db", "zone", "")),
        wish("podAntiAffinity", 100, &term("db", "zone", "")),
        wish("podAffinity", 1, &term("nobody", "zone", "")),
    ];
    assert_snapshot!(places(NODES, pods, &asked.concat()), @"
    ; affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, podAffinityTerm: {labelSelector: {matchLabels: {app: db}}, topologyKey: zone}}]}} → c a b d
    ; affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, podAffinityTerm: {labelSelector: {matchLabels: {app: db}}, topologyKey: zone}}]}} → b a c d
    ; affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {labelSelector: {matchLabels: {app: nobody}}, topologyKey: zone}}]}} → b a c d
    ");
}

#[test]
fn wishes_and_needs_of_others_count_as_well() {
    let wished = wish("podAffinity", 50, &term("web", "zone", ""));
    assert_snapshot!(places(NODES, &format!("c default/db app=db {wished}"), "app=web"), @"app=web → c a b d");
    let shunned = wish("podAntiAffinity", 50, &term("web", "zone", ""));
    let pods = format!("a default/db app=db {shunned}\nc default/d2 app=db {shunned}");
    assert_snapshot!(places(NODES, &pods, "app=web"), @"app=web → d a b c");
    let needed = near(&term("web", "zone", ""));
    assert_snapshot!(places(NODES, &format!("c default/db app=db {needed}"), "app=web"), @"app=web → c a b d");
}
