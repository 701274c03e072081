//! Where things are, and what a master is told at its start.

use std::path::{Path, PathBuf};

use crate::daemon::error::DaemonError;

/// Where the API listens if nobody says otherwise: this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7443";

/// Where a system-wide kgit keeps its data.
const SYSTEM_DATA: &str = "/var/lib/kgit";

/// What a master is told.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// A folder, a Git repository or a URL.
    pub source: String,
    pub branch: Option<String>,
    /// The followed folder within the repository; empty: all of it.
    pub folder: String,
    pub data: PathBuf,
    /// `None`: [`DEFAULT_LISTEN`], or the address that this data directory had before, or, where
    /// that is taken, any free port of this machine.
    pub listen: Option<String>,
    /// Names and addresses, besides this machine's own, that clients reach the master by.
    pub advertise: Vec<String>,
    /// How often a remote repository is asked for news, in seconds.
    pub poll_seconds: u64,
    /// For crash tests: where the store is to die.
    pub crash: Option<crate::store::crash::CrashPoints>,
    /// The credential for a remote repository.
    pub git_token: Option<String>,
}

/// The data directory that was named, or else the default one; absolute, because the engine is
/// told of files in it.
pub fn data_directory(named: Option<&Path>) -> PathBuf {
    let data = named.map_or_else(default_data, Path::to_owned);
    std::path::absolute(&data).unwrap_or(data)
}

/// The data directory if nobody names one: the system's for root, the user's own otherwise.
fn default_data() -> PathBuf {
    if let Some(named) = std::env::var_os("KGIT_DATA") {
        return PathBuf::from(named);
    }
    if rustix::process::getuid().is_root() {
        return PathBuf::from(SYSTEM_DATA);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    base.unwrap_or_else(|| home.join(".local/share")).join("kgit")
}

/// The kubeconfig that a master writes into its data directory.
pub fn kubeconfig(data: &Path) -> PathBuf {
    data.join("kubeconfig")
}

/// The address that this data directory's master listened on last.
pub fn listen_file(data: &Path) -> PathBuf {
    data.join("listen")
}

/// The agent's directory in the data of `kgit up`.
pub fn agent_data(data: &Path) -> PathBuf {
    data.join("agent")
}

/// Makes the data directory, for its owner alone.
pub fn make_data(data: &Path) -> Result<(), DaemonError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(DaemonError::file("make", data))?;
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))
        .map_err(DaemonError::file("protect", data))
}

/// Writes a file for its owner alone, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DaemonError> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let failed = |error| DaemonError::file("write", path)(error);
    // A new temporary file has mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
