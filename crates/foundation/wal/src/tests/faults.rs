//! Disks that fail, fill up, or have two owners.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::world::{SEGMENT_BYTES, Step, World, contents, open};
use crate::testing::{Call, Choices, CrashDisk};
use crate::{Error, LogId, Position};
use Step::{Append, Commit, Reopen, Truncate};

const STEPS: [Step; 12] = [
    Append(1, 100),
    Commit,
    Append(2, 700),
    Append(1, 300),
    Commit,
    Truncate(1, 0),
    Append(2, 800),
    Commit,
    Truncate(2, 1),
    Append(1, 900),
    Append(2, 10),
    Commit,
];

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Fails one call, after `n_before` others. Says whether it has.
fn fail(disk: &CrashDisk, n_before: usize, errno: i32) -> Arc<AtomicBool> {
    let has_failed = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&has_failed);
    let mut calls = 0..n_before;
    disk.hook(move |_| {
        if calls.next().is_some() || says.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(errno))
    });
    has_failed
}

/// Lets somebody else act before one of the calls, after `n_before` others.
fn interrupt(disk: &CrashDisk, n_before: usize, act: impl FnOnce() + Send + 'static) {
    let (mut calls, mut act) = (0..n_before, Some(act));
    disk.hook(move |_| {
        if calls.next().is_none()
            && let Some(act) = act.take()
        {
            act();
        }
        Ok(())
    });
}

/// What is there for a new owner, and after a crash, goes on; and what that makes durable is there after another crash: what a failed
/// sync has left in memory only is lost then, and no later sync brings it back.
fn goes_on(world: &World, context: &str) {
    for seed in 0..30 {
        let check = |mut world: World| {
            world.run(&[Append(1, 50), Commit, Append(3, 800), Commit])?;
            let n_ops = world.disk.n_ops();
            World::after_crash(&world, n_ops, &mut Choices::random(seed))
        };
        let n_ops = world.disk.n_ops();
        let same = World::reopen(world.disk.fork(), &world.model, n_ops, 1000).and_then(check);
        same.unwrap_or_else(|error| panic!("{context}, seed {seed}: {error}"));
        let crashed = World::after_crash(world, n_ops, &mut Choices::random(seed)).and_then(check);
        crashed.unwrap_or_else(|error| panic!("{context}, crash, seed {seed}: {error}"));
    }
}

/// Whichever call fails: either the owner ends there, or it refuses what is queued and goes on.
#[test]
fn whatever_fails_what_was_acknowledged_stays() {
    for errno in [EIO, ENOSPC] {
        for n_before in 0.. {
            let context = format!("errno {errno} at call {n_before}");
            let mut world = World::new(CrashDisk::default());
            let has_failed = fail(&world.disk, n_before, errno);
            match world.run(&STEPS) {
                Err(error) if error == "Full" => {
                    assert_eq!(errno, ENOSPC, "{context}");
                    world.run(&STEPS).expect("there is room again");
                }
                Err(error) => assert!(error.starts_with("Failed"), "{context}: {error}"),
                Ok(()) if has_failed.load(Ordering::Relaxed) => {}
                Ok(()) => {
                    assert!(n_before > 30, "only {n_before} calls");
                    break;
                }
            }
            goes_on(&world, &context);
        }
    }
}

