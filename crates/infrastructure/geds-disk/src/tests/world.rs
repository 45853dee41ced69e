//! A store on a disk that crashes, and the model that it is compared with: which objects were put, acknowledged and freed when.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal::testing::{Choices, CrashDisk};
use wal::{Position, Ticket, Wal};

use super::support::{at_once, bytes_of, config, id, log_of, open_quiet, try_open_wal};
use crate::core::catalogue::pages_of;
use crate::{Config, Error, Id, Kind, Store};

/// Longer ones are not made of others.
const JOINED_MAX: usize = 500_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// So many bytes, and waits until they are durable.
    Put(usize),
    /// The same without waiting.
    Begin(usize),
    /// So many bytes, piece by piece.
    Write(usize),
    /// The same, and then nobody wants it.
    Drop(usize),
    /// Of two that are there, if they can be, one after the other.
    Join(usize, usize),
    /// Waits for all that was begun.
    Wait,
    /// One of those that are there.
    Free(usize),
    Repair(usize),
    /// At most so many bytes.
    Flush(u64),
    Checkpoint,
    /// The process dies; the machine goes on.
    Reopen,
}

#[derive(Clone, Debug)]
struct Object {
    /// What it is made of: those that were put, which lie in one place, and their lengths.
    of: Vec<(u64, usize)>,
    /// Before that operation nobody had heard of it. `None`: the disk begins with it.
    asked: Option<usize>,
    /// From that one on it is durable, and from that one on it may be gone.
    durable: Option<usize>,
    freed: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    objects: BTreeMap<u64, Object>,
    serial: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) disk: CrashDisk,
    pub(super) store: Store,
    pub(super) wal: Wal,
    pub(super) model: Model,
}

pub(super) fn small_config() -> Config {
    Config {
        small_bytes_max: 2000,
        staged_bytes_max: 6000,
        log_bytes: 8 << 10,
        ..config(12, 4)
    }
}

impl Object {
    fn len(&self) -> usize {
        self.of.iter().map(|(_, len)| len).sum()
    }

    fn bytes(&self) -> Vec<u8> {
        let parts = self
            .of
            .iter()
            .map(|(serial, len)| bytes_of(id(*serial), *len));
        parts.collect::<Vec<_>>().concat()
    }
}

impl World {
    pub(super) fn new(disk: CrashDisk) -> Self {
        Self::open(disk, Model::default()).expect("there is nothing on the disk")
    }

    pub(super) fn open(disk: CrashDisk, model: Model) -> Result<Self, Error> {
        let wal = try_open_wal(Arc::new(disk.clone()), 16 << 10)?;
        let inner = open_quiet(&small_config(), Arc::new(disk.clone()), log_of(&wal))?;
        Ok(Self {
            disk,
            store: Store::quiet(inner),
            wal,
            model,
        })
    }

    /// Opens what a crash after `n_ops` operations has left, and compares it with what was there then.
    pub(super) fn after_crash(&self, n_ops: usize, choices: &mut Choices) -> Result<Self, String> {
        let disk = self.disk.crash(n_ops, choices);
        let mut model = self.model.clone();
        model
            .objects
            .retain(|_, object| object.asked.is_none_or(|asked| asked < n_ops));
        for object in model.objects.values_mut() {
            object.asked = None;
            object.durable = object.durable.filter(|n| *n <= n_ops).map(|_| 0);
            object.freed = object.freed.filter(|n| *n < n_ops).map(|_| 0);
        }
        let mut world = Self::open(disk, model).map_err(|error| format!("{error:?}"))?;
        world.compare()?;
        Ok(world)
    }

