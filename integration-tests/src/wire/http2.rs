//! HTTP/2 client connection for raw requests, one after the other: it sends any header block, also
//! those that a library would refuse to encode.

use std::io;

use super::{Connection, RawAnswer, RawRequest};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The limit that every peer accepts.
const MAX_FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection.
#[derive(Debug)]
pub(super) struct Http2 {
    connection: Connection,
    next_stream: u32,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

// === impl Http2 ===

impl Http2 {
    pub(super) async fn new(mut connection: Connection) -> io::Result<Self> {
        let mut opening = PREFACE.to_vec();
        // Forbid the dynamic table to the peer, so that a status can be decoded alone.
        opening.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
        // Bodies never run into the window of the connection.
        opening.extend(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        connection.write(&opening).await?;
        Ok(Self { connection, next_stream: 1 })
    }

    /// Sends a request; returns the answer if there is one, and whether the connection can be used
    /// again.
    pub(super) async fn exchange(
        &mut self,
        request: &RawRequest,
    ) -> io::Result<(Option<RawAnswer>, bool)> {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.connection.write(&headers(stream, &block(request))).await?;
        let mut answer: Option<RawAnswer> = None;
        let mut leaving = false;
        loop {
            let frame = match self.frame().await {
                Ok(frame) => frame,
                // The peer sent GOAWAY before.
                Err(_) if leaving => return Ok((answer, false)),
                Err(error) => return Err(error),
            };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.acknowledge(SETTINGS, &[]).await?,
                PING if frame.flags & ACK == 0 => self.acknowledge(PING, &frame.payload).await?,
                GOAWAY => leaving = true,
                RST_STREAM if frame.stream == stream => return Ok((answer, !leaving)),
                HEADERS if frame.stream == stream && answer.is_none() => {
                    let status = status(&frame.payload).ok_or(io::ErrorKind::InvalidData)?;
                    answer = Some(RawAnswer { status, body: Vec::new() });
                }
                DATA if frame.stream == stream => {
                    let answer = answer.as_mut().ok_or(io::ErrorKind::InvalidData)?;
                    answer.body.extend_from_slice(&frame.payload);
                }
                _ => continue,
            }
            let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if ends && frame.stream == stream {
                return Ok((answer, !leaving));
            }
        }
    }

    async fn acknowledge(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.connection.write(&frame(kind, ACK, 0, payload)).await
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        let head = self.connection.take_exactly(9).await?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let length = number(&head[..3]) as usize;
        let payload = self.connection.take_exactly(length).await?;
        Ok(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block, split into as many frames as necessary.
fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut frames = Vec::with_capacity(block.len() + 64);
    let mut pieces = block.chunks(MAX_FRAME).peekable();
    let (mut kind, mut flags) = (HEADERS, END_STREAM);
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            flags |= END_HEADERS;
        }
        frames.extend(frame(kind, flags, stream, piece));
        (kind, flags) = (CONTINUATION, 0);
    }
    frames
}

/// The header block of a request, RFC 7541: literal fields, neither indexed nor compressed.
fn block(request: &RawRequest) -> Vec<u8> {
    let mut block = Vec::with_capacity(request.target.len() + 256);
    let mut field = |name: &[u8], value: &[u8]| {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    };
    field(b":method", &request.method);
    field(b":scheme", b"http");
    field(b":authority", &request.authority);
    field(b":path", &request.target);
    for (name, value) in &request.headers {
        field(&name.to_ascii_lowercase(), value);
    }
    block
}

/// A length as an integer with a prefix of seven bits.
fn length(block: &mut Vec<u8>, mut length: usize) {
    let byte = |number: usize| u8::try_from(number).expect("it is below 256");
    if length < 0x7f {
        return block.push(byte(length));
    }
    block.push(0x7f);
    length -= 0x7f;
    while length >= 0x80 {
        block.push(byte(length & 0x7f | 0x80));
        length >>= 7;
    }
    block.push(byte(length));
}

/// The status at the beginning of a header block that uses no dynamic table.
fn status(block: &[u8]) -> Option<u16> {
    // Table size updates come first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    match &block[start..] {
        // The static table has some statuses.
        [indexed @ 0x88..=0x8e, ..] => {
            Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)])
        }
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()
        }
        [0x08 | 0x18 | 0x48, coded, digits @ ..] if coded & 0x80 != 0 => {
            huffman(digits.get(..usize::from(coded & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541, appendix B.
fn huffman(coded: &[u8]) -> Option<u16> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut number = 0;
    for _ in 0..3 {
        let mut take = |count: usize, sum: u16| {
            (0..count).try_fold(sum, |sum, _| Some(sum << 1 | u16::from(bits.next()?)))
        };
        let short = take(5, 0)?;
        let digit = if short < 3 { short } else { take(1, short)?.checked_sub(0x19)? + 3 };
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_encoding() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8c, 0x61]), Some(400));
        assert_eq!(status(b"\x08\x03401"), Some(401));
        // RFC 7541, C.6.1 and C.6.2: 302 and 307.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0x00, 0x01, 0x61]), None);
    }

    #[test]
    fn a_long_header_block_is_continued() {
        let frames = headers(1, &vec![0; MAX_FRAME + 1]);
        assert_eq!((frames[3], frames[4]), (HEADERS, END_STREAM));
        let rest = &frames[9 + MAX_FRAME..];
        assert_eq!((rest[3], rest[4], rest.len()), (CONTINUATION, END_HEADERS, 10));
    }

    #[test]
    fn lengths_are_integers_with_a_prefix() {
        let coded = |number| {
            let mut block = Vec::new();
            length(&mut block, number);
            block
        };
        assert_eq!(coded(126), [126]);
        assert_eq!(coded(127), [127, 0]);
        assert_eq!(coded(127 + 1337 - 31), [127, 0x9a, 0x0a]);
    }
}
