//! A talk with a process, carried in frames: what comes is fed to it, what it says is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use kgit_protocol::stream::{Channel, StreamEnd, frame};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::runtime::{Process, Runtime, Said, Talk};
use crate::worker::Shared;
use crate::worker::streams::frames::Frames;

/// Frames that wait for a slow reader, before the process has to.
const OUTPUT_FRAMES: usize = 8;
/// The engine tells a command's code this soon after its output ended; it is asked this often.
const CODE_WITHIN: Duration = Duration::from_secs(10);
const CODE_POLL: Duration = Duration::from_millis(5);

type Sender = mpsc::Sender<std::io::Result<Bytes>>;

/// Carries the talk on; the stream that is returned is its output, and drops the talk with itself.
pub(super) fn follow<R: Runtime>(
    shared: Arc<Shared<R>>,
    talk: Talk,
    frames: Frames,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let (sender, mut receiver) = mpsc::channel(OUTPUT_FRAMES);
    tokio::spawn(carry(shared, talk, frames, sender));
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

async fn carry<R: Runtime>(shared: Arc<Shared<R>>, talk: Talk, frames: Frames, out: Sender) {
    let Talk { process, input, mut output } = talk;
    let feeding = async {
        feed(&shared, &process, input, frames).await;
        // Input may end long before output does.
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = tell(&mut output, &out) => end,
        () = feeding => None,
        () = out.closed() => return,
    };
    let end = match end {
        Some(failed) => failed,
        None => code(&shared, &process).await,
    };
    let text = serde_json::to_vec(&end).unwrap_or_default();
    // The reader may have gone meanwhile.
    let _ = out.send(Ok(framed(Channel::End, &text))).await;
}

/// Sends what the process says until it ends; the failure, if it is one that ends it.
async fn tell(
    output: &mut (impl Stream<Item = Result<Said, crate::runtime::RuntimeError>> + Unpin),
    out: &Sender,
) -> Option<StreamEnd> {
    while let Some(said) = output.next().await {
        let bytes = match said {
            Ok(Said::Out(bytes)) => framed(Channel::Stdout, &bytes),
            Ok(Said::Err(bytes)) => framed(Channel::Stderr, &bytes),
            Err(error) => return Some(StreamEnd::Failed { message: error.to_string() }),
        };
        if out.send(Ok(bytes)).await.is_err() {
            return None;
        }
    }
    None
}

/// Gives the process what comes for it until that ends, and then closes its input.
async fn feed<R: Runtime>(
    shared: &Shared<R>,
    process: &Process,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    mut frames: Frames,
) {
    let mut input = Some(input);
    while let Ok(Some(bytes)) = frames.next().await {
        let Some((number, data)) = bytes.split_first() else { continue };
        match Channel::of_number(*number) {
            Some(Channel::Stdin) => {
                if let Some(open) = &mut input
                    && open.write_all(data).await.is_err()
                {
                    // It closed its input, or ended; what it still says is heard.
                    input = None;
                }
            }
            Some(Channel::CloseStdin) => close(input.take()).await,
            Some(Channel::Resize) => resize(shared, process, data).await,
            Some(Channel::Stdout | Channel::Stderr | Channel::End) | None => {}
        }
    }
    close(input).await;
}

async fn close(input: Option<Box<dyn AsyncWrite + Send + Unpin>>) {
    if let Some(mut input) = input {
        // An input that is closed already is what was wanted.
        let _ = input.shutdown().await;
    }
}

async fn resize<R: Runtime>(shared: &Shared<R>, process: &Process, data: &[u8]) {
    let Ok(size) = serde_json::from_slice(data) else { return };
    if let Err(error) = shared.runtime.resize(process, size).await {
        tracing::debug!(%error, "a terminal keeps its size");
    }
}

async fn code<R: Runtime>(shared: &Shared<R>, process: &Process) -> StreamEnd {
    let Process::Exec(exec) = process else { return StreamEnd::Detached };
    let polling = async {
        loop {
            match shared.runtime.exec_code(exec).await {
                Ok(Some(code)) => return StreamEnd::Exited { code },
                Ok(None) => tokio::time::sleep(CODE_POLL).await,
                Err(error) => return StreamEnd::Failed { message: error.to_string() },
            }
        }
    };
    let late =
        StreamEnd::Failed { message: "the command closed its output and goes on".to_owned() };
    tokio::time::timeout(CODE_WITHIN, polling).await.unwrap_or(late)
}

fn framed(channel: Channel, data: &[u8]) -> Bytes {
    Bytes::from(frame([&[channel.number()], data]))
}
