//! Following a plain folder.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::{git, look, refusal, snapshot, told, write};
use crate::source::Source as _;
use crate::source::folder::{Author, Folder, FolderConfig};
use crate::source::follow::{Delivery, follow};

const PATIENCE: Duration = Duration::from_secs(20);

struct Place {
    dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifests");
        fs::create_dir(&path).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir, path }
    }

    fn write(&self, path: &str, text: &str) {
        write(&self.path, path, text);
    }

    fn config(&self) -> FolderConfig {
        FolderConfig {
            path: self.path.clone(),
            data: self.dir.path().join("data"),
            author: Author { name: "ada".to_owned(), address: "ada@here".to_owned() },
            at: None,
        }
    }

    fn source(&self) -> Folder {
        Folder::new(self.config())
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("data/source.git")
    }
}

#[test]
fn each_change_is_a_commit_that_names_the_files() {
    let place = Place::new();
    place.write("web.yaml", "1");
    place.write("apps/db.yaml", "2");
    let mut source = place.source();
    let (commit, change) = snapshot(&mut source);
    assert_eq!(told(&change), ["+ apps/db.yaml: 2", "+ web.yaml: 1"]);
    assert_eq!(commit.author, "ada <ada@here>");
    assert_eq!(commit.summary, "add apps/db.yaml, web.yaml");
    assert!(source.look().unwrap().is_none());

    place.write("web.yaml", "3");
    fs::remove_dir_all(place.path.join("apps")).unwrap();
    let (commit, change) = snapshot(&mut source);
    assert_eq!(told(&change), ["+ web.yaml: 3", "- apps/db.yaml"]);
    assert_eq!(commit.summary, "change web.yaml; remove apps/db.yaml");
    assert_eq!(git(&place.archive(), &["rev-list", "--count", "refs/heads/snapshots"]), "2");
    git(&place.archive(), &["fsck", "--strict"]);
}

#[test]
fn nothing_changed_means_no_new_commit_even_after_a_restart() {
    let place = Place::new();
    place.write("web.yaml", "1");
    let (first, _) = snapshot(&mut place.source());
    // Touched, written again with the same text, joined by what is no manifest.
    place.write("web.yaml", "1");
    place.write("notes.txt", "x");
    let (again, change) = snapshot(&mut place.source());
    assert_eq!(first, again);
    assert_eq!(told(&change), ["+ web.yaml: 1"]);

    let at = Some(first.id.clone());
    let mut resumed = Folder::new(FolderConfig { at, ..place.config() });
    assert!(resumed.look().unwrap().is_none());
    place.write("web.yaml", "2");
    assert_eq!(look(&mut resumed), ["+ web.yaml: 2"]);
}

#[test]
fn a_change_of_the_same_length_within_one_tick_of_the_clock_is_seen() {
    let place = Place::new();
    let mut source = place.source();
    for round in 0..50 {
        place.write("web.yaml", &format!("{round:03}"));
        assert_eq!(look(&mut source), [format!("+ web.yaml: {round:03}")]);
    }
}

#[test]
fn an_editor_that_renames_over_the_file_changes_it() {
    let place = Place::new();
    place.write("web.yaml", "1");
    let mut source = place.source();
    look(&mut source);
    // As vim does it: a backup, a new file under the old name, lock files of emacs beside.
    fs::rename(place.path.join("web.yaml"), place.path.join("web.yaml~")).unwrap();
    place.write("web.yaml.new", "2");
    fs::rename(place.path.join("web.yaml.new"), place.path.join("web.yaml")).unwrap();
    symlink("ada@here.123", place.path.join(".#web.yaml")).unwrap();
    assert_eq!(look(&mut source), ["+ web.yaml: 2"]);
}

#[test]
fn what_can_not_be_in_a_snapshot_is_in_it_by_a_stand_in() {
    let place = Place::new();
    place.write("ok.yaml", "x");
    place.write("shared.txt", "text");
    symlink("shared.txt", place.path.join("inside.yaml")).unwrap();
    symlink("/etc/hostname", place.path.join("outside.yaml")).unwrap();
    let pipe = place.path.join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let big = fs::File::create(place.path.join("big.yaml")).unwrap();
    big.set_len(100 << 20).unwrap();
    let mut source = place.source();
    let expected = [
        "+ big.yaml: TooLarge { bytes: 104857600, limit: 8388608 }",
        "+ inside.yaml: text",
        "+ ok.yaml: x",
        "+ outside.yaml: Link { target: \"/etc/hostname\" }",
        "+ pipe.yaml: Unreadable { reason: \"it is a named pipe, not a file\" }",
    ];
    let (commit, change) = snapshot(&mut source);
    assert_eq!(told(&change), expected);
    assert_eq!(told(&source.history().read_at(&commit.id).unwrap().1), expected);

    fs::remove_file(&pipe).unwrap();
    place.write("pipe.yaml", "a file now");
    fs::remove_file(place.path.join("outside.yaml")).unwrap();
    assert_eq!(look(&mut source), ["+ pipe.yaml: a file now", "- outside.yaml"]);
}

#[test]
fn a_folder_inside_of_a_work_tree_is_followed_as_files() {
    let place = Place::new();
    git(&place.path, &["init", "-q"]);
    place.write("apps/a.yaml", "not committed");
    let config = FolderConfig { path: place.path.join("apps"), ..place.config() };
    assert_eq!(look(&mut Folder::new(config)), ["+ a.yaml: not committed"]);
}

#[test]
fn a_folder_that_goes_away_is_a_failure_and_not_an_empty_tree() {
    let place = Place::new();
    place.write("web.yaml", "1");
    let mut source = place.source();
    look(&mut source);
    let away = place.dir.path().join("away");
    fs::rename(&place.path, &away).unwrap();
    let error = refusal(&mut source);
    assert!(error.starts_with("reading"), "{error}");
    fs::rename(&away, &place.path).unwrap();
    assert!(source.look().unwrap().is_none());
}

#[test]
fn the_snapshots_are_readable_by_their_owner_alone() {
    let place = Place::new();
    place.write("secret.yaml", "password");
    look(&mut place.source());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.archive()), 0o700);
}

#[test]
fn edits_in_folders_that_came_later_are_delivered_without_being_asked_for() {
    let place = Place::new();
    place.write("web.yaml", "1");
    let (sender, deliveries) = mpsc::channel();
    let _follower = follow(place.source(), move |delivery| {
        let _ = sender.send(delivery);
        ControlFlow::Continue(())
    })
    .unwrap();
    let next = || loop {
        match deliveries.recv_timeout(PATIENCE).unwrap() {
            Delivery::Changed { change, .. } => return told(&change),
            Delivery::Unchanged => {}
            Delivery::Failed(error) => panic!("{error}"),
        }
    };
    assert_eq!(next(), ["+ web.yaml: 1"]);
    place.write("new/folder/db.yaml", "2");
    assert_eq!(next(), ["+ new/folder/db.yaml: 2"]);
    place.write("new/folder/db.yaml", "3");
    assert_eq!(next(), ["+ new/folder/db.yaml: 3"]);
    fs::remove_dir_all(place.path.join("new")).unwrap();
    assert_eq!(next(), ["- new/folder/db.yaml"]);
}