#[test]
fn whatever_fails_in_an_opening_the_next_one_has_everything() {
    for errno in [EIO, ENOSPC] {
        for n_before in 0.. {
            let context = format!("errno {errno} at call {n_before}");
            let mut world = World::new(CrashDisk::default());
            world.run(&STEPS[..8]).expect("it works");
            // It has to write a tail again.
            world.disk.hook(|call| match call {
                Call::SyncFile => Err(io::Error::from_raw_os_error(EIO)),
                _ => Ok(()),
            });
            let failed = world.run(&[Append(1, 10), Commit]);
            assert!(failed.is_err_and(|error| error.starts_with("Failed")));
            let has_failed = fail(&world.disk, n_before, errno);
            match open(&world.disk) {
                Err(Error::Failed { .. }) => assert_eq!(errno, EIO, "{context}"),
                Err(Error::Full) => assert_eq!(errno, ENOSPC, "{context}"),
                Ok(_) if has_failed.load(Ordering::Relaxed) => {}
                Ok(_) => {
                    assert!(n_before > 15, "only {n_before} calls");
                    break;
                }
                Err(other) => panic!("{context}: {other:?}"),
            }
            goes_on(&world, &context);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let mut world = World::new(CrashDisk::default());
    world.disk.set_room(2 * SEGMENT_BYTES);
    world
        .run(&[Append(1, 900), Commit, Append(1, 800), Commit])
        .expect("there is room for two");
    let before = contents(&world.engine);
    for _ in 0..3 {
        world.run(&[Append(1, 700)]).expect("it is queued");
        assert!(matches!(world.commit(), Err(Error::Full)));
        assert_eq!(contents(&world.engine), before);
    }
    // One who opens the full log can read it, and make room.
    assert!(matches!(open(&world.disk), Err(Error::Full)));
    world
        .disk
        .set_room(2 * SEGMENT_BYTES + crate::format::HEAD_BYTES + 32);
    world
        .run(&[Reopen])
        .expect("a small segment fits where no other does");
    world.run(&[Append(1, 700)]).expect("it is queued");
    assert!(matches!(world.commit(), Err(Error::Full)));
    world
        .run(&[
            Truncate(1, 1),
            Commit,
            Append(1, 700),
            Commit,
            Append(1, 1),
            Commit,
        ])
        .expect("there is room again");
    for seed in 0..50 {
        let n_ops = world.disk.n_ops();
        World::after_crash(&world, n_ops, &mut Choices::random(seed)).expect("all is there");
    }
    world.disk.set_room(0);
    assert!(matches!(open(&world.disk), Err(Error::Full)));
    world.disk.set_room(u64::MAX);
    world.run(&[Reopen]).expect("nothing was lost by trying");
}

/// An old owner that goes on at any time, for as long as it can, changes nothing for the new one.
#[test]
fn an_old_owner_does_no_harm() {
    let late = [Append(1, 300), Append(2, 900)];
    for n_old in 0..STEPS.len() {
        for n_new in 0..STEPS.len() {
            let mut old = World::new(CrashDisk::default());
            old.run(&STEPS[..n_old]).expect("it is the owner");
            old.forget_queued();
            let n_ops = old.disk.n_ops();
            let mut new =
                World::reopen(old.disk.clone(), &old.model, n_ops, 1000).expect("it takes over");
            new.run(&STEPS[..n_new]).expect("it is the owner");
            old.run(&late).expect("it is queued");
            assert!(matches!(old.commit(), Err(Error::Fenced)));
            new.run(&STEPS[n_new..]).expect("it is the owner");
            for seed in 0..5 {
                let n_ops = new.disk.n_ops();
                World::after_crash(&new, n_ops, &mut Choices::random(seed)).expect("all is there");
            }
            new.run(&[Reopen]).expect("all is there");
        }
    }
}

/// The old owner is interrupted anywhere in a commit that writes, begins segments and lets some go: another one opens the log. What the old one
/// still acknowledges, the new one has seen.
#[test]
fn a_new_owner_may_come_at_any_moment() {
    let commit = [Append(2, 700), Append(1, 300), Append(1, 600)];
    for n_before in 0.. {
        let mut old = World::new(CrashDisk::default());
        old.run(&STEPS[..7]).expect("it is the owner");
        old.run(&[Truncate(2, 0)]).expect("it is the owner");
        old.run(&commit).expect("it is queued");
        let n_bodies = old.model.n_bodies();
        let new = Arc::new(Mutex::new(None));
        interrupt(&old.disk, n_before, {
            let (new, disk, model) = (Arc::clone(&new), old.disk.clone(), old.model.clone());
            move || {
                let world = World::reopen(disk.clone(), &model, disk.n_ops(), 1000);
                *new.lock().expect("one at a time") = Some(world.expect("all is there"));
            }
        });
        let result = old.commit();
        let Some(mut new) = new.lock().expect("one at a time").take() else {
            assert!(n_before > 10, "it was interrupted {n_before} times");
            break;
        };
        match result {
            Ok(()) => assert_eq!(new.model.n_bodies(), n_bodies, "{n_before}"),
            Err(error) => assert!(matches!(error, Error::Fenced), "{n_before}: {error:?}"),
        }
        for _ in 0..2 {
            new.run(&[Append(1, 100), Append(3, 800), Commit])
                .expect("it is the owner");
            assert!(matches!(old.commit(), Ok(()) | Err(Error::Fenced)));
            for seed in 0..20 {
                let n_ops = new.disk.n_ops();
                World::after_crash(&new, n_ops, &mut Choices::random(seed)).expect("all is there");
            }
            new.run(&[Reopen]).expect("all is there");
        }
    }
}

/// The old owner goes on anywhere in the opening of a new one. What it still acknowledges, the new one finds.
#[test]
fn an_old_owner_may_go_on_during_an_opening() {
    for n_before in 0.. {
        let mut old = World::new(CrashDisk::default());
        old.run(&STEPS[..8]).expect("it is the owner");
        let n_acknowledged = old.model.n_bodies();
        old.run(&[Append(2, 700), Append(1, 300)])
            .expect("it is queued");
        old.engine.spares().make_ready().expect("there is room");
        let (disk, mut model) = (old.disk.clone(), old.model.clone());
        let outcome = Arc::new(Mutex::new(None));
        interrupt(&disk, n_before, {
            let outcome = Arc::clone(&outcome);
            move || *outcome.lock().expect("one at a time") = Some(old.commit())
        });
        model.forget_acknowledgements();
        let new = World::reopen(disk.clone(), &model, disk.n_ops(), 1000).expect("all is there");
        let n_least = match outcome.lock().expect("one at a time").take() {
            Some(Ok(())) => n_acknowledged + 2,
            Some(Err(Error::Fenced)) => n_acknowledged,
            Some(Err(other)) => panic!("{n_before}: {other:?}"),
            None => {
                assert!(n_before > 10, "it was interrupted {n_before} times");
                break;
            }
        };
        assert!(new.model.n_bodies() >= n_least, "{n_before}");
    }
}

/// Two others open the log, one after the other, anywhere in an opening. One of the three is the owner, and what it promises is kept.
#[test]
fn an_opening_may_be_overtaken_at_any_moment() {
    for n_before in 0.. {
        let mut old = World::new(CrashDisk::default());
        old.run(&STEPS[..8]).expect("it is the owner");
        let last = Arc::new(Mutex::new(None));
        let open = {
            let (disk, model) = (old.disk.clone(), old.model.clone());
            move |stamp| World::reopen(disk.clone(), &model, disk.n_ops(), stamp)
        };
        interrupt(&old.disk, n_before, {
            let (last, open) = (Arc::clone(&last), open.clone());
            move || {
                // It may have the epoch that the one who is interrupted has chosen.
                open(1000).expect("all is there");
                *last.lock().expect("one at a time") = Some(open(2000).expect("all is there"));
            }
        });
        let opened = open(3000);
        let Some(last) = last.lock().expect("one at a time").take() else {
            assert!(n_before > 10, "it was interrupted {n_before} times");
            break;
        };
        let promise = |world: Result<World, String>| {
            world.and_then(|mut world| {
                world.run(&[Append(1, 10), Append(2, 900), Commit])?;
                Ok(world)
            })
        };
        let mut n_owners = 0;
        for world in [opened, Ok(last)].map(promise) {
            match world {
                Ok(mut world) => {
                    n_owners += 1;
                    world.run(&[Reopen]).expect("all is there");
                }
                Err(error) => assert_eq!(error, "Fenced", "{n_before}"),
            }
        }
        assert_eq!(n_owners, 1, "{n_before}");
    }
}

#[test]
fn epochs_do_not_wrap() {
    let disk = CrashDisk::default();
    crate::Disk::create(&disk, &format!("owner-{:016x}", u64::MAX)).expect("made");
    assert!(matches!(open(&disk), Err(Error::Fenced)));
}

#[test]
fn a_missing_segment_is_damage() {
    let mut world = World::new(CrashDisk::default());
    world
        .run(&[
            Append(1, 900),
            Commit,
            Append(1, 800),
            Commit,
            Append(1, 700),
            Commit,
        ])
        .expect("it works");
    let names: Vec<_> = crate::Disk::list(&world.disk).expect("listed");
    let segments = names.iter().filter(|name| name.ends_with(".wal"));
    let first = segments.min().expect("a segment");
    crate::Disk::remove(&world.disk, first).expect("removed");
    assert!(matches!(open(&world.disk), Err(Error::Corrupt { file, .. }) if file == *first));
    world.engine.truncate(LogId(1), Position(u64::MAX));
    drop(world);
}
