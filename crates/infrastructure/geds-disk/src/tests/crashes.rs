//! Crashes of histories at each of their moments, and of random ones, twice.

use proptest::prelude::*;
use wal::testing::{Choices, CrashDisk};

use super::world::{Step, World};
use Step::{Begin, Checkpoint, Drop, Flush, Free, Join, Put, Reopen, Repair, Wait, Write};

/// The first of all that a crash may leave, and some others.
const FIRST: usize = 4;
const RANDOM: u64 = 12;

/// Visits crashes of a history at each of its moments. Returns how many there were.
fn crashes(steps: &[Step]) -> Result<u64, String> {
    let mut world = World::new(CrashDisk::default());
    world.run(steps)?;
    let mut n_crashes = 0;
    for n_ops in 0..=world.disk.n_ops() {
        let mut check = |mut choices: Choices| {
            let mut after = world
                .after_crash(n_ops, &mut choices)
                .map_err(|error| format!("after {n_ops} operations and {choices:?}: {error}"))?;
            n_crashes += 1;
            // It goes on, and what it promises then is kept too.
            if n_crashes % 16 == 0 {
                after.run(&[Put(3000), Begin(100), Flush(9000), Put(5000)])?;
                let mut again =
                    after.after_crash(after.disk.n_ops(), &mut Choices::random(n_crashes))?;
                again.free_all()?;
            } else if n_crashes % 4 == 0 {
                after.free_all()?;
            }
            Ok::<_, String>(choices)
        };
        let mut choices = Choices::every();
        for _ in 0..FIRST {
            choices = check(choices)?;
            if !choices.advance() {
                break;
            }
        }
        for seed in 0..RANDOM {
            check(Choices::random(seed + n_ops as u64 * RANDOM))?;
        }
    }
    Ok(n_crashes)
}

const HISTORIES: [&[Step]; 6] = [
    // Small ones: in the log, moved, freed before and after, and the log shortened.
    &[
        Put(1000),
        Begin(2000),
        Begin(0),
        Free(0),
        Wait,
        Flush(4096),
        Put(900),
        Flush(1 << 20),
        Free(0),
        Checkpoint,
        Put(1500),
    ],
    // Pages of what was freed are used again at once.
    &[
        Put(20_000),
        Put(24_000),
        Free(0),
        Wait,
        Put(18_000),
        Free(0),
        Put(22_000),
        Checkpoint,
        Free(1),
        Wait,
        Put(21_000),
    ],
    // Somebody dies between the parts of what he does.
    &[
        Put(9000),
        Reopen,
        Begin(1000),
        Free(0),
        Reopen,
        Put(5000),
        Checkpoint,
        Reopen,
        Put(70_000),
    ],
    // Two snapshots, and repairs between them.
    &[
        Put(9000),
        Put(300),
        Repair(0),
        Checkpoint,
        Put(4096),
        Repair(2),
        Free(0),
        Checkpoint,
        Put(2001),
    ],
    // What comes piece by piece, and what nobody wants then, in the pages of others.
    &[
        Put(90_000),
        Free(0),
        Wait,
        Drop(80_000),
        Write(100_000),
        Wait,
        Drop(60_000),
        Put(30_000),
        Free(0),
        Write(140_000),
        Checkpoint,
    ],
    // What is made of others, which go, and then goes too.
    &[
        Put(65_536),
        Put(20_000),
        Join(0, 1),
        Free(0),
        Free(0),
        Wait,
        Put(30_000),
        Checkpoint,
        Free(0),
        Wait,
        Put(70_000),
    ],
];

#[test]
fn crashes_of_small_histories_keep_what_was_acknowledged() {
    for steps in HISTORIES {
        let n_crashes = crashes(steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
        assert!(n_crashes > 300, "{steps:?}: only {n_crashes} crashes");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 0_usize..2001,
        3 => 2001_usize..30_000,
        1 => 60_000_usize..140_000,
    ];
    prop_oneof![
        4 => len.clone().prop_map(Put),
        6 => len.prop_map(Begin),
        2 => (0_usize..140_000).prop_map(Write),
        1 => (0_usize..140_000).prop_map(Drop),
        1 => Just(Write(65_536)),
        2 => any::<(usize, usize)>().prop_map(|(one, other)| Join(one, other)),
        3 => Just(Wait),
        7 => any::<usize>().prop_map(Free),
        1 => any::<usize>().prop_map(Repair),
        3 => (1_u64..9000).prop_map(Flush),
        2 => Just(Checkpoint),
        1 => Just(Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crashes_of_any_history_keep_what_was_acknowledged(
        first in prop::collection::vec(step(), 1..40),
        second in prop::collection::vec(step(), 1..20),
        crashes in prop::collection::vec(any::<(u16, u16, u64)>(), 12),
    ) {
        let mut world = World::new(CrashDisk::default());
        world.run(&first).map_err(TestCaseError::fail)?;
        for (at, again_at, seed) in crashes {
            let n_ops = usize::from(at) % (world.disk.n_ops() + 1);
            let mut choices = Choices::random(seed);
            let after = world.after_crash(n_ops, &mut choices);
            let mut after = after.map_err(|error| TestCaseError::fail(format!("first crash: {error}")))?;
            after.run(&second).map_err(TestCaseError::fail)?;
            let n_ops = usize::from(again_at) % (after.disk.n_ops() + 1);
            let again = after.after_crash(n_ops, &mut choices);
            let mut again = again.map_err(|error| TestCaseError::fail(format!("second crash: {error}")))?;
            again.run(&[Put(100), Put(10_000), Checkpoint, Reopen]).map_err(TestCaseError::fail)?;
            again.compare().map_err(TestCaseError::fail)?;
            again.free_all().map_err(TestCaseError::fail)?;
        }
    }
}

/// Whether this harness would notice.
#[test]
fn a_disk_that_lies_is_found_out() {
    let mut world = World::new(CrashDisk::default());
    world.disk.lie();
    world
        .run(&[Put(100), Put(9000), Checkpoint, Put(300)])
        .expect("it says that all is well");
    let n_ops = world.disk.n_ops();
    let is_found_out = |seed| {
        world
            .after_crash(n_ops, &mut Choices::random(seed))
            .is_err()
    };
    assert!((0..100).any(is_found_out));
}
