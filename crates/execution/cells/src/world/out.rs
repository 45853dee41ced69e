//! Where a world's output goes: to streams, or into the log of a world that is kept.

use std::io;

use super::output::{Output, Sinks};
use crate::disk::log::Log;
use crate::wire::messages::Rank;

#[derive(Debug)]
pub(super) enum Out<'a> {
    Streams(Output, Sinks<'a>),
    Log(Log),
}

impl Out<'_> {
    pub(super) fn take(&mut self, rank: Rank, seq: u64, piece: (bool, Vec<u8>)) -> io::Result<()> {
        match self {
            Self::Streams(output, sinks) => output.take(rank, seq, piece, sinks),
            Self::Log(log) => log.take(rank, seq, piece.0, piece.1),
        }
    }

    /// Whether the first `count` pieces of the rank have been passed on.
    pub(super) fn has_all(&self, rank: Rank, count: u64) -> bool {
        match self {
            Self::Streams(output, _) => output.has_all(rank, count),
            Self::Log(log) => log.has_all(rank, count),
        }
    }

    /// How much is held because the disk is full; `None`: it is not.
    pub(super) fn held_bytes(&self) -> Option<u64> {
        match self {
            Self::Streams(..) => None,
            Self::Log(log) => log.is_full().then(|| log.held_bytes()),
        }
    }

    /// Writes what is held if there is room again.
    pub(super) fn retry(&mut self) -> io::Result<()> {
        match self {
            Self::Streams(..) => Ok(()),
            Self::Log(log) => log.retry(),
        }
    }

    /// What the world itself has to say; the log is the ranks' alone.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Streams(_, sinks) => sinks.stderr.write_all(line.as_bytes()),
            Self::Log(_) => Ok(()),
        }
    }

    /// Before a checkpoint counts: a world that begins again from it does not write again what it wrote before.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Streams(..) => Ok(()),
            Self::Log(log) => log.sync(),
        }
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Streams(output, sinks) => output.finish(sinks),
            Self::Log(log) => log.finish().and_then(|()| log.sync()),
        }
    }
}
