//! ConfigMaps and Secrets that change: what rolls, what is swapped under running pods, what stays.

use std::time::Duration;

use insta::assert_snapshot;
use kgit::domain::audit::Body;
use kgit::plan::text;
use kgit_protocol::assignment::Order;
use kgit_protocol::pod::VolumeSource;

use crate::cluster::Cluster;
use crate::manifests::{claim, config, job, web};

const USES: &str = "        envFrom: [{configMapRef: {name: settings}}]
        volumeMounts: [{name: settings, mountPath: /etc/settings}]
      volumes: [{name: settings, configMap: {name: settings}}]
";
const STAYS: &str = "      annotations: {kgit.dev/roll-on-config: \"false\"}\n";

/// Of each pod that node `a` is to run: the variable, and the file.
fn seen(cluster: &Cluster) -> String {
    use base64::Engine as _;
    let orders = cluster.orders("a");
    let running = orders.pods.values().filter(|pod| pod.order == Order::Run);
    let lines = running.map(|pod| {
        let env = &pod.spec.containers[0].env;
        let env = env.iter().find(|env| env.name == "MODE").map(|env| env.value.clone());
        let file = pod.spec.volumes.iter().find_map(|volume| match &volume.source {
            VolumeSource::Files { files, .. } => files.first().map(|file| file.content.clone()),
            _ => None,
        });
        let file = file.map(|file| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(file).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        format!("{}: variable {env:?}, file {file:?}", pod.name)
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

fn staying(manifest: &str) -> String {
    manifest.replace("    metadata:\n", &format!("    metadata:\n{STAYS}"))
}

#[test]
fn files_are_swapped_under_pods_that_do_not_roll_and_new_pods_have_it_all() {
    let mut cluster = Cluster::new(&["a"]);
    let web = |replicas| staying(&web("web:1", replicas)) + USES;
    cluster.commit(&[("c.yaml", &config("old")), ("web.yaml", &web(1))]);
    cluster.settle();
    cluster.commit(&[("c.yaml", &config("new"))]);
    cluster.settle();
    assert_snapshot!(cluster.last_reconcile(), @"
    ~ update    ConfigMap/default/settings
    ~ update    Pod/default/web-glvtdpfpht-sfgch  its files, as it runs  on a
    finished: 0 deviations, 0 missing, superseded false
    ");
    assert_snapshot!(seen(&cluster), @r#"web-glvtdpfpht-sfgch: variable Some("old"), file Some("new")"#);
    cluster.commit(&[("web.yaml", &web(2))]);
    cluster.settle();
    assert_snapshot!(seen(&cluster), @r#"
    web-glvtdpfpht-r2t6n: variable Some("new"), file Some("new")
    web-glvtdpfpht-sfgch: variable Some("old"), file Some("new")
    "#);
    cluster.ends_quietly();
}

#[test]
fn a_swap_tells_of_the_files_that_changed_and_leaves_other_volumes_alone() {
    let mut cluster = Cluster::new(&["a"]);
    let volumes = "volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: other, configMap: {name: other}}
      - {name: data, persistentVolumeClaim: {claimName: data}}
";
    let uses = USES.replace("volumes: [{name: settings, configMap: {name: settings}}]\n", volumes);
    cluster.commit(&[
        ("c.yaml", &config("old")),
        ("other.yaml", &config("old").replace("settings", "other")),
        ("claim.yaml", &claim("data", "")),
        ("web.yaml", &(staying(&web("web:1", 1)) + &uses)),
    ]);
    cluster.settle();
    cluster.commit(&[("c.yaml", &config("new"))]);
    assert_snapshot!(reasons(&cluster), @"
    ~ update    ConfigMap/default/settings: commit 0000000 by Ann <ann@example.org> (c.yaml:1:1)
    ~ update    Pod/default/web-c4zl7gkhfq-zmzlw  its files, as it runs  on a: the content of ConfigMap/default/settings changed; commit 0000000 by Ann <ann@example.org> (c.yaml:1:1)
    ");
    cluster.ends_quietly();
}

/// Each step of the last reconcile, and why it was taken.
fn reasons(cluster: &Cluster) -> String {
    let entries = cluster.entries();
    let planned = entries.into_iter().filter_map(|entry| match entry.body {
        Body::Planned { steps, .. } => Some(steps),
        _ => None,
    });
    let steps = planned.last().unwrap_or_default().into_iter();
    let lines = steps.map(|step| {
        let reasons: Vec<String> = step.reasons.iter().map(text::because).collect();
        format!("{}: {}", text::said(&step.said), reasons.join("; "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_kind_that_keeps_its_pods_has_their_files_swapped() {
    for (kind, more) in [
        ("StatefulSet", "  serviceName: web\n"),
        ("DaemonSet", ""),
        ("ReplicaSet", "  replicas: 1\n"),
    ] {
        let mut cluster = Cluster::new(&["a"]);
        let set = staying(&web("web:1", 1)) + USES;
        let set = set.replace("Deployment", kind).replace("  replicas: 1\n", more);
        cluster.commit(&[("c.yaml", &config("old")), ("web.yaml", &set)]);
        cluster.settle();
        cluster.commit(&[("c.yaml", &config("new"))]);
        let seen = seen(&cluster);
        assert!(seen.contains("variable Some(\"old\"), file Some(\"new\")"), "{kind}: {seen}");
        cluster.ends_quietly();
    }
}

#[test]
fn a_running_job_is_not_begun_anew_because_of_a_config() {
    let mut cluster = Cluster::new(&["a"]);
    let job = job("migrate", "migrate:1", "") + USES;
    cluster.commit(&[("c.yaml", &config("old")), ("job.yaml", &job)]);
    cluster.pass(Duration::from_secs(5));
    cluster.commit(&[("c.yaml", &config("new"))]);
    assert_snapshot!(seen(&cluster), @r#"migrate-jbtt9: variable Some("old"), file Some("new")"#);
    cluster.ends_quietly();
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn a_rollout_for_a_config_is_the_doing_of_that_configs_commit() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let mut cluster = Cluster::new(&["a"]);
        let of = |image: &str| {
            let web = (web(image, 1) + USES).replace("Deployment", kind);
            match kind {
                "StatefulSet" => web.replace("  selector", "  serviceName: web\n  selector"),
                "DaemonSet" => web.replace("  replicas: 1\n", ""),
                _ => web,
            }
        };
        cluster.commit(&[("c.yaml", &config("old")), ("web.yaml", &of("web:1"))]);
        cluster.settle();
        cluster.pass(Duration::from_secs(5));
        cluster.commit(&[("web.yaml", &of("web:2"))]);
        cluster.settle();
        cluster.pass(Duration::from_secs(5));
        cluster.commit(&[("c.yaml", &config("new"))]);
        cluster.settle();
        let told = reasons(&cluster);
        assert!(
            told.contains("the content of ConfigMap/default/settings changed"),
            "{kind}: {told}"
        );
        assert!(told.contains("(c.yaml:1:1)") && !told.contains("(web.yaml:"), "{kind}: {told}");
        cluster.ends_quietly();
    }
}
