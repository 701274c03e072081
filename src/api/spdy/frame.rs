//! Frames and their bytes, without what is in a compressed header block.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;

const VERSION: u16 = 3;
const HEAD_BYTES: usize = 8;
/// `kubectl` cuts at 32 KiB; a whole buffer of any client fits.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// A header block holds three short headers; this is what proxies take for whole requests.
pub const MAX_CONTROL_BYTES: usize = 16 << 10;

const CONTROL: u8 = 0x80;
const FLAG_FIN: u8 = 0x01;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const STREAM_MASK: u32 = 0x7fff_ffff;

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    InvalidStream = 2,
    RefusedStream = 3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        headers: Bytes,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Bytes,
        fin: bool,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// Settings, window updates, later headers: read past.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("version {0} of SPDY, where 3 is spoken")]
    Version(u16),
    #[error("a frame of {0} bytes, which is too long")]
    TooLong(usize),
    #[error("a frame that is shorter than its kind")]
    TooShort,
}

/// Takes the next frame off `read`, once it is there as a whole.
pub fn decode(read: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = read.first_chunk::<HEAD_BYTES>().copied() else { return Ok(None) };
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    let is_control = head[0] & CONTROL != 0;
    if length > if is_control { MAX_CONTROL_BYTES } else { MAX_DATA_BYTES } {
        return Err(FrameError::TooLong(length));
    }
    if is_control {
        let version = u16::from_be_bytes([head[0] & !CONTROL, head[1]]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
    }
    if read.len() < HEAD_BYTES + length {
        read.reserve(HEAD_BYTES + length - read.len());
        return Ok(None);
    }
    read.advance(HEAD_BYTES);
    let body = read.split_to(length).freeze();
    let fin = head[4] & FLAG_FIN != 0;
    if is_control {
        return control(u16::from_be_bytes([head[2], head[3]]), body, fin).map(Some);
    }
    let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    Ok(Some(Frame::Data { stream, bytes: body, fin }))
}

fn control(kind: u16, mut body: Bytes, fin: bool) -> Result<Frame, FrameError> {
    let number = |body: &mut Bytes| body.try_get_u32().map_err(|_| FrameError::TooShort);
    Ok(match kind {
        SYN_STREAM => {
            let stream = number(&mut body)? & STREAM_MASK;
            // The stream that it belongs to, of no use to anyone.
            number(&mut body)?;
            // Its priority and slot.
            body.try_get_u16().map_err(|_| FrameError::TooShort)?;
            Frame::SynStream { stream, headers: body, fin }
        }
        SYN_REPLY => {
            let stream = number(&mut body)? & STREAM_MASK;
            Frame::SynReply { stream, headers: body, fin }
        }
        RST_STREAM => {
            let stream = number(&mut body)? & STREAM_MASK;
            Frame::RstStream { stream, status: number(&mut body)? }
        }
        PING => Frame::Ping { id: number(&mut body)? },
        GO_AWAY => Frame::GoAway { last: number(&mut body)? & STREAM_MASK },
        _ => Frame::Ignored,
    })
}

/// The frame's bytes; `Ignored` has none.
pub fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        Frame::SynStream { stream, headers, fin } => {
            control_head(&mut out, SYN_STREAM, *fin, 10 + headers.len());
            out.put_u32(*stream);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(headers);
        }
        Frame::SynReply { stream, headers, fin } => {
            control_head(&mut out, SYN_REPLY, *fin, 4 + headers.len());
            out.put_u32(*stream);
            out.put_slice(headers);
        }
        Frame::RstStream { stream, status } => {
            control_head(&mut out, RST_STREAM, false, 8);
            out.put_u32(*stream);
            out.put_u32(*status);
        }
        Frame::Ping { id } => {
            control_head(&mut out, PING, false, 4);
            out.put_u32(*id);
        }
        Frame::GoAway { last } => {
            control_head(&mut out, GO_AWAY, false, 8);
            out.put_u32(*last);
            out.put_u32(0);
        }
        Frame::Data { stream, bytes, fin } => {
            out.reserve(HEAD_BYTES + bytes.len());
            out.put_u32(*stream & STREAM_MASK);
            flags_and_length(&mut out, *fin, bytes.len());
            out.put_slice(bytes);
        }
        Frame::Ignored => {}
    }
    out.freeze()
}

fn control_head(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.reserve(HEAD_BYTES + length);
    out.put_u16(VERSION | u16::from(CONTROL) << 8);
    out.put_u16(kind);
    flags_and_length(out, fin, length);
}

fn flags_and_length(out: &mut BytesMut, fin: bool, length: usize) {
    // Nothing longer than 24 bits is ever encoded: data is cut, and headers are few.
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32(length | if fin { u32::from(FLAG_FIN) << 24 } else { 0 });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_frame_is_read_back_as_it_was_written() {
        let headers = Bytes::from_static(b"packed");
        let frames = [
            Frame::SynStream { stream: 1, headers: headers.clone(), fin: false },
            Frame::SynReply { stream: 1, headers, fin: true },
            Frame::RstStream { stream: 3, status: Reset::RefusedStream as u32 },
            Frame::Ping { id: 7 },
            Frame::GoAway { last: 9 },
            Frame::Data { stream: 5, bytes: Bytes::from_static(b"hello"), fin: true },
            Frame::Data { stream: 5, bytes: Bytes::new(), fin: false },
        ];
        let mut read = BytesMut::new();
        frames.iter().for_each(|frame| read.extend_from_slice(&encode(frame)));
        for frame in frames {
            assert_eq!(decode(&mut read), Ok(Some(frame)));
        }
        assert_eq!(decode(&mut read), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_told() {
        let cases = [
            (&[0x80, 3, 0, 6, 0, 0, 0][..], Ok(None)),
            (&[0x80, 2, 0, 6, 0, 0, 0, 4], Err(FrameError::Version(2))),
            (&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 1], Err(FrameError::TooShort)),
            (&[0x80, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0], Err(FrameError::TooShort)),
            (&[0x80, 3, 0, 1, 0, 1, 0, 0], Err(FrameError::TooLong(65536))),
            (&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], Err(FrameError::TooLong(0x00ff_ffff))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(&mut BytesMut::from(bytes)), expected, "{bytes:?}");
        }
        let settings: &[u8] = &[0x80, 3, 0, 4, 0, 0, 0, 1, 0];
        assert_eq!(decode(&mut BytesMut::from(settings)), Ok(Some(Frame::Ignored)));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_past_and_never_more_than_it_is(bytes: Vec<u8>) {
            let mut read = BytesMut::from(bytes.as_slice());
            while let Ok(Some(frame)) = decode(&mut read) {
                if let Frame::Data { bytes: data, .. } = frame {
                    prop_assert!(data.len() <= bytes.len());
                }
            }
            prop_assert!(read.len() <= bytes.len());
        }

        #[test]
        fn a_frame_is_the_same_however_its_bytes_come(data: Vec<u8>, stream in 1..1000u32, at in 0..64usize) {
            let frame = Frame::Data { stream, bytes: Bytes::from(data), fin: true };
            let whole = encode(&frame);
            let at = at.min(whole.len() - 1);
            let mut read = BytesMut::from(&whole[..at]);
            prop_assert_eq!(decode(&mut read), Ok(None));
            read.extend_from_slice(&whole[at..]);
            prop_assert_eq!(decode(&mut read), Ok(Some(frame)));
        }
    }
}
