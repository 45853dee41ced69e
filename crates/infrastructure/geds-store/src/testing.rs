//! For tests and proofs: a whole store on a disk that crashes. What a seed says is done to it, and recorded; then it is opened as a crash has left it, at
//! each moment of that.
//!
//! What is known to be durable is there, with its bytes, and nothing that was taken away comes back: what is there is all that was done up to some moment,
//! and no less than was acknowledged. The disk holds that and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ids::Name as Tenant;
use wal::testing::{Choices, CrashDisk};

use crate::error::{Kind, Result};
use crate::index::{
    BucketName, Class, Folder, Item, Key, Name, NodeId, Precondition, Prefix, Query,
};
use crate::store::{Ack, Config, Disks, Store, Terms, tenant};

const STEPS: u64 = 32;
const KEYS: u64 = 3;
const FOLDERS: [&str; 2] = ["a/", "b/"];
/// Half of these are longer than what is in memory of one object.
const LONG_BYTES: u64 = 350_000;
const FREED_WITHIN: Duration = Duration::from_secs(20);
/// After so many crashes the store goes on once.
const GO_ON_EVERY: u64 = 200;
/// Of crashes at one moment: nothing is lost, and some others.
const CRASHES: u64 = 3;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    serial: u64,
    len: usize,
    /// Else the end of the store loses it.
    is_kept: bool,
}

type Names = BTreeMap<String, Written>;

/// Something that was done.
#[derive(Clone, Debug)]
struct Step {
    what: String,
    /// Before this operation of the disk nobody had heard of it.
    asked: usize,
    /// Since this one it is durable.
    durable: Option<usize>,
    after: Names,
}

struct World {
    disk: CrashDisk,
    store: Store,
    acme: Tenant,
    random: u64,
    serial: u64,
    steps: Vec<Step>,
}

/// Plays what a seed says, and visits crashes at every `every`th moment of that. Returns how many there were.
///
/// # Errors
/// What is wrong after one of them.
pub fn crashes(seed: u64, every: usize) -> std::result::Result<u64, String> {
    crashes_on(&CrashDisk::default(), seed, every)
}

fn crashes_on(disk: &CrashDisk, seed: u64, every: usize) -> std::result::Result<u64, String> {
    let failed = |what: &str, error| format!("seed {seed}, {what}: {error:?}");
    let mut world = World::open(disk.clone(), seed).map_err(|error| failed("open", error))?;
    let first = disk.n_ops();
    for _ in 0..STEPS {
        world.step().map_err(|error| failed("a step", error))?;
    }
    let mut n_crashes = 0;
    for n_ops in (first..=disk.n_ops()).step_by(every.max(1)) {
        for crash in 0..CRASHES {
            let mut choices = match crash {
                0 => Choices::every(),
                _ => Choices::random(seed ^ (n_ops as u64 * CRASHES + crash)),
            };
            let after = disk.crash(n_ops, &mut choices);
            let is_to_go_on = n_crashes % GO_ON_EVERY == GO_ON_EVERY - 1;
            world.check(after, n_ops, is_to_go_on).map_err(|problem| {
                format!("seed {seed}, crash {crash} after {n_ops} operations: {problem}")
            })?;
            n_crashes += 1;
        }
    }
    Ok(n_crashes)
}

impl World {
    fn open(disk: CrashDisk, seed: u64) -> Result<Self> {
        let store = open(&disk)?;
        let acme = tenant("acme")?;
        let bucket = store.create_bucket(&acme, &BucketName::new("data")?);
        bucket?.wait()?;
        let start = Step {
            what: "start".to_owned(),
            asked: 0,
            durable: Some(disk.n_ops()),
            after: Names::new(),
        };
        Ok(Self {
            disk,
            store,
            acme,
            random: seed,
            serial: 0,
            steps: vec![start],
        })
    }

    fn step(&mut self) -> Result<()> {
        let asked = self.disk.n_ops();
        let mut names = self.now().clone();
        let (what, ack) = self.act(&mut names)?;
        self.steps.push(Step {
            what,
            asked,
            durable: None,
            after: names,
        });
        // Often nobody waits. What comes later is durable only with it.
        if let Some(ack) = ack
            && self.below(3) > 0
        {
            ack.wait()?;
            let n_ops = self.disk.n_ops();
            for step in &mut self.steps {
                step.durable.get_or_insert(n_ops);
            }
        }
        Ok(())
    }

