//! A process that seals objects is killed again and again. What it has acknowledged is there afterwards, and nothing else is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use geds_disk::{Config, Drive, Error, Id, Store};
use wal::{Directory, LogId, Wal};

const ROUNDS: u64 = 12;
const THREADS: u64 = 3;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [mode, path, serial] if mode == "child" => {
            child(Path::new(path), serial.parse().expect("a number"));
        }
        _ => {
            let directory = tempfile::tempdir().expect("a directory");
            for open in [Drive::open, Drive::open_without_rings] {
                let path = directory.path().join(rt::random_u64().to_string());
                parent(&path, open);
            }
        }
    }
}

struct Opened {
    store: Store,
    _wal: Wal,
}

fn open(path: &Path, open: fn(&Path) -> std::io::Result<Drive>) -> Opened {
    let drive = open(path).expect("nobody else has it");
    let log_config = wal::Config {
        segment_bytes: 256 << 10,
        ..wal::Config::default()
    };
    let directory = Directory::open(path).expect("it is there");
    let wal = Wal::open(Arc::new(directory), log_config).expect("nothing is damaged");
    let log = Arc::new(wal.log(LogId(3)).expect("there are few"));
    // So small that all of it happens all the time.
    let config = Config {
        limit_bytes: 8 << 20,
        segment_bytes: 1 << 20,
        small_bytes_max: 16 << 10,
        staged_bytes_max: 128 << 10,
        log_bytes: 256 << 10,
    };
    let store = Store::open(&config, Arc::new(drive), log).expect("nothing is damaged");
    Opened { store, _wal: wal }
}

fn id(serial: u64) -> Id {
    Id {
        node: 1,
        epoch: 1,
        serial,
    }
}

fn len_of(serial: u64) -> usize {
    let hash = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let max = [5000, 5000, 17_000, 200_000][usize::try_from(hash % 4).expect("short")];
    usize::try_from(hash / 4 % max).expect("short")
}

fn bytes_of(serial: u64) -> Vec<u8> {
    let words = (0..).map(|n: u64| (serial << 32 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bytes = words.flat_map(u64::to_le_bytes);
    bytes.take(len_of(serial)).collect()
}

fn sums_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(64 << 10).map(crc32c::crc32c).collect()
}

fn say(what: char, serial: u64) {
    let line = format!("{what} {serial}\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("somebody listens");
}

/// Puts and frees until it is killed. Each thing is said before it is begun; of a put also that it is done.
fn child(path: &Path, first: u64) {
    let opened = open(path, Drive::open);
    let store = &opened.store;
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let next = &next;
            scope.spawn(move || {
                let mut mine = Vec::new();
                loop {
                    let serial = next.fetch_add(1, Ordering::Relaxed);
                    let bytes = bytes_of(serial);
                    say('a', serial);
                    let by = rt::now() + Duration::from_secs(60);
                    let ticket = store.put(id(serial), &[&bytes], &sums_of(&bytes), by);
                    ticket.expect("there is room").wait().expect("it works");
                    say('p', serial);
                    mine.push(serial);
                    if mine.len() as u64 > 5 + 3 * thread {
                        let hash = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                        let idx = usize::try_from(hash).expect("short") % mine.len();
                        let freed = mine.swap_remove(idx);
                        check(store, freed).expect("it is there");
                        say('f', freed);
                        store.free(id(freed)).expect("it is there");
                    }
                }
            });
        }
    });
}

fn check(store: &Store, serial: u64) -> Result<(), Error> {
    let expected = bytes_of(serial);
    let mut found = vec![0; expected.len() + 1];
    let n = store.read_at(id(serial), 0, &mut found)?;
    assert!(found[..n] == expected[..], "{serial} is another");
    Ok(())
}

fn parent(path: &Path, open_drive: fn(&Path) -> std::io::Result<Drive>) {
    drop(open(path, open_drive));
    let mut serial = 1;
    for round in 0..ROUNDS {
        let mut child = start(path, serial);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let n_lines = 3 + rt::random_u64() % (40 << (round % 4));
        let mut said = Vec::new();
        for _ in 0..n_lines {
            said.push(lines.next().expect("it goes on").expect("it is text"));
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        // What it had said by then.
        said.extend(lines.map_while(Result::ok));
        serial = after_kill(path, open_drive, &said, serial);
    }
}

fn start(path: &Path, serial: u64) -> Child {
    let program = std::env::current_exe().expect("it has a name");
    let mut command = Command::new(program);
    command.arg("child").arg(path).arg(serial.to_string());
    command.stdout(Stdio::piped()).spawn().expect("it starts")
}

/// Compares what is there with what was said. Frees it all, so that the next round begins with nothing, and returns the next serial.
fn after_kill(
    path: &Path,
    open_drive: fn(&Path) -> std::io::Result<Drive>,
    said: &[String],
    first: u64,
) -> u64 {
    let mut sets = BTreeMap::from([
        ('a', BTreeSet::new()),
        ('p', BTreeSet::new()),
        ('f', BTreeSet::new()),
    ]);
    for line in said {
        // The last one may be cut off.
        if let Some((what, serial)) = line.split_once(' ')
            && let (Ok(what), Ok(serial)) = (what.parse::<char>(), serial.parse::<u64>())
        {
            sets.get_mut(&what)
                .expect("it says nothing else")
                .insert(serial);
        }
    }
    let [asked, put, freed] = ['a', 'p', 'f'].map(|what| &sets[&what]);
    let opened = open(path, open_drive);
    let store = &opened.store;
    let there: BTreeSet<_> = store
        .objects(None, usize::MAX)
        .into_iter()
        .map(|(id, _)| id.serial)
        .collect();
    for serial in put.difference(freed) {
        assert!(there.contains(serial), "{serial} is lost");
    }
    let mut pages = 0;
    for serial in &there {
        let is_cut_off = said
            .last()
            .is_some_and(|line| line.ends_with(&serial.to_string()));
        assert!(
            asked.contains(serial) || is_cut_off || *serial >= first,
            "{serial} never was"
        );
        check(store, *serial).expect("it is whole");
        pages += (len_of(*serial) as u64).div_ceil(4096);
    }
    let scrubbed = store.scrub(None, u64::MAX).expect("it works");
    assert!(scrubbed.damages.is_empty() && scrubbed.next.is_none());
    assert_eq!(store.stats().used_bytes, pages * 4096, "nothing is leaked");
    for serial in &there {
        store.free(id(*serial)).expect("it is there");
    }
    let last = asked.last().max(there.last()).copied().unwrap_or(0);
    first.max(last) + THREADS + 1
}
