//! A talk with a process in a container: bytes both ways, a terminal's size, and how it ended.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use kgit_protocol::stream::{Channel, StreamEnd};
use tokio::sync::mpsc;

use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::terminal::Sizes;
use crate::client::http::ClientError;
use crate::client::socket::{Receiver, Sender};
use crate::kube::remote::end_of;

/// Read from standard input, or from whatever takes its place, at a time.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// Pieces that wait to be sent.
const UNSENT_PIECES: usize = 4;

/// Where a process's input comes from; its end closes that.
pub type Input = mpsc::Receiver<Vec<u8>>;

/// Where its two outputs go. An error ends the talk.
pub trait Output {
    fn out(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    fn err(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

/// kgit's own.
#[derive(Debug)]
pub struct Own;

impl Output for Own {
    fn out(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    fn err(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::stderr().lock().write_all(bytes)
    }
}

/// kgit's own standard input. Read by a thread of its own, which nobody waits for at the end.
pub fn own_input() -> Input {
    let (sender, input) = mpsc::channel(UNSENT_PIECES);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut piece = vec![0; CHUNK_BYTES];
        while let Ok(length) = stdin.read(&mut piece)
            && length > 0
        {
            if sender.blocking_send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    input
}

/// Talks until the process ends.
pub async fn talk(
    (sender, mut receiver): (Sender, Receiver),
    input: Option<Input>,
    sizes: Option<Sizes>,
    output: &mut impl Output,
) -> Result<StreamEnd, CliError> {
    // Both directions at once: a process may not read on before what it said is taken.
    let ended = tokio::select! {
        ended = listen(&mut receiver, output) => ended,
        error = speak(sender, input, sizes) => Err(error.into()),
    };
    match ended {
        Err(CliError::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            // A reader that went away (`| head`) is nobody's error.
            Ok(StreamEnd::Detached)
        }
        ended => ended,
    }
}

async fn listen(receiver: &mut Receiver, output: &mut impl Output) -> Result<StreamEnd, CliError> {
    let mut end = None;
    while let Some(message) = receiver.next().await? {
        let data: Bytes = message.slice(1..);
        match message.first().and_then(|number| Channel::of_number(*number)) {
            Some(Channel::Stdout) => output.out(&data).map_err(CliError::io("write the output"))?,
            Some(Channel::Stderr) => output.err(&data).map_err(CliError::io("write the output"))?,
            Some(Channel::End) => {
                let status = serde_json::from_slice(&data).map_err(ClientError::Unreadable)?;
                end = Some(end_of(&status));
            }
            Some(Channel::Stdin | Channel::Resize | Channel::CloseStdin) | None => {}
        }
    }
    let lost = || StreamEnd::Failed { message: "the connection ended early".to_owned() };
    Ok(end.unwrap_or_else(lost))
}

/// Sends what there is to send; returns only when that is not possible any more.
async fn speak(
    mut sender: Sender,
    mut input: Option<Input>,
    mut sizes: Option<Sizes>,
) -> ClientError {
    loop {
        let sent = tokio::select! {
            piece = next_piece(&mut input) => match piece {
                Some(piece) => sender.send(Channel::Stdin.number(), &piece).await,
                None => {
                    input = None;
                    sender.send(Channel::CloseStdin.number(), &[Channel::Stdin.number()]).await
                }
            },
            size = next_size(&mut sizes) => {
                let text = serde_json::to_vec(&size).unwrap_or_default();
                sender.send(Channel::Resize.number(), &text).await
            }
            pinged = sender.ping() => pinged,
        };
        if let Err(error) = sent {
            return error;
        }
    }
}

async fn next_piece(input: &mut Option<Input>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_size(sizes: &mut Option<Sizes>) -> kgit_protocol::stream::TerminalSize {
    match sizes {
        Some(sizes) => sizes.next().await,
        None => std::future::pending().await,
    }
}

/// The exit code that says how it ended.
pub fn exit_of(end: StreamEnd) -> Result<Exit, CliError> {
    match end {
        StreamEnd::Exited { code: 0 } | StreamEnd::Detached => Ok(Exit::Success),
        StreamEnd::Exited { code } => {
            eprintln!("command terminated with exit code {code}");
            Ok(Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)))
        }
        StreamEnd::Failed { message } => Err(CliError::Usage { message, hint: None }),
    }
}
