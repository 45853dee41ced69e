//! A container's state in a file, so that a start reads only the end of its log.
//!
//! ```text
//!  magic | frame: head | frame: piece | … | frame: empty            a frame: length u32, crc32c u32, bytes; little-endian
//! ```
//!
//! A file is named after the owner that wrote it, and the last record that is in it, and only older ones are deleted: so an owner that was
//! fenced, and does not know, cannot take away or replace what its successor stands on.

use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use ids::Epoch;
use serde::{Deserialize, Serialize};
use streams_core::Recovery;
use streams_core::names::Seq;
use wal::Disk;

use crate::error::{Error, Result};
use crate::files::{Folders, Reader, Writer, remove_if_there};

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
    dir: Arc<dyn Disk>,
    container: u32,
}

/// What a checkpoint says.
pub(crate) struct Parts {
    pub(crate) container: u32,
    /// Where to go on reading its log.
    pub(crate) position: u64,
    pub(crate) pieces: Vec<Vec<u8>>,
}

pub(crate) fn parts(bytes: &[u8]) -> io::Result<Parts> {
    let mut frames = frames(bytes)?;
    if frames.is_empty() {
        return Err(io::Error::other("it has no head"));
    }
    let head: HeadV1 = postcard::from_bytes(&frames.remove(0)).map_err(io::Error::other)?;
    Ok(Parts {
        container: head.container,
        position: head.position,
        pieces: frames,
    })
}

impl Checkpoints {
    /// # Errors
    /// [`Error::Unavailable`]: there can be no such directory.
    pub(crate) fn open(folders: &Folders, container: u32) -> Result<Self> {
        let dir = folders(&format!("containers/{container}"));
        let dir = dir.map_err(|error| cannot("make the directory for", container, &error))?;
        Ok(Self::look_at(dir, container))
    }

    /// To read only.
    pub(crate) fn look_at(dir: Arc<dyn Disk>, container: u32) -> Self {
        Self { dir, container }
    }

    /// The newest one.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it is not what was written. [`Error::Unavailable`]: it cannot be read.
    pub(crate) fn load(&self) -> Result<Loaded> {
        loop {
            let Some((_, name)) = self.list()?.pop_last() else {
                return Ok(Loaded {
                    recovery: Recovery::new(),
                    position: None,
                });
            };
            match Reader::open(&*self.dir, &name) {
                Ok(file) => return self.parse(file, &name),
                // Somebody who was the owner until now has just written a newer one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot("open", self.container, &error)),
            }
        }
    }

    fn parse(&self, file: Reader, name: &str) -> Result<Loaded> {
        let container = self.container;
        let damaged = |what: &str| Error::corrupt(format!("containers/{container}/{name}: {what}"));
        let frames = frames(file).map_err(|error| damaged(&error.to_string()))?;
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
        let name = format!("{:020}-{:020}", epoch.0, seq.0);
        // One that nobody waits for any more may still be written.
        let partial = format!("{}-{:016x}", partial(epoch), rt::random_u64());
        let head = HeadV1 {
            container: self.container,
            position: position.0,
        };
        let head = postcard::to_stdvec(&head).expect("memory takes it");
        let written = write(&*self.dir, &partial, std::iter::once(head).chain(pieces));
        let published = written.and_then(|file| file.publish(&*self.dir, &partial, &name));
        if let Err(error) = published {
            // It takes room that may be what is missing.
            self.dir.remove(&partial).ok();
            return Err(cannot("write", self.container, &error));
        }
        let older = self.list()?;
        for older in older.range(..(epoch.0, seq.0)) {
            // It takes room, and is looked at again next time.
            self.dir.remove(older.1).ok();
        }
        Ok(())
    }

