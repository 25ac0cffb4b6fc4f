//! A unary call whose answer is bytes before gRPC sees it.
//!
//! Why not tonic's own: it copies the answer twice into buffers that it sizes without knowing the answer, and makes a stream
//! of the one message. For an answer of a hundred rows that is as much work as Redis makes the network.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Not here: compression, which this service does
//! not offer, and deadlines ([`crate::guard`]).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::{
    Status, Streaming,
    body::Body,
    codec::BufferSettings,
    metadata::{GRPC_CONTENT_TYPE, MetadataMap, MetadataValue},
};
use tonic_prost::ProstDecoder;

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Which encodings a message may have, and which ones it can have here.
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";
const IDENTITY: &str = "identity";

/// Takes in the one message of a call, with its metadata.
///
/// # Errors
/// `UNIMPLEMENTED` for a compressed one, `INTERNAL` when there is none or it is not of that type, `OUT_OF_RANGE` when it is
/// longer than `most_bytes`.
pub(crate) async fn receive<Q: Message + Default + 'static>(
    request: Request<Body>,
    most_bytes: usize,
) -> Result<tonic::Request<Q>, Status> {
    let (parts, body) = request.into_parts();
    if let Some(encoding) = parts.headers.get(ENCODING)
        && encoding != IDENTITY
    {
        let name = String::from_utf8_lossy(encoding.as_bytes());
        let mut metadata = MetadataMap::new();
        metadata.insert(ACCEPTED, MetadataValue::from_static(IDENTITY));
        let message = format!(
            "messages are compressed with `{name}`, and this service takes only `{IDENTITY}`"
        );
        return Err(Status::with_metadata(
            tonic::Code::Unimplemented,
            message,
            metadata,
        ));
    }
    let decoder = ProstDecoder::new(BufferSettings::default());
    let mut messages = Streaming::new_request(decoder, body, None, Some(most_bytes));
    let message = messages.message().await?;
    let message = message.ok_or_else(|| Status::internal("the call has no message"))?;
    // Up to the end, so that the call is not taken for one that nobody listens to.
    messages.trailers().await?;
    let metadata = MetadataMap::from_headers(parts.headers);
    Ok(tonic::Request::from_parts(
        metadata,
        parts.extensions,
        message,
    ))
}

/// The answer to a call: a message's bytes, or a status.
pub(crate) fn answer(message: Result<Bytes, Status>) -> Response<Body> {
    let sent = message.and_then(|message| Sent::new(&message));
    match sent {
        Err(status) => status.into_http(),
        Ok(sent) => {
            let mut response = Response::new(Body::new(sent));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
            response
        }
    }
}

/// The body of a call that ends well.
struct Sent {
    /// The message behind its prefix, until it is on its way.
    message: Option<Bytes>,
    is_ended: bool,
}

impl Sent {
    fn new(message: &[u8]) -> Result<Self, Status> {
        let length = u32::try_from(message.len()).map_err(|_| {
            Status::resource_exhausted("the answer is longer than 4 GiB; ask for fewer entities")
        })?;
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        bytes.put_u8(0);
        bytes.put_u32(length);
        bytes.put_slice(message);
        Ok(Self {
            message: Some(bytes.freeze()),
            is_ended: false,
        })
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.message.take() {
            Some(message) => Some(Frame::data(message)),
            None if self.is_ended => None,
            None => {
                self.is_ended = true;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Some(Frame::trailers(trailers))
            }
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use tonic::Code;
    use vintner_proto::v1::GetOnlineFeaturesRequest;

    use super::*;

    const MOST: usize = 100;

    async fn received(
        encoding: Option<&'static str>,
        body: &[u8],
    ) -> Result<GetOnlineFeaturesRequest, Code> {
        let body = Full::new(Bytes::copy_from_slice(body));
        let mut request = Request::new(Body::new(body));
        if let Some(encoding) = encoding {
            let headers = request.headers_mut();
            headers.insert(ENCODING, HeaderValue::from_static(encoding));
        }
        let received = receive(request, MOST).await;
        received
            .map(tonic::Request::into_inner)
            .map_err(|status| status.code())
    }

    #[tokio::test]
    async fn one_whole_message_is_taken_and_nothing_else() {
        let message = GetOnlineFeaturesRequest {
            after: vec!["token".to_owned()],
            ..Default::default()
        };
        let frame = |message: &[u8]| {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0], length.as_slice(), message].concat()
        };
        let whole = frame(&message.encode_to_vec());
        assert_eq!(received(None, &whole).await, Ok(message.clone()));
        assert_eq!(received(Some("identity"), &whole).await, Ok(message));
        assert_eq!(
            received(Some("gzip"), &whole).await,
            Err(Code::Unimplemented)
        );
        assert_eq!(received(None, &[]).await, Err(Code::Internal));
        assert_eq!(received(None, &whole[..6]).await, Err(Code::Internal));
        assert_eq!(received(None, &frame(&[0xff])).await, Err(Code::Internal));
        let long = frame(&[0; MOST + 1]);
        assert_eq!(received(None, &long).await, Err(Code::OutOfRange));
        let mut compressed = whole.clone();
        compressed[0] = 1;
        assert_eq!(received(None, &compressed).await, Err(Code::Internal));
    }

    #[tokio::test]
    async fn an_answer_is_one_frame_and_a_good_end() {
        let answered = answer(Ok(Bytes::from_static(b"message")));
        assert_eq!(answered.headers()[header::CONTENT_TYPE], "application/grpc");
        let body = answered.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), b"\0\0\0\0\x07message".as_slice());

        let refused = answer(Err(Status::not_found("there is none")));
        assert_eq!(refused.headers()["grpc-status"], "5");
        assert!(refused.into_body().is_end_stream());
    }
}
