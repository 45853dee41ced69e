//! Every crash of small histories, and random ones of larger, twice.

use proptest::prelude::*;

use super::world::{Step, World};
use crate::testing::{Choices, CrashDisk};
use Step::{Append, Commit, Reopen, Truncate};

/// A moment with more crashes than this has some of them tried.
const EVERY_MAX: usize = 4096;
const SOME: u64 = 200;

/// Visits the crashes of a history at each of its moments: every one, or some of very many. Returns at how many moments it was every one,
/// and how many crashes there were.
fn crashes(steps: &[Step]) -> Result<(usize, usize), String> {
    let mut world = World::new(CrashDisk::default());
    world.run(steps)?;
    let (mut n_full, mut n_crashes) = (0, 0);
    for n_ops in 0..=world.disk.n_ops() {
        let mut check = |mut choices: Choices| {
            let mut after = World::after_crash(&world, n_ops, &mut choices)
                .map_err(|error| format!("after {n_ops} operations and {choices:?}: {error}"))?;
            n_crashes += 1;
            // It goes on, and what it promises then is kept too.
            if n_crashes % 8 == 0 {
                after.run(&[
                    Append(1, 30),
                    Append(2, 700),
                    Commit,
                    Append(1, 500),
                    Commit,
                ])?;
                World::after_crash(
                    &after,
                    after.disk.n_ops(),
                    &mut Choices::random(n_crashes as u64),
                )?;
            }
            Ok::<_, String>(choices)
        };
        let mut choices = Choices::every();
        let mut is_every = false;
        for _ in 0..EVERY_MAX {
            choices = check(choices)?;
            is_every = !choices.advance();
            if is_every {
                break;
            }
        }
        n_full += usize::from(is_every);
        for seed in 0..if is_every { 0 } else { SOME } {
            check(Choices::random(seed))?;
        }
    }
    Ok((n_full, n_crashes))
}

const HISTORIES: [&[Step]; 8] = [
    // What the table says of the last two records may outlive them.
    &[
        Append(1, 900),
        Commit,
        Append(2, 900),
        Commit,
        Truncate(1, 0),
        Append(2, 30),
        Append(1, 50),
        Commit,
    ],
    &[Append(1, 40), Commit, Append(2, 600), Append(1, 0), Commit],
    // In the second segment, a header lies in two sectors.
    &[
        Append(1, 900),
        Commit,
        Append(1, 464),
        Append(1, 40),
        Commit,
    ],
    // A batch over two segments.
    &[Append(1, 300), Append(2, 400), Append(1, 500), Commit],
    &[
        Append(1, 900),
        Commit,
        Append(2, 900),
        Commit,
        Truncate(1, 0),
        Commit,
        Append(2, 50),
        Commit,
    ],
    // The third segment is the first one's file.
    &[
        Append(1, 900),
        Commit,
        Append(1, 800),
        Commit,
        Truncate(1, 1),
        Commit,
        Append(1, 700),
        Commit,
        Append(1, 60),
        Commit,
    ],
    &[
        Append(1, 100),
        Commit,
        Reopen,
        Append(1, 100),
        Commit,
        Reopen,
        Reopen,
        Append(2, 900),
        Commit,
    ],
    &[
        Append(1, 100),
        Append(2, 100),
        Commit,
        Truncate(1, 0),
        Append(1, 20),
        Commit,
        Truncate(2, 0),
        Reopen,
    ],
];

#[test]
fn every_crash_of_small_histories_keeps_what_was_acknowledged() {
    for steps in HISTORIES {
        let (n_full, n_crashes) =
            crashes(steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
        assert!(
            n_full > 10 && n_crashes > 800,
            "{steps:?}: only {n_crashes} crashes, every one at {n_full} moments"
        );
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u32..4, prop_oneof![0_usize..80, 0_usize..900]).prop_map(|(log, len)| Append(log, len)),
        4 => Just(Commit),
        2 => (1_u32..4, 0_usize..3).prop_map(|(log, n_kept)| Truncate(log, n_kept)),
        1 => Just(Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crashes_of_any_history_keep_what_was_acknowledged(
        first in prop::collection::vec(step(), 1..30),
        second in prop::collection::vec(step(), 1..15),
        crashes in prop::collection::vec(any::<(u16, u16, u64)>(), 12),
    ) {
        let mut world = World::new(CrashDisk::default());
        world.run(&first).expect("no crash yet");
        for (at, again_at, seed) in crashes {
            let n_ops = usize::from(at) % (world.disk.n_ops() + 1);
            let mut choices = Choices::random(seed);
            let after = World::after_crash(&world, n_ops, &mut choices);
            let mut after = after.map_err(|error| TestCaseError::fail(format!("first crash: {error}")))?;
            after.run(&second).expect("it goes on");
            let n_ops = usize::from(again_at) % (after.disk.n_ops() + 1);
            let again = World::after_crash(&after, n_ops, &mut choices);
            let mut again = again.map_err(|error| TestCaseError::fail(format!("second crash: {error}")))?;
            again.run(&[Append(1, 10), Commit, Reopen]).map_err(TestCaseError::fail)?;
        }
    }
}

/// A table that was written with records, and has outlived them, must not let go what comes in their place.
#[test]
fn a_table_may_outlive_its_records() {
    let mut world = World::new(CrashDisk::default());
    let steps = [
        Append(1, 900),
        Commit,
        Append(3, 900),
        Commit,
        Append(3, 100),
        Commit,
    ];
    world.run(&steps).expect("no crash yet");
    let n_before = world.disk.n_ops();
    let steps = [Truncate(1, 0), Append(3, 700), Append(2, 20), Commit];
    world.run(&steps).expect("no crash yet");
    for n_ops in n_before..world.disk.n_ops() {
        for seed in 0..200 {
            let mut choices = Choices::random(seed);
            let mut after = World::after_crash(&world, n_ops, &mut choices).expect("all is there");
            after
                .run(&[
                    Append(2, 10),
                    Commit,
                    Append(1, 930),
                    Commit,
                    Truncate(3, 0),
                    Append(1, 20),
                    Commit,
                    Reopen,
                ])
                .unwrap_or_else(|error| panic!("{n_ops} {seed}: {error}"));
        }
    }
}

/// Whether this harness would notice.
#[test]
fn a_disk_that_lies_is_found_out() {
    let disk = CrashDisk::default();
    disk.lie();
    let mut world = World::new(disk);
    world
        .run(&[Append(1, 40), Commit, Append(2, 600), Commit])
        .expect("it says that all is well");
    let n_ops = world.disk.n_ops();
    let is_found_out =
        |seed| World::after_crash(&world, n_ops, &mut Choices::random(seed)).is_err();
    assert!((0..100).any(is_found_out));
}
