//! The binary as people meet it: output, exit codes, help. Snapshots of real runs.
#![allow(clippy::disallowed_methods, reason = "runs the binary on files of its own")]

mod help;
mod public;
mod run;

use run::Kgit;

const WEB: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {mode: fast}\n";

#[test]
fn check_of_good_manifests_says_how_many_and_succeeds() {
    let run = Kgit::new().file("web.yaml", WEB).run(&["check", "."]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.all().contains("1 object in 1 file"), "{run:?}");
}

#[test]
fn check_of_broken_manifests_points_at_each_place_and_fails_with_2() {
    let broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {nam: web}\n";
    let run = Kgit::new().file("web.yaml", broken).run(&["check", "."]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.out.contains("--> web.yaml:3:1"), "{run:?}");
}

#[test]
fn check_answers_programs_in_json() {
    let run = Kgit::new().file("web.yaml", WEB).run(&["check", ".", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["counts"]["objects"], 1, "{run:?}");
}

#[test]
fn without_a_master_commands_say_where_they_looked_and_what_to_do() {
    let run = Kgit::new().run(&["get", "pods"]);
    assert_eq!(run.code, 2);
    assert!(run.out.is_empty());
    insta::assert_snapshot!(run.err_without_folder());
}

#[test]
fn an_unknown_kind_is_named_with_the_one_that_was_meant() {
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: k\n\
        clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1', \
        certificate-authority-data: ''}}]\n\
        users: [{name: k, user: {token: a.b}}]\n\
        contexts: [{name: k, context: {cluster: k, user: k}}]\n";
    let kgit = Kgit::new().file("kubeconfig", kubeconfig);
    let run = kgit.run(&["--kubeconfig", "kubeconfig", "get", "deploymets"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("did you mean `deployments`?"), "{run:?}");
}

#[test]
fn completions_are_written_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let run = Kgit::new().run(&["completion", shell]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("kgit"), "{shell}");
    }
}

#[test]
fn the_version_is_one_line_for_people_and_json_for_programs() {
    let run = Kgit::new().run(&["version", "--client"]);
    assert_eq!(run.out.lines().count(), 1, "{run:?}");
    let run = Kgit::new().run(&["version"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("master unknown: failed to find the master"), "{run:?}");
    let run = Kgit::new().run(&["version", "-o", "json"]);
    let version: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(version["kgit"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_doctor_answers_on_any_machine_and_names_a_missing_engine() {
    let run = Kgit::new().run(&["doctor", "--docker", "nowhere.sock"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.out.contains("fail  no container engine at nowhere.sock"), "{run:?}");
}
