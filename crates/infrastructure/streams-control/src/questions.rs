//! What is asked about scopes and streams, and changes nothing.

use std::ops::{Bound, RangeInclusive};

use crate::config::Config;
use crate::cuts::{self, Cut};
use crate::epochs::{EpochSegments, Segment, Successor};
use crate::error::Refusal;
use crate::groups::Group;
use crate::names::{Epoch, Name, SYSTEM_SCOPE, SegmentId, StreamName, TxnId};
use crate::rows::{State, TxnState};
use crate::state::{Control, Stream};
use crate::step::{ScaleStatus, TxnStatus};

/// A page of names, and where the next one goes on. An empty page is the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub names: Vec<Name>,
    /// To be given back as it is.
    pub token: String,
}

impl Page {
    fn of<'a>(names: impl Iterator<Item = &'a Name>, token: &str, max: usize) -> Self {
        let names: Vec<_> = names.take(max).cloned().collect();
        let token = names.last().map_or(token, |name| name.as_str()).to_owned();
        Self { names, token }
    }
}

/// How much there is, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// With that of the system.
    pub n_scopes: usize,
    /// With those of watermarks.
    pub n_streams: usize,
    /// That can be written.
    pub n_open_txns: usize,
    /// Streams and scopes in which something is done, or waits.
    pub n_busy: usize,
    /// Of these, those in which something has failed, and that wait to try again.
    pub n_stalled: usize,
    /// Plans that are not done yet.
    pub n_plans: usize,
    /// Deleted streams whose numbers are remembered one by one.
    pub n_graves: usize,
}

/// An epoch, as what its scale has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleEvent {
    /// When it began on the wall, since 1970; 0: it is not known.
    pub at_ms: u64,
    /// With when each began.
    pub segments: Vec<(Segment, u64)>,
    /// Of the segments before, those that became several.
    pub n_splits: usize,
    /// Of its segments, those that were several before.
    pub n_merges: usize,
}

/// Segments of all events of one answer.
const SCALE_EVENT_SEGMENTS_MAX: usize = 100_000;

/// What the page before has not had.
fn behind(token: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Excluded(token), Bound::Unbounded)
}

