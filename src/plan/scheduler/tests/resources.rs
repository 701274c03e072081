//! Room: cpu, memory, the number of pods, ports of the host.

use insta::assert_snapshot;

use super::{places, pod, world};
use crate::domain::world::{Effect, Table};

#[test]
fn what_pods_ask_for_must_fit() {
    let pods = "
        a default/p1 cpu=1500m mem=1Gi
        a default/p2 cpu=500m
        b default/p3 mem=3Gi
    ";
    assert_snapshot!(places("a cpu=2 mem=4Gi | b cpu=2 mem=4Gi", pods, "
        ;
        cpu=1m
        cpu=2
        cpu=2001m
        mem=1Gi
        mem=2Gi
        mem=4Gi
        cpu=1 mem=3Gi
        cpu=3 mem=5Gi
    "), @"
    ; → b a
    cpu=1m → b
    cpu=2 → b
    cpu=2001m → 0/2 nodes are available: 2 Insufficient cpu
    mem=1Gi → a b
    mem=2Gi → a
    mem=4Gi → 0/2 nodes are available: 2 Insufficient memory
    cpu=1 mem=3Gi → 0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory
    cpu=3 mem=5Gi → 0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory
    ");
}

#[test]
fn what_asks_for_nothing_fits_on_a_full_node_but_not_beyond_its_number_of_pods() {
    let pods = "
        a default/p1 cpu=2
        b default/p2
        b default/p3
    ";
    assert_snapshot!(places("a cpu=1 | b pods=2 | c pods=1", pods, "
        ;
        cpu=1m
        ; nodeName: a
        ; nodeName: b
    "), @"
    ; → c a
    cpu=1m → c
    ; nodeName: a → a
    ; nodeName: b → 0/3 nodes are available: 1 Too many pods, 2 node(s) didn't match the requested node name
    ");
}

#[test]
fn init_containers_count_by_the_largest_and_sidecars_with_the_rest() {
    let init = |cpu: &str, rest: &str| {
        format!(
            "cpu=500m ; initContainers: [{{name: i, image: 'i:1', \
             resources: {{requests: {{cpu: {cpu}}}}}{rest}}}]\n"
        )
    };
    let asked = [
        init("400m", ""),
        init("1", ""),
        init("1001m", ""),
        init("400m", ", restartPolicy: Always"),
        init("600m", ", restartPolicy: Always"),
    ];
    assert_snapshot!(places("a cpu=1", "", &asked.concat()), @"
    cpu=500m ; initContainers: [{name: i, image: 'i:1', resources: {requests: {cpu: 400m}}}] → a
    cpu=500m ; initContainers: [{name: i, image: 'i:1', resources: {requests: {cpu: 1}}}] → a
    cpu=500m ; initContainers: [{name: i, image: 'i:1', resources: {requests: {cpu: 1001m}}}] → 0/1 nodes are available: 1 Insufficient cpu
    cpu=500m ; initContainers: [{name: i, image: 'i:1', resources: {requests: {cpu: 400m}}, restartPolicy: Always}] → a
    cpu=500m ; initContainers: [{name: i, image: 'i:1', resources: {requests: {cpu: 600m}}, restartPolicy: Always}] → 0/1 nodes are available: 1 Insufficient cpu
    ");
}

#[test]
fn ports_of_the_host_are_taken_once_for_each_address_and_protocol() {
    let pods = "
        a default/p1 port=80
        b default/p2 port=10.0.0.1:80
        c default/p3 port=80/UDP
        d default/p4 port=81
    ";
    assert_snapshot!(places("a | b | c | d", pods, "
        port=80
        port=10.0.0.1:80
        port=10.0.0.2:80
        port=80/UDP
        port=81
        port=80 ; nodeName: a
        port=82
    "), @"
    port=80 → d c
    port=10.0.0.1:80 → d c
    port=10.0.0.2:80 → b c d
    port=80/UDP → b a d
    port=81 → b a c
    port=80 ; nodeName: a → 0/4 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 3 node(s) didn't match the requested node name
    port=82 → b a c d
    ");
}

#[test]
fn pods_that_end_keep_their_room_until_they_are_gone() {
    let pods = "
        a default/p1 cpu=1 ending
        b default/p2 cpu=1
    ";
    assert_snapshot!(places("a cpu=1 | b cpu=1 | c cpu=500m", pods, "cpu=1\ncpu=500m"), @"
    cpu=1 → 0/3 nodes are available: 3 Insufficient cpu
    cpu=500m → c
    ");
}

#[test]
fn room_that_is_made_for_a_pod_is_not_taken_by_one_of_lower_priority() {
    let mut world = world("a cpu=1", "");
    let promised = pod(None, "default/first", "cpu=1 priority=10");
    let promised = crate::domain::record::Pod { nominated: Some("a".into()), ..promised };
    let key = promised.key.clone();
    super::put(&mut world, promised);
    let says = |world: &_, line| super::place(world, line);
    assert_snapshot!(says(&world, "cpu=500m"), @"0/1 nodes are available: 1 Insufficient cpu");
    assert_snapshot!(says(&world, "cpu=500m priority=10"), @"0/1 nodes are available: 1 Insufficient cpu");
    assert_snapshot!(says(&world, "cpu=500m priority=11"), @"a");
    world.apply(&Effect::Remove(key, Table::Pod), 1);
    assert_snapshot!(says(&world, "cpu=500m"), @"a");
}
