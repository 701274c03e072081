//! subPath: a path within a volume, never out of it through a link that a container made.

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// The real path of `sub` within `root`, made as a folder if it does not exist: with the root's
/// own permissions, as kubelet makes it (`doSafeMakeDir` of `pkg/volume/util/subpath`).
pub(super) fn resolve(root: &Path, sub: &str) -> io::Result<PathBuf> {
    let relative = Path::new(sub);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        return Err(io::Error::other("must be relative, without `..`"));
    }
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open_root = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&open_root)?.st_mode & 0o7777);
    let mut at = PathBuf::new();
    for part in relative.components() {
        at.push(part);
        let opened = openat2(&open_root, &at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags);
        match opened {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&open_root, &at, mode)?;
                // Past the umask.
                let made = openat2(
                    &open_root,
                    &at,
                    OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                    flags,
                )?;
                rustix::fs::fchmod(&made, mode)?;
            }
            Err(rustix::io::Errno::XDEV) => {
                return Err(io::Error::other("leads out of its volume"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Resolved once more as a whole: the engine mounts the path that this names.
    let real = root.join(relative).canonicalize()?;
    if real.starts_with(root.canonicalize()?) {
        Ok(real)
    } else {
        Err(io::Error::other("leads out of its volume"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o2770)).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink("in", dir.path().join("link")).unwrap();
        assert!(resolve(dir.path(), "new/folder").unwrap().is_dir());
        let mode =
            |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("new"), mode("new/folder")), (0o2770, 0o2770));
        assert!(resolve(dir.path(), "link/x").unwrap().ends_with("in/x"));
        assert!(resolve(dir.path(), "out").is_err());
        assert!(resolve(dir.path(), "out/passwd").is_err());
        assert!(resolve(dir.path(), "../x").is_err());
    }
}
