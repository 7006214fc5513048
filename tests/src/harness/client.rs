//! Ways to a node that are neither the mount nor the command line.

use baton_proto::v1::admin_client::AdminClient;
use baton_proto::v1::{StatusReply, StatusRequest};
use bytes::{Buf, BufMut, Bytes};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_secs(3);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn endpoint(address: &str) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(PATIENCE).timeout(PATIENCE)
}

/// Asks one node, and no other in its place as `baton status` does.
pub struct Admin {
    address: String,
}

impl Admin {
    pub fn new(address: &str) -> Admin {
        Admin { address: address.to_owned() }
    }

    pub fn status(&self) -> Option<StatusReply> {
        runtime().block_on(async {
            let channel = endpoint(&self.address).connect().await.ok()?;
            Some(AdminClient::new(channel).status(StatusRequest {}).await.ok()?.into_inner())
        })
    }
}

/// Messages as they are: whatever bytes one likes, in good frames.
#[derive(Clone, Copy, Default)]
pub struct RawBytes;

impl Codec for RawBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawBytes;
    type Decoder = RawBytes;

    fn encoder(&mut self) -> RawBytes {
        RawBytes
    }

    fn decoder(&mut self) -> RawBytes {
        RawBytes
    }
}

impl Encoder for RawBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Sends messages to a method as one stream, which the server cannot tell from a single call where there is one message,
/// and returns how the server ended it: after its answers, or when it has been quiet for `patience`.
pub fn raw_call(
    address: &str,
    method: &'static str,
    messages: Vec<Bytes>,
    patience: Duration,
) -> Result<usize, Status> {
    runtime().block_on(async {
        let channel: Channel =
            endpoint(address).connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = method.parse().expect("a method's path");
        let request = tonic::Request::new(tokio_stream::iter(messages));
        let called = tokio::time::timeout(patience, grpc.streaming(request, path, RawBytes)).await;
        let Ok(called) = called else { return Ok(0) };
        let mut answers = called?.into_inner();
        let mut heard = 0;
        while let Ok(answer) = tokio::time::timeout(patience, answers.message()).await {
            match answer? {
                Some(_) => heard += 1,
                None => break,
            }
        }
        Ok(heard)
    })
}
