//! Files of ConfigMaps, Secrets and projections, swapped all at once as Kubernetes does it: each
//! version is a folder of its own, `..data` links to the newest, and what the container sees are
//! links through `..data`.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use base64::Engine as _;
use kgit_protocol::ids::Digest;
use kgit_protocol::pod::File;

const DATA: &str = "..data";

/// Makes `root` hold exactly these files.
pub(super) fn write(root: &Path, files: &[File], group: Option<i64>) -> io::Result<()> {
    super::make_folder(root, 0o755)?;
    let version = version_of(files, group);
    let target = root.join(&version);
    if fs::read_link(root.join(DATA)).is_ok_and(|now| now.as_path() == Path::new(&version)) {
        return Ok(());
    }
    // Left half-written by a crash.
    remove_folder(&target)?;
    super::make_folder(&target, 0o755)?;
    for file in files {
        write_one(&target, file, group)?;
    }
    swap(root, &version)?;
    link_tops(root, files)?;
    remove_old_versions(root, &version)
}

fn version_of(files: &[File], group: Option<i64>) -> String {
    let mut content = format!("{group:?}");
    for file in files {
        content.push_str(&format!("\0{}\0{:o}\0{}", file.path, file.mode, file.content));
    }
    format!("..{}", Digest::of(content.as_bytes()).short())
}

fn write_one(target: &Path, file: &File, group: Option<i64>) -> io::Result<()> {
    let inside = Path::new(&file.path)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(io::Error::other(format!("the path {:?} leaves its volume", file.path)));
    }
    let path = target.join(&file.path);
    if let Some(parent) = path.parent() {
        super::make_folder(parent, 0o755)?;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(&file.content)
        .map_err(|_| io::Error::other(format!("{:?} is not base64", file.path)))?;
    fs::write(&path, bytes)?;
    let mut mode = file.mode & 0o777;
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        std::os::unix::fs::chown(&path, None, Some(group))?;
        // The group reads what the owner reads.
        mode |= (mode & 0o400) >> 3;
    }
    fs::set_permissions(&path, Permissions::from_mode(mode))
}

fn swap(root: &Path, version: &str) -> io::Result<()> {
    let next = root.join("..data_next");
    match fs::remove_file(&next) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    symlink(version, &next)?;
    fs::rename(&next, root.join(DATA))
}

/// Links for the first part of each path, and none for what is no longer there.
fn link_tops(root: &Path, files: &[File]) -> io::Result<()> {
    let tops: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for top in &tops {
        let link = root.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link)?;
        }
    }
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            fs::remove_file(root.join(name.as_ref()))?;
        }
    }
    Ok(())
}

fn remove_old_versions(root: &Path, version: &str) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() && name.to_string_lossy() != version {
            remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        File { path: path.to_owned(), mode: 0o640, content }
    }

    #[test]
    fn files_are_swapped_at_once_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        write(&root, &[file("a", "1"), file("sub/b", "2")], None).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(root.join("sub/b")).unwrap(), "2");
        write(&root, &[file("a", "3")], None).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(root.join("sub")).is_err());
        let mode = fs::metadata(root.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_path_out_of_the_volume_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&dir.path().join("v"), &[file("../x", "1")], None).is_err());
        assert!(write(&dir.path().join("v"), &[file("/x", "1")], None).is_err());
    }
}
