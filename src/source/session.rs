//! What a fetch may use to reach its remote.
//!
//! libgit2 makes transports by its own call, which has no place for this; it makes them on the
//! thread that fetches, so that thread is where it is kept meanwhile.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use crate::source::http::HttpClient;
use crate::source::remote::Credential;

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) http: Option<Arc<HttpClient>>,
    pub(super) credential: Option<Credential>,
    pub(super) ssh: PathBuf,
}

thread_local! {
    static CURRENT: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Runs `work` with the session in place for this thread.
pub(super) fn during<T>(session: &Session, work: impl FnOnce() -> T) -> T {
    CURRENT.with_borrow_mut(|current| *current = Some(session.clone()));
    let done = work();
    CURRENT.with_borrow_mut(|current| *current = None);
    done
}

pub(super) fn current() -> Result<Session, git2::Error> {
    CURRENT.with_borrow(Clone::clone).ok_or_else(|| {
        git2::Error::from_str("a transport is made by a followed remote's own fetch only")
    })
}
