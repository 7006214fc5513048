use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, NodeId, SliceId};

use serde::{Deserialize, Serialize};

/// Records which nodes keep a slice, after a copy was made or lost. The cluster's own command. A slice that nothing refers
/// to any more is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSlice {
    pub id: SliceId,
    pub nodes: Vec<NodeId>,
}

impl Step for PlaceSlice {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
