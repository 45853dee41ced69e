//! What the disk tier costs beside what the disk costs, in turn in short slices, since a disk has moods. One JSON object a line.
//!
//! - `geds.seal_4k.durable`: an object of 4 KiB and a record of another log, as the index has one, until both are durable; beside `pwrite` and
//!   `fdatasync` of as many bytes on a file that is zeroed ahead.
//! - `geds.seal.durable.N`: the same of other sizes, once through the log and once to its place at once: from where on which is better.
//! - `geds.tier1.write_4m`, `read_4m`: random bytes from whole pages to their place, and back with all checksums compared; beside `pwrite` and
//!   `pread` past the page cache, synced as often.
//!
//! `cargo run -p geds --example tier1-bench -- [DIRECTORY [SECONDS]]`

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use geds_disk::{Config, Drive, Id, Store};
use rustix::fs::OFlags;
use wal::{Directory, DurableLog, LogId, Wal};

const SLICE: Duration = Duration::from_millis(100);
const FILE_BYTES: u64 = 64 << 20;
/// As long as what the index says of an object.
const INDEX_RECORD: [u8; 150] = [0x5a; 150];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path =
        PathBuf::from(arguments.next().unwrap_or_else(|| ".".into())).join("tier1-bench.tmp");
    let seconds = arguments.next();
    let time = Duration::from_secs(seconds.map_or(3, |text| text.parse().expect("seconds")));
    run(&path, time);
}

fn run(path: &Path, time: Duration) {
    let mut probe = Probe::new(&path.with_extension("probe"));
    {
        let mut world = World::new(path, 64 << 10);
        seal_small(&mut world, &mut probe, time);
        large(&mut world, &mut probe, time);
    }
    small_or_large(path, time);
    std::fs::remove_file(path.with_extension("probe")).expect("it was made here");
}

/// Both in turn, on two stores.
fn small_or_large(path: &Path, time: Duration) {
    let paths = ["log", "place"].map(|name| path.with_extension(name));
    let mut worlds = [World::new(&paths[0], 64 << 10), World::new(&paths[1], 0)];
    for len in [4, 16, 32, 64].map(|kib| kib << 10) {
        let mut figures = [Figures::default(), Figures::default()];
        let until = rt::now() + time / 2;
        while rt::now() < until {
            for (world, figures) in worlds.iter_mut().zip(&mut figures) {
                figures.slice(|| world.seal(len));
            }
        }
        let [log, place] = figures.each_mut().map(Figures::p50_us);
        println!(
            "{{\"bench\":\"geds.seal.durable.{}k\",\"value\":{log:.0},\"unit\":\"us\",\"peer\":\"to its place at once\",\
             \"peer_value\":{place:.0},\"ratio\":{:.2}}}",
            len >> 10,
            log / place,
        );
    }
}

fn seal_small(world: &mut World, probe: &mut Probe, time: Duration) {
    let (mut ours, mut bare) = (Figures::default(), Figures::default());
    let n_syncs = world.wal.stats().n_syncs;
    let until = rt::now() + 2 * time;
    while rt::now() < until {
        bare.slice(|| probe.seal(4096 + INDEX_RECORD.len()));
        ours.slice(|| world.seal(4096));
    }
    let n_syncs = world.wal.stats().n_syncs - n_syncs;
    let (value, peer) = (ours.p50_us(), bare.p50_us());
    println!(
        "{{\"bench\":\"geds.seal_4k.durable\",\"value\":{value:.0},\"unit\":\"us\",\"peer\":\"pwrite+fdatasync\",\"peer_value\":{peer:.0},\
         \"ratio\":{:.2},\"goal\":\"ratio<=1.3\",\"ok\":{},\"p99_us\":{:.0},\"peer_p99_us\":{:.0},\"runs\":{},\"syncs_per_seal\":{:.2}}}",
        value / peer,
        value <= 1.3 * peer,
        ours.percentile_us(99),
        bare.percentile_us(99),
        ours.n(),
        n_syncs as f64 / ours.n() as f64,
    );
}

/// A sync for each 64 MiB written, on both sides.
fn large(world: &mut World, probe: &mut Probe, time: Duration) {
    const LEN: usize = 4 << 20;
    let bytes = Pages::random(LEN);
    let sums = sums_of(&bytes);
    let (mut ours, mut bare) = (Figures::default(), Figures::default());
    let (mut our_reads, mut bare_reads) = (Figures::default(), Figures::default());
    let mut into = Pages::random(LEN);
    let until = rt::now() + 2 * time;
    while rt::now() < until {
        bare.slice(|| probe.write_direct(&bytes));
        bare_reads.slice(|| probe.read_direct(&mut into));
        ours.slice(|| {
            let id = world.id();
            let ticket = world.store.put(id, &[&bytes], &sums, rt::now() + time);
            ticket.expect("there is room").wait().expect("it works");
            world.forget(id);
        });
        our_reads.slice(|| {
            let id = *world.sealed.last().expect("one is kept");
            let n = world.store.read_at(id, 0, &mut into).expect("it is there");
            assert_eq!(n, LEN);
        });
        assert!(into[..] == bytes[..]);
    }
    for (name, mut ours, mut bare) in [("write", ours, bare), ("read", our_reads, bare_reads)] {
        let (value, peer) = (ours.p50_us(), bare.p50_us());
        println!(
            "{{\"bench\":\"geds.tier1.{name}_4m\",\"value\":{value:.0},\"unit\":\"us\",\"peer\":\"p{name} O_DIRECT\",\"peer_value\":{peer:.0},\
             \"ratio\":{:.2},\"gb_per_s\":{:.2},\"peer_gb_per_s\":{:.2},\"rings\":{}}}",
            value / peer,
            LEN as f64 / 1e3 / value,
            LEN as f64 / 1e3 / peer,
            world.has_rings,
        );
    }
}

