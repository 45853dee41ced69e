//! What the log costs beside what the disk costs: appenders that wait for each record, and `pwrite` + `fdatasync` of as many bytes as the log
//! writes for one sync, in a loop on a file that is zeroed ahead. Both in turn in short slices, since a disk has moods: what counts is the
//! ratio of records in a second of each two slices, of which the quartiles are printed. One JSON object a line.
//!
//! `cargo run -p wal --example wal-bench -- [DIRECTORY [SECONDS]]`

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};
use wal::{Config, Directory, DurableLog as _, LogId, Wal};

const RECORD_HEAD_BYTES: usize = 32;
const SLICE: Duration = Duration::from_millis(50);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into())).join("wal-bench.tmp");
    let seconds = arguments
        .next()
        .map_or(2, |text| text.parse().expect("seconds"));
    run_all(&path, Duration::from_secs(seconds), 1_000_000);
}

fn run_all(path: &Path, time: Duration, n_records: u32) {
    for n_bytes in [128, 4096] {
        for n_appenders in [1, 8, 64] {
            compare(path, n_bytes, n_appenders, time);
        }
    }
    recover(path, n_records, 200);
}

#[test]
fn it_runs() {
    let path = std::env::temp_dir().join(format!("wal-bench-{}", rt::random_u64()));
    run_all(&path, Duration::ZERO, 1000);
}

/// What a start costs: to open the log, and to read all records; beside only reading its files. From the disk, then from memory.
fn recover(path: &Path, n_records: u32, n_bytes: usize) {
    let open = || {
        let disk = Directory::open(path).expect("a directory");
        let wal = Wal::open(Arc::new(disk), Config::default()).expect("opens");
        let log = wal.log(LogId(0)).expect("a log");
        (wal, log)
    };
    let seconds = |work: &mut dyn FnMut()| {
        let start = rt::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let (wal, log) = open();
    let body = vec![0x5a; n_bytes - 4];
    let appending = seconds(&mut || {
        for n in 0..n_records {
            drop(log.append(&[&n.to_le_bytes(), &body]).expect("it works"));
        }
        log.barrier().wait().expect("it works");
    });
    let mut opened = Some((wal, log));
    for place in ["disk", "memory"] {
        let evict = || {
            if place == "disk" {
                segments(path).for_each(|file| {
                    fadvise(&file, 0, None, Advice::DontNeed).expect("it is a file");
                });
            }
        };
        opened = None;
        evict();
        let opening = seconds(&mut || opened = Some(open()));
        let (_, log) = opened.as_ref().expect("opened");
        let mut n_read = 0;
        let reading = seconds(&mut || {
            let mut visit = |_, _: &[u8]| {
                n_read += 1;
                ControlFlow::Continue(())
            };
            log.read(log.start(), &mut visit).expect("it can be read");
        });
        assert_eq!(n_read, n_records);
        evict();
        let mut window = vec![0; 256 << 10];
        let probe = seconds(&mut || {
            segments(path).for_each(|mut file| while file.read(&mut window).expect("read") > 0 {});
        });
        println!(
            "{{\"bench\":\"wal.recover.{n_records}x{n_bytes}.{place}\",\"append_s\":{appending:.3},\"open_s\":{opening:.3},\
             \"read_s\":{reading:.3},\"probe_s\":{probe:.3},\"ratio\":{:.2}}}",
            (opening + reading) / probe,
        );
    }
    drop(opened);
    std::fs::remove_dir_all(path).expect("removed");
}

fn segments(path: &Path) -> impl Iterator<Item = File> {
    let entries = std::fs::read_dir(path).expect("listed");
    let paths = entries.map(|entry| entry.expect("listed").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|name| name == "wal"));
    segments.map(|path| File::open(path).expect("a file"))
}

