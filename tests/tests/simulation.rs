//! A bounded sample of what `sim` runs by the thousand, and the proof that its checkers see.

use baton_tests::sim::{Plan, Planted, Size, Stats, run};

/// What disks that lose their power do, and what becomes of slices on their way.
const TORN: [&str; 8] = [
    "torn log write",
    "torn log write in the middle",
    "unsynced slice lost",
    "unsynced slice torn",
    "unsynced slice there",
    "slice stored by one",
    "slice stored by too few",
    "node died while it stored a slice",
];

#[test]
fn seeds_pass() {
    let mut total = Stats::default();
    for seed in 1..=60 {
        let verdict = run(Plan::new(seed, Size::Small));
        total.add(&verdict.stats);
        if let Some(failure) = verdict.failure {
            panic!(
                "seed {seed}: {}\nreplay: cargo run -p baton-tests --bin sim -- --seed {seed} --trace",
                failure.what
            );
        }
        assert!(verdict.stats.operations > 0, "seed {seed} did nothing");
    }
    for kind in TORN {
        assert!(total.faults.contains_key(kind), "no {kind} in the sample: {:?}", total.faults);
    }
}

#[test]
fn a_large_seed_passes() {
    let verdict = run(Plan::new(3, Size::Large));
    assert!(verdict.failure.is_none(), "{:?}", verdict.failure);
}

#[test]
fn a_seed_is_a_run() {
    for seed in [2, 8, 11] {
        let (one, two) = (run(Plan::new(seed, Size::Small)), run(Plan::new(seed, Size::Small)));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed} took two ways");
        assert_eq!(one.stats.events, two.stats.events);
    }
    let (one, other) = (run(Plan::new(2, Size::Small)), run(Plan::new(3, Size::Small)));
    assert_ne!(one.trace_hash, other.trace_hash);
}

/// The mistake is seen within so many seeds.
fn is_seen(planted: Planted, seeds: u64) {
    let seen =
        (1..=seeds).find_map(|seed| run(Plan { planted: Some(planted), ..Plan::new(seed, Size::Small) }).failure);
    assert!(seen.is_some(), "{} was not seen within {seeds} seeds", planted.name());
}

#[test]
fn a_log_that_is_said_to_be_on_disk_too_early_is_seen() {
    is_seen(Planted::EarlyPersisted, 60);
}

#[test]
fn a_reader_without_a_lease_is_seen() {
    is_seen(Planted::StaleReader, 20);
}

#[test]
fn a_slice_that_is_acknowledged_and_not_stored_is_seen() {
    is_seen(Planted::SliceNotStored, 20);
}

#[test]
fn a_slice_that_is_acknowledged_before_it_is_synced_is_seen() {
    is_seen(Planted::SliceUnsynced, 400);
}

#[test]
fn a_command_carried_out_twice_is_seen() {
    is_seen(Planted::CommandTwice, 20);
}

#[test]
fn a_change_that_one_node_lost_is_seen() {
    is_seen(Planted::LostChange, 20);
}

#[test]
fn an_open_file_that_a_mount_forgot_is_seen() {
    is_seen(Planted::ForgottenOpen, 20);
}

#[test]
fn a_lock_that_is_held_before_its_turn_is_seen() {
    is_seen(Planted::LockBeforeItsTurn, 20);
}

#[test]
fn copies_that_are_kept_though_given_back_are_seen() {
    is_seen(Planted::RecallUnheeded, 20);
}

#[test]
fn a_kernel_that_keeps_what_it_should_forget_is_seen() {
    is_seen(Planted::KernelKeeps, 30);
}

#[test]
fn a_recall_that_is_answered_before_it_is_done_is_seen() {
    is_seen(Planted::EarlyForgot, 60);
}

#[test]
fn copies_that_outlive_what_was_sent_behind_them_are_seen() {
    is_seen(Planted::LateFacts, 20);
}

#[test]
fn a_lease_that_is_too_long_is_seen() {
    is_seen(Planted::LongLease, 200);
}

#[test]
fn a_lease_from_a_node_that_does_not_lead_is_seen() {
    is_seen(Planted::LeaseOfAnybody, 120);
}

#[test]
fn a_nodes_lease_that_is_too_long_is_seen() {
    is_seen(Planted::LongNodeLease, 200);
}

#[test]
fn words_about_tokens_that_get_lost_are_seen() {
    is_seen(Planted::TokensSwallowed, 100);
}

#[test]
fn a_damaged_slice_that_is_served_is_seen() {
    is_seen(Planted::DamageServed, 60);
}

#[test]
fn small_writes_that_changed_while_they_were_merged_are_seen() {
    is_seen(Planted::MergedUnseen, 400);
}

#[test]
fn a_merged_slice_that_is_dropped_too_early_is_seen() {
    is_seen(Planted::MergedDropped, 30);
}
