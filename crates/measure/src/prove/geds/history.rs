//! What clients have asked and what they were answered, and whether a store that keeps its promises may answer so.
//!
//! Names are few, and those that are changed together (by renaming, copying, listing) are judged together. The calls of one such group are put in an
//! order, one after the other, in which each is answered as it was; a call that was over before another one began comes before it. If there is no such
//! order, something was lost, altered or stale. All orders are followed at once: after each answer, what may be true is a set of [`Line`]s.
//!
//! - Whoever was not answered has been heard, or not, or is heard later, but not after the end of the node.
//! - The end of a node leaves what was answered as durable, and all before it. What came later may be gone, but only with all that came after it. What was
//!   ephemeral is whole or lost, and the same from then on. ([`Rule::Strict`]: what was seen is not gone.)

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One of the names of a group. Four of them are in a folder.
pub(super) type Key = u8;
pub(super) type Folder = u8;
/// What was written, which is written once only.
pub(super) type Version = u64;

pub(super) const KEYS_OF_FOLDER: u8 = 4;
/// More that may be true is not followed.
const LINES_MAX: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum When {
    Always,
    Absent,
    Is(Version),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    Seal {
        key: Key,
        version: Version,
        is_durable: bool,
        when: When,
    },
    Delete(Key),
    DeleteFolder(Folder),
    Rename {
        from: Key,
        to: Key,
        when: When,
    },
    Copy {
        from: Key,
        to: Key,
        when: When,
    },
    RenameFolder {
        from: Folder,
        to: Folder,
        when: When,
    },
    /// To be on the disk or in S3.
    Keep(Key),
    Read(Key),
    List,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Found(Version),
    Lost,
    Nothing,
    Conflict,
    Names(Vec<Key>),
    /// It may have been done, or may be done yet.
    Unknown(String),
    /// Nobody was there to be asked.
    NotAsked,
    /// There was no room, and nothing was changed.
    NoRoom,
    /// What is never answered, or bytes that nobody wrote.
    Wrong(String),
}

/// Times are those of one clock.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub ask: Ask,
    /// Which incarnation of the node was asked.
    pub era: usize,
    pub from: u64,
    pub to: u64,
    /// `None`: whoever asked is gone.
    pub answer: Option<Answer>,
}

/// Of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// It does nothing any more.
    pub at: u64,
    /// Nobody has heard of the next one before.
    pub next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// What was promised.
    Promised,
    /// And what was seen is not gone, though nobody has promised that it is durable.
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// In this incarnation of the node.
    Ephemeral,
    /// In a former one: whole or lost.
    Doubtful,
    Kept,
    Lost,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    names: BTreeMap<Key, Version>,
    fates: BTreeMap<Version, Fate>,
}

/// What may be true: an order of calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// What was true after each call that has changed something, from the last one on that is known to be durable.
    states: Vec<(Option<usize>, State)>,
    /// Have been done and are not answered.
    done: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked(usize),
    Answered(usize),
    Ended(usize),
}

/// Says what is wrong. `ends`: of each incarnation of the node but the last.
pub(super) fn check(calls: &[Call], ends: &[End], rule: Rule) -> Result<(), String> {
    for call in calls {
        if let Some(Answer::Wrong(what)) = &call.answer {
            return Err(format!("{:?}: {what}", call.ask));
        }
    }
    let mut lines = BTreeSet::from([Line {
        states: vec![(None, State::default())],
        done: BTreeSet::new(),
    }]);
    let mut open = BTreeSet::new();
    for (_, event) in events(calls, ends) {
        match event {
            Event::Asked(n) => {
                open.insert(n);
            }
            Event::Answered(n) => {
                let next = answered(calls, &lines, &open, n)?;
                if next.is_empty() {
                    return Err(explain(calls, &lines, n));
                }
                lines = next;
                open.remove(&n);
            }
            Event::Ended(_) => {
                // Whatever was asked may have been heard.
                let heard = heard(calls, &lines, &open, |_| false)?;
                lines = heard.iter().flat_map(|line| line.ended(rule)).collect();
                open.clear();
            }
        }
    }
    Ok(())
}

/// In the order in which they count. Calls without an answer have no end.
fn events(calls: &[Call], ends: &[End]) -> Vec<(u64, Event)> {
    let mut events: Vec<_> = (ends.iter().enumerate())
        .map(|(era, end)| (end.at, Event::Ended(era)))
        .collect();
    for (n, call) in calls.iter().enumerate() {
        let is_answered = match &call.answer {
            Some(Answer::NotAsked | Answer::NoRoom) => continue,
            // Whether it was done makes no difference to what may be true.
            Some(Answer::Unknown(_)) | None if matches!(call.ask, Ask::Keep(_)) => continue,
            Some(Answer::Unknown(_)) | None => false,
            Some(_) => true,
        };
        let end = ends.get(call.era);
        let (mut from, mut to) = (call.from, call.to);
        match end {
            // It has heard this before it ended, whenever the answer was read.
            Some(end) if from < end.next => (from, to) = (from.min(end.at), to.min(end.at)),
            // A node that is no more is not heard: whoever is answered so was told what is now.
            Some(_) if !is_answered => continue,
            _ => {}
        }
        events.push((from, Event::Asked(n)));
        if is_answered {
            events.push((to, Event::Answered(n)));
        }
    }
    events.sort();
    events
}

