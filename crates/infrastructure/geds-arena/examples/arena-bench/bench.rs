//! The measurements. This process is the agent, and starts itself as the client.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use geds_arena::{Arena, Client, Config, Keeper, Object, Share};

use super::keeper::Names;

pub(crate) type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const PAGE: usize = 4 << 10;
const MIB: usize = 1 << 20;
/// Objects to read from: together four times the last cache.
const READ_BYTES: usize = 64 << 10;
const READ_OBJECTS: usize = 2048;
const ROUNDS: usize = 5;

/// With a larger `scale` there is so much less to do, to see whether it works at all.
pub(crate) fn agent(scale: usize) -> Outcome {
    in_process(scale)?;
    memory(scale)?;
    let arena = Arena::start(&Config {
        limit_bytes: 4 << 30,
        ..Config::default()
    })?;
    let (left, _listens) = sync_channel(8);
    let names = Arc::new(Names::new(arena, left)?);
    let mut random = Random(1);
    for n in 0..READ_OBJECTS / scale {
        names.put(&name("read", n), &random.bytes(READ_BYTES))?;
    }
    for n in 0..128 / scale {
        names.put(&name("scan", n), &random.bytes(MIB))?;
        names.put(&name("raw", n), &random.bytes(MIB))?;
    }
    // Each is in a segment that no client has mapped: the rest of it is filled.
    for n in 0..(32 / scale).max(2) {
        names.put(&name("first", n), &random.bytes(PAGE))?;
        names.put(&name("next", n), &random.bytes(PAGE))?;
        names.put(&name("filler", n), &vec![1; (16 << 20) - 2 * PAGE])?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let keeper: Arc<dyn Keeper> = Arc::<Names>::clone(&names);
    let _share = Share::start(&path, keeper, 4)?;
    let client = Command::new(std::env::current_exe()?)
        .arg("client")
        .arg(&path)
        .arg(scale.to_string())
        .status()?;
    names.forget_all();
    if client.success() {
        Ok(())
    } else {
        Err("the client has failed".into())
    }
}

fn in_process(scale: usize) -> Outcome {
    let arena = Arena::start(&Config::default())?;
    let domain = arena.domain(u64::MAX)?;
    let mut random = Random(2);
    let mut names: HashMap<Vec<u8>, Object> = HashMap::new();
    let n_objects = READ_OBJECTS / scale;
    for n in 0..n_objects {
        let mut writer = domain.writer();
        writer.append(&random.bytes(READ_BYTES))?;
        names.insert(name("read", n), domain.seal(writer)?);
    }
    let plain = random.bytes(n_objects * READ_BYTES);
    let wanted: Vec<Vec<u8>> = (0..n_objects).map(|n| name("read", n)).collect();
    let mut into = [0; PAGE];
    let (mut times, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..200_000 / scale {
        let (n, at) = (
            random.below(n_objects),
            random.below(READ_BYTES / PAGE) * PAGE,
        );
        times.push(time(|| {
            let opened = names[&wanted[n]].open();
            black_box(opened.map(|opened| opened.read_at(at as u64, &mut into))).is_ok()
        }));
        let at = random.below(plain.len() / PAGE) * PAGE;
        limit.push(time(|| {
            black_box(&mut into).copy_from_slice(&plain[at..at + PAGE])
        }));
    }
    report(
        "geds.open_read_4k.in_process",
        &times,
        Goal::Most(1.0),
        "memcpy of 4 KiB",
        &limit,
    )?;
    let mut kept = std::collections::VecDeque::new();
    write(scale, "geds.write_1m.in_process", |source| {
        let mut writer = domain.writer();
        writer.append(source)?;
        kept.push_back(domain.seal(writer)?);
        if kept.len() > 64 {
            kept.pop_front();
        }
        Ok(())
    })
}

/// Writes objects of 1 MiB; 64 of them are kept, as many as the limit has buffers.
fn write(
    scale: usize,
    what: &str,
    mut put: impl FnMut(&[u8]) -> geds_arena::Result<()>,
) -> Outcome {
    let sources = Random(3).bytes(64 * MIB);
    let mut buffers = vec![1; 64 * MIB];
    let (mut times, mut limit) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for n in 0..256 / scale {
            let source = &sources[n % 64 * MIB..][..MIB];
            let buffer = &mut buffers[n % 64 * MIB..][..MIB];
            let (mut put_time, mut limit_time) = (Duration::ZERO, Duration::ZERO);
            // Each is the first one in turn.
            for is_put in [n % 2 == 0, n % 2 == 1] {
                if is_put {
                    let begin = rt::now();
                    put(source)?;
                    put_time = begin.elapsed();
                } else {
                    limit_time = time(|| copy_and_sum(source, buffer));
                }
            }
            // The first round warms memory.
            if round > 0 {
                times.push(put_time);
                limit.push(limit_time);
            }
        }
    }
    report(
        what,
        &times,
        Goal::Times(1.0 / 0.9),
        "memcpy and CRC32C of 64 KiB each",
        &limit,
    )
}

/// The best that is known: blocks small enough for the first cache.
fn copy_and_sum(source: &[u8], buffer: &mut [u8]) -> u32 {
    let mut all = 0;
    for (source, buffer) in source.chunks(64 << 10).zip(buffer.chunks_mut(64 << 10)) {
        let mut crc = 0;
        for (source, buffer) in source.chunks(8 << 10).zip(buffer.chunks_mut(8 << 10)) {
            buffer.copy_from_slice(source);
            crc = crc32c::crc32c_append(crc, buffer);
        }
        all ^= crc;
    }
    black_box(all)
}

/// How much the kernel says that this process uses when an arena is full of small objects.
fn memory(scale: usize) -> Outcome {
    let before = resident_bytes()?;
    let limit_bytes = (256 << 20) / scale as u64;
    let arena = Arena::start(&Config {
        limit_bytes,
        segment_bytes: (1 << 20),
        spare_segments: 2,
    })?;
    let domain = arena.domain(u64::MAX)?;
    let mut objects = Vec::new();
    let full = loop {
        let mut writer = domain.writer();
        let sealed = writer.append(&[1; PAGE]).and_then(|()| domain.seal(writer));
        match sealed {
            Ok(object) => objects.push(object),
            Err(error) => break error,
        }
    };
    let used = resident_bytes()?.saturating_sub(before);
    let n_objects = objects.len();
    drop(objects);
    let ratio = used as f64 / limit_bytes as f64;
    let ok = ratio <= 1.01;
    writeln!(
        std::io::stdout(),
        r#"{{"bench":"geds.memory_at_limit","value":{used},"unit":"bytes","peer":"the limit","peer_value":{limit_bytes},"ratio":{ratio:.4},"goal":"ratio<=1.01","ok":{ok},"objects":{n_objects},"refusal":"{full}"}}"#
    )?;
    Ok(())
}

fn resident_bytes() -> std::result::Result<u64, Box<dyn std::error::Error>> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("the kernel says nothing")?.parse::<u64>()? << 10)
}

