//! Clients are processes, and are killed: nothing that they have sealed is lost, and nothing else is kept.
//!
//! This program is the agent, and it starts itself as the clients.

use std::error::Error as StdError;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use geds_arena::{Arena, Client, Config, Keeper, Share};

use self::bench::Outcome;
use self::keeper::Names;

#[path = "../examples/arena-bench/bench.rs"]
mod bench;
#[path = "../examples/arena-bench/keeper.rs"]
mod keeper;

const SEGMENT_BYTES: u64 = 1 << 20;
const N_SEGMENTS: u64 = 12;
const LONG: Duration = Duration::from_secs(60);
/// What a client writes and does not seal.
const UNSEALED_BYTES: usize = 3 << 20;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", path] => write(Path::new(path)),
        ["read", path] => read(Path::new(path)),
        ["client", path, scale] => bench::client(path.as_ref(), scale.parse()?),
        _ => test(&args),
    }
}

type Test = (&'static str, fn() -> Outcome);

/// Runs the tests whose names contain what is asked for.
fn test(args: &[&str]) -> Outcome {
    let tests: [Test; 3] = [
        ("killed_writers_lose_nothing_that_is_sealed", killed_writers),
        (
            "killed_readers_let_go_of_what_they_have_pinned",
            killed_readers,
        ),
        ("the_benchmark_works", || bench::agent(64)),
    ];
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted));
    for (name, test) in tests.iter().filter(|(name, _)| is_wanted(name)) {
        test()?;
        writeln!(std::io::stdout(), "test {name} ... ok")?;
    }
    Ok(())
}

/// Seals one object after the other, and says so; and has always one that is not sealed.
fn write(path: &Path) -> Outcome {
    let client = Client::connect(path, b"")?;
    let mut unsealed = client.writer();
    unsealed.append(&vec![0xee; UNSEALED_BYTES])?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "it has begun")?;
    for n in 0_u32.. {
        let mut writer = client.writer();
        writer.append(&content(n))?;
        client.seal(writer, name(n).as_bytes(), &[])?;
        writeln!(stdout, "{n}")?;
    }
    Ok(())
}

/// Opens what it is told, keeps it open, and says what it has read.
fn read(path: &Path) -> Outcome {
    let client = Client::connect(path, b"")?;
    let mut opened = Vec::new();
    for name in std::io::stdin().lines() {
        let (object, _) = client.open(name?.as_bytes())?;
        let bytes: Vec<u8> = object.views().flat_map(|view| view.to_vec()).collect();
        opened.push(object);
        writeln!(std::io::stdout(), "{}", crc32c::crc32c(&bytes))?;
    }
    Ok(())
}

/// Names are used again, so old objects go.
fn name(n: u32) -> String {
    format!("object {}", n % 50)
}

fn content(n: u32) -> Vec<u8> {
    let len = [0, 1, 4096, 30_000, 150_000][n as usize % 5];
    let words = (0..).flat_map(|idx: u32| (n ^ idx.wrapping_mul(2_654_435_761)).to_le_bytes());
    words.take(len).collect()
}

fn killed_writers() -> Outcome {
    let node = Node::start()?;
    for n_acknowledged in [0, 1, 2, 7, 50, 51, 300, 1000, 1001, 3000] {
        let mut writer = node.start_client("write")?;
        let mut last = None;
        let mut lines = BufReader::new(&mut writer.output).lines();
        lines.next().ok_or("the writer has not begun")??;
        for _ in 0..n_acknowledged {
            last = Some(
                lines
                    .next()
                    .ok_or("the writer has ended")??
                    .parse::<u32>()?,
            );
        }
        writer.process.kill()?;
        // What it had said before it was killed counts, too.
        for line in lines {
            last = line?.parse().ok().or(last);
        }
        writer.process.wait()?;
        node.left.recv_timeout(LONG)?;
        let last = last.map_or(0, |last| last + 1);
        for n in last.saturating_sub(50)..last {
            let object = node
                .names
                .get(name(n).as_bytes())
                .ok_or("a sealed object is lost")?;
            // The one after the last may have been sealed without anybody having heard of it.
            let mut bytes = vec![0; usize::try_from(object.len())?];
            object.read_at(0, &mut bytes)?;
            if bytes != content(n) && bytes != content(last) {
                return Err(format!("object {n} of {last} is another one").into());
            }
        }
        node.names.forget_all();
        node.wait_for_all_free()?;
    }
    Ok(())
}

fn killed_readers() -> Outcome {
    let node = Node::start()?;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = node.start_client("read")?;
        for n in 0..10 {
            let bytes = content(n);
            node.names.put(name(n).as_bytes(), &bytes)?;
            writeln!(reader.input, "{}", name(n))?;
            let mut line = String::new();
            BufReader::with_capacity(1, &mut reader.output).read_line(&mut line)?;
            if line.trim().parse::<u32>()? != crc32c::crc32c(&bytes) {
                return Err(format!("object {n} is read as something else").into());
            }
        }
        readers.push(reader);
    }
    node.names.forget_all();
    for mut reader in readers {
        if node.are_all_free() {
            return Err("what is pinned is used again".into());
        }
        reader.process.kill()?;
        reader.process.wait()?;
        node.left.recv_timeout(LONG)?;
    }
    node.wait_for_all_free()
}

struct Node {
    names: Arc<Names>,
    left: Receiver<()>,
    path: PathBuf,
    _share: Share,
    _folder: tempfile::TempDir,
}

struct Process {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been waited for already.
        let _is_killed = self.process.kill().is_ok() && self.process.wait().is_ok();
    }
}

impl Node {
    fn start() -> std::result::Result<Self, Box<dyn StdError>> {
        let arena = Arena::start(&Config {
            limit_bytes: N_SEGMENTS * SEGMENT_BYTES + SEGMENT_BYTES / 2,
            segment_bytes: SEGMENT_BYTES,
            spare_segments: 1,
        })?;
        let (send, left) = sync_channel(8);
        let names = Arc::new(Names::new(arena, send)?);
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("socket");
        let keeper: Arc<dyn Keeper> = Arc::<Names>::clone(&names);
        Ok(Self {
            _share: Share::start(&path, keeper, 4)?,
            names,
            left,
            path,
            _folder: folder,
        })
    }

    fn start_client(&self, role: &str) -> std::result::Result<Process, Box<dyn StdError>> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role)
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Process {
            input: process.stdin.take().ok_or("it has an input")?,
            output: process.stdout.take().ok_or("it has an output")?,
            process,
        })
    }

    fn are_all_free(&self) -> bool {
        let mut writer = self.names.domain.writer();
        writer.reserve(N_SEGMENTS * SEGMENT_BYTES).is_ok()
    }

    /// Objects of a client that is gone may just be copied to a better place.
    fn wait_for_all_free(&self) -> Outcome {
        let begin = rt::now();
        while !self.are_all_free() {
            if begin.elapsed() > LONG {
                return Err("pages have leaked".into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}
