//! What the log costs beside what the disk costs: appenders that wait for each record, and `pwrite` + `fdatasync` of as many bytes in a loop
//! on a file that is zeroed ahead. Both in turn in short slices, since a disk has moods. One JSON object a line.
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
    let mut probe = Probe::new(&path.join("probe"), n_bytes + RECORD_HEAD_BYTES);
    let (mut of_probe, mut of_log) = (Figures::default(), Figures::default());
    loop {
        probe.run(&mut of_probe);
        run(&wal, n_bytes, n_appenders, &mut of_log);
        if of_log.time >= time {
            break;
        }
    }
    let n_syncs = f64::from(u32::try_from(wal.stats().n_syncs).expect("few"));
    let syncs_per_s = n_syncs / of_log.time.as_secs_f64();
    let (log, probe) = (of_log.per_s(), of_probe.per_s());
    let log_us = [50, 99].map(|per_cent| of_log.percentile_us(per_cent));
    let probe_us = [50, 99].map(|per_cent| of_probe.percentile_us(per_cent));
    println!(
        "{{\"bench\":\"wal.append.{n_bytes}.x{n_appenders}\",\"per_s\":{log:.0},\"p50_us\":{:.0},\"p99_us\":{:.0},\
         \"records_per_sync\":{:.1},\"syncs_per_s\":{syncs_per_s:.0},\"probe_per_s\":{probe:.0},\"probe_p50_us\":{:.0},\
         \"probe_p99_us\":{:.0},\"p50_ratio\":{:.2},\"p99_ratio\":{:.2},\"per_s_ratio\":{:.2}}}",
        log_us[0],
        log_us[1],
        log / syncs_per_s,
        probe_us[0],
        probe_us[1],
        log_us[0] / probe_us[0],
        log_us[1] / probe_us[1],
        log / probe,
    );
    drop(wal);
    std::fs::remove_dir_all(path).expect("removed");
}

#[derive(Debug, Default)]
struct Figures {
    latencies: Vec<Duration>,
    time: Duration,
}

impl Figures {
    fn per_s(&self) -> f64 {
        f64::from(u32::try_from(self.latencies.len()).expect("few")) / self.time.as_secs_f64()
    }

    fn percentile_us(&mut self, per_cent: usize) -> f64 {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * per_cent / 100].as_secs_f64() * 1e6
    }
}

/// The physical limit of one appender.
struct Probe {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
}

impl Probe {
    const FILE_BYTES: usize = 64 << 20;

    fn new(path: &Path, n_bytes: usize) -> Self {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .open(path)
            .expect("a file");
        file.write_all_at(&vec![0; Self::FILE_BYTES], 0)
            .expect("written");
        file.sync_all().expect("synced");
        let bytes = vec![0x5a; n_bytes];
        let offset = 0;
        Self {
            file,
            bytes,
            offset,
        }
    }

    fn run(&mut self, figures: &mut Figures) {
        let start = rt::now();
        while start.elapsed() < SLICE {
            let before = rt::now();
            self.file
                .write_all_at(&self.bytes, self.offset)
                .expect("written");
            self.file.sync_data().expect("synced");
            figures.latencies.push(before.elapsed());
            let n_bytes = self.bytes.len() as u64;
            self.offset = (self.offset + n_bytes) % (Self::FILE_BYTES as u64 - n_bytes);
        }
        figures.time += start.elapsed();
    }
}

fn run(wal: &Wal, n_bytes: usize, n_appenders: u32, figures: &mut Figures) {
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
            figures.latencies.extend(thread.join().expect("it works"));
        }
    });
    figures.time += start.elapsed();
}
