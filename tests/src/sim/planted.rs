//! Known mistakes, made on purpose in the doubles around the machines: they prove that the checkers see.

/// One mistake of a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A node says that its log is on disk before it is.
    EarlyPersisted,
    /// A node answers questions from its own state, whoever leads.
    StaleReader,
    /// Replicas acknowledge a slice that they do not store.
    SliceNotStored,
    /// A node acknowledges a slice before it is synced.
    SliceUnsynced,
    /// The way between a mount and its node carries a command twice, the second time under a number of its own.
    CommandTwice,
    /// A node that lost its disk says that it may vote. Rare: entries are lost only if it votes before it was caught up, for
    /// a node that lacks them, while the third is gone; 1,500 small seeds do not meet that. The node's own tests do.
    WipedMember,
    /// One node's state store loses a change.
    LostChange,
    /// A mount's answer to "who holds" leaves out what it has open.
    ForgottenOpen,
    /// A mount takes a lock for its own while it is only waited for.
    LockBeforeItsTurn,
    /// A mount says that it gave copies back, and goes on using them.
    RecallUnheeded,
    /// A mount's lease lasts five times as long as the leader said.
    LongLease,
    /// What answers rest on reaches the mount after what was sent behind it.
    LateFacts,
    /// A kernel says that it forgot, and did not.
    KernelKeeps,
    /// A kernel says that it forgot before it does.
    EarlyForgot,
    /// Any node lets mounts use their copies, whether it leads or not.
    LeaseOfAnybody,
    /// A node's lease lasts five times as long as the leader said.
    LongNodeLease,
    /// What nodes say to each other about tokens gets lost on the way, and its arrival is confirmed.
    TokensSwallowed,
    /// Nobody looks at a slice's checksum.
    DamageServed,
    /// A node says of the small writes that it stored as a slice that they are what is there now.
    MergedUnseen,
    /// A node drops what it stored for a merge as soon as it looks, because nothing refers to it.
    MergedDropped,
}

impl Planted {
    pub const ALL: [Planted; 20] = [
        Planted::EarlyPersisted,
        Planted::StaleReader,
        Planted::SliceNotStored,
        Planted::SliceUnsynced,
        Planted::CommandTwice,
        Planted::WipedMember,
        Planted::LostChange,
        Planted::ForgottenOpen,
        Planted::LockBeforeItsTurn,
        Planted::RecallUnheeded,
        Planted::LongLease,
        Planted::LateFacts,
        Planted::KernelKeeps,
        Planted::EarlyForgot,
        Planted::LeaseOfAnybody,
        Planted::LongNodeLease,
        Planted::TokensSwallowed,
        Planted::DamageServed,
        Planted::MergedUnseen,
        Planted::MergedDropped,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Planted::EarlyPersisted => "early-persisted",
            Planted::StaleReader => "stale-reader",
            Planted::SliceNotStored => "slice-not-stored",
            Planted::SliceUnsynced => "slice-unsynced",
            Planted::CommandTwice => "command-twice",
            Planted::WipedMember => "wiped-member",
            Planted::LostChange => "lost-change",
            Planted::ForgottenOpen => "forgotten-open",
            Planted::LockBeforeItsTurn => "lock-before-its-turn",
            Planted::RecallUnheeded => "recall-unheeded",
            Planted::LongLease => "long-lease",
            Planted::LateFacts => "late-facts",
            Planted::KernelKeeps => "kernel-keeps",
            Planted::EarlyForgot => "early-forgot",
            Planted::LeaseOfAnybody => "lease-of-anybody",
            Planted::LongNodeLease => "long-node-lease",
            Planted::TokensSwallowed => "tokens-swallowed",
            Planted::DamageServed => "damage-served",
            Planted::MergedUnseen => "merged-unseen",
            Planted::MergedDropped => "merged-dropped",
        }
    }

    pub fn by_name(name: &str) -> Option<Planted> {
        Planted::ALL.into_iter().find(|p| p.name() == name)
    }
}
