//! An owner without threads, and the model that it is compared with: the records of each log, and how many of them were acknowledged
//! and given up when.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::format;
use crate::testing::{Choices, CrashDisk};
use crate::{Error, LogId, Position};

/// Two of 4 KiB behind the slots, so that every history sees new segments.
pub(super) const SEGMENT_BYTES: u64 = format::HEAD_BYTES + 1024;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// To log, so many bytes.
    Append(u32, usize),
    Commit,
    /// Of that log, all but so many records.
    Truncate(u32, usize),
    /// A process dies; the machine goes on.
    Reopen,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// In the order of positions, of each log.
    bodies: BTreeMap<u32, Vec<Vec<u8>>>,
    /// So many records were given up, and acknowledged, from that operation on.
    given_up: Vec<(usize, u32, usize)>,
    acknowledged: Vec<(usize, u32, usize)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) disk: CrashDisk,
    pub(super) engine: Engine,
    pub(super) model: Model,
    queued: Vec<u8>,
    /// Of each body in the model.
    positions: BTreeMap<u32, Vec<Position>>,
    stamp: u32,
}

impl World {
    pub(super) fn new(disk: CrashDisk) -> Self {
        Self::with(disk, Model::default(), 0).expect("nothing is on the disk")
    }

    /// Opens what a crash has left, and compares it with the model of what was there `n_ops` operations into the history.
    pub(super) fn after_crash(
        before: &Self,
        n_ops: usize,
        choices: &mut Choices,
    ) -> Result<Self, String> {
        let disk = before.disk.crash(n_ops, choices);
        Self::reopen(disk, &before.model, n_ops, before.stamp)
    }

    pub(super) fn reopen(
        disk: CrashDisk,
        model: &Model,
        n_ops: usize,
        stamp: u32,
    ) -> Result<Self, String> {
        let given_up = Model::at(&model.given_up, n_ops);
        let acknowledged = Model::at(&model.acknowledged, n_ops);
        let mut model = Model {
            bodies: model.bodies.clone(),
            given_up: given_up.iter().map(|(log, n)| (0, *log, *n)).collect(),
            acknowledged: acknowledged.iter().map(|(log, n)| (0, *log, *n)).collect(),
        };
        let engine = open(&disk).map_err(|error| format!("{error:?}"))?;
        let n_ops = disk.n_ops();
        let mut found = contents(&engine)?;
        let mut positions = BTreeMap::new();
        for (log, bodies) in &mut model.bodies {
            let found = found.remove(log).unwrap_or_default();
            let least = acknowledged.get(log).copied().unwrap_or(0);
            let most = given_up.get(log).copied().unwrap_or(0);
            let got: Vec<_> = found.iter().map(|(_, body)| body.clone()).collect();
            let end = match got.last() {
                Some(last) => bodies
                    .iter()
                    .position(|body| body == last)
                    .map_or(0, |n| n + 1),
                None => most,
            };
            let is_run =
                end >= got.len() && (got.is_empty() || bodies[end - got.len()..end] == got);
            if !is_run || end < least || end - got.len() > most {
                return Err(format!(
                    "log {log}: {} records up to {end}; {least} were acknowledged, {most} given up",
                    got.len()
                ));
            }
            // What is found is durable from now on; nothing behind it will come back.
            bodies.truncate(end);
            model.acknowledged.push((n_ops, *log, end));
            let mut known = vec![Position(0); end - got.len()];
            known.extend(found.iter().map(|(position, _)| *position));
            positions.insert(*log, known);
        }
        if !found.is_empty() {
            return Err(format!(
                "records of logs that never were: {:?}",
                found.keys()
            ));
        }
        Ok(Self {
            disk,
            engine,
            model,
            queued: Vec::new(),
            positions,
            stamp,
        })
    }

