//! The gRPC side of a node: one file a service. Every message is checked as it is converted; what is wrong ends its stream
//! with the reason, and nothing else.

mod admin;
mod health;
mod mount;
mod outgoing;
mod peers;
mod slices;
mod versions;

pub(crate) use admin::{About, AdminService};
pub(crate) use mount::MountService;
pub(crate) use peers::PeersService;
pub(crate) use slices::SlicesService;

use baton_proto::v1::admin_server::AdminServer;
use baton_proto::v1::mount_server::MountServer;
use baton_proto::v1::peers_server::PeersServer;
use baton_proto::v1::slices_server::SlicesServer;
use baton_proto::{MESSAGE_MAX, SLICE_MESSAGE_MAX};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Streams that one connection may have open: a mount needs one, and one for each slice under way.
const STREAMS_MAX: u32 = 64;
const HEADERS_MAX: u32 = 16 * 1024;
/// Bytes on the way in one direction of a connection, and of a stream.
const WINDOW: u32 = 8 << 20;

pub(crate) struct Services {
    pub(crate) mount: MountService,
    pub(crate) peers: PeersService,
    pub(crate) slices: SlicesService,
    pub(crate) admin: AdminService,
}

impl Services {
    pub(crate) async fn serve(self, listener: TcpListener, stop: oneshot::Receiver<()>) {
        let served = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADERS_MAX)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_frame_size(1 << 20)
            .http2_keepalive_interval(Some(Duration::from_secs(2)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .add_service(MountServer::new(self.mount).max_decoding_message_size(MESSAGE_MAX))
            .add_service(PeersServer::new(self.peers).max_decoding_message_size(MESSAGE_MAX))
            .add_service(SlicesServer::new(self.slices).max_decoding_message_size(SLICE_MESSAGE_MAX))
            .add_service(AdminServer::new(self.admin))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async {
                let _stopped = stop.await;
            })
            .await;
        if let Err(error) = served {
            tracing::error!("the gRPC server ended: {error}");
        }
    }
}
