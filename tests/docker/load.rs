//! Requests at a steady rate from one of a test's hosts: half over connections that stay open, half each over one of
//! its own. Nothing is tried twice, so that nothing lost is hidden.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Clients of each kind. With the pause, a client makes up to 66 requests a second: 500 in all.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(15);
/// An answer that takes longer is a lost one.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that was not answered.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Since the load began.
    pub after: Duration,
    pub how: String,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
    lost: Mutex<Vec<Lost>>,
}

/// A load that is under way.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    began: Instant,
}

/// What became of a load.
#[derive(Debug)]
pub struct Outcome {
    pub answered: usize,
    pub lost: Vec<Lost>,
    pub lasted: Duration,
}

impl Load {
    /// Begins to ask these addresses by turns, from the network that the file stands for.
    pub fn start(network: &Path, targets: &[SocketAddr]) -> Self {
        let shared = Arc::new(Shared::default());
        let began = Instant::now();
        let (network, targets) = (network.to_owned(), targets.to_vec());
        let at_work = Arc::clone(&shared);
        let thread = std::thread::spawn(move || run(&network, targets, &at_work, began));
        Self { shared, thread: Some(thread), began }
    }

    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// What was lost so far.
    pub fn lost(&self) -> Vec<Lost> {
        self.shared.lost.lock().expect("no client panics").clone()
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn stop(mut self) -> Outcome {
        self.end();
        Outcome { answered: self.answered(), lost: self.lost(), lasted: self.began.elapsed() }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no client panics");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Outcome {
    pub fn a_second(&self) -> f64 {
        self.answered as f64 / self.lasted.as_secs_f64()
    }
}

/// Moves this thread, and no other, into a host's network.
pub fn enter(network: &Path) {
    let file = File::open(network).expect("the host is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may move between networks");
}

fn run(network: &Path, targets: Vec<SocketAddr>, shared: &Arc<Shared>, began: Instant) {
    enter(network);
    // One thread: another would be on this machine's own network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    let targets = Rc::new(targets);
    for number in 0..CLIENTS {
        for keeps in [true, false] {
            let client = Client {
                targets: Rc::clone(&targets),
                next: number,
                shared: Arc::clone(shared),
                began,
                kept: Vec::new(),
            };
            local.spawn_local(client.run(keeps));
        }
    }
    runtime.expect("a runtime can be made").block_on(local);
}

struct Client {
    targets: Rc<Vec<SocketAddr>>,
    next: usize,
    shared: Arc<Shared>,
    began: Instant,
    /// Connections that stay open, one for each target.
    kept: Vec<Option<TcpStream>>,
}

impl Client {
    async fn run(mut self, keeps: bool) {
        self.kept = self.targets.iter().map(|_| None).collect();
        while !self.shared.stop.load(Ordering::SeqCst) {
            let index = self.next % self.targets.len();
            self.next += 1;
            let asked = tokio::time::timeout(PATIENCE, self.ask(index, keeps)).await;
            let outcome = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            match outcome {
                Ok(()) => drop(self.shared.answered.fetch_add(1, Ordering::SeqCst)),
                Err(how) => {
                    self.kept[index] = None;
                    let how = format!("{} {}: {how}", self.targets[index], kind(keeps));
                    let lost = Lost { after: self.began.elapsed(), how };
                    self.shared.lost.lock().expect("no client panics").push(lost);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&mut self, index: usize, keeps: bool) -> Result<(), String> {
        let mut stream = match self.kept[index].take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.targets[index])
                .await
                .map_err(|error| format!("connecting: {error}"))?,
        };
        let stays = request(&mut stream, keeps).await?;
        if keeps && stays {
            self.kept[index] = Some(stream);
        }
        Ok(())
    }
}

fn kind(keeps: bool) -> &'static str {
    if keeps { "kept open" } else { "new" }
}

/// One request and its whole answer; whether the server keeps the connection.
async fn request(stream: &mut TcpStream, keep: bool) -> Result<bool, String> {
    let connection = if keep { "keep-alive" } else { "close" };
    let text = format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(text.as_bytes()).await.map_err(|error| format!("asking: {error}"))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let count = stream.read(&mut buffer).await.map_err(|error| format!("reading: {error}"))?;
        if count == 0 {
            return Err(format!("reading: the connection ended after {} bytes", answer.len()));
        }
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if body.len() < length {
            continue;
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.lines().next().unwrap_or_default().to_owned());
        }
        return Ok(!head.contains("Connection: close"));
    }
}
