//! Following a local repository's branch.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::{Repo, git, look, refusal, snapshot, told};
use crate::source::follow::{Delivery, follow};
use crate::source::git::{LocalGit, LocalGitConfig};
use crate::source::signal::Signal;
use crate::source::{Detected, Source as _, detect};

/// Far beyond what any of these takes; only a failure waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_commit_is_told_with_its_author_and_first_line() {
    let repo = Repo::new();
    repo.write("a.yaml", "x");
    let id = repo.commit("Add a\n\nwith more to say");
    let (commit, _) = snapshot(&mut repo.source());
    assert_eq!(commit.id, id);
    assert_eq!(commit.author, "Ada <ada@example.com>");
    assert_eq!(commit.summary, "Add a");
    assert!(commit.at.0 > 1_500_000_000_000);
}

#[test]
fn the_object_store_is_read_and_never_the_work_tree() {
    let repo = Repo::new();
    repo.write("a.yaml", "committed");
    repo.commit("first");
    repo.write("a.yaml", "edited");
    repo.write("b.yaml", "new");
    repo.git(&["add", "b.yaml"]);
    assert_eq!(look(&mut repo.source()), ["+ a.yaml: committed"]);
}

#[test]
fn a_bare_repository_is_followed_through_pushes_and_force_pushes() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    let bare = repo.dir.path().join("bare.git");
    git(repo.dir.path(), &["clone", "-q", "--bare", "repo", "bare.git"]);
    repo.git(&["remote", "add", "origin", bare.to_str().unwrap()]);
    let mut source = LocalGit::new(LocalGitConfig { path: bare, ..repo.config() });
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);

    repo.write("b.yaml", "2");
    repo.commit("second");
    repo.git(&["push", "-q", "origin", "main"]);
    assert_eq!(look(&mut source), ["+ b.yaml: 2"]);

    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.write("c.yaml", "3");
    repo.commit("another second");
    repo.git(&["push", "-q", "--force", "origin", "main"]);
    assert_eq!(look(&mut source), ["+ c.yaml: 3", "- b.yaml"]);
}

#[test]
fn a_repository_of_another_user_works_when_it_is_the_configured_one() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: giving a repository to another user takes root");
        return;
    }
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    give_away(&repo.path);
    assert_eq!(look(&mut repo.source()), ["+ a.yaml: 1"]);
}

fn give_away(path: &Path) {
    chown(path, Some(1000), Some(1000)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

#[test]
fn an_empty_repository_is_an_empty_tree_until_the_first_commit() {
    let repo = Repo::new();
    let mut source = repo.source();
    let (commit, change) = snapshot(&mut source);
    assert_eq!(commit.summary, "(no commit on branch `main` yet)");
    assert!(told(&change).is_empty());
    assert!(source.look().unwrap().is_none());
    repo.write("a.yaml", "1");
    repo.commit("first");
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);
}

#[test]
fn an_emptied_branch_removes_every_file() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    let mut source = repo.source();
    look(&mut source);
    repo.git(&["rm", "-q", "a.yaml"]);
    repo.commit("emptied");
    assert_eq!(look(&mut source), ["- a.yaml"]);
}

#[test]
fn a_deleted_branch_is_a_failure_and_not_an_empty_tree() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    let mut source = repo.source();
    look(&mut source);
    repo.git(&["update-ref", "-d", "refs/heads/main"]);
    let error = refusal(&mut source);
    assert!(error.contains("the branch `main` is gone from"), "{error}");
}

#[test]
fn a_branch_that_was_never_there_is_a_failure_that_names_it() {
    let repo = Repo::new();
    repo.commit("first");
    let branch = Some("prod".to_owned());
    let mut source = LocalGit::new(LocalGitConfig { branch, ..repo.config() });
    let error = refusal(&mut source);
    assert!(error.contains("there is no branch `prod` in"), "{error}");
    repo.write("a.yaml", "1");
    repo.git(&["checkout", "-q", "-b", "prod"]);
    repo.commit("on prod");
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);
}

#[test]
fn a_repository_whose_head_names_no_commit_says_which_branches_there_are() {
    let repo = Repo::new();
    repo.git(&["checkout", "-q", "-b", "prod"]);
    repo.commit("on prod");
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/master"]);
    let error = refusal(&mut repo.source());
    assert!(error.contains("names `master`, which has no commit; there is `prod`"), "{error}");
}