struct World {
    store: Store,
    index: Arc<dyn DurableLog>,
    wal: Wal,
    has_rings: bool,
    path: PathBuf,
    serial: u64,
    /// At most a few are kept.
    sealed: Vec<Id>,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).expect("it was made here");
    }
}

impl World {
    fn new(path: &Path, small_bytes_max: u64) -> Self {
        let drive = Drive::open(path).expect("a directory");
        let directory = Directory::open(path).expect("a directory");
        let wal = Wal::open(Arc::new(directory), wal::Config::default()).expect("it opens");
        let log = Arc::new(wal.log(LogId(0)).expect("a log"));
        let config = Config {
            limit_bytes: 512 << 20,
            segment_bytes: 64 << 20,
            small_bytes_max,
            ..Config::default()
        };
        let has_rings = drive.has_rings();
        let store = Store::open(&config, Arc::new(drive), log).expect("it opens");
        Self {
            store,
            index: Arc::new(wal.log(LogId(1)).expect("a log")),
            wal,
            has_rings,
            path: path.to_owned(),
            serial: 0,
            sealed: Vec::new(),
        }
    }

    fn id(&mut self) -> Id {
        self.serial += 1;
        Id {
            node: 1,
            epoch: 1,
            serial: self.serial,
        }
    }

    fn seal(&mut self, len: usize) {
        let id = self.id();
        let bytes = Pages::random(len);
        let sums = sums_of(&bytes);
        let by = rt::now() + Duration::from_secs(60);
        let object = self
            .store
            .put(id, &[&bytes], &sums, by)
            .expect("there is room");
        let record = self.index.append(&[&INDEX_RECORD]).expect("it works");
        record.wait().expect("it works");
        object.wait().expect("it works");
        self.forget(id);
    }

    /// So that pages are used again, and logs are shortened, as they are in service.
    fn forget(&mut self, id: Id) {
        self.sealed.push(id);
        if self.sealed.len() > 20 {
            for id in self.sealed.drain(..20) {
                self.store.free(id).expect("it is there");
            }
            self.index.truncate(self.index.end()).expect("it works");
        }
    }
}

fn sums_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(64 << 10).map(crc32c::crc32c).collect()
}

/// Bytes on whole pages.
struct Pages(Vec<u8>, usize, usize);

impl Pages {
    fn random(len: usize) -> Self {
        let mut bytes = vec![0; len + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        // Random enough not to be anybody's zeros, and cheap.
        let seed = rt::random_u64();
        for (n, word) in (seed..).zip(bytes.chunks_exact_mut(8)) {
            word.copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        Self(bytes, start, len)
    }
}

impl std::ops::Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0[self.1..self.1 + self.2]
    }
}

impl std::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0[self.1..self.1 + self.2]
    }
}

/// The physical limit.
struct Probe {
    file: File,
    direct: File,
    offset: u64,
}

impl Probe {
    fn new(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        for n in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, n << 20).expect("written");
        }
        file.sync_all().expect("synced");
        let flags = OFlags::DIRECT.bits().cast_signed();
        let options = options.create(false).truncate(false).custom_flags(flags);
        Self {
            direct: options.open(path).expect("it is there"),
            file,
            offset: 0,
        }
    }

    fn next(&mut self, n_bytes: u64) -> u64 {
        self.offset += n_bytes;
        if self.offset + n_bytes > FILE_BYTES {
            self.offset = 0;
        }
        self.offset
    }

    fn seal(&mut self, len: usize) {
        let bytes = Pages::random(len);
        let offset = self.next(len as u64);
        self.file.write_all_at(&bytes, offset).expect("written");
        self.file.sync_data().expect("synced");
    }

    fn write_direct(&mut self, bytes: &[u8]) {
        let offset = self.next(bytes.len() as u64) / 4096 * 4096;
        self.direct.write_all_at(bytes, offset).expect("written");
        // One for the bytes, one for the record that tells of them.
        self.direct.sync_data().expect("synced");
        self.seal(4096);
    }

    fn read_direct(&mut self, into: &mut [u8]) {
        let offset = self.next(into.len() as u64) / 4096 * 4096;
        self.direct.read_exact_at(into, offset).expect("read");
    }
}

#[derive(Debug, Default)]
struct Figures(Vec<Duration>);

impl Figures {
    fn n(&self) -> usize {
        self.0.len()
    }

    fn time(&mut self, what: impl FnOnce()) -> Instant {
        let before = rt::now();
        what();
        let after = rt::now();
        self.0.push(after - before);
        after
    }

    fn slice(&mut self, mut what: impl FnMut()) {
        let until = rt::now() + SLICE;
        while self.time(&mut what) < until {}
    }

    fn p50_us(&mut self) -> f64 {
        self.percentile_us(50)
    }

    fn percentile_us(&mut self, per_cent: usize) -> f64 {
        self.0.sort_unstable();
        self.0[self.0.len() * per_cent / 100].as_secs_f64() * 1e6
    }
}

/// So that it does not rot.
#[test]
fn it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    run(&directory.path().join("bench"), Duration::from_millis(1));
}
