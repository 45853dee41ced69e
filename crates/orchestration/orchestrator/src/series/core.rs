//! The series in memory: what is taken, what is found, what is let go. No clock, no files.
//!
//! Points are let go by *blocks*: all that came in while the block was the newest one. A block is a file on disk, so memory and disk hold
//! the same, and a series needs no more than a count to know which of its points belong to a block.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ids::Labels;

use super::selector::{Selector, is_label_name, is_metric_name};

const NAME_BYTES_MAX: usize = 128;
const LABELS_MAX: usize = 16;
const LABEL_VALUE_BYTES_MAX: usize = 256;
/// A clock that is ahead by more must not shut its series for the time until then.
const AHEAD_MS_MAX: u64 = 60_000;
/// Blocks are this part of what is kept, by bytes and by time.
const BLOCKS_WISHED: u64 = 16;
/// Every start begins a block; so many of them are kept.
const BLOCKS_MAX: usize = 256;
/// What a point takes, in memory as on disk.
const POINT_BYTES: u64 = 16;
/// What a series takes in a block beyond its text.
const SERIES_BYTES: u64 = 128;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For how long a point is kept.
    pub retention_ms: u64,
    /// How much memory, and about as much disk, points may take; the oldest go first.
    pub bytes_max: u64,
    /// Series with points.
    pub series_max: usize,
    /// Series of one organisation at one site: nobody takes the places of others.
    pub series_per_owner_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention_ms: 24 * 3_600_000,
            bytes_max: 64 << 20,
            series_max: 50_000,
            series_per_owner_max: 2_000,
        }
    }
}

/// What makes a series one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub name: String,
    pub labels: Labels,
}

/// A value at a time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at_ms: u64,
    pub value: f64,
}

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// No name, too many or too long labels, not a finite number.
    Malformed,
    /// There is a point of this time already.
    Duplicate,
    /// There is a later point, or it is older than what is kept.
    OutOfOrder,
    /// Later than any clock should say.
    Ahead,
    /// One series too many.
    TooManySeries,
}

#[derive(Debug)]
struct Series {
    key: Arc<Key>,
    points: VecDeque<Point>,
    /// How many of the points belong to which block, oldest first.
    runs: VecDeque<(u32, usize)>,
}

#[derive(Debug)]
struct Block {
    number: u32,
    bytes: u64,
    oldest_ms: u64,
    newest_ms: u64,
}

type Owner = (String, String);

#[derive(Debug)]
pub(super) struct Tables {
    limits: Limits,
    series: BTreeMap<u32, Series>,
    by_key: BTreeMap<Arc<Key>, u32>,
    by_name: BTreeMap<String, BTreeSet<u32>>,
    owners: BTreeMap<Owner, usize>,
    next_series: u32,
    /// Oldest first. The last one is open.
    blocks: VecDeque<Block>,
    bytes: u64,
}

impl Tables {
    pub(super) fn new(limits: Limits) -> Self {
        let mut tables = Self {
            limits,
            series: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_series: 0,
            blocks: VecDeque::new(),
            bytes: 0,
        };
        tables.open_block(0);
        tables
    }

    /// The number of the open block.
    pub(super) fn block(&self) -> u32 {
        self.open().number
    }

    /// Closes the open block and begins one with this number, which must be larger than all before.
    pub(super) fn open_block(&mut self, number: u32) {
        self.blocks.push_back(Block {
            number,
            bytes: 0,
            oldest_ms: u64::MAX,
            newest_ms: 0,
        });
    }

    pub(super) fn n_series(&self) -> usize {
        self.series.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn key(&self, series: u32) -> Option<&Arc<Key>> {
        self.series.get(&series).map(|series| &series.key)
    }

    /// Takes a point that just came in, and says which series it is of.
    pub(super) fn append(
        &mut self,
        name: &str,
        labels: &Labels,
        point: Point,
        now_ms: u64,
    ) -> Result<u32, Refusal> {
        if point.at_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
            return Err(Refusal::Ahead);
        }
        if point.at_ms.saturating_add(self.limits.retention_ms) < now_ms {
            return Err(Refusal::OutOfOrder);
        }
        self.load(name, labels, point)
    }

