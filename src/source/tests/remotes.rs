//! Following a remote: `git http-backend` behind a small server, and `git-upload-pack` behind a
//! stand-in for ssh, which runs here what it is asked to run there.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Repo, git, look, refusal, snapshot, told};
use crate::source::Source as _;
use crate::source::remote::{Credential, Remote, RemoteConfig};

/// Serves one folder of repositories.
struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<String>>>,
}

/// What the server asks for: user and password, in base64 as they are sent.
type Wanted = Option<&'static str>;

/// The server hangs up after each answer: whoever is not told so may ask on what is closed.
const NOTHING_MORE: &str = "Content-Length: 0\r\nConnection: close\r\n";

impl Server {
    fn start(root: &Path, wanted: Wanted) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (root, count, lines) = (root.to_owned(), Arc::clone(&requests), Arc::clone(&log));
        // It ends with the process: nothing is left to wait for.
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                answer(&stream.unwrap(), &root, wanted, &lines);
            }
        });
        Self { port, requests, log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn requests(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

fn answer(stream: &TcpStream, root: &Path, wanted: Wanted, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    log.lock().unwrap().push(format!("{method} {target}"));
    let (mut length, mut kind, mut authorization) = (0, String::new(), None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => kind = value.to_owned(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut to = stream;
    if let Some(rest) = target.strip_prefix("/moved/") {
        write!(to, "HTTP/1.1 301 Moved\r\nLocation: /{rest}\r\n{NOTHING_MORE}\r\n").unwrap();
        return;
    }
    if wanted.is_some() && authorization.as_deref() != wanted {
        write!(to, "HTTP/1.1 401 Unauthorized\r\n{NOTHING_MORE}\r\n").unwrap();
        return;
    }
    let answer = backend(root, &method, &target, &kind, &body);
    to.write_all(&answer).unwrap();
}

/// One CGI request.
fn backend(root: &Path, method: &str, target: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8_lossy(&output[..end]).into_owned();
    let body = &output[end + 4..];
    let status = headers
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK")
        .to_owned();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn config(repo: &Repo, url: String) -> RemoteConfig {
    fs::create_dir_all(repo.data()).unwrap();
    RemoteConfig {
        url,
        branch: None,
        folder: String::new(),
        data: repo.data(),
        interval: Duration::from_secs(60),
        credential: None,
        ssh: PathBuf::from("ssh"),
        at: None,
    }
}

fn pushed() -> (Repo, PathBuf) {
    let repo = Repo::new();
    repo.write("a.yaml", "1");
    repo.commit("first");
    git(repo.dir.path(), &["clone", "-q", "--bare", "repo", "bare.git"]);
    let bare = repo.dir.path().join("bare.git");
    repo.git(&["remote", "add", "origin", bare.to_str().unwrap()]);
    (repo, bare)
}

#[test]
fn a_remote_is_fetched_over_http_and_asked_again_for_little() {
    let (repo, _) = pushed();
    let server = Server::start(repo.dir.path(), None);
    let mut source = Remote::new(config(&repo, server.url("bare.git"))).unwrap();
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);
    server.requests();
    assert!(source.look().unwrap().is_none());
    assert_eq!(server.requests(), 1);

    repo.write("b.yaml", "2");
    let second = repo.commit("second");
    repo.git(&["push", "-q", "origin", "main"]);
    let (commit, change) = snapshot(&mut source);
    assert_eq!((commit.id.as_str(), told(&change)), (second.as_str(), vec!["+ b.yaml: 2".into()]));

    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.write("c.yaml", "3");
    repo.commit("rewritten");
    repo.git(&["push", "-q", "--force", "origin", "main"]);
    assert_eq!(look(&mut source), ["+ c.yaml: 3", "- b.yaml"]);
    assert_eq!(source.history().resolve("HEAD").unwrap().summary, "rewritten");
}

#[test]
fn a_redirect_is_followed_for_the_second_request_as_well() {
    let (repo, _) = pushed();
    let server = Server::start(repo.dir.path(), None);
    let mut source = Remote::new(config(&repo, server.url("moved/bare.git"))).unwrap();
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);
    let log = server.log.lock().unwrap().clone();
    assert!(log.contains(&"POST /bare.git/git-upload-pack".to_owned()), "{log:?}");
}

#[test]
fn a_credential_is_used_and_never_shown() {
    let (repo, _) = pushed();
    // ada:hush
    let server = Server::start(repo.dir.path(), Some("Basic YWRhOmh1c2g="));
    let url = server.url("bare.git");

    let error = refusal(&mut Remote::new(config(&repo, url.clone())).unwrap());
    assert!(error.contains("the server refuses access (401 Unauthorized)"), "{error}");

    let user = Some("ada".to_owned());
    let credential = Some(Credential { user, secret: "hush".to_owned() });
    let mut by_config =
        Remote::new(RemoteConfig { credential, ..config(&repo, url.clone()) }).unwrap();
    assert_eq!(look(&mut by_config), ["+ a.yaml: 1"]);
    assert!(!format!("{by_config:?}").contains("hush"));

    let in_url = url.replace("http://", "http://ada:hu%73h@");
    let mut by_url = Remote::new(config(&repo, in_url)).unwrap();
    assert_eq!(look(&mut by_url), ["+ a.yaml: 1"]);
    assert_eq!(by_url.location(), url);

    let wrong = url.replace("http://", "http://ada:wrong@");
    let error = refusal(&mut Remote::new(config(&repo, wrong)).unwrap());
    assert!(error.contains("refuses access") && !error.contains("wrong"), "{error}");
}

#[test]
fn a_token_is_not_sent_over_plain_http_to_another_machine() {
    let repo = Repo::new();
    let credential = Some(Credential { user: None, secret: "hush".to_owned() });
    let config = config(&repo, "http://git.example.com/a.git".to_owned());
    let error = Remote::new(RemoteConfig { credential, ..config }).unwrap_err();
    assert!(error.to_string().contains("unencrypted: use https"), "{error}");
}

#[test]
fn an_address_without_a_repository_is_said_to_be_one() {
    let (repo, bare) = pushed();
    let server = Server::start(repo.dir.path(), None);
    let error = refusal(&mut Remote::new(config(&repo, server.url("nothing.git"))).unwrap());
    assert!(error.contains("404"), "{error}");
    let mut nobody = Remote::new(config(&repo, "http://127.0.0.1:1/a.git".to_owned())).unwrap();
    let error = refusal(&mut nobody);
    assert!(error.contains("Connection refused"), "{error}");
    assert!(nobody.patience() < Duration::from_secs(6));

    let branch = Some("prod".to_owned());
    let url = server.url("bare.git");
    let mut source = Remote::new(RemoteConfig { branch, ..config(&repo, url) }).unwrap();
    let error = refusal(&mut source);
    assert!(error.contains("there is no branch `prod` in"), "{error}");
    drop(bare);
}

#[test]
fn an_empty_remote_is_an_empty_tree_and_a_deleted_branch_is_a_failure() {
    let repo = Repo::new();
    git(repo.dir.path(), &["init", "-q", "--bare", "-b", "main", "bare.git"]);
    let server = Server::start(repo.dir.path(), None);
    let mut source = Remote::new(config(&repo, server.url("bare.git"))).unwrap();
    assert!(look(&mut source).is_empty());

    let bare = repo.dir.path().join("bare.git");
    repo.write("a.yaml", "1");
    repo.commit("first");
    repo.git(&["push", "-q", bare.to_str().unwrap(), "main"]);
    assert_eq!(look(&mut source), ["+ a.yaml: 1"]);

    git(&bare, &["update-ref", "-d", "refs/heads/main"]);
    let error = refusal(&mut source);
    assert!(error.contains("is gone from"), "{error}");
}

#[test]
fn a_remote_is_fetched_through_ssh() {
    let (repo, bare) = pushed();
    let ssh = repo.dir.path().join("ssh");
    fs::write(&ssh, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    for url in [format!("ssh://git@here{}", bare.display()), format!("here:{}", bare.display())] {
        let data = repo.dir.path().join(format!("data-{}", url.len()));
        fs::create_dir(&data).unwrap();
        let config = RemoteConfig { ssh: ssh.clone(), data, ..config(&repo, url) };
        let mut source = Remote::new(config).unwrap();
        assert_eq!(look(&mut source), ["+ a.yaml: 1"]);
        assert!(source.look().unwrap().is_none());
    }
    fs::write(&ssh, "#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n").unwrap();
    let config = RemoteConfig { ssh, ..config(&repo, "ssh://here/a.git".to_owned()) };
    let error = refusal(&mut Remote::new(config).unwrap());
    assert!(error.contains("ssh: Host key verification failed."), "{error}");
}

#[test]
fn a_file_address_is_a_remote_too() {
    let (repo, bare) = pushed();
    let url = format!("file://{}", bare.display());
    assert_eq!(look(&mut Remote::new(config(&repo, url)).unwrap()), ["+ a.yaml: 1"]);
    let error = Remote::new(config(&repo, "ftp://host/a".to_owned())).unwrap_err().to_string();
    assert!(error.contains("`ftp://` is no way to fetch"), "{error}");
}
