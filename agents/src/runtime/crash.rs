//! A runtime that can die at a chosen call, for crash tests: each call that changes something at
//! the engine has a number and a name, and the process is aborted just before or just after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use kgit_protocol::pod::RegistryLogin;
use kgit_protocol::stream::{Ends, LogRequest, TerminalSize};
use kgit_protocol::time::Timestamp;
use tokio::net::TcpStream;

use crate::runtime::{
    ContainerOrder, Engine, Event, ExecResult, Image, LogStream, Measured, Outcome, Process,
    Runtime, Talk, View, VolumeOrder,
};

/// Where to die: `[name:]number[:after]`, such as `7`, `create:2` or `start:1:after`. Without a
/// name all changing calls are counted, with one only calls of that name; numbers begin with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    pub call: Option<String>,
    pub number: u64,
    pub after: bool,
}

impl CrashPoint {
    /// `None` if the text is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split(':').collect();
        let after = parts.last() == Some(&"after");
        if after {
            parts.pop();
        }
        match parts.as_slice() {
            [number] => Some(Self { call: None, number: number.parse().ok()?, after }),
            [call, number] => {
                Some(Self { call: Some((*call).to_owned()), number: number.parse().ok()?, after })
            }
            _ => None,
        }
    }
}

/// Counts the changing calls to `inner`.
#[derive(Debug)]
pub struct Crash<R> {
    inner: R,
    point: Option<CrashPoint>,
    calls: AtomicU64,
}

impl<R: Runtime> Crash<R> {
    pub fn new(inner: R, point: Option<CrashPoint>) -> Self {
        Self { inner, point, calls: AtomicU64::new(0) }
    }

    /// Counts a call; whether the process dies after it. Dies now if it is to die before it.
    fn enter(&self, name: &str) -> bool {
        let Some(point) = &self.point else { return false };
        if point.call.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(call = name, number, "engine call");
        let here = number == point.number;
        if here && !point.after {
            die(name, number, "before");
        }
        here
    }

    async fn call<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let dies = self.enter(name);
        let result = work.await;
        if dies {
            die(name, self.calls.load(Ordering::Relaxed), "after");
        }
        result
    }
}

fn die(name: &str, number: u64, side: &str) -> ! {
    eprintln!("kgit-agent: told to die {side} engine call {number} ({name})");
    std::process::abort()
}

impl<R: Runtime> Runtime for Crash<R> {
    async fn view(&self, expected: Ipv4Net) -> Outcome<View> {
        self.inner.view(expected).await
    }
    async fn ensure_network(&self, range: Ipv4Net) -> Outcome<()> {
        self.call("ensure_network", self.inner.ensure_network(range)).await
    }
    async fn create(&self, order: &ContainerOrder) -> Outcome<String> {
        self.call("create", self.inner.create(order)).await
    }
    async fn start(&self, id: &str) -> Outcome<()> {
        self.call("start", self.inner.start(id)).await
    }
    async fn terminate(&self, id: &str) -> Outcome<()> {
        self.call("terminate", self.inner.terminate(id)).await
    }
    async fn kill(&self, id: &str) -> Outcome<()> {
        self.call("kill", self.inner.kill(id)).await
    }
    async fn unpause(&self, id: &str) -> Outcome<()> {
        self.call("unpause", self.inner.unpause(id)).await
    }
    async fn remove(&self, id: &str) -> Outcome<()> {
        self.call("remove", self.inner.remove(id)).await
    }
    async fn attach(&self, id: &str, address: std::net::Ipv4Addr) -> Outcome<()> {
        self.call("attach", self.inner.attach(id, address)).await
    }
    async fn image(&self, name: &str) -> Outcome<Option<Image>> {
        self.inner.image(name).await
    }
    async fn images(&self) -> Outcome<Vec<Image>> {
        self.inner.images().await
    }
    async fn pull(&self, name: &str, logins: &[RegistryLogin]) -> Outcome<()> {
        self.call("pull", self.inner.pull(name, logins)).await
    }
    async fn restore_image(&self, container: &str, name: &str) -> Outcome<()> {
        self.call("restore_image", self.inner.restore_image(container, name)).await
    }
    async fn remove_image(&self, id: &str) -> Outcome<()> {
        self.call("remove_image", self.inner.remove_image(id)).await
    }
    async fn ensure_pause_image(&self) -> Outcome<String> {
        self.call("ensure_pause_image", self.inner.ensure_pause_image()).await
    }
    async fn ensure_volume(&self, order: &VolumeOrder) -> Outcome<bool> {
        self.call("ensure_volume", self.inner.ensure_volume(order)).await
    }
    async fn volumes(&self) -> Outcome<Vec<String>> {
        self.inner.volumes().await
    }
    async fn volume_path(&self, name: &str) -> Outcome<Option<String>> {
        self.inner.volume_path(name).await
    }
    async fn remove_volume(&self, name: &str) -> Outcome<()> {
        self.call("remove_volume", self.inner.remove_volume(name)).await
    }
    async fn remove_network(&self) -> Outcome<()> {
        self.call("remove_network", self.inner.remove_network()).await
    }
    async fn network_ranges(&self) -> Outcome<Vec<Ipv4Net>> {
        self.inner.network_ranges().await
    }
    async fn process(&self, id: &str) -> Outcome<Option<u32>> {
        self.inner.process(id).await
    }
    async fn measure(&self, id: &str) -> Outcome<Option<Measured>> {
        self.inner.measure(id).await
    }
    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Outcome<ExecResult> {
        self.call("exec", self.inner.exec(id, command, timeout)).await
    }
    async fn logs(&self, id: &str, request: &LogRequest) -> Outcome<LogStream> {
        self.inner.logs(id, request).await
    }
    async fn open_exec(&self, id: &str, command: &[String], ends: Ends) -> Outcome<Talk> {
        self.inner.open_exec(id, command, ends).await
    }
    async fn open_attach(&self, id: &str, ends: Ends) -> Outcome<Talk> {
        self.inner.open_attach(id, ends).await
    }
    async fn resize(&self, process: &Process, size: TerminalSize) -> Outcome<()> {
        self.inner.resize(process, size).await
    }
    async fn exec_code(&self, exec: &str) -> Outcome<Option<i64>> {
        self.inner.exec_code(exec).await
    }
    async fn connect(
        &self,
        id: &str,
        address: Option<std::net::Ipv4Addr>,
        port: u16,
    ) -> Outcome<TcpStream> {
        self.inner.connect(id, address, port).await
    }
    fn events(&self, since: Timestamp) -> BoxStream<'static, Outcome<Event>> {
        self.inner.events(since)
    }
    async fn engine(&self) -> Outcome<Engine> {
        self.inner.engine().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_points_are_read() {
        let point = |call: Option<&str>, number, after| {
            Some(CrashPoint { call: call.map(str::to_owned), number, after })
        };
        assert_eq!(CrashPoint::parse("7"), point(None, 7, false));
        assert_eq!(CrashPoint::parse("create:2"), point(Some("create"), 2, false));
        assert_eq!(CrashPoint::parse("start:1:after"), point(Some("start"), 1, true));
        assert_eq!(CrashPoint::parse("start:x"), None);
    }
}
