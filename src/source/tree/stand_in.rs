//! What stands in a snapshot of a folder for a file that could not be read into it.
//!
//! A symbolic link whose target starts with a NUL byte, which no real link's can: so it has its
//! place in the tree like any file, is compared like one, and is never taken for a real link.

use serde::{Deserialize, Serialize};

use crate::domain::desired::FileContent;

const MARK: &[u8] = b"\0kgit:";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StandIn {
    TooLarge { bytes: u64, limit: u64 },
    Unreadable { reason: String },
    Submodule,
}

/// The link's content. `None`: the content can be in the tree as it is.
pub(in crate::source) fn write(content: &FileContent) -> Option<Vec<u8>> {
    let stand_in = match content {
        FileContent::Bytes(_) | FileContent::Link { .. } => return None,
        FileContent::TooLarge { bytes, limit } => {
            StandIn::TooLarge { bytes: *bytes, limit: *limit }
        }
        FileContent::Unreadable { reason } => StandIn::Unreadable { reason: reason.clone() },
        FileContent::Submodule => StandIn::Submodule,
    };
    let mut bytes = MARK.to_vec();
    serde_json::to_writer(&mut bytes, &stand_in).ok()?;
    Some(bytes)
}

/// What the link stands for. `None`: it is a link.
pub(in crate::source) fn read(link: &[u8]) -> Option<FileContent> {
    let stand_in = serde_json::from_slice(link.strip_prefix(MARK)?).ok()?;
    Some(match stand_in {
        StandIn::TooLarge { bytes, limit } => FileContent::TooLarge { bytes, limit },
        StandIn::Unreadable { reason } => FileContent::Unreadable { reason },
        StandIn::Submodule => FileContent::Submodule,
    })
}