impl Control {
    /// How much there is, in all.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            n_scopes: self.scopes.len(),
            n_streams: self.n_streams,
            n_open_txns: self.leases.len(),
            n_busy: self.lanes.len(),
            n_stalled: self.stalled.len(),
            n_plans: self.in_flight.len(),
            n_graves: self.graves.len(),
        }
    }

    /// It is there.
    #[must_use]
    pub fn has_scope(&self, scope: &Name) -> bool {
        self.scopes.contains_key(scope)
    }

    /// It is there, and can be asked about.
    #[must_use]
    pub fn has_stream(&self, stream: &StreamName) -> bool {
        self.visible(stream).is_ok()
    }

    /// All scopes, that of the system behind the others: clients look at the first ones. The first token is empty, as in the other lists.
    #[must_use]
    pub fn list_scopes(&self, token: &str) -> Page {
        let is_system = |name: &&Name| name.as_str() == SYSTEM_SCOPE;
        let after = (token != SYSTEM_SCOPE).then(|| self.scopes.range::<str, _>(behind(token)));
        let after = after.into_iter().flatten().map(|(name, _)| name);
        let system = self.scopes.keys().filter(is_system);
        let system = system.filter(|_| token != SYSTEM_SCOPE);
        let names = after.filter(|name| !is_system(name)).chain(system);
        Page::of(names, token, self.limits.page_max)
    }

    /// All streams of a scope, with those of the system.
    ///
    /// # Errors
    /// [`Refusal::NoScope`].
    pub fn list_streams(&self, scope: &Name, token: &str) -> Result<Page, Refusal> {
        let scope = self.scopes.get(scope).ok_or(Refusal::NoScope)?;
        let streams = scope.streams.range::<str, _>(behind(token));
        let names = streams.map(|(name, _)| name);
        Ok(Page::of(names, token, self.limits.page_max))
    }

    /// Those that have a tag.
    ///
    /// # Errors
    /// [`Refusal::NoScope`].
    pub fn list_tagged(&self, scope: &Name, tag: &str, token: &str) -> Result<Page, Refusal> {
        let scope = self.scopes.get(scope).ok_or(Refusal::NoScope)?;
        let tagged = scope.tags.get(tag).into_iter();
        let tagged = tagged.flat_map(|tagged| tagged.range::<str, _>(behind(token)));
        Ok(Page::of(tagged, token, self.limits.page_max))
    }

    /// What it is to be like.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn config(&self, stream: &StreamName) -> Result<&Config, Refusal> {
        Ok(&self.visible(stream)?.row.config)
    }

    /// The reader group that a stream is of.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn group(&self, stream: &StreamName) -> Result<&Group, Refusal> {
        let group = self.visible(stream)?.group.as_deref();
        group.ok_or(Refusal::NoStream)
    }

    /// It is not written any more, or will not be in a moment.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn is_sealed(&self, stream: &StreamName) -> Result<bool, Refusal> {
        Ok(self.visible(stream)?.is_sealed())
    }

    /// What is written now; nothing of a sealed stream.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn current_segments(&self, stream: &StreamName) -> Result<&[Segment], Refusal> {
        let stream = self.visible(stream)?;
        if stream.row.state == State::Sealed {
            return Ok(&[]);
        }
        Ok(stream.active().segments())
    }

    /// What is or was written in an epoch.
    ///
    /// # Errors
    /// [`Refusal::NoStream`], and [`Refusal::Precondition`]: there is no such epoch yet.
    pub fn epoch_segments(&self, stream: &StreamName, epoch: Epoch) -> Result<&[Segment], Refusal> {
        let epoch = self.visible(stream)?.epochs.get(epoch);
        let epoch = epoch.ok_or(Refusal::Precondition("there is no such epoch"))?;
        Ok(epoch.segments())
    }

    /// Where it begins.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn head(&self, stream: &StreamName) -> Result<Cut, Refusal> {
        let stream = self.visible(stream)?;
        Ok(match &stream.row.head {
            Some(head) => head.cut.clone(),
            None => stream.first().ids().map(|id| (id, 0)).collect(),
        })
    }

    /// What takes the place of a segment; none if it is written, or was to the end of the stream.
    ///
    /// # Errors
    /// [`Refusal::NoStream`], and [`Refusal::Precondition`]: there is no such segment.
    pub fn successors(
        &self,
        stream: &StreamName,
        id: SegmentId,
    ) -> Result<Vec<Successor>, Refusal> {
        let successors = self.visible(stream)?.epochs.successors(id);
        successors.ok_or(Refusal::Precondition("there is no such segment"))
    }

    /// It is written now.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn is_segment_valid(&self, stream: &StreamName, id: SegmentId) -> Result<bool, Refusal> {
        let mut current = self.current_segments(stream)?.iter();
        Ok(current.any(|segment| segment.id == id))
    }

    /// Who reads the stream can be there.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn is_cut_valid(&self, stream: &StreamName, cut: &Cut) -> Result<bool, Refusal> {
        let stream = self.visible(stream)?;
        Ok(self.limits.check_cut(cut).is_ok() && cuts::check(&stream.epochs, cut).is_ok())
    }

    /// All segments between two cuts. An empty one is where the stream began, or where it is now.
    ///
    /// # Errors
    /// [`Refusal::NoStream`], and [`Refusal::Precondition`]: a cut is none, or the latter is before the other.
    pub fn segments_between(
        &self,
        stream: &StreamName,
        from: &Cut,
        to: &Cut,
    ) -> Result<Vec<Segment>, Refusal> {
        let stream = self.visible(stream)?;
        let or = |cut: &Cut, epoch: &EpochSegments, offset| -> Result<Cut, Refusal> {
            if cut.is_empty() {
                return Ok(epoch.ids().map(|id| (id, offset)).collect());
            }
            self.limits.check_cut(cut)?;
            cuts::check(&stream.epochs, cut)?;
            Ok(cut.clone())
        };
        let from = or(from, stream.first(), 0)?;
        let to = or(to, stream.active(), i64::MAX)?;
        cuts::between(&stream.epochs, &from, &to)
    }

    /// The bytes between where the stream began and a cut.
    ///
    /// # Errors
    /// [`Refusal::NoStream`], and [`Refusal::Precondition`]: it is no cut of the stream.
    pub fn size_until(&self, stream: &StreamName, cut: &Cut) -> Result<u64, Refusal> {
        let stream = self.visible(stream)?;
        self.limits.check_cut(cut)?;
        cuts::check(&stream.epochs, cut)?;
        Ok(cuts::size_until(&stream.epochs, cut))
    }

    /// The epochs that began in a time, and the last one before that, which is what the first of them has changed.
    ///
    /// # Errors
    /// [`Refusal::NoStream`], and [`Refusal::Limit`]: ask for less time.
    pub fn scale_events(
        &self,
        stream: &StreamName,
        ms: RangeInclusive<u64>,
    ) -> Result<Vec<ScaleEvent>, Refusal> {
        let stream = self.visible(stream)?;
        let known = stream.epochs.iter();
        let until = known
            .take_while(|(epoch, it)| *epoch <= stream.row.active && it.created_at_ms <= *ms.end());
        let until: Vec<_> = until.map(|(_, segments)| segments).collect();
        let n_before = until.partition_point(|it| it.created_at_ms < *ms.start());
        let asked = &until[n_before.saturating_sub(1)..];
        let n_segments = asked.iter().map(|it| it.segments().len()).sum();
        let what = "segments of events; ask for less time";
        self.limits
            .check(what, n_segments, SCALE_EVENT_SEGMENTS_MAX)?;
        let mut before: Option<&EpochSegments> = None;
        let events = asked.iter().map(|epoch| {
            let before = before.replace(epoch).unwrap_or(epoch);
            let began_at_ms = |segment: &Segment| {
                let epoch = stream.epochs.get(segment.id.epoch);
                epoch.map_or(0, |epoch| epoch.created_at_ms)
            };
            let segments = epoch.segments().iter();
            ScaleEvent {
                at_ms: epoch.created_at_ms,
                segments: segments.map(|it| (*it, began_at_ms(it))).collect(),
                n_splits: n_divided(before, epoch),
                n_merges: n_divided(epoch, before),
            }
        });
        Ok(events.collect())
    }

    /// How far the scale is that ended an epoch.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn scale_status(&self, stream: &StreamName, epoch: Epoch) -> Result<ScaleStatus, Refusal> {
        let stream = self.visible(stream)?;
        let active = stream.row.active;
        Ok(if epoch > active {
            ScaleStatus::InvalidInput
        } else if epoch == active || epoch == stream.active().reference {
            ScaleStatus::InProgress
        } else {
            ScaleStatus::Success
        })
    }

    /// What has become of it.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn txn_status(&self, stream: &StreamName, id: TxnId) -> Result<TxnStatus, Refusal> {
        let stream = self.visible(stream)?;
        if let Some(txn) = stream.txns.get(&id) {
            return Ok(match &txn.row.state {
                TxnState::Open => TxnStatus::Open,
                TxnState::Committing(_) => TxnStatus::Committing,
                TxnState::Aborting => TxnStatus::Aborting,
            });
        }
        Ok(match stream.ended.get(&id) {
            Some(ended) if ended.row.is_committed => TxnStatus::Committed,
            Some(_) => TxnStatus::Aborted,
            None => TxnStatus::Unknown,
        })
    }

    /// Those that have ended last, and whether they were committed; the last one first, and no more than a page.
    ///
    /// # Errors
    /// [`Refusal::NoStream`].
    pub fn ended_txns(&self, stream: &StreamName) -> Result<Vec<(TxnId, bool)>, Refusal> {
        let stream = self.visible(stream)?;
        let ended = stream
            .ended_in_order
            .iter()
            .rev()
            .take(self.limits.page_max);
        let ended = ended.map(|(_, id)| (*id, stream.ended[id].row.is_committed));
        Ok(ended.collect())
    }
}

/// How many segments of an epoch have their keys in several of the other one.
fn n_divided(epoch: &EpochSegments, other: &EpochSegments) -> usize {
    let mut lows: Vec<_> = other.segments().iter().map(|it| it.range.low()).collect();
    lows.sort_unstable_by(f64::total_cmp);
    let is_divided = |segment: &&Segment| {
        let range = segment.range;
        let first = lows.partition_point(|low| *low <= range.low());
        lows.get(first).is_some_and(|low| *low < range.high())
    };
    epoch.segments().iter().filter(is_divided).count()
}

impl Stream {
    fn first(&self) -> &EpochSegments {
        let first = self.epochs.get(Epoch(0));
        first.expect("loaded and written with its stream")
    }
}
