use super::outgoing::{Outgoing, Sent, outgoing};
use crate::handle::NodeHandle;
use baton_core::session::{ToMount, ToNode};
use baton_proto::v1::{self, mount_server::Mount};
use tonic::{Request, Response, Status, Streaming};

/// Mounts' sessions: one stream in each direction, in order.
pub(crate) struct MountService {
    pub(crate) node: NodeHandle,
}

#[tonic::async_trait]
impl Mount for MountService {
    type SessionStream = Sent;

    async fn session(&self, request: Request<Streaming<v1::ToNode>>) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, sent) = outgoing();
        tokio::spawn(listen(self.node.clone(), request.into_inner(), outgoing));
        Ok(Response::new(sent))
    }
}

async fn listen(node: NodeHandle, mut incoming: Streaming<v1::ToNode>, outgoing: Outgoing) {
    let sink = outgoing.clone();
    let conn = node.attach(move |message| sink.tell(message));
    loop {
        if outgoing.wait_for_room().await {
            // What says that it lives may stand behind much that it asks.
            conn.tell(ToNode::Alive);
        }
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            // A message that is too large, say. Where the connection is gone nobody hears it.
            Err(why) => return outgoing.fail(why),
        };
        let bytes = baton_proto::size_of(&message);
        match ToNode::try_from(message) {
            // Most questions are answered here, without a word to the machine.
            Ok(ToNode::Ask { id, cred, query, keep: false }) => match node.ask_now(&cred, &query) {
                Some(reply) => outgoing.tell(ToMount::Answer { id, reply, facts: Vec::new() }),
                None => conn.tell_in_turn(ToNode::Ask { id, cred, query, keep: false }, bytes).await,
            },
            Ok(message) => conn.tell_in_turn(message, bytes).await,
            Err(bad) => {
                tracing::warn!("a mount's stream was ended: {bad}");
                return outgoing.fail(bad.into());
            }
        }
    }
}
