//! The kubeconfig: where a master is, whom to trust, and as whom to speak. `kgit` and `kubectl`
//! read the same file.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name that kgit gives to the cluster, the user and the context.
const NAME: &str = "kgit";

/// What kgit needs of a kubeconfig's current context.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `https://host:port`.
    pub server: String,
    /// PEM, the only authority trusted for this server.
    pub authority: String,
    pub token: String,
    pub namespace: Option<String>,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not a kubeconfig: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
}

// The file's own form, as far as kgit reads and writes it. Files of other tools hold more, which
// is passed over.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: String,
}

#[derive(Serialize, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

impl Kubeconfig {
    pub fn new(server: &str, authority: &str, token: &str) -> Self {
        Self {
            server: server.to_owned(),
            authority: authority.to_owned(),
            token: token.to_owned(),
            namespace: None,
        }
    }

    /// Reads the current context of a file.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        let malformed =
            |reason: String| KubeconfigError::Malformed { path: path.to_owned(), reason };
        let file: File =
            serde_yaml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        file.current(path).map_err(malformed)
    }

    /// The whole file, for a cluster that is called `kgit`.
    pub fn to_yaml(&self) -> String {
        let authority = BASE64.encode(&self.authority);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\nclusters:\n- name: {NAME}\n  \
             cluster:\n    server: {}\n    certificate-authority-data: {authority}\nusers:\n\
             - name: {NAME}\n  user:\n    token: {}\ncontexts:\n- name: {NAME}\n  context:\n    \
             cluster: {NAME}\n    user: {NAME}\n",
            self.server, self.token
        )
    }
}

impl File {
    fn current(&self, path: &Path) -> Result<Kubeconfig, String> {
        let context = named(&self.contexts, &self.current_context, |context| &context.name)
            .ok_or_else(|| format!("it has no context `{}`", self.current_context))?;
        let cluster = named(&self.clusters, &context.context.cluster, |cluster| &cluster.name)
            .ok_or_else(|| format!("it has no cluster `{}`", context.context.cluster))?;
        let user = named(&self.users, &context.context.user, |user| &user.name)
            .ok_or_else(|| format!("it has no user `{}`", context.context.user))?;
        Ok(Kubeconfig {
            server: cluster.cluster.server.trim_end_matches('/').to_owned(),
            authority: cluster.cluster.authority(path)?,
            token: user.user.token(path)?,
            namespace: context.context.namespace.clone(),
        })
    }
}

fn named<'a, T>(items: &'a [T], name: &str, of: impl Fn(&T) -> &String) -> Option<&'a T> {
    items.iter().find(|item| of(item) == name)
}

impl Cluster {
    fn authority(&self, kubeconfig: &Path) -> Result<String, String> {
        if let Some(data) = &self.certificate_authority_data {
            let bytes = BASE64.decode(data).map_err(|error| error.to_string())?;
            return String::from_utf8(bytes).map_err(|error| error.to_string());
        }
        let path = self.certificate_authority.as_ref().ok_or("its cluster names no authority")?;
        read_beside(kubeconfig, path)
    }
}

impl User {
    fn token(&self, kubeconfig: &Path) -> Result<String, String> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(path)) => Ok(read_beside(kubeconfig, path)?.trim().to_owned()),
            (None, None) => Err("its user has no token".to_owned()),
        }
    }
}

/// Paths in a kubeconfig are relative to it.
fn read_beside(kubeconfig: &Path, path: &Path) -> Result<String, String> {
    let path = kubeconfig.parent().unwrap_or(Path::new(".")).join(path);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let kubeconfig = Kubeconfig::new("https://127.0.0.1:7443", "PEM\n", "kgit1.a.b.c");
        std::fs::write(&path, kubeconfig.to_yaml()).unwrap();
        assert_eq!(Kubeconfig::read(&path).unwrap(), kubeconfig);
    }

    #[test]
    fn a_file_without_its_context_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n\
                    current-context: gone\n";
        std::fs::write(&path, text).unwrap();
        let error = Kubeconfig::read(&path).unwrap_err();
        assert!(error.to_string().ends_with("it has no context `gone`"), "{error}");
    }
}