/// What another process does.
pub(crate) fn client(path: &Path, scale: usize) -> Outcome {
    let client = Client::connect(path, b"")?;
    let mut random = Random(4);
    let mut into = [0; PAGE];
    let mut read = |name: &[u8], at: usize| {
        let opened = client.open(name);
        opened.map(|(opened, _)| black_box(opened.read_at(at as u64, &mut into)))
    };
    let echo = Echo::start()?;
    for (what, bench) in [
        ("first", "geds.open_read_4k.other_process.first_of_segment"),
        ("next", "geds.open_read_4k.other_process.first"),
    ] {
        let (mut times, mut limit) = (Vec::new(), Vec::new());
        for n in 0..(32 / scale).max(2) {
            let name = name(what, n);
            let begin = rt::now();
            read(&name, 0)?;
            times.push(begin.elapsed());
            limit.push(echo.time()?);
        }
        let peer = "round trip on a Unix socket";
        report(bench, &times, Goal::Most(40.0), peer, &limit)?;
    }
    drop(echo);
    let n_objects = READ_OBJECTS / scale;
    let wanted: Vec<Vec<u8>> = (0..n_objects).map(|n| name("read", n)).collect();
    for name in &wanted {
        read(name, 0)?;
    }
    let plain = random.bytes(n_objects * READ_BYTES);
    let mut copy = [0; PAGE];
    let (mut times, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..200_000 / scale {
        let (n, at) = (
            random.below(n_objects),
            random.below(READ_BYTES / PAGE) * PAGE,
        );
        times.push(time(|| read(&wanted[n], at).is_ok()));
        let at = random.below(plain.len() / PAGE) * PAGE;
        limit.push(time(|| {
            black_box(&mut copy).copy_from_slice(&plain[at..at + PAGE])
        }));
    }
    report(
        "geds.open_read_4k.other_process.warm",
        &times,
        Goal::Most(2.0),
        "memcpy of 4 KiB",
        &limit,
    )?;
    scan(&client, scale)?;
    let mut n = 0;
    write(scale, "geds.write_1m.other_process", |source| {
        let mut writer = client.writer();
        writer.append(source)?;
        n += 1;
        client.seal(writer, &name("write", n % 64), &[])
    })?;
    // The last, for it leaves small objects all over the client's memory.
    seal(&client, scale)
}

/// A thread that sends back what it gets, until the other end of its socket is closed.
struct Echo {
    socket: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut buffer = [0; 40];
        let thread = rt::thread("echo".to_owned(), 64 << 10, move || {
            while (&theirs).read_exact(&mut buffer).is_ok() {
                (&theirs).write_all(&buffer).unwrap_or_default();
            }
        })?;
        Ok(Self {
            socket: Some(ours),
            thread: Some(thread),
        })
    }

    fn time(&self) -> std::io::Result<Duration> {
        let mut socket = self
            .socket
            .as_ref()
            .ok_or(std::io::ErrorKind::NotConnected)?;
        let mut buffer = [0; 40];
        let begin = rt::now();
        socket.write_all(&buffer)?;
        socket.read_exact(&mut buffer)?;
        Ok(begin.elapsed())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.socket = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

/// The least that a seal can be, if the agent shall know of it when this process is killed: copy, sum, and give the kernel a packet.
fn seal(client: &Client, scale: usize) -> Outcome {
    let source = Random(5).bytes(4 * MIB);
    let mut buffer = vec![1; 4 * MIB];
    let (_sender, nothing) = sync_channel::<()>(1);
    let (ours, theirs) = UnixDatagram::pair()?;
    // After a pause everything is cold, and after a long one the agent has to be woken.
    for (what, pause_ms, n_times, goal) in [
        ("", 0, 50_000, Goal::Most(8.0)),
        (".after_3ms", 3, 1_000, Goal::None),
        (".after_1500ms", 1500, 10, Goal::None),
    ] {
        if pause_ms > 1000 && scale > 1 {
            continue;
        }
        let pause = Duration::from_millis(pause_ms);
        let (mut times, mut limit) = (Vec::new(), Vec::new());
        for n in 0..(n_times / scale).max(2) {
            let at = n * PAGE % source.len();
            let bytes = &source[at..at + PAGE];
            let name = name("seal", n % 1000);
            for is_ours in [true, false] {
                if pause_ms > 0 {
                    // Nobody sends anything.
                    nothing.recv_timeout(pause).unwrap_or_default();
                }
                let begin = rt::now();
                if is_ours {
                    let mut writer = client.writer();
                    writer.append(bytes)?;
                    client.seal(writer, &name, b"meta")?;
                    times.push(begin.elapsed());
                } else {
                    copy_and_sum(bytes, &mut buffer[at..at + PAGE]);
                    ours.send(&[0; 40])?;
                    limit.push(begin.elapsed());
                    theirs.recv(&mut [0; 40])?;
                }
            }
        }
        let bench = format!("geds.seal_4k.other_process{what}");
        report(
            &bench,
            &times,
            goal,
            "memcpy, CRC32C, send of 40 bytes",
            &limit,
        )?;
    }
    client.catch_up()?;
    Ok(())
}

/// Opens objects and reads them to their ends where they lie; and reads as much of mapped memory.
fn scan(client: &Client, scale: usize) -> Outcome {
    let mut mapped = Vec::new();
    for n in 0..128 / scale {
        let (opened, _) = client.open(&name("raw", n))?;
        mapped.push(opened.view().ok_or("it is in one piece")?);
    }
    let (mut times, mut limit) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (n, mapped) in mapped.iter().enumerate() {
            let name = name("scan", n);
            let mapped: &[u8] = mapped;
            for is_limit in [n % 2 == 0, n % 2 == 1] {
                let begin = rt::now();
                if is_limit {
                    black_box(sum(mapped));
                } else {
                    let (opened, _) = client.open(&name)?;
                    black_box(sum(&opened.view().ok_or("it is in one piece")?));
                }
                let to = if is_limit { &mut limit } else { &mut times };
                // In the first round pages are mapped.
                if round > 0 {
                    to.push(begin.elapsed());
                }
            }
        }
    }
    let peer = "scan of 1 MiB of mapped memory";
    report(
        "geds.scan_1m.other_process",
        &times,
        Goal::Times(1.05),
        peer,
        &limit,
    )
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| {
        let word = word.try_into().expect("8 bytes");
        u64::from_le_bytes(word)
    });
    words.fold(0, u64::wrapping_add)
}