/// What may be true after an answer.
fn answered(
    calls: &[Call],
    lines: &BTreeSet<Line>,
    open: &BTreeSet<usize>,
    n: usize,
) -> Result<BTreeSet<Line>, String> {
    let is_done = |line: &Line| line.done.contains(&n);
    let heard = heard(calls, lines, open, is_done)?;
    let next = heard.into_iter().filter(is_done).map(|mut line| {
        line.done.remove(&n);
        if calls[n].is_durable() {
            line.settle(n);
        }
        line
    });
    Ok(next.collect())
}

/// What may be true when any of the open calls have been done besides, one after the other until it is enough.
fn heard(
    calls: &[Call],
    lines: &BTreeSet<Line>,
    open: &BTreeSet<usize>,
    is_enough: impl Fn(&Line) -> bool,
) -> Result<BTreeSet<Line>, String> {
    let mut heard = lines.clone();
    let mut left: Vec<_> = lines.iter().cloned().collect();
    while let Some(line) = left.pop() {
        if is_enough(&line) {
            continue;
        }
        for other in open.difference(&line.done) {
            if let Some(after) = line.after(*other, &calls[*other])
                && heard.insert(after.clone())
            {
                left.push(after);
            }
        }
        if heard.len() > LINES_MAX {
            return Err("too much may be true".to_owned());
        }
    }
    Ok(heard)
}

fn explain(calls: &[Call], lines: &BTreeSet<Line>, n: usize) -> String {
    let call = &calls[n];
    let states: BTreeSet<_> = lines
        .iter()
        .map(|line| format!("{:?}", line.now()))
        .collect();
    let states: Vec<_> = states.into_iter().take(4).collect();
    let (ask, answer, era) = (&call.ask, &call.answer, call.era);
    format!(
        "{ask:?} in era {era}, asked at {} ns, was answered {answer:?} where was {}",
        call.from,
        states.join(" or ")
    )
}

impl Call {
    /// Is it known to be durable when it is answered, with all that came before?
    fn is_durable(&self) -> bool {
        self.answer == Some(Answer::Done)
            && match self.ask {
                Ask::Seal { is_durable, .. } => is_durable,
                Ask::Read(_) | Ask::List => false,
                _ => true,
            }
    }
}

impl Line {
    fn now(&self) -> &State {
        &self.states.last().expect("there is always one").1
    }

    /// What is true when this is done next. `None`: it cannot be.
    fn after(&self, n: usize, call: &Call) -> Option<Self> {
        let answer = match &call.answer {
            Some(Answer::Unknown(_)) => None,
            answer => answer.as_ref(),
        };
        let mut line = self.clone();
        line.done.insert(n);
        match call.ask {
            Ask::Read(key) => {
                let version = self.now().names.get(&key);
                match (answer?, version) {
                    (Answer::Nothing, None) => {}
                    (Answer::Found(found), Some(version)) if found == version => {
                        line.learn(*version, Fate::Kept)?;
                    }
                    (Answer::Lost, Some(version)) => line.learn(*version, Fate::Lost)?,
                    _ => return None,
                }
            }
            Ask::List => {
                let names: Vec<_> = self.now().names.keys().copied().collect();
                (answer? == &Answer::Names(names)).then_some(())?;
            }
            Ask::Keep(key) => match (answer, self.now().names.get(&key)) {
                (Some(Answer::Lost), Some(version)) => line.learn(*version, Fate::Lost)?,
                (Some(Answer::Done), Some(version)) => {
                    line.learn(*version, Fate::Kept)?;
                    let mut state = line.now().clone();
                    state.fates.insert(*version, Fate::Kept);
                    line.push(n, call, state);
                }
                (Some(Answer::Done | Answer::Lost), None) | (None, _) => return None,
                // It was replaced meanwhile, or there was no room.
                _ => {}
            },
            _ => {
                let state = self.now().changed(&call.ask, answer)?;
                line.push(n, call, state);
            }
        }
        Some(line)
    }

    /// This is true after a call. Only of those that will be known to be durable it matters which one it was.
    fn push(&mut self, n: usize, call: &Call, state: State) {
        let by = call.is_durable().then_some(n);
        if by.is_some() || state != *self.now() {
            self.states.push((by, state));
        }
    }

