//! Which files of a tree are told about, and how.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Repo, look, told};
use crate::source::files::walk;
use crate::source::{MAX_FILE_BYTES, Source as _};

#[test]
fn only_the_files_that_changed_are_delivered() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.write("apps/b.yaml", "2");
    repo.write("apps/README.md", "x");
    repo.commit("first");
    let mut source = repo.source();
    assert_eq!(look(&mut source), ["+ a.yaml: 1", "+ apps/b.yaml: 2"]);

    repo.write("apps/b.yaml", "3");
    repo.write("apps/README.md", "y");
    fs::remove_file(repo.path.join("a.yaml")).unwrap();
    repo.commit("second");
    assert_eq!(look(&mut source), ["+ apps/b.yaml: 3", "- a.yaml"]);
    assert!(source.look().unwrap().is_none());
}

#[test]
fn a_file_that_gives_way_to_a_folder_of_its_name_goes_and_its_files_come() {
    let repo = Repo::new();
    repo.write("a.b", "x");
    repo.write("x.yaml", "file");
    repo.write("x.yaml.json", "beside");
    repo.commit("first");
    let mut source = repo.source();
    look(&mut source);

    fs::remove_file(repo.path.join("x.yaml")).unwrap();
    repo.write("x.yaml/inner.yaml", "inner");
    repo.commit("second");
    assert_eq!(look(&mut source), ["+ x.yaml/inner.yaml: inner", "- x.yaml"]);

    fs::remove_dir_all(repo.path.join("x.yaml")).unwrap();
    repo.write("x.yaml", "file");
    repo.commit("third");
    assert_eq!(look(&mut source), ["+ x.yaml: file", "- x.yaml/inner.yaml"]);
}

#[test]
fn dot_folders_are_passed_over_and_dot_files_are_not() {
    let repo = Repo::new();
    repo.write(".github/workflows/ci.yaml", "x");
    repo.write("apps/.hidden/a.yaml", "x");
    repo.write(".ci.yaml", "x");
    repo.write("Chart.yaml", "c");
    repo.write("sub/Kustomization", "k");
    repo.commit("first");
    let expected = ["+ .ci.yaml: x", "+ Chart.yaml: c", "+ sub/Kustomization: k"];
    assert_eq!(look(&mut repo.source()), expected);
    assert_eq!(told(&walk(&repo.path).unwrap()), expected);
}

#[test]
fn links_are_followed_within_the_tree_and_told_when_they_lead_out_of_it() {
    let repo = Repo::new();
    repo.write("shared/.files/web.txt", "web");
    repo.write("apps/db.yaml", "db");
    let link = |target: &str, path: &str| symlink(target, repo.path.join(path)).unwrap();
    link("shared/.files/web.txt", "web.yaml");
    link("apps", "same-folder");
    link("shared/.files", "hidden-folder");
    link("nowhere.yaml", "dangling.yaml");
    link("dangling.yaml", "hop.yaml");
    link("round.yaml", "round.yaml");
    link("../outside", "outside");
    link("/etc/hostname", "absolute.yaml");
    link("shared/.files/web.txt", "README");
    repo.commit("links");
    let expected = [
        "+ absolute.yaml: Link { target: \"/etc/hostname\" }",
        "+ apps/db.yaml: db",
        "+ dangling.yaml: Link { target: \"nowhere.yaml\" }",
        "+ hidden-folder: Link { target: \"shared/.files\" }",
        "+ hop.yaml: Link { target: \"dangling.yaml\" }",
        "+ outside: Link { target: \"../outside\" }",
        "+ round.yaml: Link { target: \"round.yaml\" }",
        "+ web.yaml: web",
    ];
    let mut source = repo.source();
    assert_eq!(look(&mut source), expected);
    fs::create_dir(repo.dir.path().join("outside")).unwrap();
    assert_eq!(told(&walk(&repo.path).unwrap()), expected);

    // The link's file changes while the link does not.
    repo.write("shared/.files/web.txt", "web 2");
    repo.write("nowhere.yaml", "found");
    repo.commit("behind the links");
    assert_eq!(
        look(&mut source),
        [
            "+ dangling.yaml: found",
            "+ hop.yaml: found",
            "+ nowhere.yaml: found",
            "+ web.yaml: web 2"
        ]
    );

    fs::remove_file(repo.path.join("web.yaml")).unwrap();
    fs::remove_file(repo.path.join("hop.yaml")).unwrap();
    repo.write("hop.yaml", "a file now");
    repo.commit("no links");
    assert_eq!(look(&mut source), ["+ hop.yaml: a file now", "- web.yaml"]);
}

#[test]
fn a_file_above_the_limit_is_named_and_not_loaded() {
    let repo = Repo::new();
    let large = usize::try_from(MAX_FILE_BYTES).unwrap() + 1;
    repo.write("big.yaml", &"x".repeat(large));
    repo.commit("big");
    let expected = ["+ big.yaml: TooLarge { bytes: 8388609, limit: 8388608 }"];
    assert_eq!(look(&mut repo.source()), expected);
    assert_eq!(told(&walk(&repo.path).unwrap()), expected);
}

#[test]
fn a_submodule_is_told_as_one() {
    let other = Repo::new();
    other.write("a.yaml", "x");
    other.commit("other");
    let repo = Repo::new();
    repo.git(&["submodule", "add", "-q", other.path.to_str().unwrap(), "module"]);
    repo.commit("module");
    assert_eq!(look(&mut repo.source()), ["+ module: Submodule"]);
}

#[test]
fn a_name_that_is_not_utf_8_is_told_as_unreadable() {
    use std::os::unix::ffi::OsStrExt as _;
    let repo = Repo::new();
    fs::write(repo.path.join(std::ffi::OsStr::from_bytes(b"a\xff.yaml")), "x").unwrap();
    repo.commit("odd name");
    let expected = ["+ a\u{fffd}.yaml: Unreadable { reason: \"its name is not UTF-8\" }"];
    assert_eq!(look(&mut repo.source()), expected);
    assert_eq!(told(&walk(&repo.path).unwrap()), expected);
}

#[test]
fn a_walk_names_pipes_and_does_not_wait_for_them() {
    let repo = Repo::new();
    let made = std::process::Command::new("mkfifo").arg(repo.path.join("p.yaml")).status();
    assert!(made.unwrap().success());
    let expected = ["+ p.yaml: Unreadable { reason: \"it is a named pipe, not a file\" }"];
    assert_eq!(told(&walk(&repo.path).unwrap()), expected);
}

#[test]
fn a_walk_of_one_file_delivers_that_file() {
    let repo = Repo::new();
    repo.write("apps/a.yaml", "x");
    assert_eq!(told(&walk(&repo.path.join("apps/a.yaml")).unwrap()), ["+ a.yaml: x"]);
    assert!(walk(&repo.path.join("nothing")).is_err());
}