    fn act(&mut self, names: &mut Names) -> Result<(String, Option<Ack>)> {
        let (store, acme) = (self.store.clone(), self.acme.clone());
        let [key, other] = [self.key(), self.key()];
        let what = self.below(20);
        let Some(written) = names.get(&key).copied().filter(|_| what >= 9) else {
            return self.write(names, key);
        };
        let name = name(&key)?;
        Ok(match what {
            9..11 => {
                names.remove(&key);
                let ack = store.delete(&acme, &name, Precondition::None)?;
                (format!("delete {key}"), Some(ack))
            }
            11..13 if key != other => {
                names.remove(&key);
                names.insert(other.clone(), written);
                let both = [&name, &self::name(&other)?];
                let ack = store.rename(&acme, both, Precondition::None)?;
                (format!("rename {key} to {other}"), Some(ack))
            }
            13 if key != other => {
                names.insert(other.clone(), written);
                let both = [&name, &self::name(&other)?];
                let ack = store.copy(&acme, both, None, Precondition::None)?;
                (format!("copy {key} to {other}"), Some(ack))
            }
            14 => {
                let [from, to] = FOLDERS;
                for (key, written) in std::mem::take(names) {
                    let renamed = key.strip_prefix(from).map(|rest| format!("{to}{rest}"));
                    match renamed {
                        Some(renamed) => drop(names.insert(renamed, written)),
                        // What is renamed comes before it, and replaces it.
                        None => drop(names.entry(key).or_insert(written)),
                    }
                }
                let both = [&folder(from)?, &folder(to)?];
                let ack = store.rename_prefix(&acme, both, Precondition::None)?;
                (format!("rename {from} to {to}"), Some(ack))
            }
            15 => {
                names.retain(|key, _| !key.starts_with(FOLDERS[0]));
                let ack = store.delete_prefix(&acme, &folder(FOLDERS[0])?)?;
                (format!("delete {}", FOLDERS[0]), Some(ack))
            }
            16..18 => {
                let ack = store.relocate(&acme, &name)?;
                for of_name in names.values_mut() {
                    of_name.is_kept |= of_name.serial == written.serial;
                }
                (format!("relocate {key}"), Some(ack))
            }
            _ => {
                store.maintain()?;
                ("maintain".to_owned(), None)
            }
        })
    }

    fn write(&mut self, names: &mut Names, key: String) -> Result<(String, Option<Ack>)> {
        self.serial += 1;
        let len = match self.below(16) {
            0..8 => self.below(3_000),
            8..14 => self.below(30_000),
            14 => 60_000 + self.below(100_000),
            _ => LONG_BYTES + self.below(LONG_BYTES),
        };
        let len = usize::try_from(len).expect("it is short");
        let class = if self.below(4) > 0 {
            Class::Durable
        } else {
            Class::Ephemeral
        };
        let serial = self.serial;
        if self.below(16) == 0 {
            // What is begun and not sealed is not there.
            let mut writer = self.store.writer(&self.acme)?;
            writer.append(&content(serial, len))?;
        }
        let (class, ack) = put(&self.store, &self.acme, &key, class, (serial, len))?;
        let what = format!("{class:?} {key}: {len} bytes");
        let written = Written {
            serial,
            len,
            is_kept: class == Class::Durable,
        };
        names.insert(key, written);
        Ok((what, Some(ack)))
    }

    /// Opens what a crash has left, and compares it with what was there then.
    fn check(
        &self,
        disk: CrashDisk,
        n_ops: usize,
        is_to_go_on: bool,
    ) -> std::result::Result<(), String> {
        let store = open(&disk).map_err(|error| format!("{error:?}"))?;
        let found = self.found(&store)?;
        let is_durable = |step: &Step| step.durable.is_some_and(|at| at <= n_ops);
        let first = self.steps.iter().rposition(is_durable).unwrap_or(0);
        let heard = self
            .steps
            .iter()
            .filter(|step| step.asked < n_ops)
            .count()
            .max(1);
        let possible = &self.steps[first..heard.max(first + 1)];
        let is_so = |step: &Step| {
            found.keys().eq(step.after.keys())
                && found
                    .iter()
                    .zip(step.after.values())
                    .all(|((_, found), written)| match found {
                        Some(serial) => *serial == written.serial,
                        None => !written.is_kept,
                    })
        };
        if !possible.iter().any(is_so) {
            let possible = possible.iter().map(|step| (&step.what, &step.after));
            let possible: Vec<_> = possible.collect();
            return Err(format!("{found:?} is none of {possible:#?}"));
        }
        let whole: BTreeSet<_> = found.values().flatten().collect();
        let n_on_disk = store.n_on_disk();
        if n_on_disk != whole.len() {
            return Err(format!(
                "{n_on_disk} objects on the disk, and {found:?} are named"
            ));
        }
        if is_to_go_on {
            self.go_on(&store)
                .map_err(|error| format!("it does not go on: {error:?}"))?;
            until_empty(&store)?;
        }
        Ok(())
    }

    /// Writes something more, and then takes all away.
    fn go_on(&self, store: &Store) -> Result<()> {
        for (serial, len) in (1_000..).zip([10, 5_000, 100_000]) {
            let put = put(store, &self.acme, "a/more", Class::Durable, (serial, len));
            put?.1.wait()?;
        }
        store.maintain()?;
        store.delete_prefix(&self.acme, &folder("")?)?.wait()
    }