    /// Takes away what owners before have begun and not come to the end of.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) fn clean(&self, epoch: Epoch) -> Result<()> {
        let names = self.dir.list();
        let names = names.map_err(|error| cannot("list", self.container, &error))?;
        let own = partial(epoch);
        for name in names {
            if name.starts_with(PARTIAL) && name < own {
                let removed = remove_if_there(&*self.dir, &name);
                removed.map_err(|error| cannot("remove a part of", self.container, &error))?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<BTreeMap<(u64, u64), String>> {
        let names = self.dir.list();
        let names = names.map_err(|error| cannot("list", self.container, &error))?;
        let mut found = BTreeMap::new();
        for name in names {
            if let Some((epoch, seq)) = name.split_once('-')
                && let (Ok(epoch), Ok(seq)) = (epoch.parse(), seq.parse())
            {
                found.insert((epoch, seq), name);
            }
        }
        Ok(found)
    }
}

fn partial(epoch: Epoch) -> String {
    format!("{PARTIAL}-{:020}", epoch.0)
}

fn cannot(what: &str, container: u32, error: &io::Error) -> Error {
    let why = format!("cannot {what} a checkpoint, in containers/{container}: {error}");
    Error::unavailable(why)
}

fn write(
    dir: &dyn Disk,
    partial: &str,
    frames: impl Iterator<Item = Vec<u8>>,
) -> io::Result<Writer> {
    let mut file = BufWriter::with_capacity(1 << 20, Writer::create(dir, partial)?);
    file.write_all(&MAGIC)?;
    for frame in frames.chain(std::iter::once(Vec::new())) {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&crc32c::crc32c(&frame).to_le_bytes())?;
        file.write_all(&frame)?;
    }
    Ok(file.into_inner()?)
}

/// All but the empty one at the end.
fn frames(file: impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut magic = [0; MAGIC.len()];
    let read = file.read_exact(&mut magic);
    if read.is_err() || magic != MAGIC {
        return Err(io::Error::other("it is no checkpoint"));
    }
    let mut frames = Vec::new();
    loop {
        let frame = frame(&mut file)?;
        if frame.is_empty() {
            return Ok(frames);
        }
        frames.push(frame);
    }
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use streams_core::Limits;
    use wal::testing::CrashDisk;

    use super::*;

    const NAME: &str = "00000000000000000003-00000000000000000005";

    const OF: (Epoch, Seq) = (Epoch(3), Seq(5));

    fn checkpoints(disk: &CrashDisk) -> Checkpoints {
        Checkpoints {
            dir: Arc::new(disk.clone()),
            container: 7,
        }
    }

    /// Of a container that has nothing.
    fn kept() -> (CrashDisk, Checkpoints) {
        let disk = CrashDisk::default();
        let checkpoints = checkpoints(&disk);
        let opened = Recovery::new().open(Limits::default(), Epoch(1), 1_790_000_000_000);
        let (mut container, first) = opened.expect("there is nothing");
        container.durable(streams_core::names::Position(1));
        let mut pieces: Vec<_> = container.checkpoint().collect();
        pieces.extend(container.positions(first.seq));
        let kept = checkpoints.keep(OF, wal::Position(300), pieces.into_iter());
        kept.expect("kept");
        (disk, checkpoints)
    }

    fn bytes(disk: &CrashDisk) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut file = Reader::open(disk, NAME).expect("it is there");
        file.read_to_end(&mut bytes).expect("read");
        bytes
    }

    #[test]
    fn a_file_is_what_it_was_in_version_1() {
        let disk = CrashDisk::default();
        let checkpoints = checkpoints(&disk);
        let pieces = ["one", "two"].map(|piece| piece.as_bytes().to_vec());
        let kept = checkpoints.keep(OF, wal::Position(300), pieces.into_iter());
        kept.expect("kept");
        let hex = bytes(&disk).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("memory takes it");
            hex
        });
        assert_eq!(
            hex,
            "4353535452435031030000007b0c79a207ac0203000000e9b2942a6f6e6503000000a3b3d8527477\
             6f0000000000000000"
        );
    }

    #[test]
    fn what_has_changed_or_is_a_part_is_refused() {
        let (disk, checkpoints) = kept();
        let loaded = checkpoints.load().expect("loaded");
        assert_eq!(loaded.position, Some(wal::Position(300)));
        let whole = bytes(&disk);
        for offset in 0..whole.len() {
            disk.flip(NAME, offset as u64, 1);
            let loaded = checkpoints.load();
            assert!(
                matches!(loaded, Err(Error::Corrupt(_))),
                "{offset}: {loaded:?}"
            );
            disk.flip(NAME, offset as u64, 1);
        }
        let file = disk.open(NAME).expect("it is there");
        for length in (0..whole.len()).rev() {
            file.set_len(length as u64).expect("cut");
            let loaded = checkpoints.load();
            assert!(
                matches!(loaded, Err(Error::Corrupt(_))),
                "{length}: {loaded:?}"
            );
        }
    }

    #[test]
    fn of_those_that_were_killed_nothing_is_left() {
        let (disk, checkpoints) = kept();
        for epoch in [2, 4] {
            Writer::create(&disk, &partial(Epoch(epoch))).expect("made");
        }
        checkpoints.clean(Epoch(4)).expect("cleaned");
        let mut left = disk.list().expect("listed");
        left.sort();
        assert_eq!(left, [NAME.to_owned(), partial(Epoch(4))]);
    }
}
