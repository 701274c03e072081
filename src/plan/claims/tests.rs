//! Which volume a claim is bound to, and why not another one.

use insta::assert_snapshot;
use kgit_protocol::ids::ClusterId;
use kgit_protocol::time::Timestamp;

use super::*;
use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::domain::resource::Resource;
use crate::manifest::catalog::Catalog;

/// Volumes, one in a line: `name size modes`, then any of `class=…`, `for=claim`, `block`,
/// `label=…`, and the state: `bound` (to another claim), `ours`, `earlier` (to an earlier claim of
/// this name), `released`, `removing`. The state of others is `Available`.
fn world(volumes: &str, claim: &str) -> World {
    let lines: Vec<&str> = lines(volumes).collect();
    let text: String = lines.iter().map(|line| volume(line)).collect::<String>() + claim;
    let mut world = World::new(ClusterId::new("0123456789abcdef"), Arc::from(*b"key"));
    for (key, resource) in read(&text) {
        put(&mut world, key, resource);
    }
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let state = Record::Volume(Arc::new(state(&words)));
        world.apply(&Effect::Put(volume_key(words[0]), state), 1);
    }
    world
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn volume(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let claim = of("for=").map(|claim| {
        let (namespace, name) = claim.split_once('/').unwrap_or(("default", claim));
        format!("  claimRef: {{namespace: {namespace}, name: {name}}}\n")
    });
    let mode = if words.contains(&"block") { "  volumeMode: Block\n" } else { "" };
    let label = of("label=").unwrap_or("none");
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {}, labels: {{tier: {label}}}}}\n\
         spec:\n  capacity: {{storage: {}}}\n  accessModes: [{}]\n  storageClassName: '{}'\n{mode}{}  \
         hostPath: {{path: /srv}}\n---\n",
        words[0],
        words[1],
        modes(words[2]),
        of("class=").unwrap_or_default(),
        claim.unwrap_or_default(),
    )
}

/// `RWO,ROX` as manifests write it.
fn modes(short: &str) -> String {
    let long = |word: &str| match word {
        "RWO" => "ReadWriteOnce",
        "ROX" => "ReadOnlyMany",
        "RWX" => "ReadWriteMany",
        "RWOP" => "ReadWriteOncePod",
        other => panic!("{other}"),
    };
    short.split(',').map(long).collect::<Vec<_>>().join(", ")
}

/// A claim: `size modes`, then any of `class=…` (else none), `volume=…`, `block`, `select=…`.
fn claim(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let named = of("volume=").map(|name| format!("  volumeName: {name}\n")).unwrap_or_default();
    let mode = if words.contains(&"block") { "  volumeMode: Block\n" } else { "" };
    let selected = of("select=").map(|it| format!("  selector: {{matchLabels: {{tier: {it}}}}}\n"));
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec:\n  \
         storageClassName: '{}'\n  accessModes: [{}]\n  resources: {{requests: {{storage: {}}}}}\n{named}{mode}{}",
        of("class=").unwrap_or_default(),
        modes(words[1]),
        words[0],
        selected.unwrap_or_default(),
    )
}

fn read(text: &str) -> Vec<(ObjectKey, Arc<Resource>)> {
    let mut catalog = Catalog::default();
    let classes: String = ["fast", "slow"]
        .map(|name| {
            format!(
                "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}}}\n\
                 provisioner: kubernetes.io/no-provisioner\n"
            )
        })
        .concat();
    let content = FileContent::Bytes(Arc::from((text.to_owned() + &classes).as_bytes()));
    let file = SourceFile { path: "m.yaml".into(), content };
    catalog.apply(&TreeChange { upserted: vec![file], removed: Vec::new() });
    let errors = catalog.diagnostics();
    assert!(errors.is_empty(), "{text}\n{errors:?}");
    catalog.desired(Arc::default()).objects.into_iter().collect()
}

fn put(world: &mut World, key: ObjectKey, resource: Arc<Resource>) {
    let applied = Applied {
        resource,
        uid: key.name.to_string(),
        created: Timestamp(0),
        changed: Timestamp(0),
        generation: 1,
        commit: Arc::default(),
        changes: Vec::new(),
        counter: 0,
        retained: None,
        owner: None,
        deletion: None,
    };
    world.apply(&Effect::Put(key, Record::Object(Arc::new(applied))), 1);
}

