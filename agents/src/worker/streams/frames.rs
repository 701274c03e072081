//! Frames as they come in a stream's body.

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kgit_protocol::stream::{FRAME_HEAD_BYTES, StreamRequest, frame_length};

pub(super) struct Frames {
    body: Incoming,
    read: BytesMut,
}

impl Frames {
    pub fn new(body: Incoming) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The first frame: what is asked for.
    pub async fn request(&mut self) -> std::io::Result<StreamRequest> {
        let first = self.next().await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        serde_json::from_slice(&first).map_err(std::io::Error::other)
    }

    /// `None` at the end of the stream.
    pub async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            if let Some(head) = self.read.first_chunk::<FRAME_HEAD_BYTES>() {
                let length = frame_length(*head);
                let length = length.ok_or_else(|| std::io::Error::other("a frame is too long"))?;
                if self.read.len() >= FRAME_HEAD_BYTES + length {
                    self.read.advance(FRAME_HEAD_BYTES);
                    return Ok(Some(self.read.split_to(length).freeze()));
                }
            }
            match self.piece().await? {
                Some(piece) => self.read.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    /// What follows, for streams that have no frames after the first.
    pub fn into_bytes(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        let begun = stream::iter(Some(self.read.freeze()).filter(|read| !read.is_empty())).map(Ok);
        begun.chain(self.body.into_data_stream().map_err(std::io::Error::other))
    }

    async fn piece(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(std::io::Error::other(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}
