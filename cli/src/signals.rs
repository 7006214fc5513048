//! Ctrl-C and SIGTERM: both mean "end in good order".

use crate::failure::Failure;
use std::sync::mpsc::Sender;
use tokio::signal::unix::{SignalKind, signal};

/// Calls `tell` whenever one arrives, from a thread of its own.
pub(crate) fn watch<T: Clone + Send + 'static>(tell: Sender<T>, what: T) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start the thread that waits for signals"))?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        let catch = |kind| signal(kind).map_err(Failure::io("catch signals"));
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if tell.send(what.clone()).is_err() {
                    return;
                }
            }
        });
    };
    std::thread::Builder::new().name("baton-signals".into()).spawn(wait).map_err(Failure::io("start a thread"))?;
    Ok(())
}
