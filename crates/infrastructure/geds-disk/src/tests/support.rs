//! A store on some disk, and objects whose bytes can be told from their names.

use std::sync::Arc;
use std::time::Instant;

use wal::{Disk, DurableLog, LogId, Wal};

use crate::core::catalogue::BLOCK_BYTES;
use crate::recovery::{Recovery, recover};
use crate::store::Inner;
use crate::{Config, Error, Id, Result, Store, Writer};

pub(super) const LOG: LogId = LogId(5);

pub(super) fn id(serial: u64) -> Id {
    Id {
        node: 3,
        epoch: 7,
        serial,
    }
}

/// What an object of that name and length is made of.
pub(super) fn bytes_of(id: Id, len: usize) -> Vec<u8> {
    let mut state = id.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(super) fn sums_of(bytes: &[u8]) -> Vec<u32> {
    let blocks = bytes.chunks(usize::try_from(BLOCK_BYTES).expect("short"));
    blocks.map(crc32c::crc32c).collect()
}

/// Of a store whose segments have so many pages.
pub(super) fn config(segment_pages: u64, n_segments: u64) -> Config {
    Config {
        limit_bytes: segment_pages * 4096 * n_segments,
        segment_bytes: segment_pages * 4096,
        small_bytes_max: 4096,
        staged_bytes_max: 8 * 4096,
        log_bytes: 64 << 10,
    }
}

/// Past before it has begun.
pub(super) fn at_once() -> Instant {
    rt::now()
}

pub(super) fn open_wal(disk: Arc<dyn Disk>, segment_bytes: u64) -> Wal {
    try_open_wal(disk, segment_bytes).expect("nothing is damaged")
}

pub(super) fn try_open_wal(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<Wal> {
    let config = wal::Config {
        segment_bytes,
        queue_bytes: 64 << 10,
    };
    Ok(Wal::open(disk, config)?)
}

pub(super) fn log_of(wal: &Wal) -> Arc<dyn DurableLog> {
    Arc::new(wal.log(LOG).expect("there are few logs"))
}

/// Without a keeper: nothing happens but what is asked for.
pub(super) fn open_quiet(
    config: &Config,
    disk: Arc<dyn Disk>,
    log: Arc<dyn DurableLog>,
) -> Result<Arc<Inner>> {
    let mut recovery = Recovery::default();
    log.read(log.start(), &mut |position, bytes| {
        recovery.visit(position, bytes).expect("it is ours");
        std::ops::ControlFlow::Continue(())
    })?;
    recover(config, disk, log, recovery).map(Arc::new)
}

impl Store {
    /// The same.
    pub(super) fn quiet(inner: Arc<Inner>) -> Self {
        Self::without_keeper(inner)
    }

    pub(super) fn put_of(&self, id: Id, len: usize) -> Result<wal::Ticket> {
        let bytes = bytes_of(id, len);
        self.put(id, &[&bytes], &sums_of(&bytes), at_once())
    }

    /// Writes what an object of that name is made of, piece by piece and not in its order.
    pub(super) fn written(&self, id: Id, len: usize) -> Result<Writer> {
        let bytes = bytes_of(id, len);
        let mut writer = self.writer();
        for block in bytes.chunks(usize::try_from(BLOCK_BYTES).expect("short")) {
            // Its first half is another one at first.
            let later = &block[..block.len() / 2];
            let first = [&vec![7; later.len()], &block[later.len()..]].concat();
            let position = writer.len();
            writer.append(&[&first], &sums_of(&first), at_once())?;
            writer.write_at(position, later)?;
        }
        Ok(writer)
    }

    /// Puts it and waits until it is durable.
    pub(super) fn put_durably(&self, id: Id, len: usize) -> Result<()> {
        self.put_of(id, len)?.wait()?;
        Ok(())
    }

    /// Waits until everything is durable, also what is freed.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        self.inner.say_freed(self.inner.lock_alive()?)?;
        self.inner.log.barrier().wait()?;
        Ok(())
    }

    /// What there is of that name, if it is what was put.
    pub(super) fn check(&self, id: Id) -> Result<usize> {
        let pinned = self.pin(id)?;
        let len = usize::try_from(pinned.len()).expect("short");
        self.check_is(id, &bytes_of(id, len))?;
        Ok(len)
    }

    /// Is it that?
    pub(super) fn check_is(&self, id: Id, expected: &[u8]) -> Result<()> {
        let pinned = self.pin(id)?;
        let len = usize::try_from(pinned.len()).expect("short");
        let mut found = vec![0; len];
        assert_eq!(pinned.read_at(0, &mut found)?, len);
        assert!(found == expected, "{id:?} is another");
        assert_eq!(pinned.sums(), sums_of(expected));
        Ok(())
    }
}

#[track_caller]
pub(super) fn kind_of<T>(result: Result<T>) -> crate::Kind {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => Error::kind(&error),
    }
}