fn compare(path: &Path, n_bytes: usize, n_appenders: u32, time: Duration) {
    let disk = Directory::open(path).expect("a directory");
    let wal = Wal::open(Arc::new(disk), Config::default()).expect("opens");
    let mut probe = Probe::new(&path.join("probe"));
    let (mut of_probe, mut of_log) = (Figures::default(), Figures::default());
    let mut ratios = Vec::new();
    loop {
        let n_syncs = wal.stats().n_syncs;
        let per_s = of_log.slice(|latencies| run(&wal, n_bytes, n_appenders, latencies));
        let n_syncs = u32::try_from(wal.stats().n_syncs - n_syncs).expect("few");
        of_log.n_syncs += n_syncs;
        // As many bytes for each sync as the log had on average.
        let n_records =
            (of_log.latencies.len() / usize::try_from(of_log.n_syncs).expect("few")).max(1);
        let batch = vec![0x5a; n_records * (n_bytes + RECORD_HEAD_BYTES)];
        let batches_per_s = of_probe.slice(|latencies| probe.run(&batch, latencies));
        ratios.push(per_s / (batches_per_s * f64::from(u32::try_from(n_records).expect("few"))));
        if of_log.time >= time {
            break;
        }
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let quartile = |n| ratios[(ratios.len() - 1) * n / 4];
    let records_per_sync = of_log.per_s() * of_log.time.as_secs_f64() / f64::from(of_log.n_syncs);
    println!(
        "{{\"bench\":\"wal.append.{n_bytes}.x{n_appenders}\",\"per_s\":{:.0},\"p50_us\":{:.0},\"p99_us\":{:.0},\"cpu_us\":{:.1},\
         \"records_per_sync\":{records_per_sync:.1},\"probe_syncs_per_s\":{:.0},\"probe_p50_us\":{:.0},\"probe_p99_us\":{:.0},\
         \"probe_cpu_us\":{:.1},\"ratio_quartiles\":[{:.2},{:.2},{:.2}]}}",
        of_log.per_s(),
        of_log.percentile_us(50),
        of_log.percentile_us(99),
        of_log.cpu_us(),
        of_probe.per_s(),
        of_probe.percentile_us(50),
        of_probe.percentile_us(99),
        of_probe.cpu_us(),
        quartile(1),
        quartile(2),
        quartile(3),
    );
    drop(wal);
    std::fs::remove_dir_all(path).expect("removed");
}

#[derive(Debug, Default)]
struct Figures {
    latencies: Vec<Duration>,
    n_syncs: u32,
    time: Duration,
    cpu: Duration,
}

impl Figures {
    /// Adds what `work` measures, and returns how often that was in a second.
    fn slice(&mut self, work: impl FnOnce(&mut Vec<Duration>)) -> f64 {
        let (n_before, cpu, start) = (self.latencies.len(), cpu_time(), rt::now());
        work(&mut self.latencies);
        let time = start.elapsed();
        self.time += time;
        self.cpu += cpu_time() - cpu;
        let n = u32::try_from(self.latencies.len() - n_before).expect("few");
        f64::from(n) / time.as_secs_f64()
    }

    fn n(&self) -> f64 {
        f64::from(u32::try_from(self.latencies.len()).expect("few"))
    }

    fn per_s(&self) -> f64 {
        self.n() / self.time.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.n()
    }

    fn percentile_us(&mut self, per_cent: usize) -> f64 {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * per_cent / 100].as_secs_f64() * 1e6
    }
}

/// Of all threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it counts up from zero")
}

/// The physical limit.
struct Probe {
    file: File,
    offset: u64,
}

impl Probe {
    const FILE_BYTES: usize = 64 << 20;

    fn new(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .open(path)
            .expect("a file");
        file.write_all_at(&vec![0; Self::FILE_BYTES], 0)
            .expect("written");
        file.sync_all().expect("synced");
        Self { file, offset: 0 }
    }

    fn run(&mut self, batch: &[u8], latencies: &mut Vec<Duration>) {
        let start = rt::now();
        let n_bytes = batch.len() as u64;
        while start.elapsed() < SLICE {
            let before = rt::now();
            self.file.write_all_at(batch, self.offset).expect("written");
            self.file.sync_data().expect("synced");
            latencies.push(before.elapsed());
            self.offset = (self.offset + n_bytes) % (Self::FILE_BYTES as u64 - n_bytes);
        }
    }
}

fn run(wal: &Wal, n_bytes: usize, n_appenders: u32, latencies: &mut Vec<Duration>) {
    let is_over = AtomicBool::new(false);
    let append = |id| {
        let log = wal.log(LogId(id % 4)).expect("a log");
        let bytes = vec![0x5a; n_bytes];
        let mut latencies = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let before = rt::now();
            let ticket = log.append(&[&bytes]).expect("it works");
            ticket.wait().expect("it works");
            latencies.push(before.elapsed());
        }
        // So that segments are used again, as they are in service.
        log.truncate(log.end()).expect("it works");
        latencies
    };
    let append = &append;
    let start = rt::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..n_appenders)
            .map(|id| scope.spawn(move || append(id)))
            .collect();
        while start.elapsed() < SLICE {
            thread::park_timeout(SLICE);
        }
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            latencies.extend(thread.join().expect("it works"));
        }
    });
}