fn state(words: &[&str]) -> VolumeState {
    let own = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data");
    let other = own.sibling(Kind::PersistentVolumeClaim, "other");
    let (phase, claim) = match words.last().copied().unwrap_or_default() {
        "bound" => (VolumePhase::Bound, Some((other, "other".to_owned()))),
        "ours" => (VolumePhase::Bound, Some((own, "data".to_owned()))),
        "earlier" => (VolumePhase::Bound, Some((own, "an earlier one".to_owned()))),
        "released" => (VolumePhase::Released, Some((other, "other".to_owned()))),
        "ours-again" => (VolumePhase::Released, Some((own, "data".to_owned()))),
        "removing" => (VolumePhase::Removing, None),
        _ => (VolumePhase::Available, None),
    };
    VolumeState { phase, claim, node: None, provisioned: None }
}

/// What each of some claims is bound to, were it the only one.
fn bound(volumes: &str, claims: &str) -> String {
    let line = |line: &str| {
        let world = world(volumes, &claim(line));
        let key = ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data");
        let Spec::PersistentVolumeClaim(spec) = &world.objects[&key].resource.spec else {
            panic!("{line}");
        };
        let class = class_of(&world, spec);
        let found = find_volume(&world, &key, spec, &class);
        let found = found.unwrap_or_else(|why| format!("– {}", why.split_once(": ").unwrap().1));
        format!("{line} → {found}")
    };
    lines(claims).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_smallest_that_is_large_enough() {
    let volumes = "
        tiny 1Mi RWO
        small 1Gi RWO
        medium 5Gi RWO
        twin 5Gi RWO
        large 1Ti RWO
    ";
    let claims = "
        1 RWO
        1Mi RWO
        1048577 RWO
        1Gi RWO
        1025Mi RWO
        2Gi RWO
        5Gi RWO
        5368709121 RWO
        6Gi RWO
        500Gi RWO
        1Ti RWO
        1025Gi RWO
        1G RWO
        5G RWO
        1100G RWO
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1 RWO → tiny
    1Mi RWO → tiny
    1048577 RWO → small
    1Gi RWO → small
    1025Mi RWO → medium
    2Gi RWO → medium
    5Gi RWO → medium
    5368709121 RWO → large
    6Gi RWO → large
    500Gi RWO → large
    1Ti RWO → large
    1025Gi RWO → – `large` has 1Ti, `medium` has 5Gi, `small` has 1Gi
    1G RWO → small
    5G RWO → medium
    1100G RWO → – `large` has 1Ti, `medium` has 5Gi, `small` has 1Gi
    ");
}

#[test]
fn every_mode_that_is_asked_for() {
    let volumes = "
        one 1Gi RWO
        readers 1Gi ROX
        all 2Gi RWO,ROX,RWX
        writers 3Gi RWX
        pod 4Gi RWOP
    ";
    let claims = "
        1Gi RWO
        1Gi ROX
        1Gi RWX
        1Gi RWOP
        1Gi RWO,ROX
        1Gi RWO,RWX
        1Gi ROX,RWX
        1Gi RWO,ROX,RWX
        1Gi RWO,RWOP
        2Gi RWO
        2Gi ROX
        3Gi RWX
        3Gi ROX
        4Gi RWX
        4Gi RWOP
        5Gi RWOP
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Gi RWO → one
    1Gi ROX → readers
    1Gi RWX → all
    1Gi RWOP → pod
    1Gi RWO,ROX → all
    1Gi RWO,RWX → all
    1Gi ROX,RWX → all
    1Gi RWO,ROX,RWX → all
    1Gi RWO,RWOP → – `all` lacks an access mode, `one` lacks an access mode, `pod` lacks an access mode
    2Gi RWO → all
    2Gi ROX → all
    3Gi RWX → writers
    3Gi ROX → – `all` has 2Gi, `one` has 1Gi, `pod` lacks an access mode
    4Gi RWX → – `all` has 2Gi, `one` has 1Gi, `pod` lacks an access mode
    4Gi RWOP → pod
    5Gi RWOP → – `all` has 2Gi, `one` has 1Gi, `pod` has 4Gi
    ");
}

#[test]
fn classes_never_mix() {
    let volumes = "
        none 1Gi RWO
        fast 2Gi RWO class=fast
        slow 3Gi RWO class=slow
    ";
    let claims = "
        1Gi RWO
        1Gi RWO class=fast
        1Gi RWO class=slow
        2Gi RWO
        2Gi RWO class=fast
        2Gi RWO class=slow
        3Gi RWO
        3Gi RWO class=fast
        3Gi RWO class=slow
        4Gi RWO class=slow
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Gi RWO → none
    1Gi RWO class=fast → fast
    1Gi RWO class=slow → slow
    2Gi RWO → – `none` has 1Gi, `fast` is of class `fast`, `slow` is of class `slow`
    2Gi RWO class=fast → fast
    2Gi RWO class=slow → slow
    3Gi RWO → – `none` has 1Gi, `fast` is of class `fast`, `slow` is of class `slow`
    3Gi RWO class=fast → – `fast` has 2Gi, `none` belongs to no class, `slow` is of class `slow`
    3Gi RWO class=slow → slow
    4Gi RWO class=slow → – `slow` has 3Gi, `fast` is of class `fast`, `none` belongs to no class
    ");
}

#[test]
fn a_volume_that_is_kept_for_a_claim_is_nobody_elses() {
    let volumes = "
        free 2Gi RWO
        mine 5Gi RWO for=data
        theirs 1Gi RWO for=other
        elsewhere 1Gi RWO for=shop/data
        small 1Mi RWO for=data
        classy 9Gi RWO for=data class=fast
    ";
    let claims = "
        1Mi RWO
        2Mi RWO
        1Gi RWO
        2Gi RWO
        5Gi RWO
        6Gi RWO
        1Gi ROX
        1Gi RWO class=fast
        1Gi RWO class=slow
        1Gi RWO volume=theirs
        1Gi RWO volume=elsewhere
        1Gi RWO volume=mine
        1Gi RWO volume=small
        1Gi RWO volume=free
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Mi RWO → small
    2Mi RWO → mine
    1Gi RWO → mine
    2Gi RWO → mine
    5Gi RWO → mine
    6Gi RWO → – `elsewhere` is reserved for another claim, `free` has 2Gi, `mine` has 5Gi
    1Gi ROX → – `elsewhere` is reserved for another claim, `free` lacks an access mode, `mine` lacks an access mode
    1Gi RWO class=fast → classy
    1Gi RWO class=slow → – `classy` is of class `fast`, `elsewhere` is reserved for another claim, `free` belongs to no class
    1Gi RWO volume=theirs → – `theirs` is reserved for another claim
    1Gi RWO volume=elsewhere → – `elsewhere` is reserved for another claim
    1Gi RWO volume=mine → mine
    1Gi RWO volume=small → – `small` has 1Mi
    1Gi RWO volume=free → free
    ");
}

#[test]
fn a_volume_that_is_named_is_the_only_one() {
    let volumes = "
        small 1Gi RWO
        large 5Gi RWO
        taken 5Gi RWO bound
        fast 5Gi RWO class=fast
    ";
    let claims = "
        1Gi RWO volume=large
        5Gi RWO volume=small
        1Gi RWO volume=small
        1Gi RWX volume=small
        1Gi RWO volume=taken
        1Gi RWO volume=fast
        1Gi RWO volume=fast class=fast
        1Gi RWO volume=absent
        1Gi RWO volume=large block
        1Gi RWO volume=large select=gold
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Gi RWO volume=large → large
    5Gi RWO volume=small → – `small` has 1Gi
    1Gi RWO volume=small → small
    1Gi RWX volume=small → – `small` lacks an access mode
    1Gi RWO volume=taken → – `taken` is bound to another claim
    1Gi RWO volume=fast → – `fast` is of class `fast`
    1Gi RWO volume=fast class=fast → fast
    1Gi RWO volume=absent → – there is no PersistentVolume `absent`
    1Gi RWO volume=large block → – `large` has another volumeMode
    1Gi RWO volume=large select=gold → – `large` does not match the selector
    ");
}

#[test]
fn a_volume_belongs_to_who_has_it() {
    let claims = "
        1Gi RWO
        2Gi RWO
        1Gi RWO volume=v
    ";
    let of = |state: &str| format!("{state}\n{}\n", bound(&format!("v 1Gi RWO {state}"), claims));
    let states = ["", "ours", "earlier", "bound", "released", "ours-again", "removing"];
    assert_snapshot!(states.map(of).concat(), @"

    1Gi RWO → v
    2Gi RWO → – `v` has 1Gi
    1Gi RWO volume=v → v
    ours
    1Gi RWO → v
    2Gi RWO → – `v` has 1Gi
    1Gi RWO volume=v → v
    earlier
    1Gi RWO → – `v` is bound to another claim
    2Gi RWO → – `v` is bound to another claim
    1Gi RWO volume=v → – `v` is bound to another claim
    bound
    1Gi RWO → – `v` is bound to another claim
    2Gi RWO → – `v` is bound to another claim
    1Gi RWO volume=v → – `v` is bound to another claim
    released
    1Gi RWO → – `v` holds another claim's data
    2Gi RWO → – `v` holds another claim's data
    1Gi RWO volume=v → – `v` holds another claim's data
    ours-again
    1Gi RWO → v
    2Gi RWO → – `v` has 1Gi
    1Gi RWO volume=v → v
    removing
    1Gi RWO → – `v` is being removed
    2Gi RWO → – `v` is being removed
    1Gi RWO volume=v → – `v` is being removed
    ");
}

#[test]
fn block_devices_and_file_systems_are_different_things() {
    let volumes = "
        files 1Gi RWO
        device 1Gi RWO block
    ";
    let claims = "
        1Gi RWO
        1Gi RWO block
        1Gi RWO volume=files
        1Gi RWO volume=files block
        1Gi RWO volume=device
        1Gi RWO volume=device block
        2Gi RWO block
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Gi RWO → files
    1Gi RWO block → device
    1Gi RWO volume=files → files
    1Gi RWO volume=files block → – `files` has another volumeMode
    1Gi RWO volume=device → – `device` has another volumeMode
    1Gi RWO volume=device block → device
    2Gi RWO block → – `device` has 1Gi, `files` has 1Gi
    ");
}

#[test]
fn a_selector_chooses_among_labels() {
    let volumes = "
        plain 1Gi RWO
        gold 5Gi RWO label=gold
        spare 6Gi RWO label=gold
        silver 2Gi RWO label=silver bound
    ";
    let claims = "
        1Gi RWO
        1Gi RWO select=gold
        5Gi RWO select=gold
        6Gi RWO select=gold
        7Gi RWO select=gold
        1Gi RWO select=silver
        1Gi RWO select=none
        1Gi RWO select=copper
        1Gi RWX select=gold
    ";
    assert_snapshot!(bound(volumes, claims), @"
    1Gi RWO → plain
    1Gi RWO select=gold → gold
    5Gi RWO select=gold → gold
    6Gi RWO select=gold → spare
    7Gi RWO select=gold → – `gold` has 5Gi, `plain` has 1Gi, `silver` is bound to another claim
    1Gi RWO select=silver → – `gold` does not match the selector, `plain` does not match the selector, `silver` is bound to another claim
    1Gi RWO select=none → plain
    1Gi RWO select=copper → – `gold` does not match the selector, `plain` does not match the selector, `silver` is bound to another claim
    1Gi RWX select=gold → – `gold` lacks an access mode, `plain` lacks an access mode, `silver` is bound to another claim
    ");
}

#[test]
fn where_there_is_nothing_that_is_said() {
    assert_snapshot!(bound("", "1Gi RWO\n1Gi RWO class=fast\n1Gi RWO volume=v"), @"
    1Gi RWO → – there is no PersistentVolume
    1Gi RWO class=fast → – there is no PersistentVolume
    1Gi RWO volume=v → – there is no PersistentVolume `v`
    ");
}
