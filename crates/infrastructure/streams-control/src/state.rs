//! All that the rows say, in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Clock, Stamp};
use crate::cuts::Cut;
use crate::epochs::{EpochSegments, Epochs};
use crate::error::Corrupt;
use crate::groups::Group;
use crate::lanes::{Lane, LaneKey};
use crate::limits::Limits;
use crate::names::{Epoch, Name, SYSTEM_SCOPE, StreamName, TxnId};
use crate::rows::{
    Commit, EndedRow, Key, Replacement, RetentionRow, Row, ScopeRow, State, StreamRow, TxnRow,
    TxnState,
};
use crate::step::{Token, Version};

/// Scopes, streams and transactions, and what is being done to them.
#[derive(Debug)]
pub struct Control {
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) scopes: BTreeMap<Name, Scope>,
    pub(crate) graves: BTreeMap<StreamName, u32>,
    pub(crate) graves_in_order: BTreeSet<(u32, StreamName)>,
    /// New streams begin with it, if they have no grave.
    pub(crate) floor: u32,
    pub(crate) n_streams: usize,
    /// Of all rows but those of transactions that have ended.
    pub(crate) versions: BTreeMap<Key, Version>,
    /// Those in which something is done, or waits.
    pub(crate) lanes: BTreeMap<LaneKey, Lane>,
    pub(crate) in_flight: BTreeMap<Token, LaneKey>,
    /// When lanes in which something has failed go on.
    pub(crate) stalled: BTreeSet<(u64, LaneKey)>,
    /// Lanes that were waiting for others and need not any more.
    pub(crate) woken: BTreeSet<LaneKey>,
    /// When open transactions end themselves.
    pub(crate) leases: BTreeSet<(u64, StreamName, TxnId)>,
    /// When the end of a stream is noted next.
    pub(crate) due: BTreeSet<(u64, StreamName)>,
    pub(crate) last_token: u64,
    pub(crate) last_ticket: u64,
    pub(crate) is_fenced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) row: ScopeRow,
    pub(crate) streams: BTreeMap<Name, Stream>,
    pub(crate) tags: BTreeMap<String, BTreeSet<Name>>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) row: StreamRow,
    /// Perhaps more than up to the active one.
    pub(crate) epochs: Epochs,
    pub(crate) txns: BTreeMap<TxnId, Txn>,
    /// Those that are to be, in this order.
    pub(crate) committing: BTreeSet<(Epoch, u64, TxnId)>,
    /// Greater than all of these.
    pub(crate) next_order: u64,
    pub(crate) aborting: BTreeSet<TxnId>,
    pub(crate) ended: BTreeMap<TxnId, Ended>,
    pub(crate) ended_in_order: BTreeSet<(Stamp, TxnId)>,
    pub(crate) retention: RetentionRow,
    /// Of a stream that is that of a reader group.
    pub(crate) group: Option<Box<Group>>,
    /// In `Control::due`.
    due_ms: Option<u64>,
}

/// There are many of them, so their versions are here.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) row: EndedRow,
    version: Version,
}

#[derive(Debug)]
pub(crate) struct Txn {
    pub(crate) row: TxnRow,
    /// When the row was written, or loaded. Times are as counted.
    pub(crate) since_ms: u64,
    /// It lives until then.
    pub(crate) lease_until_ms: u64,
}

impl Txn {
    pub(crate) fn executed_ms(&self, now_ms: u64) -> u64 {
        let since = now_ms.saturating_sub(self.since_ms);
        self.row.executed_ms.saturating_add(since)
    }
}

impl Stream {
    fn new(row: StreamRow) -> Self {
        Self {
            row,
            epochs: Epochs::default(),
            txns: BTreeMap::new(),
            committing: BTreeSet::new(),
            next_order: 0,
            aborting: BTreeSet::new(),
            ended: BTreeMap::new(),
            ended_in_order: BTreeSet::new(),
            retention: RetentionRow::default(),
            group: None,
            due_ms: None,
        }
    }

    /// What it is written to.
    pub(crate) fn active(&self) -> &EpochSegments {
        let active = self.epochs.get(self.row.active);
        active.expect("loaded and written with its stream")
    }

