//! What the kernel knows about the processes of the units.
//!
//! Processor time, and time spent waiting for a processor, are counted by the kernel for each thread. What is reported is how much they grew
//! from one sample to the next, over the time between. A number that could not be had is not reported: it is not zero. Kernels differ in
//! whether they count at all; what is not counted is told apart from a thread that has ended, and from one that did nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Both counters of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    used_ns: u64,
    waited_ns: u64,
}

/// One process at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Process {
    /// In clock ticks since boot; a process number with another start time is another process.
    started: u64,
    threads: BTreeMap<u32, Counters>,
    memory_bytes: u64,
    /// Why the counters of one of its threads are missing.
    uncounted: Option<String>,
}

/// All processes at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    processes: BTreeMap<u32, Process>,
    uncounted: Option<String>,
}

/// What the processes did from one snapshot to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Processors.
    pub used: f64,
    pub waiting: f64,
}

impl Snapshot {
    /// Reads the counters of these processes; one that has ended is left out.
    pub(crate) fn take(proc: &Path, pids: &[u32]) -> io::Result<Self> {
        let mut snapshot = Self::default();
        for pid in pids {
            match Process::read(&proc.join(pid.to_string())) {
                Ok(mut process) => {
                    snapshot.uncounted = snapshot.uncounted.or(process.uncounted.take());
                    snapshot.processes.insert(*pid, process);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshot)
    }

    /// Why it says nothing about processor time.
    pub(crate) fn uncounted(&self) -> Option<&str> {
        self.uncounted.as_deref()
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.processes
            .values()
            .map(|process| process.memory_bytes)
            .sum()
    }

    /// What happened since `before`, `elapsed` ago. Of a process that is new in the list it is not known since when it counts: it begins now,
    /// like all of them in the first snapshot. A thread that is new in a known process began after `before`.
    pub(crate) fn since(&self, before: &Self, elapsed: Duration) -> Option<Usage> {
        if self.uncounted.is_some() || before.uncounted.is_some() {
            return None;
        }
        let (mut used_ns, mut waited_ns) = (0, 0);
        for (pid, process) in &self.processes {
            let known = before.processes.get(pid);
            let Some(known) = known.filter(|known| known.started == process.started) else {
                continue;
            };
            for (thread, now) in &process.threads {
                let then = known.threads.get(thread).copied().unwrap_or_default();
                // A thread number may be used again: then it counts from zero.
                let reused = now.used_ns < then.used_ns || now.waited_ns < then.waited_ns;
                let then = if reused { Counters::default() } else { then };
                used_ns += now.used_ns - then.used_ns;
                waited_ns += now.waited_ns - then.waited_ns;
            }
        }
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        let elapsed = elapsed.as_secs_f64();
        (elapsed > 0.0).then(|| Usage {
            used: seconds(used_ns) / elapsed,
            waiting: seconds(waited_ns) / elapsed,
        })
    }
}

impl Process {
    fn read(folder: &Path) -> io::Result<Self> {
        let mut process = Self {
            started: parse_start(&read(&folder.join("stat"))?).ok_or_else(malformed)?,
            ..Self::default()
        };
        let mut n_counted = 0;
        for entry in fs::read_dir(folder.join("task"))? {
            let entry = entry?;
            let thread = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let path = entry.path().join("schedstat");
            let text = match read(&path) {
                Ok(text) => text,
                // The thread has ended; if it has not, it is its counters that are missing.
                Err(error) if is_gone(&error) && !entry.path().exists() => continue,
                Err(error) => {
                    process.uncounted = Some(format!("read {}: {error}", path.display()));
                    continue;
                }
            };
            let counters = parse_counters(&text).ok_or_else(malformed)?;
            n_counted += usize::from(text.trim() != NOT_COUNTED);
            process
                .threads
                .insert(thread.ok_or_else(malformed)?, counters);
        }
        // Nobody names a process before it has run.
        if n_counted == 0 && !process.threads.is_empty() {
            let why = "the kernel does not count how long threads run and wait";
            process.uncounted = Some(why.into());
        }
        // A process that has ended and is not yet waited for has no memory left.
        process.memory_bytes = parse_memory(&read(&folder.join("status"))?).unwrap_or(0);
        Ok(process)
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn malformed() -> io::Error {
    io::Error::other("the kernel's counters have another form than expected")
}

/// Of a thread that has never run; or of any, if the kernel does not count.
const NOT_COUNTED: &str = "0 0 0";

/// `RUN_NS WAIT_NS TIMESLICES`
fn parse_counters(text: &str) -> Option<Counters> {
    let mut fields = text.split_whitespace().map(str::parse);
    Some(Counters {
        used_ns: fields.next()?.ok()?,
        waited_ns: fields.next()?.ok()?,
    })
}

/// The 22nd field; the second is a name in parentheses that may contain anything.
fn parse_start(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

fn parse_memory(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(started: u64, threads: &[(u32, u64, u64)]) -> Process {
        let counters = |(thread, used_ns, waited_ns): &(u32, u64, u64)| {
            let counters = Counters {
                used_ns: *used_ns,
                waited_ns: *waited_ns,
            };
            (*thread, counters)
        };
        Process {
            started,
            threads: threads.iter().map(counters).collect(),
            memory_bytes: 0,
            uncounted: None,
        }
    }

    #[test]
    fn only_growth_that_was_seen_counts() {
        const S: u64 = 1_000_000_000;
        let check = |before: &[(u32, Process)], after: &[(u32, Process)], used, waiting| {
            let snapshot = |list: &[(u32, Process)]| Snapshot {
                processes: list.iter().cloned().collect(),
                uncounted: None,
            };
            let usage = snapshot(after).since(&snapshot(before), Duration::from_secs(2));
            assert_eq!(usage, Some(Usage { used, waiting }));
        };
        let one = process(7, &[(10, 5 * S, S), (11, S, 0)]);
        check(&[], &[], 0.0, 0.0);
        check(&[(10, one.clone())], &[(10, one.clone())], 0.0, 0.0);
        // A process that came into view has its history from elsewhere.
        check(&[], &[(10, one.clone())], 0.0, 0.0);
        // So has one that took over a number.
        check(
            &[(10, process(6, &[(10, 0, 0)]))],
            &[(10, one.clone())],
            0.0,
            0.0,
        );
        // It ended.
        check(&[(10, one.clone())], &[], 0.0, 0.0);
        // One thread ran, one ended, one began.
        let later = process(7, &[(10, 7 * S, 2 * S), (12, S, S)]);
        check(&[(10, one.clone())], &[(10, later)], 1.5, 1.0);
        // A thread took over a number.
        let reused = process(7, &[(10, 5 * S, S), (11, S / 2, 0)]);
        check(&[(10, one)], &[(10, reused)], 0.25, 0.0);
    }

    #[test]
    fn no_time_no_usage() {
        let snapshot = Snapshot::default();
        assert_eq!(snapshot.since(&snapshot, Duration::ZERO), None);
    }

    #[test]
    fn the_kernel_counts_this_process() {
        let proc = Path::new("/proc");
        let me = [std::process::id(), u32::MAX >> 2];
        let (before, began) = (Snapshot::take(proc, &me).expect("readable"), rt::now());
        assert_eq!(before.processes.len(), 1, "the other does not exist");
        assert!(before.memory_bytes() > 1 << 16);
        loop {
            let after = Snapshot::take(proc, &me).expect("readable");
            let usage = after.since(&before, began.elapsed()).expect("time passes");
            if usage.used > 0.0 {
                break;
            }
        }
    }

    /// A process with one thread, as far as files go; returns where its counters are.
    fn one_process(proc: &Path) -> std::path::PathBuf {
        let stat = format!("1 (a) b) S{}", " 7".repeat(30));
        let task = proc.join("1/task/1");
        fs::create_dir_all(&task).expect("room");
        fs::write(proc.join("1/stat"), stat).expect("room");
        fs::write(proc.join("1/status"), "Name:\ta\nVmRSS:\t  12 kB\n").expect("room");
        task.join("schedstat")
    }

    /// Kernels without `CONFIG_SCHED_INFO` have no such file, others have it and do not count; and it may not be readable.
    #[test]
    fn what_is_not_counted_is_no_zero() {
        let dir = tempfile::tempdir().expect("a folder");
        let counters = one_process(dir.path());
        let take = || Snapshot::take(dir.path(), &[1]).expect("memory is there");
        let check = |before: &Snapshot, after: &Snapshot, is_counted: bool| {
            let usage = after.since(before, Duration::from_secs(1));
            assert_eq!(usage.is_some(), is_counted, "{after:?}");
        };
        let missing = take();
        assert!(missing.uncounted().is_some_and(|why| why.contains("read ")));
        assert_eq!(missing.memory_bytes(), 12 << 10);
        check(&missing, &missing, false);
        fs::write(&counters, "0 0 0\n").expect("room");
        let off = take();
        assert!(off.uncounted().is_some_and(|why| why.contains("count")));
        check(&off, &off, false);
        fs::write(&counters, "5 6 1\n").expect("room");
        let counted = take();
        assert_eq!(counted.uncounted(), None);
        check(&missing, &counted, false);
        check(&counted, &off, false);
        check(&counted, &counted, true);
        fs::remove_file(&counters).expect("it is there");
        fs::create_dir(&counters).expect("room");
        assert!(take().uncounted().is_some(), "it is there, but unreadable");
        // A thread that has ended has no folder.
        fs::remove_dir_all(dir.path().join("1/task/1")).expect("it is there");
        assert_eq!(take().uncounted(), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_zero() {
        let dir = tempfile::tempdir().expect("a folder");
        let counters = one_process(dir.path());
        for bad in ["", "1", "x 1 1", "1 -1 1"] {
            fs::write(&counters, bad).expect("room");
            Snapshot::take(dir.path(), &[1]).expect_err(bad);
        }
        fs::write(&counters, "5 6 1\n").expect("room");
        let snapshot = Snapshot::take(dir.path(), &[1]).expect("well-formed");
        assert_eq!(snapshot.memory_bytes(), 12 << 10);
        assert_eq!(
            snapshot.processes[&1],
            Process {
                memory_bytes: 12 << 10,
                ..process(7, &[(1, 5, 6)])
            }
        );
    }
}
