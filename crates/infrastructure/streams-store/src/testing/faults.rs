//! What fails while it goes on, and what has changed when it starts.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use streams_lts::testing::{Faulty, Objects};
use wal::Disk as _;
use wal::testing::{Choices, CrashDisk};

use super::world::{World, found, open};
use crate::error::Error;

const EIO: i32 = 5;
const STEPS: usize = 24;
/// How often a call of the disk fails, and which one at the latest.
const DISK_FAULTS: u64 = 6;
const DISK_CALLS: u64 = 400;
/// Requests to long-term storage of which each fails.
const REQUESTS_MAX: usize = 24;
/// Before which a disk is full that has no more room.
const FULL_STEPS: usize = 1_000;
/// Of each file, and of each object.
const FLIPS: u64 = 3;
const TRIES: usize = 4;

/// How often something failed, or was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Calls of the disk that failed.
    pub n_disk: usize,
    /// Disks that were full.
    pub n_full: usize,
    /// Requests to long-term storage that failed, and all behind them.
    pub n_requests: usize,
    /// Bits that were changed.
    pub n_flips: usize,
    /// Of which nobody needed what they are in, or it was made good.
    pub n_harmless: usize,
}

impl Faults {
    #[must_use]
    pub fn total(&self) -> usize {
        self.n_disk + self.n_full + self.n_requests + self.n_flips
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_disk,
            n_full,
            n_requests,
            n_flips,
            n_harmless,
        } = self;
        write!(
            f,
            "{n_disk} calls of the disk, {n_full} full disks, {n_requests} requests, {n_flips} bits, {n_harmless} of which did no harm"
        )
    }
}

/// Has everything fail that may, as a seed says.
///
/// # Errors
/// What is wrong then.
pub fn faults(seed: u64) -> Result<Faults, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut faults = Faults::default();
        let of =
            |what: &'static str| move |problem: String| format!("seed {seed}, {what}: {problem}");
        for nth in 0..DISK_FAULTS {
            let failed = disk(seed ^ (nth << 32), &mut faults).await;
            failed.map_err(of("a call of the disk fails"))?;
        }
        full(seed, &mut faults).await.map_err(of("a full disk"))?;
        let away = requests(seed, &mut faults).await;
        away.map_err(of("requests to long-term storage fail"))?;
        flips(seed, &mut faults).await.map_err(of("a bit"))?;
        Ok(faults)
    })
}

async fn world(seed: u64) -> Result<World, String> {
    let world = World::open(CrashDisk::default(), seed).await;
    world.map_err(|error| format!("open: {error}"))
}

/// Until something fails.
async fn play(world: &mut World, n_steps: usize) -> Result<(), Error> {
    for _ in 0..n_steps {
        world.step().await;
        match world.random.below(6) {
            0..2 => {}
            2..5 => world.settle().await?,
            _ => world.store.flush().await?,
        }
    }
    world.settle().await
}

/// What is there for who starts next, and after a crash that loses what it may, and after another one when it has gone on.
async fn check_next(world: &World) -> Result<(), String> {
    let n_ops = world.disk.n_ops();
    let at = |disk: &CrashDisk, n_ops| disk.crash(n_ops, &mut Choices::least(n_ops as u64));
    for disk in [world.disk.fork(), at(&world.disk, n_ops)] {
        let lts = Faulty::of(world.lts.objects_at(usize::MAX)).await;
        let lts = lts.map_err(|error| error.to_string())?;
        let store = open(&disk, &lts).await;
        let store = store.map_err(|error| format!("it does not open: {error}"))?;
        world.check_and_go_on(&store, n_ops).await?;
        store.end();
        let store = open(&at(&disk, disk.n_ops()), &lts).await;
        let store = store.map_err(|error| format!("it does not open again: {error}"))?;
        world.check(&store, n_ops).await?;
        store.end();
    }
    Ok(())
}

/// One call fails, whichever it is.
async fn disk(seed: u64, faults: &mut Faults) -> Result<(), String> {
    let mut world = world(seed).await?;
    let n_before = usize::try_from(world.random.below(DISK_CALLS)).expect("few");
    let n_calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&n_calls);
    world
        .disk
        .hook(move |_| match counts.fetch_add(1, Ordering::SeqCst) {
            n if n == n_before => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        });
    // Either it ends, or it goes on with what it has.
    play(&mut world, STEPS).await.ok();
    world.store.end();
    world.disk.hook(|_| Ok(()));
    faults.n_disk += usize::from(n_calls.load(Ordering::SeqCst) > n_before);
    check_next(&world).await
}

/// There is no more room, and then there is.
async fn full(seed: u64, faults: &mut Faults) -> Result<(), String> {
    let mut world = world(seed).await?;
    play(&mut world, STEPS / 4)
        .await
        .map_err(|error| error.to_string())?;
    world.disk.set_room(1);
    for _ in 0..FULL_STEPS {
        world.step().await;
        if world.settle().await.is_err() {
            faults.n_full += 1;
            break;
        }
    }
    world.store.end();
    world.disk.set_room(u64::MAX);
    check_next(&world).await
}

