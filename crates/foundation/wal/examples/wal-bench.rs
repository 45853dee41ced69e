//! What the log costs beside what the disk costs: appenders that wait for each record, and `pwrite` + `fdatasync` of as many bytes in a loop
//! on a file that is zeroed ahead. One JSON object a line.
//!
//! `cargo run -p wal --example wal-bench -- [DIRECTORY [SECONDS]]`

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wal::{Config, Directory, DurableLog as _, LogId, Wal};

const RECORD_HEAD_BYTES: usize = 32;
const ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| ".".into());
    let seconds = arguments
        .next()
        .map_or(1.0, |text| text.parse().expect("seconds"));
    let path = PathBuf::from(path).join("wal-bench.tmp");
    let time = Duration::from_secs_f64(seconds);
    for n_bytes in [128, 4096] {
        for n_appenders in [1, 8, 64] {
            // In turn, so that both meet the same disk.
            let (mut probes, mut logs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                probes.push(probe(&path, n_bytes + RECORD_HEAD_BYTES, time));
                logs.push(log(&path, n_bytes, n_appenders, time));
            }
            let (probe, log) = (median(probes), median(logs));
            println!(
                "{{\"bench\":\"wal.append.{n_bytes}.x{n_appenders}\",\"per_s\":{:.0},\"p50_us\":{:.0},\"p99_us\":{:.0},\
                 \"records_per_sync\":{:.1},\"syncs_per_s\":{:.0},\"probe_per_s\":{:.0},\"probe_p50_us\":{:.0},\
                 \"probe_p99_us\":{:.0},\"p50_ratio\":{:.2},\"sync_ratio\":{:.2}}}",
                log.per_s,
                log.p50_us,
                log.p99_us,
                log.per_s / log.syncs_per_s,
                log.syncs_per_s,
                probe.per_s,
                probe.p50_us,
                probe.p99_us,
                log.p50_us / probe.p50_us,
                log.syncs_per_s / probe.per_s,
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Figures {
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
    syncs_per_s: f64,
}

impl Figures {
    fn new(mut latencies: Vec<Duration>, time: Duration, n_syncs: u64) -> Self {
        latencies.sort_unstable();
        let at = |per_cent: usize| latencies[latencies.len() * per_cent / 100].as_secs_f64() * 1e6;
        let n = u32::try_from(latencies.len()).expect("few");
        let n_syncs = u32::try_from(n_syncs).expect("few");
        Self {
            per_s: f64::from(n) / time.as_secs_f64(),
            p50_us: at(50),
            p99_us: at(99),
            syncs_per_s: f64::from(n_syncs) / time.as_secs_f64(),
        }
    }
}

fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.p50_us.total_cmp(&b.p50_us));
    rounds[rounds.len() / 2]
}

/// The physical limit of one appender.
fn probe(path: &Path, n_bytes: usize, time: Duration) -> Figures {
    const FILE_BYTES: u64 = 64 << 20;
    std::fs::create_dir_all(path).expect("a directory");
    let name = path.join("probe");
    let mut options = OpenOptions::new();
    let file: File = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(&name)
        .expect("a file");
    file.write_all_at(&vec![0; 64 << 20], 0).expect("written");
    file.sync_all().expect("synced");
    let bytes = vec![0x5a; n_bytes];
    let (mut offset, mut latencies) = (0, Vec::new());
    let start = rt::now();
    while start.elapsed() < time {
        let before = rt::now();
        file.write_all_at(&bytes, offset).expect("written");
        file.sync_data().expect("synced");
        latencies.push(before.elapsed());
        offset = (offset + n_bytes as u64) % (FILE_BYTES - n_bytes as u64);
    }
    let time = start.elapsed();
    std::fs::remove_dir_all(path).expect("removed");
    let n_syncs = latencies.len() as u64;
    Figures::new(latencies, time, n_syncs)
}

fn log(path: &Path, n_bytes: usize, n_appenders: usize, time: Duration) -> Figures {
    let disk = Directory::open(path).expect("a directory");
    let wal = Wal::open(Arc::new(disk), Config::default()).expect("opens");
    let is_over = AtomicBool::new(false);
    let append = |id| {
        let log = wal.log(LogId(id % 4)).expect("a log");
        let bytes = vec![0x5a; n_bytes];
        let mut latencies = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let before = rt::now();
            let ticket = log.append(&[&bytes]).expect("it works");
            let position = ticket.wait().expect("it works");
            latencies.push(before.elapsed());
            // So that segments are used again, as they are in service.
            if latencies.len() % 1000 == 0 {
                log.truncate(position).expect("it works");
            }
        }
        latencies
    };
    let start = rt::now();
    let n_syncs_before = wal.stats().n_syncs;
    let latencies = thread::scope(|scope| {
        let ids = 0..u32::try_from(n_appenders).expect("few");
        let threads: Vec<_> = ids
            .map(|id| {
                scope.spawn({
                    let append = &append;
                    move || append(id)
                })
            })
            .collect();
        thread::park_timeout(time);
        is_over.store(true, Ordering::Relaxed);
        let latencies = threads
            .into_iter()
            .map(|thread| thread.join().expect("it works"));
        latencies.flatten().collect()
    });
    let time = start.elapsed();
    let n_syncs = wal.stats().n_syncs - n_syncs_before;
    drop(wal);
    std::fs::remove_dir_all(path).expect("removed");
    Figures::new(latencies, time, n_syncs)
}
