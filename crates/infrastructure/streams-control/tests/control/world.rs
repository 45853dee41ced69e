//! A table of rows, a store of segments, and clients, around a [`Control`] that can be killed at any time.

use std::collections::{BTreeMap, BTreeSet};

use streams_control::{
    Action, Call, Change, Config, Control, Cut, Effects, Group, Limits, Name, Outcome, Plan, Range,
    Rate, Refusal, Request, Response, Retention, Scaling, Segment, SegmentId, StreamName,
    Subscription, Ticket, TxnId, TxnStatus, Unique, Version,
};

/// What a broken world does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Segments of later epochs are created only in words.
    NoSuccessors,
    /// What was merged is still there.
    MergedStays,
    /// The last part of what is merged is left out.
    MergedInPart,
    /// A row of a batch is lost.
    TornBatch,
    /// What is deleted stays.
    NothingGoes,
}

#[derive(Debug, Default)]
struct Stored {
    length: u64,
    is_sealed: bool,
    start: u64,
}

/// A transaction that a client was told of.
#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) stream: StreamName,
    pub(crate) id: TxnId,
    pub(crate) parts: Vec<Segment>,
    is_to_commit: bool,
    is_to_abort: bool,
}

pub(crate) struct World {
    pub(crate) control: Control,
    pub(crate) plans: Vec<Plan>,
    pub(crate) answers: BTreeMap<Ticket, Result<Response, Refusal>>,
    pub(crate) txns: Vec<Txn>,
    pub(crate) now_ms: u64,
    pub(crate) limits: Limits,
    fault: Fault,
    rows: BTreeMap<Vec<u8>, (Vec<u8>, Version)>,
    last_version: Version,
    store: BTreeMap<String, Stored>,
    /// What was merged, and into what.
    merged: Vec<(String, String)>,
    asked: BTreeMap<Ticket, Request>,
    /// Nobody is told of these again.
    deleted: BTreeSet<StreamName>,
    n_txns: u64,
    errors: Vec<String>,
    /// No segment is created any more.
    pub(crate) is_full: bool,
    /// Segments that somebody else has deleted.
    robbed: BTreeSet<String>,
}

pub(crate) fn scope() -> Name {
    Name::new("lab").expect("a name")
}

pub(crate) fn stream(idx: u8) -> StreamName {
    StreamName::new("lab", &format!("s{idx}")).expect("names")
}

pub(crate) fn config(segments_min: u32) -> Config {
    Config {
        scaling: Scaling {
            rate: Rate::Fixed,
            factor: 2,
            segments_min,
        },
        retention: None,
        tags: BTreeSet::new(),
        timestamp_aggregation_timeout_ms: 0,
        rollover_size_bytes: 0,
    }
}

pub(crate) fn group() -> Group {
    Group {
        id: 7,
        generation: 0,
        refresh_ms: 3_000,
        checkpoint_ms: 30_000,
        checkpoints_max: 3,
        retention: Subscription::None,
        from: [(stream(0), Cut::new())].into(),
        to: [(stream(0), Cut::new())].into(),
        rollover_size_bytes: 0,
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        lease_ms_min: 100,
        lease_ms_max: 10_000,
        clock_step_ms_max: 1_000,
        retention_period_ms: 500,
        txn_batch_max: 3,
        plan_max: 12,
        page_max: 2,
        ..Limits::default()
    }
}

