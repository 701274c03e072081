//! `kgit cp`: a `tar` on the other side of an exec.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use kgit_protocol::stream::StreamEnd;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::Where;
use crate::cli::pod::{container, pod, pods_path};
use crate::cli::talk::{CHUNK_BYTES, Input, Output, exit_of, talk};
use crate::client::http::{Client, encoded};
use crate::kube::json::text;
use crate::kube::remote::CHANNELS_V5;

/// Pieces between the archive's thread and the connection.
const WAITING_PIECES: usize = 8;

/// Copy files and directories to and from containers
///
/// One of the two is POD:PATH or NAMESPACE/POD:PATH, the other a local path. The container needs
/// a `tar`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// What to copy
    pub from: String,
    /// Where to
    pub to: String,
    #[command(flatten)]
    pub place: Where,
    /// Container name. If omitted, the pod's annotation names it, or it is the first one
    #[arg(short, long)]
    pub container: Option<String>,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Local(&'a str),
    InPod { namespace: Option<&'a str>, pod: &'a str, path: &'a str },
}

/// A container to run commands in.
struct Remote {
    client: Client,
    pod: Value,
    container: String,
}

pub async fn run(args: &CpArgs, context: &Context) -> Result<Exit, CliError> {
    match (parse(&args.from)?, parse(&args.to)?) {
        (End::Local(from), End::InPod { namespace, pod, path }) => {
            let remote = Remote::find(args, context, namespace, pod).await?;
            upload(&remote, Path::new(from), path).await
        }
        (End::InPod { namespace, pod, path }, End::Local(to)) => {
            let remote = Remote::find(args, context, namespace, pod).await?;
            download(&remote, path, Path::new(to)).await
        }
        _ => Err(CliError::usage("one of the two must be in a pod", "name it: POD:PATH")),
    }
}

/// `[NAMESPACE/]POD:PATH`, or a local path.
fn parse(text: &str) -> Result<End<'_>, CliError> {
    let Some((pod, path)) = text.split_once(':') else { return Ok(End::Local(text)) };
    if path.is_empty() {
        return Err(CliError::usage("filepath can not be empty", "name it: POD:PATH"));
    }
    if pod.starts_with(['.', '/']) {
        return Ok(End::Local(text));
    }
    match pod.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, pod] => Ok(End::InPod { namespace: Some(namespace), pod, path }),
        [pod] if !pod.is_empty() => Ok(End::InPod { namespace: None, pod, path }),
        _ => Ok(End::Local(text)),
    }
}