/// From some request on none is answered, for a while; that one may have been done. All of them, one after the other.
async fn requests(seed: u64, faults: &mut Faults) -> Result<(), String> {
    let mut world = world(seed).await?;
    for n_before in 0..REQUESTS_MAX {
        world.lts.crash(n_before, n_before % 2 == 0);
        // It may fail.
        play(&mut world, STEPS / 4).await.ok();
        world.store.flush().await.ok();
        faults.n_requests += usize::from(world.lts.recover());
        let mut flushed = world.store.flush().await;
        for _ in 0..TRIES {
            if flushed.is_err() {
                flushed = world.store.flush().await;
            }
        }
        flushed.map_err(|error| format!("request {n_before}: it stays away: {error}"))?;
        let n_ops = world.disk.n_ops();
        let checked = world.check(&world.store, n_ops).await;
        checked.map_err(|problem| format!("request {n_before}: {problem}"))?;
    }
    world.store.end();
    check_next(&world).await
}

/// A bit of a file, or of an object, is another one: then that is said, or what was written is there.
async fn flips(seed: u64, faults: &mut Faults) -> Result<(), String> {
    let mut world = world(seed).await?;
    play(&mut world, STEPS)
        .await
        .map_err(|error| error.to_string())?;
    world
        .store
        .flush()
        .await
        .map_err(|error| error.to_string())?;
    play(&mut world, STEPS / 4)
        .await
        .map_err(|error| error.to_string())?;
    world.store.end();
    let (n_ops, objects) = (world.disk.n_ops(), world.lts.objects_at(usize::MAX));
    for folder in ["", "log", "containers/0", "containers/1", "containers/2"] {
        let within = |disk: &CrashDisk| match folder {
            "" => disk.clone(),
            folder => disk.folder(folder),
        };
        let names = within(&world.disk)
            .list()
            .map_err(|error| error.to_string())?;
        for name in names {
            for _ in 0..FLIPS {
                let disk = world.disk.crash(n_ops, &mut Choices::every());
                let file = within(&disk)
                    .open(&name)
                    .map_err(|error| error.to_string())?;
                let size = file.size().map_err(|error| error.to_string())?;
                let Some((offset, bits)) = somewhere(&mut world, size) else {
                    break;
                };
                within(&disk).flip(&name, offset, bits);
                let is_harmless = check_flip(&world, &disk, objects.clone()).await;
                let is_harmless = is_harmless.map_err(|problem| {
                    format!("{bits:#x} of {folder}/{name} at {offset} of {size}: {problem}")
                })?;
                faults.n_flips += 1;
                faults.n_harmless += usize::from(is_harmless);
            }
        }
    }
    for (path, bytes) in &objects {
        // Without a manifest a reader waits for one, for some time.
        let n_flips = if path.as_ref().contains("manifest") {
            1
        } else {
            FLIPS
        };
        for _ in 0..n_flips {
            let Some((offset, bits)) = somewhere(&mut world, bytes.len() as u64) else {
                break;
            };
            let mut changed = bytes.to_vec();
            changed[usize::try_from(offset).expect("it is in memory")] ^= bits;
            let mut objects = objects.clone();
            objects.insert(path.clone(), changed.into());
            let disk = world.disk.crash(n_ops, &mut Choices::every());
            let is_harmless = check_flip(&world, &disk, objects).await;
            let is_harmless = is_harmless
                .map_err(|problem| format!("{bits:#x} of {path} at {offset}: {problem}"))?;
            faults.n_flips += 1;
            faults.n_harmless += usize::from(is_harmless);
        }
    }
    Ok(())
}

fn somewhere(world: &mut World, size: u64) -> Option<(u64, u8)> {
    if size == 0 {
        return None;
    }
    let bit = world.random.below(8);
    Some((world.random.below(size), 1 << bit))
}

/// Whether all is as it was; else it is refused.
async fn check_flip(world: &World, disk: &CrashDisk, objects: Objects) -> Result<bool, String> {
    let lts = Faulty::of(objects)
        .await
        .map_err(|error| error.to_string())?;
    let store = match open(disk, &lts).await {
        Ok(store) => store,
        Err(Error::Corrupt(_) | Error::Unavailable(_)) => return Ok(false),
        Err(error) => return Err(format!("it says: {error}")),
    };
    let checked = match found(&store).await {
        Err(Error::Corrupt(_) | Error::Unavailable(_)) => Ok(false),
        Err(error) => Err(format!("it says: {error}")),
        Ok(_) => world.check(&store, world.disk.n_ops()).await.map(|()| true),
    };
    store.end();
    checked
}