    /// It was not there.
    fn put_txn(&mut self, id: TxnId, txn: Txn) {
        match &txn.row.state {
            TxnState::Open => {}
            TxnState::Committing(it) => {
                self.committing.insert((id.epoch(), it.order, id));
                self.next_order = self.next_order.max(it.order.saturating_add(1));
            }
            TxnState::Aborting => {
                self.aborting.insert(id);
            }
        }
        self.txns.insert(id, txn);
    }

    fn remove_txn(&mut self, id: TxnId) -> Option<Txn> {
        let txn = self.txns.remove(&id)?;
        if let TxnState::Committing(it) = &txn.row.state {
            self.committing.remove(&(id.epoch(), it.order, id));
        }
        self.aborting.remove(&id);
        Some(txn)
    }

    /// It can be asked about.
    pub(crate) fn is_visible(&self) -> bool {
        !matches!(self.row.state, State::Creating | State::Deleting)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.row.state, State::Sealing | State::Sealed)
    }

    /// The epoch after the active one, with some segments replaced.
    pub(crate) fn scaled(&self, replacement: &Replacement) -> Result<EpochSegments, Corrupt> {
        let sealed: BTreeSet<_> = replacement.sealed.iter().collect();
        let stays = |id| !sealed.contains(&id);
        let kept = self.active().segments().iter();
        let kept = kept.filter(|segment| stays(segment.id)).copied();
        let segments = kept.chain(replacement.created.iter().copied());
        EpochSegments::new(self.row.active.next(), segments.collect())
    }

    /// The segments of the transactions again, and the active ones again.
    pub(crate) fn rolled(&self, commit: &Commit) -> Option<(EpochSegments, EpochSegments)> {
        let first = self.row.active.next();
        let of_txns = self.epochs.get(commit.epoch)?.repeated_in(first);
        Some((of_txns, self.active().repeated_in(first.next())))
    }
}

impl Control {
    /// From all rows, in any order.
    ///
    /// # Errors
    /// [`Corrupt`]: they do not belong together, or were not written here.
    pub fn load<R>(limits: Limits, rows: R, now_ms: u64) -> Result<Self, Corrupt>
    where
        R: IntoIterator<Item = (Vec<u8>, Vec<u8>, Version)>,
    {
        let mut control = Self {
            limits,
            clock: Clock::default(),
            scopes: BTreeMap::new(),
            graves: BTreeMap::new(),
            graves_in_order: BTreeSet::new(),
            floor: 0,
            n_streams: 0,
            versions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            stalled: BTreeSet::new(),
            woken: BTreeSet::new(),
            leases: BTreeSet::new(),
            due: BTreeSet::new(),
            last_token: 0,
            last_ticket: 0,
            is_fenced: false,
        };
        let system = Name::new(SYSTEM_SCOPE).expect("it is a name");
        control.scopes.insert(system, Scope::default());
        let mut parsed = BTreeMap::new();
        for (key, value, version) in rows {
            let key = Key::decode(&key)?;
            let row = Row::decode(&key, &value)?;
            match &row {
                Row::Ended(ended) => control.clock.note(ended.at),
                Row::Retention(retention) => {
                    for tail in &retention.tails {
                        control.clock.note(tail.at);
                    }
                }
                _ => {}
            }
            parsed.insert(key, (row, version));
        }
        control.clock.advance(now_ms, &control.limits);
        // Scopes come before their streams, and streams before what is theirs.
        for (key, (row, version)) in parsed {
            control.put(&key, row)?;
            control.set_version(key, version);
        }
        control.check()?;
        Ok(control)
    }

