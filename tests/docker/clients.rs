//! Client libraries that other people's programs are written with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::ran::Ran;
use crate::skip::not_tried;

/// The release that was tried; others may differ in what they ask.
const CLIENT: &str = "kubernetes==32.0.1";
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reader.py");

const MANIFESTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: \"kgit-test/web:1\"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
  - {name: talker, image: \"kgit-test/busybox:1\", command: [sh, -c, \"echo started; sleep 1000\"]}
";

#[test]
fn the_python_client_lists_watches_and_reaches_into_pods() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let room = tempfile::tempdir().expect("a folder can be made");
    let python = match environment(room.path()) {
        Ok(python) => python,
        Err(why) => return not_tried(&format!("{CLIENT} can't be installed: {why}")),
    };
    let cluster = Cluster::up_with(&engine, &[("web.yaml", MANIFESTS)]);
    cluster.until_ready("talker");
    cluster.until("an available replica", || {
        let shown = cluster.object("deployments", "web")?;
        (shown["status"]["availableReplicas"] == 1).then_some(())
    });
    let pod = cluster.running("web-")[0].label("pod").to_owned();
    let mut command = cluster.command(&python.display().to_string());
    let ran = Ran::of(command.args([READER, &pod, "8080"]));
    assert!(ran.code == 0 && ran.out.contains("all read"), "{ran}");
}

/// A Python of the test's own, with the client.
fn environment(room: &Path) -> Result<PathBuf, String> {
    let made = Ran::of(Command::new("python3").args(["-m", "venv"]).arg(room));
    if made.code != 0 {
        return Err(made.err);
    }
    let python = room.join("bin/python");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT];
    let installed = Ran::of(Command::new(&python).args(pip));
    match installed.code {
        0 => Ok(python),
        _ => Err(installed.err),
    }
}
