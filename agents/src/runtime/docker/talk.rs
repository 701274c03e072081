//! Processes that somebody talks to: commands that are run in a container, and a container's own.
//!
//! bollard makes, measures and asks about them. The bytes are taken from the engine's connection
//! here: bollard's reader takes a terminal's bytes for the engine's framing when they begin with a
//! control character.

use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bollard::query_parameters::ResizeContainerTTYOptionsBuilder;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kgit_protocol::stream::{Ends, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadHalf};
use tokio::net::UnixStream;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::ReaderStream;

use crate::runtime::docker::Docker;
use crate::runtime::docker::errors::{Asked, understood};
use crate::runtime::{Outcome, Process, RuntimeError, Said, Talk};

/// Read from the engine at a time: as much as fits a frame of a stream with its head.
const CHUNK_BYTES: usize = 64 * 1024;
/// The engine explains a refusal in a sentence.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

type Hijacked = TokioIo<Upgraded>;

impl Docker {
    pub(super) async fn talk_to_command(
        &self,
        id: &str,
        command: &[String],
        ends: Ends,
    ) -> Outcome<Talk> {
        let client = self.client().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(ends.stdin),
            attach_stdout: Some(ends.stdout),
            attach_stderr: Some(ends.stderr),
            tty: Some(ends.tty),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let made = client.create_exec(id, options).await;
        let exec = made.map_err(|error| self.failed(Asked::Container, id, error))?.id;
        let path = format!("/v{}/exec/{exec}/start", client.client_version());
        let order = json!({"Detach": false, "Tty": ends.tty});
        let wire = self.hijack(id, &path, order.to_string()).await?;
        Ok(talk(Process::Exec(exec), wire, ends.tty))
    }

    pub(super) async fn talk_to_container(&self, id: &str, ends: Ends) -> Outcome<Talk> {
        let client = self.client().await?;
        let shown = client.inspect_container(id, None).await;
        let shown = shown.map_err(|error| self.failed(Asked::Container, id, error))?;
        let tty = shown.config.and_then(|config| config.tty).unwrap_or(false);
        let path = format!(
            "/v{}/containers/{id}/attach?stream=1&stdin={}&stdout={}&stderr={}",
            client.client_version(),
            u8::from(ends.stdin),
            u8::from(ends.stdout),
            u8::from(ends.stderr || tty),
        );
        let wire = self.hijack(id, &path, String::new()).await?;
        Ok(talk(Process::Container(id.to_owned()), wire, tty))
    }

    /// Asks for `path` and takes the connection over.
    async fn hijack(&self, id: &str, path: &str, body: String) -> Outcome<Hijacked> {
        let gone = |error: &dyn std::fmt::Display| RuntimeError::Unavailable(error.to_string());
        let socket = UnixStream::connect(&self.socket).await.map_err(|error| gone(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|e| gone(&e))?;
        // Ends when the connection is handed over, or with it.
        tokio::spawn(connection.with_upgrades());
        let request = Request::post(path)
            .header("host", "docker")
            .header("content-type", "application/json")
            .header("connection", "Upgrade")
            .header("upgrade", "tcp")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| RuntimeError::Refused(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| gone(&error))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(answer).await.map_err(|error| gone(&error))?;
            return Ok(TokioIo::new(upgraded));
        }
        let status_code = answer.status().as_u16();
        let said = Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
        let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let read: Value = serde_json::from_slice(&said).unwrap_or_default();
        let message = read["message"].as_str().map(str::to_owned);
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&said).into_owned());
        let error = Error::DockerResponseServerError { status_code, message };
        Err(understood(Asked::Container, id, error))
    }

    pub(super) async fn set_size(&self, process: &Process, size: TerminalSize) -> Outcome<()> {
        let client = self.client().await?;
        let (height, width) = (size.height, size.width);
        match process {
            Process::Exec(exec) => {
                let resized = client.resize_exec(exec, ResizeExecOptions { height, width }).await;
                resized.map_err(|error| self.failed(Asked::Container, exec, error))
            }
            Process::Container(id) => {
                let options = ResizeContainerTTYOptionsBuilder::default()
                    .h(i32::from(height))
                    .w(i32::from(width))
                    .build();
                let resized = client.resize_container_tty(id, options).await;
                resized.map_err(|error| self.failed(Asked::Container, id, error))
            }
        }
    }

    /// `None` while the command runs.
    pub(super) async fn code_of(&self, exec: &str) -> Outcome<Option<i64>> {
        let client = self.client().await?;
        let shown = client.inspect_exec(exec).await;
        let shown = shown.map_err(|error| self.failed(Asked::Container, exec, error))?;
        Ok(shown.exit_code.filter(|_| shown.running != Some(true)))
    }
}

