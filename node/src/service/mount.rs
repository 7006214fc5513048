use crate::handle::NodeHandle;
use baton_core::session::{ToMount, ToNode};
use baton_proto::v1::{self, mount_server::Mount};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Mounts' sessions: one stream in each direction, in order.
pub(crate) struct MountService {
    pub(crate) node: NodeHandle,
}

/// What is on its way to a mount is bounded by what the mount has asked for.
type Outgoing = mpsc::UnboundedSender<Result<v1::ToMount, Status>>;

#[tonic::async_trait]
impl Mount for MountService {
    type SessionStream = UnboundedReceiverStream<Result<v1::ToMount, Status>>;

    async fn session(&self, request: Request<Streaming<v1::ToNode>>) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, stream) = mpsc::unbounded_channel();
        tokio::spawn(listen(self.node.clone(), request.into_inner(), outgoing));
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

async fn listen(node: NodeHandle, mut incoming: Streaming<v1::ToNode>, outgoing: Outgoing) {
    let sink = outgoing.clone();
    let conn = node.attach(move |message| {
        let _gone = sink.send(Ok(message.into()));
    });
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(why) => {
                // A message that is too large, say. Where the connection is gone nobody hears it.
                let _gone = outgoing.send(Err(why));
                return;
            }
        };
        match ToNode::try_from(message) {
            // Most questions are answered here, without a word to the machine.
            Ok(ToNode::Ask { id, cred, query, keep: false }) => match node.ask_now(&cred, &query) {
                Some(reply) => {
                    let _gone = outgoing.send(Ok(ToMount::Answer { id, reply, facts: Vec::new() }.into()));
                }
                None => conn.tell(ToNode::Ask { id, cred, query, keep: false }),
            },
            Ok(message) => conn.tell(message),
            Err(bad) => {
                tracing::warn!("a mount's stream was ended: {bad}");
                let _gone = outgoing.send(Err(bad.into()));
                return;
            }
        }
    }
}
