use crate::meta::{Answer, Key, Run, Step, Store, Txn, Value};
use crate::meta::{access, content};
use crate::types::{Cred, Errno, NodeId, SliceId};
use serde::{Deserialize, Serialize};

/// Records which nodes keep a slice, after a copy was made or lost. A slice that nothing refers to any more is left alone. Logs
/// of older builds have it; this one has each copy listed by itself, so that no list is written over by an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSlice {
    pub id: SliceId,
    pub nodes: Vec<NodeId>,
}

impl Step for PlaceSlice {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        access::must_be_root(cred)?;
        if self.nodes.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        if let Some(mut info) = content::slice_info(txn, self.id)? {
            info.nodes = self.nodes.clone();
            txn.put(Key::Slice(self.id), Value::Slice(info));
        }
        Ok(Answer::Done)
    }
}
