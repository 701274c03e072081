//! What lies in the data directory is nobody else's to read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::room::Room;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec: {containers: [{name: sleeper, image: \"kgit-test/busybox:1\", command: [sleep, \"1000\"]}]}
";

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

/// Folders that hold secrets, and what has to be in them.
const SECRET: [(&str, &[&str]); 3] = [
    ("", &["kubeconfig", "kgit.db"]),
    ("pki", &["ca.key"]),
    ("agent", &["key.pem", "assignments.json"]),
];

#[test]
fn the_data_directory_and_every_secret_in_it_are_the_owners_alone() {
    let Some(engine) = Engine::of_this_machine() else { return };
    let room = Room::new();
    // Made by somebody beforehand, for all to read.
    let data = room.folder("data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let manifests = room.folder("manifests");
    std::fs::write(manifests.join("pod.yaml"), POD).expect("it can be written");
    let cluster = Cluster::up(&engine, room, &manifests, &[]);
    cluster.until_ready("sleeper");
    for (folder, files) in SECRET {
        let folder = data.join(folder);
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for file in files {
            assert!(folder.join(file).is_file(), "{file} is there");
        }
        for entry in folder.read_dir().expect("it can be listed").flatten() {
            let wanted = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&entry.path()), wanted, "{}", entry.path().display());
        }
    }
}
