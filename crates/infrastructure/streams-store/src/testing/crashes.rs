//! Crashes of a recorded trace.

use std::collections::BTreeSet;

use streams_lts::testing::{Fault, Faulty, Verb};
use wal::testing::{Choices, CrashDisk};

use super::world::{World, open};

const STEPS: u64 = 60;
/// After so many crashes the store goes on once.
const GO_ON_EVERY: usize = 16;
/// So many moments between acknowledgements are looked at.
const MOMENTS: usize = 150;

/// Plays what a seed says, and visits crashes behind each acknowledgement, which lose whatever may be lost, and at other moments, of which `every`th
/// one. Returns how many there were.
///
/// # Errors
/// What is wrong after one of them.
pub fn crashes(seed: u64, every: usize) -> Result<u64, String> {
    crashes_on(&CrashDisk::default(), seed, every)
}

pub(crate) fn crashes_on(disk: &CrashDisk, seed: u64, every: usize) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let world = play(disk, seed).await;
        let world = world.map_err(|error| format!("seed {seed}: {error}"))?;
        let told: BTreeSet<_> = world.told().into_iter().collect();
        let (first, last) = (*told.first().expect("something was told"), disk.n_ops());
        let every = every.max(1) * ((last - first) / MOMENTS).max(1);
        let others = (first..=last).step_by(every).map(|n_ops| (n_ops, false));
        let moments = told.iter().map(|n_ops| (*n_ops, true)).chain(others);
        let mut n_crashes = 0;
        for (n_ops, is_told) in moments {
            let seed_of_crash = seed ^ ((n_ops as u64) << 20);
            let mut choices = match is_told {
                true => Choices::least(seed_of_crash),
                false => Choices::random(seed_of_crash),
            };
            let after = disk.crash(n_ops, &mut choices);
            let goes_on = n_crashes % GO_ON_EVERY == GO_ON_EVERY - 1;
            let checked = check(&world, &after, n_ops, goes_on).await;
            checked.map_err(|problem| {
                format!("seed {seed}, a crash after {n_ops} operations: {problem}")
            })?;
            n_crashes += 1;
        }
        Ok(n_crashes as u64)
    })
}

async fn check(world: &World, disk: &CrashDisk, n_ops: usize, goes_on: bool) -> Result<(), String> {
    let lts = Faulty::of(world.lts.objects_at(n_ops)).await;
    let lts = lts.map_err(|error| error.to_string())?;
    let store = open(disk, &lts).await;
    let store = store.map_err(|error| format!("it does not open: {error}"))?;
    let checked = match goes_on {
        true => world.check_and_go_on(&store, n_ops).await,
        false => world.check(&store, n_ops).await,
    };
    store.end();
    checked
}

async fn play(disk: &CrashDisk, seed: u64) -> crate::Result<World> {
    let mut world = World::open(disk.clone(), seed).await?;
    for _ in 0..STEPS {
        world.step().await;
        match world.random.below(10) {
            // Often nobody waits.
            0..4 => {}
            4..9 => world.settle().await?,
            _ => {
                if world.random.below(3) == 0 {
                    let faults = [Fault::Refuse, Fault::LoseAnswer, Fault::SendAgain];
                    let fault = faults[usize::try_from(world.random.below(3)).expect("few")];
                    world.lts.plan(Verb::Put, fault);
                }
                // It may fail, and is tried again in the background.
                world.store.flush().await.ok();
            }
        }
    }
    world.settle().await?;
    world.store.end();
    Ok(world)
}
