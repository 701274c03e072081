//! A connection's streams: opened by the client, read and written by whoever serves them.
//!
//! One task reads and one writes. A stream whose server does not read holds up the streams beside
//! it once [`UNREAD_PIECES`] are waiting: SPDY as its clients speak it has nothing better.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::api::spdy::frame::{Frame, FrameError, Reset, decode, encode};
use crate::api::spdy::headers::{Headers, HeadersError, Packer, Unpacker};

/// Streams of one connection at a time: a browser's connections through a port-forward, which
/// takes two streams for each.
const MAX_STREAMS: usize = 512;
/// Streams that wait to be taken up.
const WAITING_STREAMS: usize = 64;
/// Pieces that a stream's server has not read; `kubectl` sends 32 KiB in each.
pub const UNREAD_PIECES: usize = 32;
/// Frames that wait to be written.
const UNWRITTEN_FRAMES: usize = 16;
/// Read from the connection at a time.
const READ_BYTES: usize = 64 * 1024;
/// Data is cut to this, as `kubectl` does.
const PIECE_BYTES: usize = 32 * 1024;

#[derive(Debug, Error)]
pub enum SessionError {
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    #[error("the client sent {0}")]
    Frame(#[from] FrameError),
    #[error("the client sent {0}")]
    Headers(#[from] HeadersError),
}

/// A stream that the client opened.
#[derive(Debug)]
pub struct Stream {
    pub headers: Headers,
    pub reader: Reader,
    pub writer: Writer,
}

/// What the client sends; `None` is its end, also when the connection broke.
#[derive(Debug)]
pub struct Reader(mpsc::Receiver<Bytes>);

impl Reader {
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// What is sent to the client. Dropped, it ends the stream's direction.
#[derive(Debug)]
pub struct Writer {
    stream: u32,
    frames: Option<mpsc::Sender<Frame>>,
}

/// The connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client went away")]
pub struct Gone;

impl Writer {
    pub async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(PIECE_BYTES));
            self.put(Frame::Data { stream: self.stream, bytes, fin: false }).await?;
        }
        Ok(())
    }

    /// Ends this direction of the stream, after what was sent before.
    pub async fn finish(mut self) -> Result<(), Gone> {
        let last = Frame::Data { stream: self.stream, bytes: Bytes::new(), fin: true };
        let put = self.put(last).await;
        self.frames = None;
        put
    }

    async fn put(&self, frame: Frame) -> Result<(), Gone> {
        let frames = self.frames.as_ref().ok_or(Gone)?;
        frames.send(frame).await.map_err(|_| Gone)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(frames) = self.frames.take() {
            let last = Frame::Data { stream: self.stream, bytes: Bytes::new(), fin: true };
            // On a connection that is full, the client sees the end when that ends.
            let _ = frames.try_send(last);
        }
    }
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByClient,
    /// Whoever took up streams takes up no more.
    ByServer,
}

/// Serves a connection: the streams that come, and the work that brings them, to be run beside.
/// The work ends with the connection, or after the receiver and then every stream were dropped.
pub fn serve<T: AsyncRead + AsyncWrite + Send>(
    connection: T,
) -> (mpsc::Receiver<Stream>, impl Future<Output = Result<(), SessionError>> + Send) {
    let (streams, incoming) = mpsc::channel(WAITING_STREAMS);
    let (frames, outgoing) = mpsc::channel(UNWRITTEN_FRAMES);
    let work = async move {
        let (read, write) = tokio::io::split(connection);
        let session = Session {
            streams,
            frames,
            open: BTreeMap::new(),
            last: 0,
            unpacker: Unpacker::default(),
            packer: Packer::default(),
        };
        let mut writing = std::pin::pin!(write_all(write, outgoing));
        tokio::select! {
            read = session.read(read) => match read? {
                Ended::ByClient => return Ok(()),
                Ended::ByServer => {}
            },
            written = &mut writing => return Ok(written?),
        }
        // What the streams said last is still sent.
        Ok(writing.await?)
    };
    (incoming, work)
}

