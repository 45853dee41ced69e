//! Where the threads of an agent meet. Each leaves what the others are to know, and wakes them; nobody works while reacting.
//!
//! Everything in it is bounded: what is newer replaces what is older, and queues have a limit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ids::{Digest, UnitId};
use rustix::event::{EventfdFlags, eventfd};
use workload::SiteConfig;
use workload::link::{Inventory, PAYLOAD_BYTES_MAX, Sample};

use crate::StopMode;
use crate::core::reconcile::{Failure, Observation};
use crate::disk::ledger::AllOffers;
use crate::metrics::Metrics;

/// Samples that wait for the link; at some twenty every half second, those of about three minutes.
const SAMPLES_MAX: usize = 8_192;
/// Log readings that wait, are under way, or have an answer that was not sent yet; each has at most `PAYLOAD_BYTES_MAX` bytes.
pub(crate) const LOG_READS_MAX: usize = 16;
/// Answers that say only why there are none.
const LOG_REFUSALS_MAX: usize = 32;
/// Units for which offers are kept until their configuration comes.
const OFFERS_MAX: usize = 1_024;

/// What the agent is told.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub config: Option<SiteConfig>,
    pub offers: AllOffers,
    pub observed: BTreeMap<&'static str, Observation>,
    /// Calls of drivers that have ended, and when.
    pub ended: Vec<(UnitId, Duration, Result<(), Failure>)>,
    pub fetched: Vec<(Digest, io::Result<()>)>,
    pub log_reads: Vec<LogRead>,
    pub link: Option<LinkState>,
    /// Why processes could not be put under the share.
    pub share: Option<Result<(), String>>,
    /// Why the processor time of the units is not known, if it is not.
    pub uncounted: Option<Option<String>>,
    pub stop: Option<StopMode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    Down(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRead {
    pub request: u64,
    pub unit: UnitId,
    pub offset: u64,
    pub max: usize,
    /// The session in which it was asked: nobody else waits for the answer.
    pub session: u64,
}

/// Why a log is not read now.
pub(crate) const BUSY: &str = "too many logs are read at this site: ask again";

impl LogRead {
    pub(crate) fn refused(self, why: impl Into<String>) -> LogPiece {
        LogPiece {
            request: self.request,
            session: self.session,
            result: Err(why.into()),
            place: None,
        }
    }
}

/// The answer to a [`LogRead`].
#[derive(Debug)]
pub(crate) struct LogPiece {
    pub request: u64,
    pub session: u64,
    pub result: Result<(u64, Vec<u8>), String>,
    /// One of [`LOG_READS_MAX`] places, which is free again when this is sent or dropped. Those who got none are refused.
    pub place: Option<Arc<()>>,
}

/// What the controller is to be told.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub inventory: Option<Inventory>,
    pub logs: VecDeque<LogPiece>,
    pub samples: VecDeque<Sample>,
    pub wanted: BTreeSet<Digest>,
    pub is_stopping: bool,
    /// Counts the sessions that have ended.
    pub session: u64,
    /// The newest inventory, for each new connection and for whoever asks here.
    pub latest: Inventory,
}

#[derive(Debug)]
pub(crate) struct Hub {
    inbox: Mutex<(bool, Inbox)>,
    news: Condvar,
    outbox: Mutex<Outbox>,
    /// Readable when the outbox has something new.
    bell: OwnedFd,
    pub metrics: Metrics,
}

impl Hub {
    pub(crate) fn new(metrics: Metrics) -> io::Result<Self> {
        Ok(Self {
            inbox: Mutex::default(),
            news: Condvar::new(),
            outbox: Mutex::default(),
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            metrics,
        })
    }