    fn check(&self) -> Result<(), Corrupt> {
        let streams = self
            .scopes
            .values()
            .flat_map(|scope| scope.streams.values());
        // One that is deleted has lost some of its rows.
        for stream in streams.filter(|stream| stream.row.state != State::Deleting) {
            let row = &stream.row;
            let is_there = |(number, (epoch, segments)): (u32, (Epoch, &EpochSegments))| {
                epoch.0 == number && segments.reference <= epoch
            };
            if stream.epochs.get(row.active).is_none()
                || !(0..).zip(stream.epochs.iter()).all(is_there)
            {
                return Err(Corrupt("an epoch of a stream is missing"));
            }
            if let State::Scaling(replacement) = &row.state {
                stream.scaled(replacement)?;
            }
            if let Some(commit) = &row.commit {
                let is_there = |txn| stream.txns.contains_key(txn);
                if stream.rolled(commit).is_none() || !commit.txns.iter().all(is_there) {
                    return Err(Corrupt("a transaction that is committed is missing"));
                }
            }
            let is_known = |id| stream.epochs.segment(id).is_some();
            let from = match &row.state {
                State::Truncating(from) => Some(from),
                _ => None,
            };
            let cuts = row.head.iter().map(|head| &head.cut).chain(from);
            if !cuts.flat_map(Cut::keys).all(|id| is_known(*id)) {
                return Err(Corrupt("a stream begins where it never was"));
            }
            for txn in stream.txns.keys() {
                if stream.epochs.get(txn.epoch()).is_none() {
                    return Err(Corrupt("a transaction began in an epoch that never was"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn stream(&self, name: &StreamName) -> Option<&Stream> {
        self.scopes.get(&name.scope)?.streams.get(&name.stream)
    }

    fn stream_mut(&mut self, name: &StreamName) -> Result<&mut Stream, Corrupt> {
        let scope = self.scopes.get_mut(&name.scope);
        let stream = scope.and_then(|scope| scope.streams.get_mut(&name.stream));
        stream.ok_or(Corrupt("a row belongs to no stream"))
    }

    /// Of a row, if it is there.
    pub(crate) fn version(&self, key: &Key) -> Option<Version> {
        match key {
            Key::Ended(name, id) => Some(self.stream(name)?.ended.get(id)?.version),
            _ => self.versions.get(key).copied(),
        }
    }

    /// Of one that is put.
    pub(crate) fn set_version(&mut self, key: Key, version: Version) {
        let Key::Ended(name, id) = &key else {
            self.versions.insert(key, version);
            return;
        };
        let stream = self.stream_mut(name).ok();
        if let Some(ended) = stream.and_then(|stream| stream.ended.get_mut(id)) {
            ended.version = version;
        }
    }

    /// What was written. The order of keys is that of dependence.
    pub(crate) fn put(&mut self, key: &Key, row: Row) -> Result<(), Corrupt> {
        let now_ms = self.clock.counted_ms();
        match (key, row) {
            (Key::Scope(name), Row::Scope(row)) => {
                self.scopes.entry(name.clone()).or_default().row = row;
            }
            (Key::Stream(name), Row::Stream(row)) => self.put_stream(name, *row)?,
            (Key::Epoch(name, epoch), Row::Epoch(segments)) => {
                self.stream_mut(name)?.epochs.insert(*epoch, segments);
            }
            (Key::Txn(name, id), Row::Txn(row)) => {
                self.remove_txn(name, *id);
                let lease_until_ms = now_ms.saturating_add(row.lease_ms);
                if row.state == TxnState::Open {
                    self.leases.insert((lease_until_ms, name.clone(), *id));
                }
                self.stream_mut(name)?.put_txn(
                    *id,
                    Txn {
                        row,
                        since_ms: now_ms,
                        lease_until_ms,
                    },
                );
            }
            (Key::Ended(name, id), Row::Ended(row)) => {
                self.remove(key);
                let stream = self.stream_mut(name)?;
                let version = Version::default();
                stream.ended.insert(*id, Ended { row, version });
                stream.ended_in_order.insert((row.at, *id));
            }
            (Key::Retention(name), Row::Retention(row)) => self.stream_mut(name)?.retention = row,
            (Key::Grave(name), Row::Grave(number)) => {
                self.remove(key);
                self.graves.insert(name.clone(), number);
                self.graves_in_order.insert((number, name.clone()));
            }
            (Key::Floor, Row::Floor(number)) => self.floor = number,
            (Key::Group(name), Row::Group(group)) => self.stream_mut(name)?.group = Some(group),
            _ => return Err(Corrupt("a row is not what its key says")),
        }
        Ok(())
    }

    fn put_stream(&mut self, name: &StreamName, row: StreamRow) -> Result<(), Corrupt> {
        let now_ms = self.clock.counted_ms();
        let scope = self.scopes.get_mut(&name.scope);
        let scope = scope.ok_or(Corrupt("a stream belongs to no scope"))?;
        if let Some(before) = scope.streams.get(&name.stream) {
            untag(&mut scope.tags, &before.row, &name.stream);
        } else {
            self.n_streams += 1;
        }
        for tag in &row.config.tags {
            let tagged = scope.tags.entry(tag.clone()).or_default();
            tagged.insert(name.stream.clone());
        }
        let is_due = row.config.retention.is_some();
        let stream = match scope.streams.get_mut(&name.stream) {
            Some(stream) => {
                stream.row = row;
                stream
            }
            None => {
                let stream = scope.streams.entry(name.stream.clone());
                stream.or_insert_with(|| Stream::new(row))
            }
        };
        if is_due && stream.due_ms.is_none() {
            stream.due_ms = Some(now_ms);
            self.due.insert((now_ms, name.clone()));
        }
        Ok(())
    }

    /// What is not there any more.
    pub(crate) fn remove(&mut self, key: &Key) {
        match key {
            Key::Scope(name) => {
                self.scopes.remove(name);
            }
            Key::Stream(name) => {
                let Some(scope) = self.scopes.get_mut(&name.scope) else {
                    return;
                };
                let Some(stream) = scope.streams.remove(&name.stream) else {
                    return;
                };
                untag(&mut scope.tags, &stream.row, &name.stream);
                self.n_streams -= 1;
                for (id, txn) in stream.txns {
                    self.leases.remove(&(txn.lease_until_ms, name.clone(), id));
                }
                if let Some(due_ms) = stream.due_ms {
                    self.due.remove(&(due_ms, name.clone()));
                }
                self.wake_deletion(&name.scope);
            }
            Key::Epoch(name, epoch) => {
                if let Ok(stream) = self.stream_mut(name) {
                    stream.epochs.remove(*epoch);
                }
            }
            Key::Txn(name, id) => self.remove_txn(name, *id),
            Key::Ended(name, id) => {
                let Ok(stream) = self.stream_mut(name) else {
                    return;
                };
                if let Some(ended) = stream.ended.remove(id) {
                    stream.ended_in_order.remove(&(ended.row.at, *id));
                }
            }
            Key::Retention(name) => {
                if let Ok(stream) = self.stream_mut(name) {
                    stream.retention = RetentionRow::default();
                }
            }
            Key::Grave(name) => {
                if let Some(number) = self.graves.remove(name) {
                    self.graves_in_order.remove(&(number, name.clone()));
                }
            }
            Key::Floor => self.floor = 0,
            Key::Group(name) => {
                if let Ok(stream) = self.stream_mut(name) {
                    stream.group = None;
                }
            }
        }
    }

    fn remove_txn(&mut self, name: &StreamName, id: TxnId) {
        let Ok(stream) = self.stream_mut(name) else {
            return;
        };
        if let Some(txn) = stream.remove_txn(id) {
            self.leases.remove(&(txn.lease_until_ms, name.clone(), id));
        }
    }

    /// Only in memory: after a crash it lives as long as its row says from then on.
    pub(crate) fn extend_lease(&mut self, name: &StreamName, id: TxnId, until_ms: u64) {
        let Ok(stream) = self.stream_mut(name) else {
            return;
        };
        let Some(txn) = stream.txns.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut txn.lease_until_ms, until_ms);
        self.leases.remove(&(before, name.clone(), id));
        self.leases.insert((until_ms, name.clone(), id));
    }

    /// When its end is noted next. `None`: never, until its row is written again.
    pub(crate) fn set_due(&mut self, name: &StreamName, due_ms: Option<u64>) {
        let Ok(stream) = self.stream_mut(name) else {
            return;
        };
        let before = std::mem::replace(&mut stream.due_ms, due_ms);
        if let Some(before) = before {
            self.due.remove(&(before, name.clone()));
        }
        if let Some(due_ms) = due_ms {
            self.due.insert((due_ms, name.clone()));
        }
    }
}

fn untag(tags: &mut BTreeMap<String, BTreeSet<Name>>, row: &StreamRow, name: &Name) {
    for tag in &row.config.tags {
        if let Some(tagged) = tags.get_mut(tag) {
            tagged.remove(name);
            if tagged.is_empty() {
                tags.remove(tag);
            }
        }
    }
}
