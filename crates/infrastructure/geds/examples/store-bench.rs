//! What it costs to seal and to read small objects in the process of their node, beside what memory and the disk allow.
//!
//! `store-bench [N]`: N objects of 4 KiB, read in random order, each summed. p50 and p99 are in microseconds. The peers are measured in turn
//! with it: a copy of 4 KiB out of as much memory, and a write of as much as a record with a sync.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Instant;

use geds::index::{BucketName, Class, Key, Name, NodeId};
use geds::store::{Config, Disks, Store, Terms};
use geds::tier1::Drive;

type Fallible<T> = Result<T, Box<dyn Error>>;

const BYTES: usize = 4096;
const ROUNDS: usize = 5;

fn main() -> Fallible<()> {
    let n = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let mut config = Config::default();
    config.arena.limit_bytes = (n as u64 * BYTES as u64 * 2).max(256 << 20);
    let disks = Disks {
        log: Arc::new(wal::Directory::open(dir.path())?),
        objects: Arc::new(Drive::open(&dir.path().join("objects"))?),
    };
    let store = Store::open(&config, NodeId(1), disks)?;
    let acme: ids::Name = "acme".parse()?;
    let bucket = BucketName::new("data")?;
    store.create_bucket(&acme, &bucket)?.wait()?;
    let name = |idx: usize| -> Fallible<Name> {
        Ok(Name {
            bucket: bucket.clone(),
            key: Key::new(&format!("{:016x}", mix(idx as u64)))?,
        })
    };
    let mut bytes = vec![0; BYTES];
    rt::fill_random(&mut bytes);
    let names = (0..n).map(name).collect::<Fallible<Vec<_>>>()?;
    let mut memory = vec![0; n * BYTES];
    rt::fill_random(&mut memory);
    let mut seals = Times::default();
    for name in &names {
        seals.time(|| {
            let mut writer = store.writer(&acme)?;
            writer.append(&bytes)?;
            Ok(store.seal(&acme, name, (Class::Ephemeral, writer), Terms::default())?)
        })?;
    }
    seals.tell("seal 4 KiB, ephemeral");
    for _ in 0..ROUNDS {
        read(&store, &acme, &names, &memory)?;
    }
    durable(&store, &acme, &names, dir.path())
}

/// A permutation of numbers, which orders nothing.
fn mix(n: u64) -> u64 {
    (n ^ (n >> 30))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(31)
        .wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    words.fold(0, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("8 bytes")))
    })
}

fn read(store: &Store, tenant: &ids::Name, names: &[Name], memory: &[u8]) -> Fallible<()> {
    let (mut opens, mut copies, mut found) = (Times::default(), Times::default(), 0_u64);
    let mut into = [0; BYTES];
    for n in 0..names.len() as u64 {
        let idx = usize::try_from(mix(n) % names.len() as u64)?;
        found ^= opens.time(|| {
            let reader = store.open_object(tenant, &names[idx])?;
            Ok(sum(&reader.view().ok_or("one piece")?))
        })?;
        found ^= copies.time(|| {
            into.copy_from_slice(&memory[idx * BYTES..(idx + 1) * BYTES]);
            Ok(sum(&into))
        })?;
    }
    opens.tell("open by name and read 4 KiB");
    copies.tell("peer: copy 4 KiB out of memory");
    println!("({found:x})");
    Ok(())
}

fn durable(
    store: &Store,
    tenant: &ids::Name,
    names: &[Name],
    dir: &std::path::Path,
) -> Fallible<()> {
    let file = File::create(dir.join("peer"))?;
    file.write_all_at(&vec![0; 4 << 20], 0)?;
    file.sync_all()?;
    let (mut acks, mut syncs) = (Times::default(), Times::default());
    for (n, name) in names.iter().take(500).enumerate() {
        acks.time(|| {
            Ok(store
                .set_metadata(tenant, name, Box::new([1; 50]))?
                .wait()?)
        })?;
        syncs.time(|| {
            file.write_all_at(&[1; 512], n as u64 * 512)?;
            Ok(file.sync_data()?)
        })?;
    }
    acks.tell("a change of a name, durable");
    syncs.tell("peer: write 512 bytes and fdatasync");
    Ok(())
}

#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn time<T>(&mut self, act: impl FnOnce() -> Fallible<T>) -> Fallible<T> {
        let start: Instant = rt::now();
        let result = act();
        let took = rt::now() - start;
        self.0.push(u64::try_from(took.as_nanos())?);
        result
    }

    fn tell(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |percent: usize| self.0[(self.0.len() - 1) * percent / 100] as f64 / 1e3;
        println!("{what:40} p50 {:8.2} us  p99 {:8.2} us", at(50), at(99));
    }
}
