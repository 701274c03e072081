//! The services that this node knows of: what the master told last, kept on disk, and what a
//! restored master has lost of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kgit_protocol::directory::{Backend, Directory, DirectoryChange};
use kgit_protocol::ids::{Digest, NodeName, PodUid};

use crate::journal::{Journal, JournalError, KnownDirectory};

/// The directory, and the one that traffic is to go by.
#[derive(Debug)]
pub(super) struct Catalogue {
    known: KnownDirectory,
    in_force: Option<Arc<Directory>>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Applied,
    /// It does not fit what is known: the whole directory is needed.
    NeedWhole,
}

impl Catalogue {
    pub fn new(known: KnownDirectory) -> Self {
        let mut catalogue = Self { known, in_force: None };
        catalogue.compose();
        catalogue
    }

    /// The master's version.
    pub fn digest(&self) -> Option<Digest> {
        self.known.directory.as_ref().map(|known| known.digest.clone())
    }

    pub fn in_force(&self) -> Option<&Arc<Directory>> {
        self.in_force.as_ref()
    }

    /// Whether this is the version that traffic is to go by.
    pub fn is_in_force(&self, digest: &Digest) -> bool {
        self.in_force.as_ref().is_some_and(|known| known.digest == *digest)
    }

    /// Takes what is new. With `keep_others`, services that vanish are kept.
    pub fn take(
        &mut self,
        change: DirectoryChange,
        keep_others: bool,
        journal: &Journal,
    ) -> Result<Told, JournalError> {
        let next = match change {
            DirectoryChange::Whole(whole) => {
                (whole.content_digest() == whole.digest).then_some(whole)
            }
            DirectoryChange::Delta(delta) => {
                self.known.directory.as_ref().and_then(|known| known.apply(delta))
            }
        };
        let Some(next) = next else { return Ok(Told::NeedWhole) };
        let kept = &mut self.known.kept;
        match &self.known.directory {
            Some(before) if keep_others => {
                kept.extend(before.services.clone());
                kept.retain(|name, _| !next.services.contains_key(name));
            }
            _ => kept.clear(),
        }
        self.known.directory = Some(next);
        journal.keep_directory(&self.known)?;
        self.compose();
        Ok(Told::Applied)
    }

    /// The master knows again what there is: nothing is kept beside it.
    pub fn let_go(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if self.known.kept.is_empty() {
            return Ok(());
        }
        self.known.kept.clear();
        journal.keep_directory(&self.known)?;
        self.compose();
        Ok(())
    }

    fn compose(&mut self) {
        let Some(mut directory) = self.known.directory.clone() else { return };
        if !self.known.kept.is_empty() {
            directory.services.extend(self.known.kept.clone());
            directory.digest = directory.content_digest();
        }
        self.in_force = Some(Arc::new(directory));
    }

    /// The pods of a node that services lead to.
    pub fn served(&self, node: &NodeName) -> BTreeSet<PodUid> {
        let services = self.in_force.iter().flat_map(|known| known.services.values());
        let endpoints = services.flat_map(|listed| match &listed.service.backend {
            Backend::Endpoints(endpoints) => endpoints.as_slice(),
            Backend::Master => &[],
        });
        let here = endpoints.filter(|endpoint| endpoint.node.as_ref() == Some(node));
        here.filter_map(|endpoint| endpoint.pod.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use kgit_protocol::directory::ServiceName;

    use super::*;
    use crate::net::tests::{directory, of};

    #[test]
    fn services_that_a_restored_master_lost_are_kept_until_it_knows_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let mut catalogue = Catalogue::new(journal.directory().unwrap());
        let whole = |directory| DirectoryChange::Whole(directory);
        assert_eq!(catalogue.take(whole(directory()), false, &journal).unwrap(), Told::Applied);
        assert_eq!(catalogue.served(&"one".into()), ["a".into(), "b".into()].into());
        assert_eq!(catalogue.take(whole(of(vec![])), true, &journal).unwrap(), Told::Applied);
        let web = ServiceName::new("default", "web");
        let again = Catalogue::new(journal.directory().unwrap());
        assert!(again.in_force().unwrap().services.contains_key(&web));
        assert_eq!(again.digest(), Some(of(vec![]).digest));
        catalogue.let_go(&journal).unwrap();
        assert!(catalogue.in_force().unwrap().services.is_empty());
    }

    #[test]
    fn a_directory_that_is_not_what_it_says_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let mut catalogue = Catalogue::new(journal.directory().unwrap());
        let wrong = Directory { digest: Digest::new("x"), ..directory() };
        let told = catalogue.take(DirectoryChange::Whole(wrong), false, &journal).unwrap();
        assert_eq!((told, catalogue.digest()), (Told::NeedWhole, None));
    }
}
