//! Reader of the one message of a unary gRPC call: the HTTP/2 body, its size limit, and the five
//! bytes before the message.
//!
//! Whatever is wrong with it comes back as a reason to deny, never as a gRPC error.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use portcullis_types::decision::Reason;

/// A flag for compression, and the length.
const PREFIX: usize = 5;

/// How many times the limit is read and thrown away before giving up on a peer that keeps sending.
/// An answer before the end of the request makes some proxies reset the stream instead of reading
/// the answer, so an honest request that is merely too large is read to its end.
const PATIENCE: usize = 16;

/// Why there is no message, with words for the log.
pub(super) type Unread = (Reason, String);

/// Whether the headers announce a gRPC call with protobuf messages.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|content_type| {
        let content_type = content_type.as_bytes();
        content_type == b"application/grpc" || content_type.starts_with(b"application/grpc+proto")
    })
}

/// Reads the message out of `body`, if it has no more than `limit` bytes.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    unframe(collect(body, limit + PREFIX).await?, limit)
}

/// The whole body. Memory stays below `limit` and one frame, whatever is sent.
async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let broken = |_| (Reason::MalformedRequest, "broken stream".to_owned());
        // Trailers say nothing in a request.
        let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
        length = length.saturating_add(chunk.len());
        if length > limit {
            (first, rest) = (Bytes::new(), BytesMut::new());
            if length > limit.saturating_mul(PATIENCE) {
                return Err(too_large(length, " or more"));
            }
        } else if first.is_empty() {
            first = chunk;
        } else {
            rest.extend_from_slice(&chunk);
        }
    }
    match (length > limit, rest.is_empty()) {
        (true, _) => Err(too_large(length - PREFIX, "")),
        // Envoy sends a message in one frame, and then nothing is copied.
        (false, true) => Ok(first),
        (false, false) => {
            let mut whole = BytesMut::with_capacity(length);
            whole.extend_from_slice(&first);
            whole.extend_from_slice(&rest);
            Ok(whole.freeze())
        }
    }
}

fn too_large(bytes: usize, or_more: &str) -> Unread {
    let detail = format!("message of {bytes} bytes{or_more}, larger than grpc.max_message_bytes");
    (Reason::RequestTooLarge, detail)
}

/// Takes the prefix off.
fn unframe(mut body: Bytes, limit: usize) -> Result<Bytes, Unread> {
    let malformed = |detail: &str| Err((Reason::MalformedRequest, detail.to_owned()));
    if body.len() < PREFIX {
        return malformed("no message");
    }
    if body.get_u8() != 0 {
        // No grpc-accept-encoding was ever sent, so no client may compress.
        return malformed("compressed message");
    }
    match usize::try_from(body.get_u32()) {
        Ok(length) if length > limit => Err(too_large(length, "")),
        Ok(length) if length == body.len() => Ok(body),
        _ => malformed("message length"),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    fn body(chunks: Vec<Vec<u8>>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
        StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>()))
    }

    fn read_now(chunks: Vec<Vec<u8>>, limit: usize) -> Result<Bytes, Unread> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(body(chunks), limit))
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    #[test]
    fn a_message_as_large_as_the_limit_is_read_and_a_larger_one_is_not() {
        assert_eq!(read_now(vec![framed(&[7; 10])], 10).unwrap(), vec![7; 10]);
        assert_eq!(read_now(vec![framed(&[7; 11])], 10), Err(too_large(11, "")));
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut short = framed(&[7; 9]);
        short.truncate(12);
        let mut long = framed(&[7; 9]);
        long.push(0);
        for body in [short, long, vec![], vec![0, 0, 0]] {
            assert_eq!(read_now(vec![body], 100).unwrap_err().0, Reason::MalformedRequest);
        }
        let too_large = read_now(vec![vec![0, 255, 255, 255, 255]], 100).unwrap_err();
        assert_eq!(too_large.0, Reason::RequestTooLarge);
    }

    #[test]
    fn compression_is_refused() {
        let mut body = framed(b"zip");
        body[0] = 1;
        assert_eq!(read_now(vec![body], 100).unwrap_err().1, "compressed message");
    }

    #[test]
    fn a_peer_that_never_stops_sending_is_answered_anyway() {
        let endless = StreamBody::new(tokio_stream::iter(std::iter::repeat_with(|| {
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 16])))
        })));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (reason, detail) = runtime.block_on(read(endless, 10)).unwrap_err();
        assert_eq!(reason, Reason::RequestTooLarge);
        assert!(detail.contains(" bytes or more"), "{detail}");
    }

    proptest! {
        #[test]
        fn how_a_message_is_cut_into_frames_does_not_matter(
            message in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0..205_usize, 0..6),
        ) {
            let whole = framed(&message);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|cut| whole[cut[0]..cut[1]].to_vec()).collect();
            prop_assert_eq!(read_now(chunks, 200).unwrap(), message);
        }
    }
}
