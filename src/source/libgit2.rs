//! The two settings of libgit2 that are the whole process's, and how repositories are opened.
#![allow(unsafe_code, reason = "libgit2's settings are process-wide; set once, before any use")]

use std::path::Path;
use std::sync::Once;

use git2::{Repository, RepositoryOpenFlags};

use crate::source::{http, ssh};

static SETTINGS: Once = Once::new();

/// Must run before anything of libgit2 is used; every way in here does.
pub(super) fn settle() {
    SETTINGS.call_once(|| {
        // SAFETY: `Once` keeps every other caller waiting, and nothing of libgit2 is used before.
        //
        // libgit2 refuses repositories that belong to another user, because git programs run
        // what a repository's configuration names. Nothing here does: objects and references are
        // read, no hook, filter or command is run. The paths are kgit's own and the one that was
        // configured, and no repository is searched for in folders above.
        unsafe {
            // They fail for lack of memory alone; a repository of another user then stays refused
            // and an address without a transport unsupported, each with an error of its own.
            let _ = git2::opts::set_verify_owner_validation(false);
            for scheme in ["http", "https"] {
                let _ = git2::transport::register(scheme, http::transport);
            }
            let _ = git2::transport::register("ssh", ssh::transport);
        }
    });
}

/// The repository at exactly this path: bare, or with its `.git` in it.
pub(super) fn open(path: &Path) -> Result<Repository, git2::Error> {
    settle();
    let nowhere_above: [&Path; 0] = [];
    Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, nowhere_above)
}