    fn with(disk: CrashDisk, model: Model, stamp: u32) -> Result<Self, String> {
        Self::reopen(disk, &model, 0, stamp)
    }

    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match *step {
                Step::Append(log, len) => self.append(log, len),
                Step::Commit => self.commit().map_err(|error| format!("{error:?}"))?,
                Step::Truncate(log, n_kept) => self.truncate(log, n_kept),
                Step::Reopen => {
                    self.forget_queued();
                    let n_ops = self.disk.n_ops();
                    let mut next = Self::reopen(self.disk.clone(), &self.model, n_ops, self.stamp)?;
                    // The history goes on, so what was true at its earlier moments is still asked for.
                    let n_ops = self.disk.n_ops();
                    let acknowledged = next.model.acknowledged.into_iter();
                    let now = acknowledged.map(|(_, log, n)| (n_ops, log, n));
                    next.model.acknowledged =
                        self.model.acknowledged.drain(..).chain(now).collect();
                    next.model.given_up = std::mem::take(&mut self.model.given_up);
                    *self = next;
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, log: u32, len: usize) {
        self.stamp += 1;
        // What compares equal was the same record.
        let stamp = self.stamp.to_le_bytes();
        let body: Vec<u8> = stamp.into_iter().cycle().take(len.max(4)).collect();
        let position = Position(self.engine.synced().0 + self.queued.len() as u64);
        let parts: &[&[u8]] = &[&body[..4], &body[4..]];
        let measure = (
            u32::try_from(body.len()).expect("short"),
            format::body_crc(parts),
        );
        format::push(&mut self.queued, (LogId(log), position), measure, parts);
        self.model.bodies.entry(log).or_default().push(body);
        self.positions.entry(log).or_default().push(position);
    }

    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let result = self.engine.commit(&mut self.queued);
        self.queued.clear();
        let n_ops = self.disk.n_ops();
        let durable = self
            .positions
            .keys()
            .map(|log| (n_ops, *log, self.n_durable(*log)));
        self.model.acknowledged.extend(durable.collect::<Vec<_>>());
        if let Err(Error::Full) = result {
            self.forget_queued();
        }
        result
    }

    fn n_durable(&self, log: u32) -> usize {
        let positions = self.positions.get(&log).map_or(&[][..], Vec::as_slice);
        positions.partition_point(|position| *position < self.engine.synced())
    }

    /// They have never been written.
    pub(super) fn forget_queued(&mut self) {
        for (log, bodies) in &mut self.model.bodies {
            let positions = self.positions.get_mut(log).expect("of each body");
            let n_durable = positions.partition_point(|position| *position < self.engine.synced());
            positions.truncate(n_durable);
            bodies.truncate(n_durable);
        }
        self.queued.clear();
    }

    fn truncate(&mut self, log: u32, n_kept: usize) {
        let n_given_up = self.n_durable(log).saturating_sub(n_kept);
        let positions = self.positions.get(&log).map_or(&[][..], Vec::as_slice);
        let before = positions
            .get(n_given_up)
            .copied()
            .unwrap_or(Position(u64::MAX));
        let before = before.min(self.engine.synced());
        self.engine.truncate(LogId(log), before);
        self.model
            .given_up
            .push((self.disk.n_ops(), log, n_given_up));
    }
}

impl Model {
    pub(super) fn n_bodies(&self) -> usize {
        self.bodies.values().map(Vec::len).sum()
    }

    /// What is acknowledged at which moment is not known any more.
    pub(super) fn forget_acknowledgements(&mut self) {
        self.acknowledged.clear();
    }

    /// The largest of each log that is true after `n_ops` operations.
    fn at(events: &[(usize, u32, usize)], n_ops: usize) -> BTreeMap<u32, usize> {
        let mut largest = BTreeMap::new();
        for (_, log, n) in events.iter().filter(|(since, _, _)| *since <= n_ops) {
            let entry = largest.entry(*log).or_insert(0);
            *entry = (*n).max(*entry);
        }
        largest
    }
}

pub(super) fn open(disk: &CrashDisk) -> Result<Engine, Error> {
    Engine::open(Arc::new(disk.clone()), SEGMENT_BYTES)
}

type Contents = BTreeMap<u32, Vec<(Position, Vec<u8>)>>;

/// What each log keeps.
pub(super) fn contents(engine: &Engine) -> Result<Contents, String> {
    let mut found = Contents::new();
    let range = (Position(0), engine.synced());
    crate::read::read(&engine.view().parts(), range, &mut |log, position, body| {
        let kept = engine.table().0.get(&log);
        if kept.is_some_and(|kept| kept.start <= position) {
            found
                .entry(log.0)
                .or_default()
                .push((position, body.to_vec()));
        }
        std::ops::ControlFlow::Continue(())
    })
    .map_err(|error| format!("{error:?}"))?;
    Ok(found)
}
