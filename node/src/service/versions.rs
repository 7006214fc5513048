//! What is said of versions to people who run the cluster, or who add to it.

use baton_core::meta::Store;
use baton_core::node::{Speaks, in_force};
use baton_proto::v1;
use tonic::Status;

/// Who does not speak what is in force could only be taken in, and then be refused by everybody.
pub(super) fn may_join(state: &dyn Store, speaks: Speaks) -> Result<(), Status> {
    let found = in_force(state).map_err(|_| Status::data_loss("the state cannot be read"))?;
    let Some(version) = found.filter(|version| !speaks.knows(*version)) else { return Ok(()) };
    let Speaks { oldest, newest } = speaks;
    Err(Status::failed_precondition(format!(
        "version {version} is in force in the cluster, and the node that is to join speaks {oldest} to {newest}: give it a baton \
         that the other nodes have, too"
    )))
}

/// A line for the time while some nodes have a newer build and others not. Only the leader knows.
pub(super) fn not_raised_yet(in_force: Option<u32>, nodes: &[v1::NodeStatus]) -> Option<String> {
    let in_force = in_force?;
    let newest = nodes.iter().filter_map(|node| node.speaks).max().filter(|newest| *newest > in_force)?;
    let named = |speak: bool| {
        let ids = nodes.iter().filter(|node| (node.speaks == Some(newest)) == speak).map(|node| node.id.to_string());
        ids.collect::<Vec<String>>()
    };
    let (those, others) = (named(true), named(false));
    let (speak, do_not) =
        (if those.len() > 1 { "speak" } else { "speaks" }, if others.len() > 1 { "do" } else { "does" });
    let (those, rest) = (those.join(", "), others.join(", "));
    (!others.is_empty())
        .then(|| format!("version {in_force} is in force; node {those} {speak} {newest}, node {rest} {do_not} not yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_core::meta::{Key, Memory, Value};

    fn nodes(speak: &[Option<u32>]) -> Vec<v1::NodeStatus> {
        let node = |(at, speaks): (usize, &Option<u32>)| v1::NodeStatus {
            id: at as u64 + 1,
            speaks: *speaks,
            ..v1::NodeStatus::default()
        };
        speak.iter().enumerate().map(node).collect()
    }

    #[test]
    fn it_is_told_who_is_waited_for_and_nothing_where_nobody_is() {
        let line = |speak: &[Option<u32>]| not_raised_yet(Some(10), &nodes(speak));
        assert_eq!(line(&[Some(10), Some(10), Some(10)]), None);
        assert_eq!(line(&[Some(11), Some(11), Some(11)]), None, "it is being raised");
        assert_eq!(line(&[None, None, Some(10)]), None, "who does not lead does not know");
        let two = "version 10 is in force; node 1, 2 speak 11, node 3 does not yet";
        assert_eq!(line(&[Some(11), Some(11), Some(10)]).as_deref(), Some(two));
        let one = "version 10 is in force; node 2 speaks 11, node 1, 3 do not yet";
        assert_eq!(line(&[None, Some(11), Some(10)]).as_deref(), Some(one));
        assert_eq!(not_raised_yet(None, &nodes(&[Some(11), Some(10)])), None);
    }

    #[test]
    fn who_does_not_speak_what_is_in_force_is_not_taken_in() {
        let mut state = Memory::default();
        let speaks = Speaks { oldest: 10, newest: 11 };
        assert!(may_join(&state, speaks).is_ok(), "nothing is in force yet");
        for (version, may) in [(9, false), (10, true), (11, true), (12, false)] {
            state.0.insert(Key::Version, Value::Version(version));
            let said = may_join(&state, speaks);
            assert_eq!(said.is_ok(), may, "{version}");
            assert!(may || said.unwrap_err().message().contains("speaks 10 to 11"));
        }
    }
}
