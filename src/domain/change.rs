//! A difference between what is recorded and what is wanted, field by field.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::diagnostic::Place;

/// How many characters of a value a change shows; the digest in the record tells the rest apart.
pub const MAX_VALUE_CHARS: usize = 120;

/// One field that differs. Values are shown as compact JSON, cut to [`MAX_VALUE_CHARS`]; those of
/// Secrets are masked before they get here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FieldChange {
    /// As people write it: `spec.template.spec.containers[web].image`.
    pub field: String,
    /// `None`: the field was not there.
    pub old: Option<String>,
    /// `None`: the field is gone.
    pub new: Option<String>,
    /// Where the new value stands, or where the old one's object stood.
    pub place: Option<Place>,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old = self.old.as_deref().unwrap_or("(none)");
        let new = self.new.as_deref().unwrap_or("(none)");
        write!(f, "{}: {old} → {new}", self.field)?;
        match &self.place {
            Some(place) => write!(f, "  {place}"),
            None => Ok(()),
        }
    }
}
