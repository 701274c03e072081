//! The store's reader as the API asks for it.

use std::path::Path;

use kgit_protocol::messages::AuditHead;

use crate::api::records::{Records, RecordsError, Verification, Witness};
use crate::domain::audit::Entry;
use crate::domain::token::Token;
use crate::store::error::StoreError;
use crate::store::reader::Reader;

#[derive(Debug)]
pub struct StoreRecords(pub Reader);

/// More entries than a reconcile can have: a started one, its ticks, its end.
const ALL_OF_A_RECONCILE: usize = 100_000;

impl Records for StoreRecords {
    fn tokens(&self) -> Result<Vec<Token>, RecordsError> {
        self.0.tokens().map_err(failed)
    }

    fn audit_head(&self) -> Result<Option<AuditHead>, RecordsError> {
        self.0.head().map(|head| Some(head).filter(|head| head.sequence > 0)).map_err(failed)
    }

    fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        self.0.entries_from(from, limit).map_err(failed)
    }

    fn reconciles(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        self.0.reconciles(limit, before).map_err(failed)
    }

    fn undertakings(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, RecordsError> {
        self.0.undertakings(limit, before).map_err(failed)
    }

    fn reconcile(&self, sequence: u64) -> Result<Vec<Entry>, RecordsError> {
        self.0.entries_of(sequence, ALL_OF_A_RECONCILE).map_err(failed)
    }

    fn backup(&self, to: &Path) -> Result<(), RecordsError> {
        self.0.backup(to).map(drop).map_err(failed)
    }

    fn verify(&self) -> Result<Verification, RecordsError> {
        let report = self.0.verify(&[]).map_err(failed)?;
        let witnesses = self.0.witnesses().map_err(failed)?;
        Ok(Verification {
            entries: report.entries,
            head: Some(report.head.clone()),
            witnesses: witnesses
                .into_iter()
                .map(|(node, head)| Witness { agrees: !report.contradicted_by(&node), node, head })
                .collect(),
            problems: report.problems.iter().map(ToString::to_string).collect(),
        })
    }
}

fn failed(error: StoreError) -> RecordsError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    RecordsError::new(format!("{error}{}", cause.unwrap_or_default()))
}
