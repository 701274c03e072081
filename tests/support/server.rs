//! A web server for tests of traffic, as people wish theirs were: it keeps connections open, says who it is, and when it
//! is told to end it answers whatever still comes with `Connection: close`, until every connection is gone.
//!
//! `server PORT [LINGER_MS]`: told to end by a file, since the standard library knows no signals; see `polite` in
//! images.sh. Built by rustc alone, linked statically.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const STOP: &str = "/tmp/stop";

struct Shared {
    name: String,
    stopping: AtomicBool,
    open: AtomicUsize,
}

fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(8080);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let shared = Arc::new(Shared {
        name: name.trim().to_owned(),
        stopping: AtomicBool::new(false),
        open: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    let datagrams = UdpSocket::bind(("0.0.0.0", port)).expect("the port is free");
    let echo = Arc::clone(&shared);
    std::thread::spawn(move || answer_datagrams(&datagrams, &echo.name));
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&accepting);
            shared.open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let _ = serve(&stream, &shared);
                shared.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    while !std::path::Path::new(STOP).exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    shared.stopping.store(true, Ordering::SeqCst);
    while shared.open.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(name.as_bytes(), from);
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut length, mut line, mut first) = (0, String::new(), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if first.is_empty() {
                first = line.clone();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let last = shared.stopping.load(Ordering::SeqCst);
        let size = first.split("/bytes/").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let body = match size {
            Some(size) => vec![b'x'; size],
            None => format!("{}\n", shared.name).into_bytes(),
        };
        let connection = if last { "close" } else { "keep-alive" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n", body.len());
        let mut stream = stream;
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        if last {
            return Ok(());
        }
    }
}