fn talk(process: Process, wire: Hijacked, tty: bool) -> Talk {
    let (read, write) = tokio::io::split(wire);
    Talk { process, input: Box::new(write), output: output(read, tty) }
}

/// A terminal has one output; otherwise the engine says which of two each piece belongs to.
fn output(read: ReadHalf<Hijacked>, tty: bool) -> BoxStream<'static, Outcome<Said>> {
    let lost = |error: std::io::Error| RuntimeError::Unavailable(error.to_string());
    if tty {
        let pieces = ReaderStream::with_capacity(read, CHUNK_BYTES);
        return pieces.map(move |piece| piece.map(Said::Out).map_err(lost)).boxed();
    }
    pieces(read).map(move |piece| piece.map_err(lost)).boxed()
}

fn pieces<R: AsyncRead>(read: R) -> FramedRead<R, Multiplexed> {
    FramedRead::with_capacity(read, Multiplexed::default(), CHUNK_BYTES)
}

/// The engine's framing: which output, three zeros, a length of four bytes, the piece.
#[derive(Debug, Default)]
struct Multiplexed {
    /// What is left of the piece that is being read, and whether it is of standard error.
    left: usize,
    is_error: bool,
}

const HEAD_BYTES: usize = 8;
const STDERR: u8 = 2;

impl Decoder for Multiplexed {
    type Item = Said;
    type Error = std::io::Error;

    /// Hands out what there is of a piece; a long one is not waited for.
    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Said>, std::io::Error> {
        while self.left == 0 {
            let Some(head) = source.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            self.is_error = head[0] == STDERR;
            self.left = usize::try_from(length).unwrap_or(usize::MAX);
            source.advance(HEAD_BYTES);
        }
        if source.is_empty() {
            return Ok(None);
        }
        let piece = source.split_to(self.left.min(source.len())).freeze();
        self.left -= piece.len();
        Ok(Some(if self.is_error { Said::Err(piece) } else { Said::Out(piece) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], at_a_time: usize) -> (String, String) {
        let (mut decoder, mut buffer) = (Multiplexed::default(), BytesMut::new());
        let (mut out, mut err) = (String::new(), String::new());
        for chunk in bytes.chunks(at_a_time) {
            buffer.extend_from_slice(chunk);
            while let Some(said) = decoder.decode(&mut buffer).unwrap() {
                let (to, piece) = match &said {
                    Said::Out(piece) => (&mut out, piece),
                    Said::Err(piece) => (&mut err, piece),
                };
                to.push_str(std::str::from_utf8(piece).unwrap());
            }
        }
        (out, err)
    }

    #[test]
    fn both_outputs_are_told_apart_however_the_bytes_come() {
        let mut bytes = Vec::new();
        for (output, text) in [(1, "one "), (2, "oops"), (1, ""), (1, "two")] {
            bytes.extend_from_slice(&[output, 0, 0, 0, 0, 0, 0, text.len() as u8]);
            bytes.extend_from_slice(text.as_bytes());
        }
        for at_a_time in 1..bytes.len() {
            assert_eq!(decoded(&bytes, at_a_time), ("one two".to_owned(), "oops".to_owned()));
        }
    }
}
