//! The shell's part of merging small writes: what the leader's machine orders is looked for in the state, and stored.

use crate::handle::{Event, Events};
use crate::slices::Slices;
use baton_core::meta::ops::SliceRef;
use baton_core::node::{Input, Looked, MergeOrder, Merged};
use std::sync::Arc;

pub(crate) async fn carry_out(order: MergeOrder, slices: Arc<Slices>, events: Events) {
    let slice = order.slice;
    let merged = merge(order, slices).await;
    let _stopped = events.send(Event::Input(Input::Looked { slice, merged }));
}

async fn merge(order: MergeOrder, slices: Arc<Slices>) -> Merged {
    let (id, reader) = (order.slice, slices.reader.clone());
    let looked = slices.bulk.spawn_blocking(move || reader.look_for_run(&order)).await;
    let Ok(Ok(Looked { run, next })) = looked else { return Merged::Failed };
    let Some(run) = run else { return Merged::Looked { merge: None, next } };
    match slices.put(id, run.bytes.clone()).await {
        // All nodes have these bytes: that they are kept elsewhere must make them no easier to lose.
        Ok(nodes) if nodes.len() < slices.copies_wanted_now() => Merged::Failed,
        Ok(nodes) => {
            tracing::debug!(slice = %id, ino = %run.ino, offset = run.offset, len = run.bytes.len(), "small writes were stored as a slice");
            let merge = run.merge(SliceRef { id, len: run.bytes.len() as u32, nodes });
            Merged::Looked { merge: Some(merge), next }
        }
        Err(fault) => {
            tracing::debug!(slice = %id, ?fault, "small writes could not be stored as a slice");
            Merged::Failed
        }
    }
}