    /// Takes a point that was kept on disk.
    pub(super) fn load(
        &mut self,
        name: &str,
        labels: &Labels,
        point: Point,
    ) -> Result<u32, Refusal> {
        if !point.value.is_finite() || !is_well_formed(name, labels) {
            return Err(Refusal::Malformed);
        }
        // One allocation to look it up; the search by borrowed parts is not worth its code.
        let key = Key {
            name: name.to_owned(),
            labels: labels.clone(),
        };
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => self.define(key)?,
        };
        let series = self.series.get_mut(&number).expect("it is in the index");
        match series.points.back() {
            Some(last) if last.at_ms == point.at_ms => return Err(Refusal::Duplicate),
            Some(last) if last.at_ms > point.at_ms => return Err(Refusal::OutOfOrder),
            _ => series.points.push_back(point),
        }
        let block = self.blocks.back_mut().expect("one is always open");
        let mut bytes = POINT_BYTES;
        match series.runs.back_mut() {
            Some((number, n_points)) if *number == block.number => *n_points += 1,
            _ => {
                series.runs.push_back((block.number, 1));
                bytes += series.key.bytes();
            }
        }
        block.bytes += bytes;
        self.bytes += bytes;
        block.oldest_ms = block.oldest_ms.min(point.at_ms);
        block.newest_ms = block.newest_ms.max(point.at_ms);
        Ok(number)
    }

    fn define(&mut self, key: Key) -> Result<u32, Refusal> {
        let owner = key.owner();
        let n_owned = self.owners.get(&owner).copied().unwrap_or(0);
        if n_owned >= self.limits.series_per_owner_max
            || self.series.len() >= self.limits.series_max
        {
            return Err(Refusal::TooManySeries);
        }
        self.owners.insert(owner, n_owned + 1);
        let number = self.next_series;
        self.next_series += 1;
        let key = Arc::new(key);
        let named = self.by_name.entry(key.name.clone()).or_default();
        named.insert(number);
        self.by_key.insert(Arc::clone(&key), number);
        self.series.insert(
            number,
            Series {
                key,
                points: VecDeque::new(),
                runs: VecDeque::new(),
            },
        );
        Ok(number)
    }

    /// Closes the open block when it is large or long enough, and lets the oldest go while more is kept than should be. Says which.
    pub(super) fn turn(&mut self, now_ms: u64) -> Vec<u32> {
        let Limits {
            retention_ms,
            bytes_max,
            ..
        } = self.limits;
        let open = self.open();
        let is_outdated = |block: &Block| block.newest_ms.saturating_add(retention_ms) < now_ms;
        let is_full = open.bytes >= bytes_max / BLOCKS_WISHED
            || now_ms.saturating_sub(open.oldest_ms) >= retention_ms / BLOCKS_WISHED;
        if open.bytes > 0 && is_full {
            self.open_block(open.number + 1);
        }
        let mut gone = Vec::new();
        while self.blocks.len() > 1
            && (self.bytes > bytes_max
                || self.blocks.len() > BLOCKS_MAX
                || is_outdated(&self.blocks[0]))
        {
            gone.push(self.evict());
        }
        gone
    }

    fn evict(&mut self) -> u32 {
        let block = self.blocks.pop_front().expect("asked for with two or more");
        self.bytes -= block.bytes;
        self.cut(|series| {
            if let Some((first, n_points)) = series.runs.front().copied()
                && first == block.number
            {
                series.points.drain(..n_points);
                series.runs.pop_front();
                if series.runs.len() == 1 {
                    series.points.shrink_to_fit();
                }
            }
        });
        block.number
    }

    /// Lets go what a site has measured until `at_ms`, by its own clock, which may be ahead. It counts until its blocks go, since it is on disk
    /// until then.
    pub(super) fn forget(&mut self, site: &str, at_ms: u64) {
        let until_ms = at_ms.saturating_add(AHEAD_MS_MAX);
        self.cut(|series| {
            if series.key.labels.get("site").is_some_and(|of| of == site) {
                series.forget(until_ms);
            }
        });
    }

    /// Takes points out of series, and those series away that have none any more.
    fn cut(&mut self, take: impl Fn(&mut Series)) {
        self.series.retain(|number, series| {
            take(series);
            if !series.runs.is_empty() {
                return true;
            }
            self.by_key.remove(&series.key);
            if let Some(named) = self.by_name.get_mut(&series.key.name) {
                named.remove(number);
                if named.is_empty() {
                    self.by_name.remove(&series.key.name);
                }
            }
            let owner = series.key.owner();
            if let Some(n_series) = self.owners.get_mut(&owner) {
                *n_series -= 1;
                if *n_series == 0 {
                    self.owners.remove(&owner);
                }
            }
            false
        });
    }

    /// The series that `org` may see: its own, and those of nobody. `None` sees all.
    pub(super) fn select<'a>(
        &'a self,
        selector: &'a Selector,
        org: Option<&'a str>,
    ) -> impl Iterator<Item = Found<'a>> {
        let names: Box<dyn Iterator<Item = &BTreeSet<u32>>> = match selector.name() {
            Some(name) => Box::new(self.by_name.get(name).into_iter()),
            None => Box::new(self.by_name.values()),
        };
        let all = names.flatten().filter_map(|number| self.series.get(number));
        all.filter(move |series| {
            let Key { name, labels } = series.key.as_ref();
            let is_visible = match (org, labels.get("org")) {
                (Some(org), Some(owner)) => org == owner,
                _ => true,
            };
            is_visible && selector.accepts(name, labels)
        })
        .map(|series| Found {
            key: &series.key,
            points: &series.points,
        })
    }

    fn open(&self) -> &Block {
        self.blocks.back().expect("one is always open")
    }
}