    /// Leaves something for the agent.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        let mut inbox = lock(&self.inbox);
        inbox.0 = true;
        let result = change(&mut inbox.1);
        self.news.notify_one();
        result
    }

    /// Takes what has been left for the agent; waits for it at most so long.
    pub(crate) fn await_news(&self, at_most: Duration) -> Inbox {
        let inbox = lock(&self.inbox);
        let waited = self
            .news
            .wait_timeout_while(inbox, at_most, |inbox| !inbox.0);
        let mut inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::take(&mut *inbox).1
    }

    /// Leaves something for the controller.
    pub(crate) fn report<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let result = change(&mut lock(&self.outbox));
        // The counter cannot overflow in any time; if it did, the bell would ring anyway.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
        result
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(crate) fn quiet_bell(&self) {
        // That it does not ring is fine, too.
        rustix::io::read(&self.bell, &mut [0; 8]).ok();
    }

    /// Keeps samples until there is a link; the oldest make room for the newest.
    pub(crate) fn keep_samples(&self, samples: Vec<Sample>) {
        self.report(|outbox| {
            outbox.samples.extend(samples);
            let excess = outbox.samples.len().saturating_sub(SAMPLES_MAX);
            outbox.samples.drain(..excess);
            self.metrics.samples_dropped.inc_by(excess as u64);
            self.show_samples(outbox);
        });
    }

    /// Leaves the answer to a log reading, unless nobody waits for it any more.
    pub(crate) fn answer(&self, mut piece: LogPiece) {
        if let Ok((_, bytes)) = &mut piece.result {
            bytes.truncate(PAYLOAD_BYTES_MAX);
        }
        self.report(|outbox| {
            // Whoever asks faster than it listens is not answered any more.
            let has_room =
                piece.place.is_some() || outbox.logs.len() < LOG_READS_MAX + LOG_REFUSALS_MAX;
            if piece.session == outbox.session && has_room {
                outbox.logs.push_back(piece);
            }
        });
    }

    /// What was asked in a session is answered in it or never: in the next one the numbers may mean something else.
    pub(crate) fn end_session(&self) {
        self.tell(|inbox| inbox.log_reads.clear());
        let mut outbox = self.outbox();
        outbox.session += 1;
        outbox.logs.clear();
    }

    pub(crate) fn show_samples(&self, outbox: &Outbox) {
        let waiting = i64::try_from(outbox.samples.len()).expect("it is bounded");
        self.metrics.samples_waiting.set(waiting);
    }
}

/// Adds offers, of which a bounded number waits for the agent, or for their units to be configured.
pub(crate) fn keep_offers(all: &mut AllOffers, newer: AllOffers) {
    for (unit, (epoch, offers)) in newer {
        let has_room = all.len() < OFFERS_MAX;
        let is_newer = all
            .get(&unit)
            .map_or(has_room, |(known, _)| *known <= epoch);
        if is_newer {
            all.insert(unit, (epoch, offers));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a few inserts: a panic elsewhere leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_samples_make_room_and_are_counted() {
        let metrics = telemetry::Metrics::new();
        let hub = Hub::new(Metrics::new(&metrics)).expect("an eventfd");
        let sample = |at_ms: usize| Sample {
            name: "site_cpu_used".into(),
            labels: [].into(),
            at_ms: at_ms as u64,
            value: 0.5,
        };
        hub.keep_samples((0..SAMPLES_MAX).map(sample).collect());
        hub.keep_samples((SAMPLES_MAX..SAMPLES_MAX + 3).map(sample).collect());
        let outbox = hub.outbox();
        assert_eq!(outbox.samples.len(), SAMPLES_MAX);
        assert_eq!(outbox.samples[0].at_ms, 3);
        assert!(
            metrics
                .render()
                .contains("\nsite_samples_dropped_total 3\n")
        );
    }

    #[test]
    fn offers_are_bounded_and_do_not_go_back() {
        let unit = |replica: usize| -> UnitId {
            format!("acme/video/decode/{replica}")
                .parse()
                .expect("a unit")
        };
        let mut all = AllOffers::new();
        for replica in 0..OFFERS_MAX + 5 {
            keep_offers(
                &mut all,
                [(unit(replica), (ids::Epoch(2), [].into()))].into(),
            );
        }
        assert_eq!(all.len(), OFFERS_MAX);
        let offers = |text: &str| [("edge".parse().expect("a name"), text.to_owned())].into();
        keep_offers(&mut all, [(unit(0), (ids::Epoch(1), offers("old")))].into());
        assert_eq!(all[&unit(0)].1, [].into());
        keep_offers(&mut all, [(unit(0), (ids::Epoch(2), offers("new")))].into());
        assert_eq!(all[&unit(0)].1, offers("new"));
    }
}