async fn write_all(
    mut write: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> std::io::Result<()> {
    while let Some(frame) = frames.recv().await {
        write.write_all(&encode(&frame)).await?;
        if frames.is_empty() {
            write.flush().await?;
        }
    }
    write.shutdown().await
}

struct Session {
    streams: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    open: BTreeMap<u32, mpsc::Sender<Bytes>>,
    /// The newest stream of the client.
    last: u32,
    unpacker: Unpacker,
    packer: Packer,
}

impl Session {
    async fn read(mut self, mut from: impl AsyncRead + Unpin) -> Result<Ended, SessionError> {
        let mut read = BytesMut::with_capacity(READ_BYTES);
        loop {
            while let Some(frame) = decode(&mut read)? {
                if self.take(frame).await?.is_none() {
                    return Ok(Ended::ByServer);
                }
            }
            read.reserve(READ_BYTES);
            tokio::select! {
                got = from.read_buf(&mut read) => if got? == 0 {
                    return Ok(Ended::ByClient);
                },
                () = self.streams.closed() => return Ok(Ended::ByServer),
            }
        }
    }

    /// `None`: the session is over.
    async fn take(&mut self, frame: Frame) -> Result<Option<()>, SessionError> {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                // Unpacked even if it is refused: the next block builds on it.
                let headers = self.unpacker.unpack(&headers)?;
                return self.opened(stream, headers, fin).await;
            }
            Frame::Data { stream, bytes, fin } => {
                if let Some(reader) = self.open.get(&stream)
                    && !bytes.is_empty()
                {
                    // One who reads no more loses what comes.
                    let _ = reader.send(bytes).await;
                }
                if fin {
                    self.open.remove(&stream);
                }
            }
            Frame::RstStream { stream, .. } => drop(self.open.remove(&stream)),
            // The client's own pings have odd numbers; others answer ours, and we send none.
            Frame::Ping { id } if id % 2 == 1 => return Ok(self.put(Frame::Ping { id }).await),
            Frame::SynReply { .. } | Frame::Ping { .. } | Frame::GoAway { .. } | Frame::Ignored => {
            }
        }
        Ok(Some(()))
    }

    async fn opened(
        &mut self,
        stream: u32,
        headers: Headers,
        fin: bool,
    ) -> Result<Option<()>, SessionError> {
        // The client's streams have odd numbers that grow.
        if stream.is_multiple_of(2) || stream <= self.last {
            return Ok(self.reset(stream, Reset::InvalidStream).await);
        }
        self.last = stream;
        self.open.retain(|_, reader| !reader.is_closed());
        if self.open.len() >= MAX_STREAMS {
            return Ok(self.reset(stream, Reset::RefusedStream).await);
        }
        let (sender, receiver) = mpsc::channel(UNREAD_PIECES);
        if !fin {
            self.open.insert(stream, sender);
        }
        let none = self.packer.pack(&Headers::default())?;
        if self.put(Frame::SynReply { stream, headers: none, fin: false }).await.is_none() {
            return Ok(None);
        }
        let writer = Writer { stream, frames: Some(self.frames.clone()) };
        let opened = Stream { headers, reader: Reader(receiver), writer };
        Ok(self.streams.send(opened).await.ok())
    }

    async fn reset(&self, stream: u32, why: Reset) -> Option<()> {
        self.put(Frame::RstStream { stream, status: why as u32 }).await
    }

    async fn put(&self, frame: Frame) -> Option<()> {
        self.frames.send(frame).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    /// A client that speaks in frames.
    struct Client {
        wire: DuplexStream,
        packer: Packer,
        read: BytesMut,
    }

    impl Client {
        fn start() -> (Self, mpsc::Receiver<Stream>) {
            let (wire, served) = tokio::io::duplex(1 << 16);
            let (streams, work) = serve(served);
            tokio::spawn(work);
            (Self { wire, packer: Packer::default(), read: BytesMut::new() }, streams)
        }

        async fn say(&mut self, frame: Frame) {
            self.wire.write_all(&encode(&frame)).await.unwrap();
        }

        async fn open(&mut self, stream: u32, kind: &str) {
            let headers = self.packer.pack(&Headers::new(&[("streamtype", kind)])).unwrap();
            self.say(Frame::SynStream { stream, headers, fin: false }).await;
        }

        async fn hear(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = decode(&mut self.read).unwrap() {
                    return Some(frame);
                }
                if self.wire.read_buf(&mut self.read).await.unwrap() == 0 {
                    return None;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stream_carries_bytes_both_ways_and_each_direction_ends_by_itself() {
        let (mut client, mut streams) = Client::start();
        client.open(1, "data").await;
        assert!(matches!(client.hear().await, Some(Frame::SynReply { stream: 1, .. })));
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(stream.headers.get("streamtype"), Some("data"));
        let bytes = Bytes::from_static(b"hello");
        client.say(Frame::Data { stream: 1, bytes: bytes.clone(), fin: true }).await;
        assert_eq!(stream.reader.next().await, Some(bytes.clone()));
        assert_eq!(stream.reader.next().await, None);
        stream.writer.send(bytes.clone()).await.unwrap();
        assert_eq!(client.hear().await, Some(Frame::Data { stream: 1, bytes, fin: false }));
        stream.writer.finish().await.unwrap();
        let end = Frame::Data { stream: 1, bytes: Bytes::new(), fin: true };
        assert_eq!(client.hear().await, Some(end));
    }

    #[tokio::test]
    async fn pings_are_echoed_and_streams_with_wrong_numbers_are_reset() {
        let (mut client, _streams) = Client::start();
        client.say(Frame::Ping { id: 5 }).await;
        assert_eq!(client.hear().await, Some(Frame::Ping { id: 5 }));
        client.open(2, "data").await;
        assert_eq!(client.hear().await, Some(Frame::RstStream { stream: 2, status: 2 }));
        client.open(7, "data").await;
        assert!(matches!(client.hear().await, Some(Frame::SynReply { stream: 7, .. })));
        client.open(5, "data").await;
        assert_eq!(client.hear().await, Some(Frame::RstStream { stream: 5, status: 2 }));
    }

    #[tokio::test]
    async fn garbage_ends_the_session() {
        let (mut client, mut streams) = Client::start();
        client.wire.write_all(&[0x80, 9, 0, 0, 0, 0, 0, 0]).await.unwrap();
        assert!(streams.recv().await.is_none());
        assert_eq!(client.hear().await, None);
    }
}
