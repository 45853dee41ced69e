//! What the disk and the network allow: a file that has its room, and a socket.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::load::{Pace, joined, thread};
use crate::bench::data::{self, MIB};

/// A file whose room is allocated and was written before, as a log has it. It is written from its beginning to its end, again and again.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    bytes: Vec<u8>,
    size: u64,
    at: u64,
}

impl Room {
    /// For pieces of so many bytes.
    pub(super) fn new(path: &Path, bytes: usize) -> anyhow::Result<Self> {
        let file = File::create(path).context("make a file")?;
        let size = (16 * bytes).max(64 * MIB).next_multiple_of(MIB);
        let zeros = vec![0; MIB];
        for n in 0..size / MIB {
            file.write_all_at(&zeros, (n * MIB) as u64)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            bytes: data::random_bytes(bytes),
            size: size as u64,
            at: 0,
        })
    }

    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        let bytes = self.bytes.len() as u64;
        if self.at + bytes > self.size {
            self.at = 0;
        }
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += bytes;
        Ok(self.file.sync_data()?)
    }

    /// As much as can be written until then: how many bytes.
    pub(super) fn saturate(&mut self, end: Instant) -> anyhow::Result<u64> {
        let mut written = 0;
        while rt::now() < end {
            self.write()?;
            written += self.bytes.len() as u64;
        }
        Ok(written)
    }
}

/// A thread that answers so many bytes with so many others.
#[derive(Debug)]
pub(super) struct Echo {
    socket: TcpStream,
    asked: Vec<u8>,
    answer: Vec<u8>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Echo {
    pub(super) fn start(asked_bytes: usize, answer_bytes: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        socket.set_nodelay(true)?;
        let (mut theirs, _) = listener.accept()?;
        theirs.set_nodelay(true)?;
        let (asked, answer) = (vec![0; asked_bytes], vec![0; answer_bytes]);
        let (mut theirs_asked, theirs_answer) = (asked.clone(), answer.clone());
        let thread = thread("bench echo", move || {
            while theirs.read_exact(&mut theirs_asked).is_ok() {
                theirs.write_all(&theirs_answer)?;
            }
            Ok(())
        })?;
        Ok(Self {
            socket,
            asked,
            answer,
            thread,
        })
    }

    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.asked)?;
        Ok(self.socket.read_exact(&mut self.answer)?)
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        drop(self.socket);
        joined(self.thread)
    }
}

/// One after the other on a schedule, and how long each took from when it was due; and the time of the thread on a processor.
pub(super) fn on_schedule(
    n_times: u64,
    pace: Pace,
    mut act: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let before = rt::thread_cpu_time();
    let mut times = Vec::new();
    for n in 0..n_times {
        let due = pace.wait(n);
        act()?;
        times.push(due.elapsed());
    }
    Ok((times, rt::thread_cpu_time() - before))
}
