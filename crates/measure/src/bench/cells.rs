//! What cells cost: to make one, to move one, and to run in one.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cells::bench::Instantiation;
use cells::world::{Report, Schedule, World};

use super::programs::{self, Compiled, DIFFUSE, Program, WAVEFRONT};
use super::{Goal, Group, Measured, Setting, benchmark, median, quantile};

const SPAWN: &str = "posix_spawn and wait of /bin/true";
const LOOPBACK: &str = "16 MiB over a plain loopback socket, and copied";
const PLAIN: &str = "the same program, not instrumented";
const NATIVE: &str = "mpicc -O3, Open MPI";

const MEMORY_BYTES: usize = 16 << 20;
const SOCKET_BUFFER_BYTES: usize = 64 << 10;
/// As large as that of a cell's thread.
const STACK_BYTES: usize = 10 << 20;

/// Cranelift orders instructions less cleverly than gcc and has no vectors beyond 128 bits: some of that is bound to show.
const NATIVE_GOAL: Option<Goal> = Some(Goal::RatioAtMost(1.5));
const INSTRUMENTED_GOAL: Option<Goal> = Some(Goal::RatioAtMost(1.1));
const PAUSE_GOAL: Option<Goal> = Some(Goal::ValueAtMost(30.0));

/// Programs run with so many ranks: the ids without a number are those for two.
const RANKS: [u32; 2] = [2, 1];

pub(super) const GROUPS: &[Group] = &[
    Group {
        benchmarks: &[
            benchmark(
                "cells.instantiate",
                "us",
                SPAWN,
                Some(Goal::ValueAtMost(5.0)),
            ),
            benchmark("cells.instantiate.p99", "us", SPAWN, None),
            benchmark("cells.instantiate.thread", "us", SPAWN, None),
        ],
        measure: instantiate,
    },
    Group {
        benchmarks: &[
            benchmark("cells.pause.16mb", "ms", LOOPBACK, PAUSE_GOAL),
            benchmark("cells.pause.16mb.p99", "ms", LOOPBACK, PAUSE_GOAL),
        ],
        measure: pause,
    },
    Group {
        benchmarks: &[
            benchmark("cells.instrumented.diffuse", "s", PLAIN, INSTRUMENTED_GOAL),
            benchmark(
                "cells.instrumented.diffuse.np1",
                "s",
                PLAIN,
                INSTRUMENTED_GOAL,
            ),
        ],
        measure: |setting| compare(setting, &DIFFUSE, Program::plain_cell),
    },
    Group {
        benchmarks: &[
            benchmark(
                "cells.instrumented.wavefront",
                "s",
                PLAIN,
                INSTRUMENTED_GOAL,
            ),
            benchmark(
                "cells.instrumented.wavefront.np1",
                "s",
                PLAIN,
                INSTRUMENTED_GOAL,
            ),
        ],
        measure: |setting| compare(setting, &WAVEFRONT, Program::plain_cell),
    },
    Group {
        benchmarks: &[
            benchmark("cells.native.diffuse", "s", NATIVE, NATIVE_GOAL),
            benchmark("cells.native.diffuse.np1", "s", NATIVE, NATIVE_GOAL),
        ],
        measure: |setting| compare(setting, &DIFFUSE, Program::native),
    },
    Group {
        benchmarks: &[
            benchmark("cells.native.wavefront", "s", NATIVE, NATIVE_GOAL),
            benchmark("cells.native.wavefront.np1", "s", NATIVE, NATIVE_GOAL),
        ],
        measure: |setting| compare(setting, &WAVEFRONT, Program::native),
    },
];

