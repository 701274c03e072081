//! What is measured of a way to a web server: bulk, request and answer, new connections.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[derive(Clone, Copy)]
pub struct Effort {
    bulk_bytes: usize,
    requests: usize,
    connections: usize,
}

impl Effort {
    pub const SMALL: Self = Self { bulk_bytes: 1 << 20, requests: 20, connections: 5 };
    pub const FULL: Self = Self { bulk_bytes: 256 << 20, requests: 5000, connections: 1000 };
}

/// Seconds for each part.
pub struct Measured {
    pub bulk: f64,
    pub requests: f64,
    pub connections: f64,
}

impl Measured {
    pub const PARTS: [fn(&Self) -> f64; 3] = [|it| it.bulk, |it| it.requests, |it| it.connections];
}

/// Measures from a network of somebody else's, in a thread of its own that moves there.
pub fn measure(network: &Path, address: SocketAddrV4, effort: Effort) -> Measured {
    let file = File::open(network).expect("the network is there");
    let work = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may move between networks");
        let mut kept = Connection::open(address);
        kept.ask("/");
        let bulk = seconds(|| kept.ask(&format!("/bytes/{}", effort.bulk_bytes)));
        let requests = seconds(|| (0..effort.requests).for_each(|_| kept.ask("/")));
        let connections = seconds(|| {
            (0..effort.connections).for_each(|_| Connection::open(address).ask("/"));
        });
        Measured { bulk, requests, connections }
    };
    std::thread::spawn(work).join().expect("every request is answered")
}

fn seconds(work: impl FnOnce()) -> f64 {
    let before = Instant::now();
    work();
    before.elapsed().as_secs_f64()
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddrV4) -> Self {
        let stream = TcpStream::connect(address).expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket option");
        // Else closed connections wait, and use up the ports that later ones are looking for.
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket option");
        Self(BufReader::with_capacity(64 << 10, stream))
    }

    fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).expect("it reads");
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).expect("it answers"), 0, "it answers in full");
            if let Some(number) = line.strip_prefix("Content-Length: ") {
                length = number.trim().parse().expect("a length is a number");
            }
        }
        let mut body = (&mut self.0).take(length);
        let copied = std::io::copy(&mut body, &mut std::io::sink()).expect("it answers in full");
        assert_eq!(copied, length);
    }
}
