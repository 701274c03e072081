//! Git over SSH for libgit2: the system's own `ssh` carries it, with the keys, hosts and agents
//! that its configuration names.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};

use crate::source::session;

/// Of what `ssh` says when it fails: the first lines have the reason.
const MAX_COMPLAINT_BYTES: u64 = 2048;

/// For [`git2::transport::register`].
pub(super) fn transport(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let program = session::current()?.ssh;
    Transport::smart(remote, false, Ssh { program })
}

struct Ssh {
    program: std::path::PathBuf,
}

impl SmartSubtransport for Ssh {
    fn action(
        &self,
        url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs | Service::UploadPack => {}
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("kgit never pushes to a followed remote"));
            }
        }
        let address = Address::parse(url).map_err(|why| git2::Error::from_str(&why))?;
        let session = address
            .start(&self.program)
            .map_err(|error| git2::Error::from_str(&format!("running ssh: {error}")))?;
        Ok(Box::new(session))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// `ssh://user@host:port/path`, or `user@host:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// With the user, if one is named.
    host: String,
    port: Option<u16>,
    path: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let address = match url.strip_prefix("ssh://") {
            Some(rest) => Self::parse_url(rest),
            None => url.split_once(':').map(|(host, path)| Self {
                host: host.to_owned(),
                port: None,
                path: path.to_owned(),
            }),
        };
        let address = address.ok_or_else(|| format!("`{url}` is no address of a repository"))?;
        // Either would be read as an option by ssh or by git.
        if address.host.starts_with('-') || address.path.starts_with('-') {
            return Err(format!("`{url}` has a host or a path that starts with a dash"));
        }
        if address.host.is_empty() || address.path.is_empty() {
            return Err(format!("`{url}` lacks a host or a path"));
        }
        Ok(address)
    }

    fn parse_url(rest: &str) -> Option<Self> {
        let (authority, path) = rest.split_once('/')?;
        // A bracketed IPv6 address has colons of its own.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let path = match path.starts_with('~') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Some(Self { host: host.replace(['[', ']'], ""), port, path })
    }

    fn start(&self, program: &std::path::Path) -> io::Result<Session> {
        let mut command = Command::new(program);
        // Nobody is there to answer a prompt.
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        let mut child = command
            .arg("--")
            .arg(&self.host)
            .arg(format!("git-upload-pack {}", quote(&self.path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("its pipes are missing"));
        };
        Ok(Session { child, input, output, heard: false })
    }
}

/// For the shell at the other end.
fn quote(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// One run of `ssh`.
struct Session {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// Anything came; before that, an end is a failure to connect.
    heard: bool,
}

impl Read for Session {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(to)?;
        if count == 0 && !self.heard && !to.is_empty() {
            return Err(self.complaint());
        }
        self.heard = true;
        Ok(count)
    }
}

impl Session {
    fn complaint(&mut self) -> io::Error {
        let mut text = Vec::new();
        if let Some(errors) = self.child.stderr.take() {
            // Its words are for the message alone.
            let _ = errors.take(MAX_COMPLAINT_BYTES).read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text);
        match text.trim() {
            "" => io::Error::other("ssh ended without a word"),
            text => io::Error::other(format!("ssh: {text}")),
        }
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already, or is to; either way it must be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: Option<u16>, path: &str) -> Address {
        Address { host: host.to_owned(), port, path: path.to_owned() }
    }

    #[test]
    fn both_ways_to_write_an_address_are_read() {
        let cases = [
            ("ssh://git@host:2222/srv/a.git", address("git@host", Some(2222), "/srv/a.git")),
            ("ssh://host/~me/a.git", address("host", None, "~me/a.git")),
            ("git@host:team/a.git", address("git@host", None, "team/a.git")),
            ("ssh://[::1]:22/a", address("::1", Some(22), "/a")),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_ssh_or_git_would_read_as_an_option_is_refused() {
        for text in ["ssh://-oProxyCommand=x/a", "-oProxyCommand=x:a", "host:-x", "ssh://host"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