#[test]
fn one_folder_of_a_repository_is_followed_alone() {
    let repo = Repo::new();
    repo.write("clusters/a/web.yaml", "1");
    repo.write("clusters/b/web.yaml", "2");
    repo.write("base/db.yaml", "db");
    std::os::unix::fs::symlink("../../base/db.yaml", repo.path.join("clusters/a/db.yaml")).unwrap();
    repo.commit("first");
    let folder = "clusters/a".to_owned();
    let mut source = LocalGit::new(LocalGitConfig { folder, ..repo.config() });
    assert_eq!(look(&mut source), ["+ db.yaml: db", "+ web.yaml: 1"]);

    repo.git(&["mv", "clusters/a", "clusters/c"]);
    repo.commit("moved away");
    let error = refusal(&mut source);
    assert!(error.contains("there is no folder `clusters/a` in commit"), "{error}");
}

#[test]
fn a_detached_head_asks_for_a_branch() {
    let repo = Repo::new();
    repo.commit("first");
    repo.git(&["checkout", "-q", "--detach"]);
    assert!(refusal(&mut repo.source()).contains("--branch"));
}

#[test]
fn following_goes_on_from_the_commit_that_the_reader_has() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.write(".target", "old");
    std::os::unix::fs::symlink(".target", repo.path.join("link.yaml")).unwrap();
    let first = repo.commit("first");
    repo.write("b.yaml", "2");
    repo.write(".target", "new");
    repo.commit("second");
    let mut source = LocalGit::new(LocalGitConfig { at: Some(first), ..repo.config() });
    assert_eq!(look(&mut source), ["+ b.yaml: 2", "+ link.yaml: new"]);
}

#[test]
fn a_kept_commit_outlives_a_force_push_and_a_gc() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.write("apps/b.yaml", "2");
    repo.write("video.mp4", "not a manifest");
    let lost = repo.commit("to be lost");
    let mut source = repo.source();
    look(&mut source);
    let history = source.history();
    history.keep(&lost).unwrap();

    repo.git(&["checkout", "-q", "--orphan", "other"]);
    repo.write("a.yaml", "1 again");
    repo.commit("rewritten");
    repo.git(&["branch", "-M", "other", "main"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);

    let (commit, change) = history.read_at(&lost).unwrap();
    assert_eq!(commit.summary, "to be lost");
    assert_eq!(told(&change), ["+ a.yaml: 1", "+ apps/b.yaml: 2"]);
    assert_eq!(history.kept().unwrap(), std::slice::from_ref(&lost));
    // The change from the lost commit to the new one is still told as one.
    assert_eq!(look(&mut source), ["+ a.yaml: 1 again"]);
    history.release(&lost).unwrap();
    assert!(history.kept().unwrap().is_empty());
}

#[test]
fn revisions_are_read_as_git_reads_them_and_head_is_the_followed_branch() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    let first = repo.commit("first");
    repo.git(&["tag", "v1"]);
    repo.git(&["checkout", "-q", "-b", "prod"]);
    repo.write("a.yaml", "2");
    let second = repo.commit("second");
    repo.git(&["checkout", "-q", "main"]);
    let branch = Some("prod".to_owned());
    let history = LocalGit::new(LocalGitConfig { branch, ..repo.config() }).history();
    let id = |revision| history.resolve(revision).unwrap().id;
    assert_eq!(id("HEAD"), second);
    assert_eq!(id("HEAD~1"), first);
    assert_eq!(id("v1"), first);
    assert_eq!(id(&first[..8]), first);
    assert_eq!(told(&history.read_at("v1").unwrap().1), ["+ a.yaml: 1"]);
    let error = history.resolve("v2").unwrap_err().to_string();
    assert_eq!(error, "`v2` names no commit that kgit has");
}

#[test]
fn a_push_is_delivered_without_being_asked_for() {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    let (sender, deliveries) = mpsc::channel();
    let mut watched = repo.source();
    watched.watch(&Signal::default());
    // Were it the clock that finds it, it would come with this much later.
    assert!(watched.patience() >= Duration::from_secs(5));
    let _follower = follow(repo.source(), move |delivery| {
        let _ = sender.send(delivery);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(matches!(deliveries.recv_timeout(PATIENCE), Ok(Delivery::Changed { .. })));
    repo.write("b.yaml", "2");
    repo.commit("second");
    loop {
        match deliveries.recv_timeout(PATIENCE).unwrap() {
            Delivery::Changed { change, .. } => {
                assert_eq!(told(&change), ["+ b.yaml: 2"]);
                break;
            }
            Delivery::Unchanged => {}
            Delivery::Failed(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_a_location_is_can_be_told() {
    let repo = Repo::new();
    repo.write("apps/a.yaml", "1");
    let path = repo.path.to_str().unwrap();
    assert_eq!(detect(path), Detected::Repository);
    assert_eq!(detect(&format!("{path}/apps")), Detected::Folder);
    assert_eq!(detect(&format!("{path}/nothing")), Detected::Nothing);
    assert_eq!(detect("https://example.com/a.git"), Detected::Url);
    assert_eq!(detect("git@example.com:a.git"), Detected::Url);
}