    /// Somebody has seen what became of a version. What is known, is known of all states.
    fn learn(&mut self, version: Version, fate: Fate) -> Option<()> {
        let now = self.now().fates.get(&version)?;
        let is_possible = match now {
            Fate::Doubtful => true,
            Fate::Ephemeral | Fate::Kept => fate == Fate::Kept,
            Fate::Lost => fate == Fate::Lost,
        };
        if *now == Fate::Doubtful {
            for (_, state) in &mut self.states {
                state.fates.entry(version).and_modify(|known| *known = fate);
            }
        }
        is_possible.then_some(())
    }

    /// This is durable, and so is all before it.
    fn settle(&mut self, n: usize) {
        if let Some(at) = self.states.iter().position(|(by, _)| *by == Some(n)) {
            self.states.drain(..at);
            self.states[0].0 = None;
        }
    }

    /// What may be true after the end of the node.
    fn ended(&self, rule: Rule) -> Vec<Self> {
        let first = match rule {
            Rule::Promised => 0,
            Rule::Strict => self.states.len() - 1,
        };
        let left = self.states[first..].iter().map(|(_, state)| {
            let mut state = state.clone();
            for fate in state
                .fates
                .values_mut()
                .filter(|fate| **fate == Fate::Ephemeral)
            {
                *fate = Fate::Doubtful;
            }
            Self {
                states: vec![(None, state)],
                done: BTreeSet::new(),
            }
        });
        left.collect()
    }
}

impl State {
    /// `None`: it is not answered so. Without an answer it was done if it could be.
    fn changed(&self, ask: &Ask, answer: Option<&Answer>) -> Option<Self> {
        let mut after = self.clone();
        let refusal = after.change(ask);
        after.forget();
        match (refusal, answer) {
            (None, Some(Answer::Done) | None) => Some(after),
            (Some(refusal), Some(answer)) => refusal.contains(answer).then(|| self.clone()),
            // To have done nothing is not to have done it.
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    /// Tells how it is refused, if it is.
    fn change(&mut self, ask: &Ask) -> Option<&'static [Answer]> {
        const ABSENT: &[Answer] = &[Answer::Nothing];
        const CONFLICT: &[Answer] = &[Answer::Conflict];
        let in_folder = |key: &Key, folder: Folder| key / KEYS_OF_FOLDER == folder;
        match *ask {
            Ask::Seal {
                key,
                version,
                is_durable,
                when,
            } => {
                if !self.is(key, when) {
                    // S3 says of a condition on what is not there that it is not there.
                    return Some(&[Answer::Conflict, Answer::Nothing]);
                }
                let fate = if is_durable {
                    Fate::Kept
                } else {
                    Fate::Ephemeral
                };
                self.names.insert(key, version);
                self.fates.insert(version, fate);
            }
            Ask::Delete(key) => {
                if self.names.remove(&key).is_none() {
                    // To S3 it is well.
                    return Some(&[Answer::Nothing, Answer::Done]);
                }
            }
            Ask::DeleteFolder(folder) => self.names.retain(|key, _| !in_folder(key, folder)),
            Ask::Rename { from, to, when } | Ask::Copy { from, to, when } => {
                let Some(version) = self.names.get(&from).copied() else {
                    return Some(ABSENT);
                };
                if !self.is(to, when) {
                    return Some(CONFLICT);
                }
                if matches!(ask, Ask::Rename { .. }) {
                    self.names.remove(&from);
                }
                self.names.insert(to, version);
            }
            Ask::RenameFolder { from, to, when } => {
                let renamed: Vec<_> = (self.names.iter())
                    .filter(|(key, _)| in_folder(key, from))
                    .map(|(key, version)| {
                        (*key, key % KEYS_OF_FOLDER + to * KEYS_OF_FOLDER, *version)
                    })
                    .collect();
                let is_taken = |(_, key, _): &(Key, Key, Version)| self.names.contains_key(key);
                if when == When::Absent && renamed.iter().any(is_taken) {
                    return Some(CONFLICT);
                }
                for (from, to, version) in renamed {
                    self.names.remove(&from);
                    self.names.insert(to, version);
                }
            }
            Ask::Keep(_) | Ask::Read(_) | Ask::List => {}
        }
        None
    }

    fn is(&self, key: Key, when: When) -> bool {
        match when {
            When::Always => true,
            When::Absent => !self.names.contains_key(&key),
            When::Is(version) => self.names.get(&key) == Some(&version),
        }
    }

    /// What nobody names is not spoken of any more.
    fn forget(&mut self) {
        let named: BTreeSet<_> = self.names.values().copied().collect();
        self.fates.retain(|version, _| named.contains(version));
    }
}

#[cfg(test)]
mod tests;
