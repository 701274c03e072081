//! hostPath volumes: the check that the path is of the kind that was asked for.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use kgit_protocol::pod::HostPathKind;

/// Makes what may be made, and checks the rest. The error is worded for people.
pub(super) fn ensure(path: &Path, kind: HostPathKind) -> Result<(), String> {
    let shown = path.display();
    let made = match kind {
        HostPathKind::DirectoryOrCreate => super::make_folder(path, 0o755),
        HostPathKind::Unset if !path.exists() => super::make_folder(path, 0o755),
        HostPathKind::FileOrCreate if !path.exists() => {
            OpenOptions::new().create(true).append(true).open(path).map(|_| ())
        }
        _ => Ok(()),
    };
    made.map_err(|error| format!("can't make {shown}: {error}"))?;
    let found = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.file_type();
    let (fits, wanted) = match kind {
        HostPathKind::Unset => (true, "anything"),
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => {
            (found.is_dir(), "a directory")
        }
        HostPathKind::FileOrCreate | HostPathKind::File => (found.is_file(), "a file"),
        HostPathKind::Socket => (found.is_socket(), "a socket"),
        HostPathKind::CharDevice => (found.is_char_device(), "a character device"),
        HostPathKind::BlockDevice => (found.is_block_device(), "a block device"),
    };
    if fits { Ok(()) } else { Err(format!("{shown} is not {wanted}")) }
}