fn time<T>(act: impl FnOnce() -> T) -> Duration {
    let begin = rt::now();
    black_box(act());
    begin.elapsed()
}

fn name(what: &str, n: usize) -> Vec<u8> {
    format!("{what}/{n}").into_bytes()
}

/// What the median shall be.
#[derive(Clone, Copy)]
enum Goal {
    /// Microseconds.
    Most(f64),
    /// Of the median of what the machine allows.
    Times(f64),
    None,
}

fn report(bench: &str, times: &[Duration], goal: Goal, peer: &str, limit: &[Duration]) -> Outcome {
    let at = |times: &[Duration], percent: usize| {
        let mut times = times.to_vec();
        times.sort_unstable();
        let time = times.get(times.len() * percent / 100);
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    let (value, peer_value) = (at(times, 50), at(limit, 50));
    let ratio = value / peer_value;
    let (goal, ok) = match goal {
        Goal::Most(most) => (format!("value<={most}"), value <= most),
        Goal::Times(most) => (format!("ratio<={most:.2}"), ratio <= most),
        Goal::None => (String::new(), true),
    };
    let mut out = std::io::stdout();
    write!(
        out,
        r#"{{"bench":"{bench}","value":{value:.2},"unit":"us","p99":{:.2}"#,
        at(times, 99)
    )?;
    if !limit.is_empty() {
        write!(
            out,
            r#","peer":"{peer}","peer_value":{peer_value:.2},"ratio":{ratio:.3}"#
        )?;
    }
    writeln!(
        out,
        r#","goal":"{goal}","ok":{ok},"runs":{}}}"#,
        times.len()
    )?;
    Ok(())
}

/// Good enough to choose places and to fill memory with something that is not all the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
        bytes.truncate(len);
        bytes
    }
}
