//! What is on its way to a mount. A mount that asks and does not read its answers is not heard any more until it does; what it
//! did not ask for, as what is asked back, always finds room.

use baton_core::session::ToMount;
use baton_proto::{size_of, v1};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{Notify, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// Bytes to one mount that wait for it to read them, before it is heard again.
const UNREAD_MAX: usize = 8 << 20;

type Message = Result<v1::ToMount, Status>;

#[derive(Default)]
struct Unread {
    bytes: AtomicUsize,
    less: Notify,
}

#[derive(Clone)]
pub(crate) struct Outgoing {
    queue: mpsc::UnboundedSender<(Message, usize)>,
    unread: Arc<Unread>,
}

/// The other end, as the transport reads it.
pub(crate) struct Sent {
    queue: mpsc::UnboundedReceiver<(Message, usize)>,
    unread: Arc<Unread>,
}

pub(crate) fn outgoing() -> (Outgoing, Sent) {
    let (to, queue) = mpsc::unbounded_channel();
    let unread = Arc::<Unread>::default();
    (Outgoing { queue: to, unread: unread.clone() }, Sent { queue, unread })
}

impl Outgoing {
    pub(crate) fn tell(&self, message: ToMount) {
        let message = v1::ToMount::from(message);
        let bytes = size_of(&message);
        self.unread.bytes.fetch_add(bytes, Ordering::Relaxed);
        let _gone = self.queue.send((Ok(message), bytes));
    }

    /// The last that is said.
    pub(crate) fn fail(&self, why: Status) {
        let _gone = self.queue.send((Err(why), 0));
    }

    /// Waits until the mount has read enough of what it was told, or is gone; answers whether it had to, and the mount read.
    pub(crate) async fn wait_for_room(&self) -> bool {
        let mut read = false;
        loop {
            let less = self.unread.less.notified();
            if self.unread.bytes.load(Ordering::Relaxed) <= UNREAD_MAX {
                return read;
            }
            tokio::select! {
                () = less => read = true,
                () = self.queue.closed() => return false,
            }
        }
    }
}

impl Stream for Sent {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let Some((message, bytes)) = ready!(self.queue.poll_recv(context)) else { return Poll::Ready(None) };
        self.unread.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.unread.less.notify_one();
        Poll::Ready(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    fn answer() -> ToMount {
        let reply = baton_core::session::Reply::Done(baton_core::meta::Answer::Target(vec![7; 4 << 10].into()));
        ToMount::Answer { id: 1, reply, facts: Vec::new() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_does_not_read_is_not_heard_until_it_does() {
        let (outgoing, mut sent) = outgoing();
        let hears = outgoing.clone();
        let mut told = 0;
        while outgoing.unread.bytes.load(Ordering::Relaxed) <= UNREAD_MAX {
            assert!(!outgoing.wait_for_room().await);
            outgoing.tell(answer());
            told += 1;
        }
        let mut waits = Box::pin(hears.wait_for_room());
        let ready = std::future::poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_ready()));
        assert!(!ready.await, "{told} answers wait, and it is heard");
        assert!(matches!(sent.next().await, Some(Ok(_))));
        assert!(waits.await, "it has read");
        for _ in 1..told {
            assert!(matches!(sent.next().await, Some(Ok(_))), "nothing of it is lost");
        }
        outgoing.unread.bytes.fetch_add(UNREAD_MAX, Ordering::Relaxed);
        outgoing.tell(answer());
        drop(sent);
        assert!(!outgoing.wait_for_room().await);
    }
}
