//! A container's state in a file, so that a start reads only the end of its log.
//!
//! ```text
//!  magic | frame: head | frame: piece | … | frame: empty            a frame: length u32, crc32c u32, bytes; little-endian
//! ```
//!
//! A file is named after the owner that wrote it, and the last record that is in it, and only older ones are deleted: so an owner that was
//! fenced, and does not know, cannot take away or replace what its successor stands on.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ids::Epoch;
use serde::{Deserialize, Serialize};
use streams_core::Recovery;
use streams_core::names::Seq;

use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"CSSTRCP1";

/// Pieces of a container are smaller by far.
const FRAME_BYTES_MAX: usize = 64 << 20;

const PARTIAL: &str = "partial";

/// What is not the state of the container, but of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeadV1 {
    container: u32,
    /// Where to go on reading the log.
    position: u64,
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) recovery: Recovery,
    /// Where to go on reading the log. `None`: where it begins.
    pub(crate) position: Option<wal::Position>,
}

/// The files of one container, in a directory of their own.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    container: u32,
}

impl Checkpoints {
    /// # Errors
    /// [`Error::Unavailable`]: there can be no such directory.
    pub(crate) fn open(dir: PathBuf, container: u32) -> Result<Self> {
        durable::make_private_dir(&dir).map_err(|error| cannot("make", &dir, &error))?;
        Ok(Self { dir, container })
    }

    /// The newest one.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it is not what was written. [`Error::Unavailable`]: it cannot be read.
    pub(crate) fn load(&self) -> Result<Loaded> {
        loop {
            let Some((_, path)) = self.list()?.pop_last() else {
                return Ok(Loaded {
                    recovery: Recovery::new(),
                    position: None,
                });
            };
            match File::open(&path) {
                Ok(file) => return self.parse(file, &path),
                // Somebody who was the owner until now has just written a newer one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot("open", &path, &error)),
            }
        }
    }

    fn parse(&self, file: File, path: &Path) -> Result<Loaded> {
        let mut file = BufReader::with_capacity(1 << 20, file);
        let damaged = |what: &str| Error::corrupt(format!("{}: {what}", path.display()));
        let mut magic = [0; MAGIC.len()];
        let read = file.read_exact(&mut magic);
        if read.is_err() || magic != MAGIC {
            return Err(damaged("it is no checkpoint"));
        }
        let mut frames = Vec::new();
        loop {
            let frame = frame(&mut file).map_err(|error| damaged(&error.to_string()))?;
            if frame.is_empty() {
                break;
            }
            frames.push(frame);
        }
        let (head, pieces) = frames
            .split_first()
            .ok_or_else(|| damaged("it has no head"))?;
        let head: HeadV1 = postcard::from_bytes(head).map_err(|_| damaged("its head is none"))?;
        if head.container != self.container {
            return Err(damaged("it is one of another container"));
        }
        let recovery = Recovery::load(pieces).map_err(|error| damaged(&error.to_string()))?;
        Ok(Loaded {
            recovery,
            position: Some(wal::Position(head.position)),
        })
    }

    /// Keeps one, and deletes those before it. What of the log is before the position, and not needed for its bytes, is needed no more.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the one before is still there.
    pub(crate) fn keep(
        &self,
        (epoch, seq): (Epoch, Seq),
        position: wal::Position,
        pieces: impl Iterator<Item = Vec<u8>>,
    ) -> Result<()> {
        let path = self.dir.join(format!("{:020}-{:020}", epoch.0, seq.0));
        let partial = self.dir.join(format!("{PARTIAL}-{:020}", epoch.0));
        let head = HeadV1 {
            container: self.container,
            position: position.0,
        };
        let head = postcard::to_stdvec(&head).expect("memory takes it");
        let written = write(&partial, std::iter::once(head).chain(pieces));
        written
            .and_then(|file| durable::publish(&file, &partial, &path))
            .map_err(|error| cannot("write", &path, &error))?;
        let older = self.list()?;
        for older in older.range(..(epoch.0, seq.0)) {
            // It takes room, and is looked at again next time.
            fs::remove_file(older.1).ok();
        }
        Ok(())
    }

    fn list(&self) -> Result<std::collections::BTreeMap<(u64, u64), PathBuf>> {
        let cannot = |error: &io::Error| cannot("list", &self.dir, error);
        let entries = fs::read_dir(&self.dir).map_err(|error| cannot(&error))?;
        let mut found = std::collections::BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot(&error))?;
            let name = entry.file_name();
            let numbers = name.to_str().and_then(|name| name.split_once('-'));
            if let Some((epoch, seq)) = numbers
                && let (Ok(epoch), Ok(seq)) = (epoch.parse(), seq.parse())
            {
                found.insert((epoch, seq), entry.path());
            }
        }
        Ok(found)
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::unavailable(format!("cannot {what} {}: {error}", path.display()))
}

fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> io::Result<File> {
    let mut file = BufWriter::with_capacity(1 << 20, durable::create_private(path)?);
    file.write_all(&MAGIC)?;
    for frame in frames.chain(std::iter::once(Vec::new())) {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&crc32c::crc32c(&frame).to_le_bytes())?;
        file.write_all(&frame)?;
    }
    Ok(file.into_inner()?)
}

fn frame(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut number = || {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes)
            .map(|()| u32::from_le_bytes(bytes))
    };
    let (length, checksum) = (number()?, number()?);
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a piece is longer than any"));
    }
    let mut frame = vec![0; length];
    file.read_exact(&mut frame)?;
    if crc32c::crc32c(&frame) != checksum {
        return Err(io::Error::other("a piece has changed"));
    }
    Ok(frame)
}
