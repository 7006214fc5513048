//! Mistakes made on purpose: each must be found, or the tests see nothing.

use super::explore::{Freely, TIDY, UPGRADE, explore};
use crate::token::Mode::{Exclusive, Shared};

/// A known mistake in the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token) enum Planted {
    /// A recall is answered, and a token let go, before the owner ended its use.
    AnswersTooEarly,
    /// A copy is given although somebody waits for exclusive use.
    CopiesPastTheQueue,
    /// A copy that was given is not written down.
    ForgetsACopy,
    /// A token that was beyond a lost edge is not taken back.
    LeavesTheTokenLost,
    /// The exclusive want behind a shared one is asked for when its turn has come. Safe and without deadlock, but not fair
    /// enough: found by how many pass.
    AsksForTheHeadAlone,
}

#[test]
fn each_is_found() {
    let lose = Freely { lose: Some(2), ..TIDY };
    let found = [
        (Planted::AnswersTooEarly, UPGRADE, "held without a copy"),
        (Planted::CopiesPastTheQueue, UPGRADE, "line"),
        (Planted::ForgetsACopy, UPGRADE, "beside 1"),
        (Planted::LeavesTheTokenLost, lose, "0 tokens"),
    ];
    for (planted, freely, sign) in found {
        let wants = [(0, Shared), (1, Exclusive), (2, Shared), (2, Exclusive)];
        let Err(story) = explore(&[0, 1], &wants, freely, Some(planted)) else { panic!("{planted:?} was not seen") };
        assert!(story.contains(sign), "{planted:?} was seen as {story}");
    }
}