impl World {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            control: Control::load(limits(), [], 1_000).expect("nothing is right"),
            plans: Vec::new(),
            answers: BTreeMap::new(),
            txns: Vec::new(),
            now_ms: 1_000,
            limits: limits(),
            fault,
            rows: BTreeMap::new(),
            last_version: 0,
            store: BTreeMap::new(),
            merged: Vec::new(),
            asked: BTreeMap::new(),
            deleted: BTreeSet::new(),
            n_txns: 0,
            errors: Vec::new(),
            is_full: false,
            robbed: BTreeSet::new(),
        }
    }

    pub(crate) fn request(&mut self, request: Request) -> Ticket {
        if let Request::DeleteStream(stream) = &request {
            self.deleted.insert(stream.clone());
        }
        let (ticket, effects) = self.control.request(request.clone(), self.now_ms);
        self.asked.insert(ticket, request);
        self.absorb(effects);
        ticket
    }

    /// And nothing else happens.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Response, Refusal> {
        let ticket = self.request(request);
        self.drain();
        self.answers[&ticket].clone()
    }

    pub(crate) fn unique(&mut self) -> Unique {
        self.n_txns += 1;
        Unique {
            high: 0,
            low: self.n_txns,
        }
    }

    pub(crate) fn begin(&mut self, stream: &StreamName) -> Txn {
        let request = Request::CreateTxn {
            stream: stream.clone(),
            lease_ms: 1_000,
            unique: self.unique(),
        };
        self.ask(request).expect("it begins");
        self.txns.last().expect("it began").clone()
    }

    pub(crate) fn commit(&mut self, txn: &Txn) -> Ticket {
        self.request(Request::CommitTxn {
            stream: txn.stream.clone(),
            txn: txn.id,
            writer: String::new(),
            timestamp: None,
        })
    }

    fn absorb(&mut self, effects: Effects) {
        for plan in &effects.plans {
            let n = match &plan.action {
                Action::Write(changes) => changes.len(),
                Action::Call(calls) => calls.len(),
            };
            if n == 0 || n > self.limits.plan_max {
                self.errors.push(format!("a plan has {n} parts"));
            }
        }
        self.plans.extend(effects.plans);
        for (ticket, answer) in effects.answers {
            let request = self.asked.get(&ticket).cloned();
            match (request, &answer) {
                (Some(Request::CreateTxn { stream, .. }), Ok(response)) => {
                    let Response::TxnCreated { txn, segments } = response else {
                        self.errors.push(format!("{response:?} of a transaction"));
                        continue;
                    };
                    for part in segments {
                        let part = stream.transaction_segment(part.id.number, *txn);
                        if !self.store.contains_key(&part) {
                            self.errors.push(format!("{part} is not there"));
                        }
                    }
                    self.txns.push(Txn {
                        stream,
                        id: *txn,
                        parts: segments.clone(),
                        is_to_commit: false,
                        is_to_abort: false,
                    });
                }
                (Some(Request::CommitTxn { txn, .. }), Ok(_)) => {
                    for it in self.txns.iter_mut().filter(|it| it.id == txn) {
                        it.is_to_commit = true;
                    }
                }
                (Some(Request::AbortTxn(_, txn)), Ok(_)) => {
                    for it in self.txns.iter_mut().filter(|it| it.id == txn) {
                        it.is_to_abort = true;
                    }
                }
                _ => {}
            }
            if self.answers.insert(ticket, answer).is_some() {
                self.errors.push("a request is answered twice".to_owned());
            }
        }
    }

    pub(crate) fn tick(&mut self) {
        let effects = self.control.tick(self.now_ms);
        self.absorb(effects);
    }

    /// Of what is planned, this is done now.
    pub(crate) fn act(&mut self, idx: usize, n_times: u8) {
        let plan = self.plans.remove(idx);
        let mut outcome = Outcome::Failed;
        for _ in 0..n_times {
            outcome = match &plan.action {
                Action::Write(changes) => self.write(changes),
                Action::Call(calls) => {
                    let replies: Vec<_> = calls.iter().map(|it| self.call(it)).collect();
                    let replies: Result<_, _> = replies.into_iter().collect();
                    replies.map_or_else(Outcome::Refused, Outcome::Called)
                }
            };
            if matches!(outcome, Outcome::Written(_)) {
                break;
            }
        }
        let effects = self.control.done(plan.token, outcome, self.now_ms);
        self.absorb(effects);
    }

    /// Some of its calls are made, or it is written without anybody knowing: by the bits of a number.
    fn act_in_part(&mut self, plan: &Plan, bits: u16) {
        match &plan.action {
            Action::Write(changes) if bits & 1 == 1 => {
                self.write(changes);
            }
            Action::Write(_) => {}
            Action::Call(calls) => {
                for (idx, call) in calls.iter().enumerate() {
                    let n_times = (bits >> (2 * (idx % 8))) & 3;
                    for _ in 0..n_times.min(2) {
                        // Nobody is told.
                        self.call(call).ok();
                    }
                }
            }
        }
    }

    pub(crate) fn fail(&mut self, idx: usize, bits: u16) {
        self.fail_with(idx, bits, Outcome::Failed);
    }

    pub(crate) fn refuse(&mut self, idx: usize, bits: u16) {
        self.fail_with(idx, bits, Outcome::Refused("no room".to_owned()));
    }

    fn fail_with(&mut self, idx: usize, bits: u16, outcome: Outcome) {
        let plan = self.plans.remove(idx);
        if let Action::Call(_) = plan.action {
            self.act_in_part(&plan, bits);
        }
        let effects = self.control.done(plan.token, outcome, self.now_ms);
        self.absorb(effects);
    }

    /// Of each plan some part may have been carried out, and somebody else goes on.
    pub(crate) fn kill(&mut self, bits: u16) {
        for plan in std::mem::take(&mut self.plans) {
            self.act_in_part(&plan, bits);
        }
        self.asked.clear();
        let rows = self.rows.iter();
        let rows = rows.map(|(key, (value, version))| (key.clone(), value.clone(), *version));
        match Control::load(self.limits.clone(), rows, self.now_ms) {
            Ok(control) => {
                self.control = control;
                self.answers.clear();
                self.plans = self.control.resume();
            }
            Err(error) => self.errors.push(format!("load: {error}")),
        }
    }

    /// Until nothing is planned.
    pub(crate) fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.plans.is_empty() {
                self.tick();
            }
            let is_stalled = self.control.usage().n_stalled > 0;
            if self.errors.is_empty() && self.plans.is_empty() && is_stalled {
                self.now_ms += 100;
                continue;
            }
            if self.plans.is_empty() || !self.errors.is_empty() {
                return;
            }
            self.act(0, 1);
        }
        self.errors.push("it never ends".to_owned());
    }

    fn write(&mut self, changes: &[Change]) -> Outcome {
        let is_expected = |change: &Change| {
            self.rows.get(&change.key).map(|(_, version)| *version) == change.expected
        };
        if !changes.iter().all(is_expected) {
            self.errors
                .push(format!("a row is not as expected: {changes:?}"));
            return Outcome::Lost;
        }
        let is_torn = self.fault == Fault::TornBatch && changes.len() > 1;
        let mut versions = Vec::new();
        for (idx, change) in changes.iter().enumerate() {
            self.last_version += 1;
            versions.push(self.last_version);
            if is_torn && idx == changes.len() - 1 {
                continue;
            }
            match &change.value {
                Some(value) => {
                    let row = (value.clone(), self.last_version);
                    self.rows.insert(change.key.clone(), row);
                }
                None => {
                    self.rows.remove(&change.key);
                }
            }
        }
        Outcome::Written(versions)
    }

    fn call(&mut self, call: &Call) -> Result<u64, String> {
        match call {
            Call::Create { segment, .. } => {
                if self.is_full && !self.store.contains_key(segment) {
                    return Err("the store is full".to_owned());
                }
                let is_later = !segment.contains("#epoch.0");
                if !(self.fault == Fault::NoSuccessors && is_later) {
                    self.store.entry(segment.clone()).or_default();
                }
            }
            Call::SetPolicy { .. } => {}
            Call::Seal(segment) => self.seal(segment),
            Call::Truncate { segment, offset } => {
                if let Some(stored) = self.store.get_mut(segment) {
                    if *offset > stored.length {
                        self.errors.push(format!("{segment} is cut behind its end"));
                    }
                    stored.start = stored.start.max(*offset);
                }
            }
            Call::Merge { target, sources } => self.merge(target, sources)?,
            Call::Delete(segment) => {
                if self.fault != Fault::NothingGoes {
                    self.store.remove(segment);
                }
            }
            Call::Length(segment) => match self.store.get(segment) {
                Some(stored) => return Ok(stored.length),
                None if self.robbed.contains(segment) => {}
                None => self.errors.push(format!("{segment} has no length")),
            },
        }
        Ok(0)
    }

    /// Somebody else deletes it.
    pub(crate) fn rob(&mut self, segment: &str) {
        self.store.remove(segment).expect("it is there");
        self.robbed.insert(segment.to_owned());
    }

    /// What takes its place is there.
    fn seal(&mut self, segment: &str) {
        let (stream, id) = parse(segment);
        match self.control.successors(&stream, id) {
            Ok(successors) if successors.is_empty() => {
                if self.control.is_sealed(&stream) != Ok(true) {
                    self.errors
                        .push(format!("{segment} is sealed without successors"));
                }
            }
            Ok(successors) => {
                for successor in successors {
                    let successor = stream.segment(successor.segment.id);
                    if !self.store.contains_key(&successor) {
                        self.errors
                            .push(format!("{segment} is sealed before {successor}"));
                    }
                }
            }
            // It is made for a transaction, and nobody knows of it yet.
            Err(_) => {}
        }
        match self.store.get_mut(segment) {
            Some(stored) => stored.is_sealed = true,
            None if self.robbed.contains(segment) => {}
            None => self
                .errors
                .push(format!("{segment} is sealed and not there")),
        }
    }

    fn merge(&mut self, target: &str, sources: &[String]) -> Result<(), String> {
        let n_there = sources
            .iter()
            .filter(|it| self.store.contains_key(*it))
            .count();
        if n_there == 0 {
            return Ok(());
        }
        if self.robbed.contains(target) {
            return Err(format!("{target} is not there"));
        }
        if n_there < sources.len() {
            self.errors.push(format!("{sources:?} are there in part"));
        }
        let skipped = usize::from(self.fault == Fault::MergedInPart);
        for source in &sources[..sources.len() - skipped] {
            let length = self.store.get(source).map_or(0, |stored| stored.length);
            if self.fault != Fault::MergedStays {
                self.store.remove(source);
            }
            match self.store.get_mut(target) {
                Some(stored) if !stored.is_sealed => stored.length += length,
                _ => self.errors.push(format!("{target} takes nothing more")),
            }
            self.merged.push((source.clone(), target.to_owned()));
        }
        Ok(())
    }

    /// Clients write.
    pub(crate) fn append(&mut self, stream: &StreamName, n_bytes: u64) {
        let segments = self.control.current_segments(stream).unwrap_or_default();
        for segment in segments {
            let stored = self.store.get_mut(&stream.segment(segment.id));
            if let Some(stored) = stored.filter(|stored| !stored.is_sealed) {
                stored.length += n_bytes;
            }
        }
    }

    pub(crate) fn append_in(&mut self, txn: &Txn, n_bytes: u64) {
        for part in &txn.parts {
            let part = txn.stream.transaction_segment(part.id.number, txn.id);
            if let Some(stored) = self.store.get_mut(&part) {
                stored.length += n_bytes;
            }
        }
    }

    /// At that share of what is written now.
    pub(crate) fn tail(&self, stream: &StreamName, halves: u64) -> Cut {
        let segments = self.control.current_segments(stream).unwrap_or_default();
        let offset = |id| {
            let stored = self.store.get(&stream.segment(id));
            let length = stored.map_or(0, |stored| stored.length);
            i64::try_from(length * halves / 2).expect("small")
        };
        segments.iter().map(|it| (it.id, offset(it.id))).collect()
    }

    /// Into what a part of a transaction was merged, in order.
    pub(crate) fn merged(&self, target: &str) -> Vec<&str> {
        let merged = self.merged.iter().filter(|(_, it)| it == target);
        merged.map(|(source, _)| source.as_str()).collect()
    }

    /// All of them, without their versions.
    pub(crate) fn rows(&self) -> Vec<(String, Vec<u8>)> {
        let rows = self.rows.iter();
        let rows =
            rows.map(|(key, (value, _))| (String::from_utf8_lossy(key).into(), value.clone()));
        rows.collect()
    }

    /// Whether there was one.
    pub(crate) fn lose_row(&mut self, idx: usize) -> bool {
        let key = self.rows.keys().nth(idx).cloned();
        key.is_some_and(|key| self.rows.remove(&key).is_some())
    }

    pub(crate) fn length(&self, segment: &str) -> Option<u64> {
        Some(self.store.get(segment)?.length)
    }

    /// All that is listed.
    pub(crate) fn streams(&self) -> Vec<StreamName> {
        let mut scopes = Vec::new();
        let mut page = self.control.list_scopes("");
        while !page.names.is_empty() {
            scopes.append(&mut page.names);
            page = self.control.list_scopes(&page.token);
        }
        let mut streams = Vec::new();
        for scope in scopes {
            let list = |token: &str| self.control.list_streams(&scope, token).expect("listed");
            let mut page = list("");
            while !page.names.is_empty() {
                let names = page.names.drain(..);
                streams.extend(names.map(|stream| StreamName {
                    scope: scope.clone(),
                    stream,
                }));
                page = list(&page.token);
            }
        }
        streams
    }

    /// Once nothing is planned.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let mut known = BTreeSet::new();
        for stream in self.streams() {
            let result = self.check_stream(&stream, &mut known);
            self.errors.extend(result.err());
        }
        for txn in self.txns.clone() {
            let result = self.check_txn(&txn, &mut known);
            self.errors.extend(result.err());
        }
        // One of which nobody was told ends with its lease.
        let is_known = |name: &&String| known.contains(*name) || name.contains("#transaction");
        for name in self.store.keys().filter(|name| !is_known(name)) {
            self.errors.push(format!("{name} is left over"));
        }
        match self.errors.first() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn check_stream(
        &self,
        stream: &StreamName,
        known: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let control = &self.control;
        let is_sealed = control
            .is_sealed(stream)
            .map_err(|it| format!("{stream}: {it}"))?;
        let epochs = (0..).map_while(|it| {
            control
                .epoch_segments(stream, streams_control::Epoch(it))
                .ok()
        });
        let mut last = Vec::new();
        let mut all = BTreeSet::new();
        for epoch in epochs {
            let mut ranges: Vec<Range> = epoch.iter().map(|it| it.range).collect();
            ranges.sort_by(|a, b| a.low().total_cmp(&b.low()));
            let ends = ranges.iter().map(Range::high);
            let begins = ranges.iter().skip(1).map(Range::low).chain([1.0]);
            if ranges[0].low() != 0.0 || !ends.eq(begins) {
                return Err(format!("{stream}: {epoch:?} does not tile"));
            }
            all.extend(epoch.iter().map(|it| it.id));
            last = epoch.iter().map(|it| it.id).collect();
        }
        let current = control
            .current_segments(stream)
            .map_err(|it| it.to_string())?;
        if !is_sealed && !current.iter().map(|it| it.id).eq(last.iter().copied()) {
            return Err(format!("{stream}: its last epoch is not the active one"));
        }
        let head = control.head(stream).map_err(|it| it.to_string())?;
        let live = control.segments_between(stream, &head, &Cut::new());
        let live: BTreeSet<_> = live
            .map_err(|it| it.to_string())?
            .iter()
            .map(|it| it.id)
            .collect();
        for id in all {
            let name = stream.segment(id);
            if self.robbed.contains(&name) {
                continue;
            }
            let stored = self.store.get(&name);
            match (stored, live.contains(&id)) {
                (None, true) => return Err(format!("{name} is not there")),
                (Some(_), false) => return Err(format!("{name} is still there")),
                (Some(stored), true) if stored.is_sealed != (is_sealed || !last.contains(&id)) => {
                    return Err(format!("{name} is sealed: {}", stored.is_sealed));
                }
                _ => {}
            }
            known.insert(name);
        }
        Ok(())
    }

    fn check_txn(&self, txn: &Txn, known: &mut BTreeSet<String>) -> Result<(), String> {
        let parts = txn.parts.iter();
        let parts = parts.map(|part| txn.stream.transaction_segment(part.id.number, txn.id));
        let parts: BTreeSet<_> = parts.collect();
        let merged = self
            .merged
            .iter()
            .filter(|(source, _)| parts.contains(source));
        let merged: Vec<_> = merged.collect();
        let targets: BTreeSet<_> = merged.iter().map(|(_, target)| target).collect();
        if !(merged.is_empty() || (merged.len() == parts.len() && targets.len() == parts.len())) {
            return Err(format!("{:?} is committed as {merged:?}", txn.id));
        }
        if txn.is_to_abort && !merged.is_empty() {
            return Err(format!("{:?} is aborted and committed", txn.id));
        }
        if txn.is_to_commit && merged.is_empty() {
            return Err(format!("{:?} is not committed", txn.id));
        }
        if self.deleted.contains(&txn.stream) || !self.control.has_stream(&txn.stream) {
            return Ok(());
        }
        let status = self.control.txn_status(&txn.stream, txn.id);
        let expected = match status.clone().map_err(|it| it.to_string())? {
            TxnStatus::Open => {
                known.extend(parts);
                true
            }
            TxnStatus::Committed => !merged.is_empty(),
            TxnStatus::Aborted => {
                merged.is_empty() && !parts.iter().any(|it| self.store.contains_key(it))
            }
            _ => false,
        };
        if expected {
            Ok(())
        } else {
            Err(format!("{:?} is {status:?}, with {merged:?}", txn.id))
        }
    }
}

fn parse(segment: &str) -> (StreamName, SegmentId) {
    let parts: Vec<_> = segment.split('/').collect();
    let (number, epoch) = parts[2].split_once(".#epoch.").expect("a segment");
    let id = SegmentId {
        epoch: streams_control::Epoch(epoch.parse().expect("an epoch")),
        number: number.parse().expect("a number"),
    };
    (StreamName::new(parts[0], parts[1]).expect("names"), id)
}

pub(crate) fn by_size(min_bytes: u64) -> Config {
    Config {
        retention: Some(Retention::Size {
            min_bytes,
            max_bytes: u64::MAX,
        }),
        ..config(2)
    }
}

pub(crate) fn by_age(min_ms: u64) -> Config {
    Config {
        retention: Some(Retention::Time {
            min_ms,
            max_ms: u64::MAX,
        }),
        ..config(2)
    }
}