/// A cell is made in a slot that the last one has left, as on a host that has run for a while; its thread apart.
fn instantiate(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    const BATCH: usize = 100;
    let module = programs::compile_cell(setting, "diffuse/diffuse.c", &[])?;
    let instantiation = Instantiation::new(&module, setting.dir)?;
    // The first one makes the slot warm.
    instantiation.time()?;
    let n_batches = if setting.is_quick { 1 } else { 20 };
    let (mut cells, mut threads, mut spawns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n_batches {
        for _ in 0..BATCH {
            cells.push(instantiation.time()?);
        }
        for _ in 0..BATCH / 10 {
            threads.push(thread()?);
            spawns.push(spawn()?);
        }
    }
    let microseconds = |times: &[Duration], part| quantile(times, part).as_secs_f64() * 1e6;
    let of = |times: &[Duration], part| Measured {
        value: microseconds(times, part),
        peer_value: microseconds(&spawns, part),
        runs: times.len(),
        cpu: None,
    };
    Ok(vec![of(&cells, 0.5), of(&cells, 0.99), of(&threads, 0.5)])
}

/// From the wish for a thread to its first instruction.
fn thread() -> anyhow::Result<Duration> {
    let start = rt::now();
    let began = rt::thread("bench".into(), STACK_BYTES, rt::now)?.join();
    let began = began.map_err(|_| anyhow::anyhow!("the thread has panicked"))?;
    Ok(began - start)
}

fn spawn() -> anyhow::Result<Duration> {
    let mut program = Command::new("/bin/true");
    program.stdin(Stdio::null()).stdout(Stdio::null());
    let start = rt::now();
    let status = program.status().context("run /bin/true")?;
    let took = start.elapsed();
    ensure!(status.success(), "/bin/true ended with {status}");
    Ok(took)
}

/// Two ranks bounce between two hosts while they talk.
fn pause(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let n_moves: u32 = if setting.is_quick { 2 } else { 200 };
    // What else the machine does changes in the course of a minute: the limit is measured before and after.
    let mut limits = loopback(n_moves.div_ceil(2))?;
    let report = bounce(setting, n_moves)?;
    limits.extend(loopback(n_moves.div_ceil(2))?);
    let smallest = report.moves.iter().map(|m| m.bytes).min();
    ensure!(
        smallest.is_some_and(|bytes| bytes >= MEMORY_BYTES as u64),
        "a move has carried less than the rank's memory: {smallest:?} bytes"
    );
    let pauses: Vec<_> = report.moves.iter().map(|m| m.pause()).collect();
    let milliseconds = |times: &[Duration], part| quantile(times, part).as_secs_f64() * 1e3;
    let of = |part| Measured {
        value: milliseconds(&pauses, part),
        peer_value: milliseconds(&limits, part),
        runs: pauses.len(),
        cpu: None,
    };
    Ok(vec![of(0.5), of(0.99)])
}

fn bounce(setting: &Setting<'_>, n_moves: u32) -> anyhow::Result<Report> {
    let module = programs::compile_cell(setting, "bench/pause.c", &[])?;
    let kilobytes = (MEMORY_BYTES >> 10).to_string();
    // How much the program does meanwhile depends on the machine: it runs until it is long enough.
    let mut n_iterations = n_moves * 100;
    for _ in 0..6 {
        let args = vec![n_iterations.to_string(), kilobytes.clone()];
        let world = World {
            n_ranks: 2,
            n_hosts: 2,
            schedule: Schedule::Bounce { n_moves, seed: 1 },
            ..programs::world(setting, &module, args)?
        };
        let (report, _) = programs::run_world(world)?;
        if report.missing_moves == 0 {
            return Ok(report);
        }
        n_iterations *= 4;
    }
    anyhow::bail!("the program ends before its ranks have moved {n_moves} times")
}

/// What it takes at least to get a rank's memory to another process: through a socket, and to its place.
fn loopback(n_times: u32) -> anyhow::Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut socket = TcpStream::connect(listener.local_addr()?)?;
    socket.set_nodelay(true)?;
    let (peer, _) = listener.accept()?;
    let receiver = rt::thread("bench".into(), 1 << 20, move || receive(peer))?;
    let memory = vec![0x5a; MEMORY_BYTES];
    let mut times = Vec::new();
    for _ in 0..n_times {
        let start = rt::now();
        socket.write_all(&memory)?;
        socket.read_exact(&mut [0])?;
        times.push(start.elapsed());
    }
    drop(socket);
    let received = receiver.join();
    received.map_err(|_| anyhow::anyhow!("the receiver has panicked"))??;
    Ok(times)
}

/// Puts all memory that comes into place, and says so, until the other end closes.
fn receive(mut socket: TcpStream) -> io::Result<()> {
    let mut memory = vec![0; MEMORY_BYTES];
    let mut buffer = vec![0; SOCKET_BUFFER_BYTES];
    loop {
        let mut place = 0;
        while place < memory.len() {
            let n = socket.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            // A turn ends with its last byte: the other end waits.
            memory[place..place + n].copy_from_slice(&buffer[..n]);
            place += n;
        }
        std::hint::black_box(&mut memory);
        socket.write_all(&[1])?;
    }
}

/// A program as a cell, and compiled another way: medians of interleaved runs, for each number of ranks.
fn compare(
    setting: &Setting<'_>,
    program: &Program,
    compile_peer: fn(&Program, &Setting<'_>) -> anyhow::Result<Compiled>,
) -> anyhow::Result<Vec<Measured>> {
    let (cell, peer) = (program.cell(setting)?, compile_peer(program, setting)?);
    program.provide_input(setting)?;
    let runs = if setting.is_quick { 1 } else { 5 };
    let mut measured = Vec::new();
    for n_ranks in RANKS {
        let (mut times, mut peer_times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let run = program.time(setting, &cell, n_ranks)?;
            let peer_run = program.time(setting, &peer, n_ranks)?;
            ensure!(
                run.output == peer_run.output,
                "the results differ:\n{}\n{}",
                run.output,
                peer_run.output
            );
            times.push(run.time);
            peer_times.push(peer_run.time);
        }
        measured.push(Measured {
            value: median(&times).as_secs_f64(),
            peer_value: median(&peer_times).as_secs_f64(),
            runs,
            cpu: None,
        });
    }
    Ok(measured)
}