    /// Says what is wrong; what the model did not know it knows afterwards.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let there: BTreeMap<_, _> = self
            .store
            .objects(None, usize::MAX)
            .into_iter()
            .map(|(id, len)| (id.serial, len))
            .collect();
        let mut places = BTreeMap::new();
        for (serial, len) in &there {
            let object = self.model.objects.get(serial);
            let object = object.ok_or_else(|| format!("{serial} never was"))?;
            if object.len() as u64 != *len {
                return Err(format!("{serial} has {len} bytes, not {}", object.len()));
            }
            places.extend(object.of.iter().copied());
            let check = self.store.check_is(id(*serial), &object.bytes());
            check.map_err(|error| format!("{serial}: {error:?}"))?;
        }
        for (serial, object) in &self.model.objects {
            if object.durable.is_some() && object.freed.is_none() && !there.contains_key(serial) {
                return Err(format!("{serial} is lost: {object:?}"));
            }
        }
        let pages: u64 = places.values().map(|len| pages_of(*len as u64)).sum();
        let stats = self.store.stats();
        if stats.used_bytes != pages * 4096 {
            return Err(format!(
                "{} bytes are used by {pages} pages",
                stats.used_bytes
            ));
        }
        let n_ops = self.disk.n_ops();
        self.model
            .objects
            .retain(|serial, _| there.contains_key(serial));
        for object in self.model.objects.values_mut() {
            (object.durable, object.freed) = (Some(n_ops), None);
        }
        Ok(())
    }

    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.step(*step)
                .map_err(|error| format!("{step:?}: {error:?}"))?;
        }
        Ok(())
    }

    pub(super) fn step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Put(len) => {
                self.step(Step::Begin(len))?;
                self.wait()?;
            }
            Step::Begin(len) => self.begin(len, |store, id| store.put_of(id, len))?,
            Step::Write(len) => self.begin(len, |store, id| {
                store.put_prepared(id, store.written(id, len)?.finish()?)
            })?,
            Step::Drop(len) => match self.store.written(id(self.model.serial), len) {
                Err(error) if error.kind() == Kind::Exhausted => {}
                written => drop(written?),
            },
            Step::Join(one, other) => self.join(one, other)?,
            Step::Wait => self.wait()?,
            Step::Free(idx) => {
                let there = self.there();
                if let Some(serial) = there.get(idx % there.len().max(1)) {
                    let object = self.model.objects.get_mut(serial);
                    object.expect("it is there").freed = Some(self.disk.n_ops());
                    self.store.free(id(*serial))?;
                }
            }
            Step::Repair(idx) => {
                let there = self.there();
                // Nobody knows where what is made of others is then, after a crash.
                if let Some(serial) = there.get(idx % there.len().max(1))
                    && self.is_alone(*serial)
                {
                    let bytes = self.model.objects[serial].bytes();
                    match self.store.repair(id(*serial), &[&bytes], at_once()) {
                        Err(error) if error.kind() == Kind::Exhausted => {}
                        result => drop(result?),
                    }
                }
            }
            Step::Flush(bytes) => {
                self.store.inner.flush(Position(u64::MAX), bytes)?;
            }
            Step::Checkpoint => {
                let inner = &self.store.inner;
                inner.checkpoint(&mut inner.keeping())?;
            }
            Step::Reopen => self.reopen()?,
        }
        Ok(())
    }

    /// The log was full, and goes on: what it has refused is put again, or as if it had never been asked for.
    pub(super) fn resume(&mut self) {
        let refused = self.store.forget_refused();
        self.wal.resume();
        for (id, prepared) in refused {
            if let Some(mut prepared) = prepared
                && id.serial % 2 == 0
            {
                let put = self.store.try_put_prepared(id, &mut prepared);
                if put.and_then(|ticket| Ok(ticket.wait()?)).is_err() {
                    self.store.forget_refused();
                    self.wal.resume();
                }
            }
        }
        self.store.free_again();
        let n_ops = self.disk.n_ops();
        self.model.objects.retain(|serial, object| {
            let is_there = self.store.len_of(id(*serial)).is_some();
            if is_there {
                object.durable.get_or_insert(n_ops);
                object.freed = None;
            }
            is_there || object.freed.is_some()
        });
    }

    /// What is durable can be read.
    pub(super) fn check_durable(&self) {
        for (serial, object) in &self.model.objects {
            if object.durable.is_some() && object.freed.is_none() {
                let check = self.store.check_is(id(*serial), &object.bytes());
                check.expect("it is there");
            }
        }
    }

    fn there(&self) -> Vec<u64> {
        let objects = self.model.objects.iter();
        let there = objects.filter(|(_, object)| object.freed.is_none());
        there.map(|(serial, _)| *serial).collect()
    }

    fn is_alone(&self, serial: u64) -> bool {
        let own = &self.model.objects[&serial].of;
        let mut others = self
            .model
            .objects
            .iter()
            .filter(|(other, _)| **other != serial);
        own.len() == 1 && others.all(|(_, other)| !other.of.contains(&own[0]))
    }

    fn join(&mut self, one: usize, other: usize) -> Result<(), Error> {
        let there = self.there();
        let pick = |idx: usize| there.get(idx.checked_rem(there.len())?).copied();
        let Some(two) = pick(one).zip(pick(other)) else {
            return Ok(());
        };
        let two = [two.0, two.1];
        let of: Vec<_> = two
            .iter()
            .flat_map(|serial| self.model.objects[serial].of.clone())
            .collect();
        if of.iter().map(|(_, len)| len).sum::<usize>() > JOINED_MAX {
            return Ok(());
        }
        // Somebody may be on the way to another place.
        self.wait()?;
        match self.store.join(&two.map(id), at_once())? {
            None => Ok(()),
            Some(prepared) => self.begin_of(of, |store, id| store.put_prepared(id, prepared)),
        }
    }

    fn begin(
        &mut self,
        len: usize,
        put: impl FnOnce(&Store, Id) -> Result<Ticket, Error>,
    ) -> Result<(), Error> {
        self.begin_of(vec![(self.model.serial, len)], put)
    }

    fn begin_of(
        &mut self,
        of: Vec<(u64, usize)>,
        put: impl FnOnce(&Store, Id) -> Result<Ticket, Error>,
    ) -> Result<(), Error> {
        let serial = self.model.serial;
        let object = Object {
            of,
            asked: Some(self.disk.n_ops()),
            durable: None,
            freed: None,
        };
        // If it fails, it may be there all the same after a crash.
        self.model.objects.insert(serial, object);
        self.model.serial += 1;
        match put(&self.store, id(serial)) {
            Err(error @ Error::Exhausted(_)) => {
                self.model.objects.remove(&serial);
                assert_eq!(error.kind(), Kind::Exhausted);
            }
            ticket => drop(ticket?),
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Error> {
        self.store.wait_for_all()?;
        let n_ops = self.disk.n_ops();
        for object in self.model.objects.values_mut() {
            object.durable.get_or_insert(n_ops);
        }
        Ok(())
    }

    /// What was in the queue of the log is written before.
    fn reopen(&mut self) -> Result<(), Error> {
        self.wait()?;
        let next = Self::open(self.disk.clone(), Model::default())?;
        let before = std::mem::replace(self, next);
        self.model = before.model;
        Ok(())
    }

    /// Frees everything; then nothing may be used.
    pub(super) fn free_all(&mut self) -> Result<(), String> {
        while !self.there().is_empty() {
            self.run(&[Step::Free(0)])?;
        }
        self.run(&[Step::Wait])?;
        let stats = self.store.stats();
        if (stats.used_bytes, stats.staged_bytes, stats.objects) == (0, 0, 0) {
            return Ok(());
        }
        Err(format!("something is leaked: {stats:?}"))
    }
}