    /// What each name stands for. `None`: it is lost.
    fn found(&self, store: &Store) -> std::result::Result<BTreeMap<String, Option<u64>>, String> {
        let all = folder("").map_err(|error| error.to_string())?;
        let query = Query {
            folder: &all,
            delimiter: "",
            items_max: 1_000,
        };
        let page = store.list(&self.acme, &query, None);
        let mut found = BTreeMap::new();
        for item in page.map_err(|error| format!("{error:?}"))?.items {
            let Item::Object(key, _) = item else { continue };
            let key = key.to_string();
            let serial = match read(store, &self.acme, &key) {
                Ok(bytes) => Some(serial_of(&bytes).ok_or_else(|| format!("{key} is altered"))?),
                Err(error) if error.kind == Kind::Lost => None,
                Err(error) => return Err(format!("{key}: {error:?}")),
            };
            found.insert(key, serial);
        }
        Ok(found)
    }

    fn now(&self) -> &Names {
        let last = self.steps.last();
        &last.expect("there is always one").after
    }

    fn key(&mut self) -> String {
        let folder = FOLDERS[usize::try_from(self.below(2)).expect("few")];
        format!("{folder}{}", self.below(KEYS))
    }

    fn below(&mut self, n: u64) -> u64 {
        next(&mut self.random) % n
    }
}

/// Waits until nothing is on the disk: the log is told about once a second of what is freed.
fn until_empty(store: &Store) -> std::result::Result<(), String> {
    let end = rt::now() + FREED_WITHIN;
    loop {
        let stats = store.stats();
        let left = [stats.n_objects, stats.disk.objects, stats.disk.used_bytes];
        if left == [0; 3] {
            return Ok(());
        }
        if rt::now() > end {
            return Err(format!("something is left: {stats:?}"));
        }
        std::thread::yield_now();
    }
}

fn open(disk: &CrashDisk) -> Result<Store> {
    let mut config = Config::default();
    config.arena.limit_bytes = 2 << 20;
    config.arena.segment_bytes = 512 << 10;
    config.arena.spare_segments = 0;
    config.namespace.snapshot_after_bytes = 1_500;
    config.log.segment_bytes = 256 << 10;
    config.tier1.limit_bytes = 8 << 20;
    config.tier1.segment_bytes = 512 << 10;
    config.tier1.log_bytes = 16 << 10;
    config.tier1.staged_bytes_max = 64 << 10;
    let disk: Arc<dyn wal::Disk> = Arc::new(disk.clone());
    let disks = Disks {
        log: Arc::clone(&disk),
        objects: disk,
    };
    Store::open(&config, NodeId(1), disks)
}

/// Of the class that it is said to have then.
fn put(
    store: &Store,
    of: &Tenant,
    key: &str,
    class: Class,
    (serial, len): (u64, usize),
) -> Result<(Class, Ack)> {
    let mut writer = store.writer(of)?;
    writer.append(&content(serial, len))?;
    let (entry, ack) = store.seal(of, &name(key)?, (class, writer), Terms::default())?;
    Ok((entry.sealed.class, ack))
}

fn read(store: &Store, of: &Tenant, key: &str) -> Result<Vec<u8>> {
    let reader = store.open_object(of, &name(key)?)?;
    let mut bytes = Vec::new();
    for piece in reader.pieces(0..u64::MAX) {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// Says which one it is, and no part of it is like another.
fn content(serial: u64, len: usize) -> Vec<u8> {
    let mut bytes = serial.to_le_bytes().to_vec();
    let mut state = serial;
    while bytes.len() < len {
        bytes.extend(next(&mut state).to_le_bytes());
    }
    bytes
}

/// `None`: nobody has written it.
fn serial_of(bytes: &[u8]) -> Option<u64> {
    let serial = u64::from_le_bytes(*bytes.first_chunk()?);
    (content(serial, bytes.len()) == bytes).then_some(serial)
}

fn name(key: &str) -> Result<Name> {
    Ok(Name {
        bucket: BucketName::new("data")?,
        key: Key::new(key)?,
    })
}

fn folder(prefix: &str) -> Result<Folder> {
    Ok(Folder {
        bucket: BucketName::new("data")?,
        prefix: Prefix::new(prefix)?,
    })
}

/// Splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_of_a_store_keep_what_was_acknowledged() {
        for seed in 1..=6 {
            let n_crashes = crashes(seed, 3).unwrap_or_else(|problem| panic!("{problem}"));
            assert!(n_crashes > 30, "only {n_crashes}");
        }
    }

    /// Whether this would notice.
    #[test]
    fn a_disk_that_lies_is_found_out() {
        let is_found_out = |seed| {
            let disk = CrashDisk::default();
            disk.lie();
            crashes_on(&disk, seed, 1).is_err()
        };
        assert!((1..20).any(is_found_out));
    }
}