impl Remote {
    async fn find(
        args: &CpArgs,
        context: &Context,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Self, CliError> {
        let client = context.client()?;
        let named = namespace.map(|namespace| Where { namespace: Some(namespace.to_owned()) });
        let pod = pod(&client, named.as_ref().unwrap_or(&args.place), name).await?;
        let container = container(&pod, args.container.as_deref());
        Ok(Self { client, pod, container })
    }

    async fn command(
        &self,
        command: &[&str],
        input: Option<Input>,
        output: &mut impl Output,
    ) -> Result<StreamEnd, CliError> {
        let words: String =
            command.iter().map(|word| format!("&command={}", encoded(word))).collect();
        let path = format!(
            "{}/{}/exec?container={}&stdin={}&stdout=true&stderr=true{words}",
            pods_path(text(&self.pod, "/metadata/namespace")),
            encoded(text(&self.pod, "/metadata/name")),
            encoded(&self.container),
            input.is_some(),
        );
        talk(self.client.socket(&path, CHANNELS_V5).await?, input, None, output).await
    }

    /// Whether there is a folder at `path`.
    async fn is_folder(&self, path: &str) -> Result<bool, CliError> {
        let end = self.command(&["test", "-d", path], None, &mut Nowhere).await?;
        Ok(end == StreamEnd::Exited { code: 0 })
    }
}

struct Nowhere;

impl Output for Nowhere {
    fn out(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn err(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

async fn upload(remote: &Remote, from: &Path, to: &str) -> Result<Exit, CliError> {
    let base = from.file_name().and_then(|name| name.to_str());
    if !from.exists() {
        let message = format!("{} doesn't exist in local filesystem", from.display());
        return Err(CliError::usage(message, "name a file or a folder"));
    }
    // A folder that is there gets what is copied put into it.
    let mut target = to.trim_end_matches('/').to_owned();
    if to.ends_with('/') || remote.is_folder(to).await? {
        target = format!("{target}/{}", base.unwrap_or_default());
    }
    let (folder, name) = target.rsplit_once('/').unwrap_or((".", &target));
    let folder = if folder.is_empty() { "/" } else { folder };
    let (pieces, input) = mpsc::channel(WAITING_PIECES);
    let (from, name) = (from.to_owned(), name.to_owned());
    let packing = tokio::task::spawn_blocking(move || pack(&from, &name, pieces));
    // Errors of `tar` are shown, and its code is kgit's.
    let command = ["tar", "-xmf", "-", "-C", folder];
    let end = remote.command(&command, Some(input), &mut Errors).await?;
    // If the command ended early, packing was cut off, and the command's code tells why.
    if let (StreamEnd::Exited { code: 0 }, Ok(packed)) = (&end, packing.await) {
        packed.map_err(CliError::io("read what is to be copied"))?;
    }
    exit_of(end)
}

/// What a `tar` complains of.
struct Errors;

impl Output for Errors {
    fn out(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn err(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::stderr().lock().write_all(bytes)
    }
}

fn pack(from: &Path, name: &str, pieces: mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
    let to = std::io::BufWriter::with_capacity(CHUNK_BYTES, Pieces(pieces));
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    match from.is_dir() {
        true => archive.append_dir_all(name, from)?,
        false => archive.append_path_with_name(from, name)?,
    }
    archive.into_inner()?.flush()
}

/// Bytes that go to the connection.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn download(remote: &Remote, from: &str, to: &Path) -> Result<Exit, CliError> {
    let from = from.trim_end_matches('/');
    let (folder, name) = from.rsplit_once('/').unwrap_or((".", from));
    let folder = if folder.is_empty() { "/" } else { folder };
    let target = if to.is_dir() { to.join(name) } else { to.to_owned() };
    let (pieces, archive) = std::sync::mpsc::sync_channel(WAITING_PIECES);
    let prefix = PathBuf::from(name);
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(Archive { pieces: archive, rest: Vec::new(), at: 0 }, &prefix, &target)
    });
    let mut sink = Unpacking(Some(pieces));
    let end =
        remote.command(&["tar", "-cf", "-", "-C", folder, "--", name], None, &mut sink).await?;
    drop(sink);
    if let (StreamEnd::Exited { code: 0 }, Ok(unpacked)) = (&end, unpacking.await) {
        unpacked.map_err(CliError::io("write what was copied"))?;
    }
    exit_of(end)
}

/// The archive goes to the thread that unpacks it.
struct Unpacking(Option<std::sync::mpsc::SyncSender<Vec<u8>>>);

impl Output for Unpacking {
    fn out(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(pieces) = &self.0
            && tokio::task::block_in_place(|| pieces.send(bytes.to_vec())).is_err()
        {
            // Unpacking is over; padding may follow an archive's end.
            self.0 = None;
        }
        Ok(())
    }
    fn err(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        Errors.err(bytes)
    }
}

struct Archive {
    pieces: std::sync::mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Archive {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.rest.len() {
            let Ok(piece) = self.pieces.recv() else { return Ok(0) };
            (self.rest, self.at) = (piece, 0);
        }
        let length = to.len().min(self.rest.len() - self.at);
        to[..length].copy_from_slice(&self.rest[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// Writes files and folders only, and only below `target`: the container is not trusted.
fn unpack(from: impl Read, prefix: &Path, target: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(inside) = inside(&path, prefix) else {
            eprintln!("warning: skipping {}, which leads elsewhere", path.display());
            continue;
        };
        let place = match inside.as_os_str().is_empty() {
            true => target.to_owned(),
            false => target.join(inside),
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&place)?;
        } else if kind.is_file() {
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::io::copy(&mut entry, &mut std::fs::File::create(&place)?)?;
        } else {
            eprintln!("warning: skipping {}, which is neither file nor folder", path.display());
        }
    }
    Ok(())
}

/// The path below `prefix`, if it stays there.
fn inside(path: &Path, prefix: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix(prefix).ok()?;
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_local_path_or_in_a_pod() {
        let pod = |namespace, pod, path| End::InPod { namespace, pod, path };
        let cases = [
            ("a.txt", End::Local("a.txt")),
            ("./a:b/c", End::Local("./a:b/c")),
            ("/tmp/x/a:b", End::Local("/tmp/x/a:b")),
            ("web-1:/tmp/a", pod(None, "web-1", "/tmp/a")),
            ("shop/web-1:a", pod(Some("shop"), "web-1", "a")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse("web-1:").unwrap_err().to_string(), "filepath can not be empty");
    }

    #[test]
    fn what_leads_out_of_the_target_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in [("data/a", "one"), ("data/sub/b", "two"), ("other/c", "three")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, "data/link", "/etc/passwd").unwrap();
        let bytes = archive.into_inner().unwrap();
        let target = dir.path().join("target");
        unpack(bytes.as_slice(), Path::new("data"), &target).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(target.join("sub/b")).unwrap(), "two");
        assert!(!target.join("link").exists() && !dir.path().join("other").exists());
        assert_eq!(inside(Path::new("data/../../x"), Path::new("data")), None);
    }
}