impl Series {
    fn forget(&mut self, until_ms: u64) {
        let mut n_left = self.points.partition_point(|point| point.at_ms <= until_ms);
        self.points.drain(..n_left);
        while let Some((_, n_points)) = self.runs.front_mut() {
            if *n_points > n_left {
                *n_points -= n_left;
                return;
            }
            n_left -= *n_points;
            self.runs.pop_front();
        }
    }
}

/// A series that was looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) key: &'a Arc<Key>,
    points: &'a VecDeque<Point>,
}

impl Found<'_> {
    pub(super) fn newest(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// The times of the oldest and of the newest point.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        Some((self.points.front()?.at_ms, self.points.back()?.at_ms))
    }

    /// The newest point at or before `at_ms` that is less than `lookback_ms` old then: Prometheus' rule.
    pub(super) fn at(&self, at_ms: u64, lookback_ms: u64) -> Option<Point> {
        let end = self.points.partition_point(|point| point.at_ms <= at_ms);
        let point = *self.points.get(end.checked_sub(1)?)?;
        (at_ms - point.at_ms < lookback_ms).then_some(point)
    }

    /// The points as they came, both ends included.
    pub(super) fn between(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = Point> {
        let begin = self.points.partition_point(|point| point.at_ms < from_ms);
        let end = self.points.partition_point(|point| point.at_ms <= to_ms);
        self.points.range(begin..end.max(begin)).copied()
    }
}

impl Key {
    fn bytes(&self) -> u64 {
        let labels: usize = self.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
        (self.name.len() + labels) as u64 + SERIES_BYTES
    }

    /// On whose account it is.
    fn owner(&self) -> Owner {
        let label = |name: &str| self.labels.get(name).cloned().unwrap_or_default();
        (label("org"), label("site"))
    }
}

fn is_well_formed(name: &str, labels: &Labels) -> bool {
    let is_label = |(name, value): (&String, &String)| {
        name.len() <= NAME_BYTES_MAX
            && is_label_name(name)
            && !name.starts_with("__")
            && value.len() <= LABEL_VALUE_BYTES_MAX
    };
    name.len() <= NAME_BYTES_MAX
        && is_metric_name(name)
        && labels.len() <= LABELS_MAX
        && labels.iter().all(is_label)
}
