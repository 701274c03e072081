//! Header blocks: names and values, compressed against a dictionary that both sides know, by a
//! compressor that goes on from block to block.

use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

use crate::api::spdy::frame::MAX_CONTROL_BYTES;

/// A block unpacked. Compressed bytes may stand for a thousand times as many.
const MAX_BLOCK_BYTES: usize = 64 << 10;
/// Headers of one stream; three are usual.
const MAX_HEADERS: u32 = 64;

/// The words of SPDY/3's dictionary that are preceded by their length.
const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,\
accept-language,accept-ranges,age,allow,authorization,cache-control,connection,content-base,\
content-encoding,content-language,content-length,content-location,content-md5,content-range,\
content-type,date,etag,expect,expires,from,host,if-match,if-modified-since,if-none-match,if-range,\
if-unmodified-since,last-modified,location,max-forwards,pragma,proxy-authenticate,\
proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,\
user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,\
set-cookie,keep-alive,origin";
/// The rest of it.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS.split(',') {
        bytes.put_u32(u32::try_from(word.len()).unwrap_or(0));
        bytes.put_slice(word.as_bytes());
    }
    bytes.put_slice(REST.as_bytes());
    bytes
});

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadersError {
    #[error("a header block that can't be unpacked")]
    Packed,
    #[error("a header block that is too long")]
    TooLong,
    #[error("a header block that ends too early")]
    CutOff,
    #[error("a header that is not text")]
    NotText,
}

/// A stream's headers, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn new(all: &[(&str, &str)]) -> Self {
        let owned = all.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned()));
        Self(owned.collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Unpacks the blocks of one direction.
#[derive(Debug)]
pub struct Unpacker(Decompress);

/// Packs those of the other.
#[derive(Debug)]
pub struct Packer(Compress);

impl Default for Unpacker {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Unpacker {
    /// The next block; blocks build on each other, so none may be left out.
    pub fn unpack(&mut self, packed: &[u8]) -> Result<Headers, HeadersError> {
        parse(self.inflate(packed)?)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Bytes, HeadersError> {
        let (mut rest, mut block) = (packed, Vec::new());
        let mut buffer = vec![0; MAX_CONTROL_BYTES];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let done = self.0.decompress(rest, &mut buffer, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before_in).unwrap_or(rest.len());
            let made = usize::try_from(self.0.total_out() - before_out).unwrap_or(0);
            rest = rest.get(taken..).unwrap_or_default();
            block.extend_from_slice(&buffer[..made.min(buffer.len())]);
            if block.len() > MAX_BLOCK_BYTES {
                return Err(HeadersError::TooLong);
            }
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| HeadersError::Packed)?;
                }
                Err(_) => return Err(HeadersError::Packed),
                Ok(Status::StreamEnd) => return Ok(block.into()),
                // Everything is taken and there was room for what it makes.
                Ok(_) if rest.is_empty() && made < buffer.len() => return Ok(block.into()),
                Ok(_) if taken == 0 && made == 0 => return Err(HeadersError::Packed),
                Ok(_) => {}
            }
        }
    }
}

impl Default for Packer {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        // The dictionary is constant, and a compressor that has not begun takes any.
        let _ = compress.set_dictionary(&DICTIONARY);
        Self(compress)
    }
}

impl Packer {
    pub fn pack(&mut self, headers: &Headers) -> Result<Bytes, HeadersError> {
        let block = written(headers);
        // A block that does not shrink grows by a few bytes.
        let mut packed = Vec::with_capacity(block.len() * 2 + 64);
        let before = self.0.total_in();
        self.0
            .compress_vec(&block, &mut packed, FlushCompress::Sync)
            .map_err(|_| HeadersError::Packed)?;
        let taken = usize::try_from(self.0.total_in() - before).unwrap_or(0);
        if taken < block.len() {
            return Err(HeadersError::TooLong);
        }
        Ok(packed.into())
    }
}

fn written(headers: &Headers) -> BytesMut {
    let mut block = BytesMut::new();
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
    block.put_u32(u32::try_from(headers.0.len()).unwrap_or(u32::MAX));
    for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
        block.put_u32(length(text));
        block.put_slice(text.as_bytes());
    }
    block
}

fn parse(mut block: Bytes) -> Result<Headers, HeadersError> {
    let count = block.try_get_u32().map_err(|_| HeadersError::CutOff)?;
    if count > MAX_HEADERS {
        return Err(HeadersError::TooLong);
    }
    let pairs = (0..count).map(|_| {
        let name = text(&mut block)?.to_lowercase();
        Ok((name, text(&mut block)?))
    });
    Ok(Headers(pairs.collect::<Result<_, _>>()?))
}

fn text(block: &mut Bytes) -> Result<String, HeadersError> {
    let length = block.try_get_u32().map_err(|_| HeadersError::CutOff)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > block.len() {
        return Err(HeadersError::CutOff);
    }
    String::from_utf8(block.split_to(length).to_vec()).map_err(|_| HeadersError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dictionary_is_the_one_of_spdy_3() {
        assert_eq!(DICTIONARY.len(), 1423);
        // The specification's checksum of it, which every packed block begins with.
        let packed = Packer::default().pack(&Headers::default()).unwrap();
        assert_eq!(packed[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_that_follow_each_other_are_read_back() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        for number in 0..20 {
            let id = number.to_string();
            let all = Headers::new(&[("streamType", "data"), ("port", "8080"), ("requestID", &id)]);
            let packed = packer.pack(&all).unwrap();
            let read = unpacker.unpack(&packed).unwrap();
            assert_eq!(
                (read.get("requestid"), read.get("port")),
                (Some(id.as_str()), Some("8080"))
            );
        }
    }

    #[test]
    fn a_block_that_unpacks_to_more_than_any_needs_is_refused() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        let mut packed = Vec::with_capacity(MAX_CONTROL_BYTES);
        compress.compress_vec(&[0; 1 << 20], &mut packed, FlushCompress::Sync).unwrap();
        assert_eq!(Unpacker::default().unpack(&packed), Err(HeadersError::TooLong));
    }

    #[test]
    fn lengths_that_lie_are_found_out() {
        let cases: [(&[u8], HeadersError); 4] = [
            (&[0, 0], HeadersError::CutOff),
            (&[0xff, 0, 0, 0], HeadersError::TooLong),
            (&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a'], HeadersError::CutOff),
            (&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0], HeadersError::NotText),
        ];
        for (block, expected) in cases {
            assert_eq!(parse(Bytes::copy_from_slice(block)), Err(expected), "{block:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(first: Vec<u8>, second: Vec<u8>) {
            let mut unpacker = Unpacker::default();
            let _ = unpacker.unpack(&first);
            let _ = unpacker.unpack(&second);
            let _ = parse(Bytes::from(first));
        }

        #[test]
        fn any_headers_are_read_back(all in prop::collection::vec(("[a-z-]{1,20}", ".{0,200}"), 0..8)) {
            let headers = Headers(all);
            let packed = Packer::default().pack(&headers).unwrap();
            prop_assert_eq!(Unpacker::default().unpack(&packed).unwrap(), headers);
        }
    }
}
