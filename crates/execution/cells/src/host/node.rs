//! What the threads of one host share: where each rank is, the endpoints of those that are here, and the way to all others.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::links::Link;
use super::metrics::Metrics;
use super::uplink::Uplink;
use crate::cell::image::{Mounts, Program};
use crate::cell::stop::StopRequest;
use crate::core::endpoint::Endpoint;
use crate::core::endpoint::frame::{Frame, Outcome};
use crate::disk::journal::{Commit, Journal};
use crate::wire::link::Item;
use crate::wire::messages::{Epoch, Event, HostId, Location, Rank, WorldSpec};

/// A host's part of one world.
#[derive(Debug)]
pub(crate) struct Node {
    pub me: HostId,
    pub spec: WorldSpec,
    pub program: Program,
    pub mounts: Mounts,
    pub up: Uplink,
    pub metrics: Arc<Metrics>,
    /// Guests that run here now.
    pub n_running: AtomicUsize,
    journal: Mutex<Journal>,
    fail_point: Option<String>,
    mailboxes: Box<[Mailbox]>,
    links: Mutex<HashMap<HostId, Arc<Link>>>,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    n_processors: usize,
}

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    pub me: HostId,
    pub spec: WorldSpec,
    pub program: Program,
    pub mounts: Mounts,
    pub up: Uplink,
    pub metrics: Arc<Metrics>,
    pub journal: Journal,
    pub fail_point: Option<String>,
}

/// What the ranks of a node wait for, apart from messages.
#[derive(Debug, Default)]
struct Phase {
    has_begun: bool,
    /// The last checkpoint that is over.
    resumed: u32,
    /// Exit codes of the ranks that have ended here.
    exited: HashMap<Rank, i32>,
}

/// One rank as its host sees it, whether it lives here or not.
#[derive(Debug)]
pub(crate) struct Mailbox {
    rank: Rank,
    /// host << 32 | epoch
    location: AtomicU64,
    /// `None` while the rank is elsewhere or stands still: what comes then is dropped, and sent again when the rank is located.
    endpoint: Mutex<Option<Endpoint>>,
    changed: Condvar,
    /// How much memory the rank has, for the host that makes room for it.
    memory_bytes: AtomicU64,
    /// The rank waits for its last acknowledgements.
    is_draining: AtomicBool,
    /// A stop is requested that the rank has not taken notice of.
    stop_requested: AtomicBool,
    stop: Mutex<Option<StopRequest>>,
}

impl Node {
    pub(crate) fn new(config: NodeConfig, locations: &[Location]) -> io::Result<Arc<Self>> {
        let mut ordered: Vec<_> = locations.to_vec();
        ordered.sort_by_key(|location| location.rank);
        if !ordered.iter().map(|l| l.rank).eq(0..config.spec.size) {
            return Err(crate::wire::invalid("the locations do not cover the world"));
        }
        Ok(Arc::new(Self {
            me: config.me,
            spec: config.spec,
            program: config.program,
            mounts: config.mounts,
            up: config.up,
            metrics: config.metrics,
            n_running: AtomicUsize::new(0),
            journal: Mutex::new(config.journal),
            fail_point: config.fail_point,
            mailboxes: ordered.into_iter().map(Mailbox::new).collect(),
            links: Mutex::default(),
            phase: Mutex::default(),
            phase_changed: Condvar::new(),
            n_processors: rt::processors(),
        }))
    }

    /// The mailbox of a rank of this world.
    pub(crate) fn mailbox(&self, rank: Rank) -> Option<&Mailbox> {
        self.mailboxes.get(rank as usize)
    }

    /// The mailboxes of all ranks whose endpoint may be here.
    fn local(&self) -> impl Iterator<Item = &Mailbox> {
        self.mailboxes
            .iter()
            .filter(|mailbox| mailbox.location().host == self.me)
    }

    /// Hands frames to the endpoints or links of their receivers, and whatever these answer likewise.
    pub(crate) fn route(&self, frames: &mut Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut queue = VecDeque::from(std::mem::take(frames));
        while let Some(frame) = queue.pop_front() {
            let Some(mailbox) = self.mailbox(frame.to) else {
                continue;
            };
            let at = mailbox.location();
            if at.host == self.me {
                if let Some(ack) = self.deliver(mailbox, frame, frames) {
                    queue.extend(frames.drain(..));
                    self.acked(ack);
                }
            } else {
                let from = self
                    .mailbox(frame.from)
                    .map_or(0, |from| from.location().epoch);
                self.link(at.host).push(Item::Frame {
                    frame,
                    from_epoch: from,
                    to_epoch: at.epoch,
                });
            }
        }
    }

    /// A frame from a link. Its answers are routed; its acknowledgement is returned, for the way back.
    ///
    /// # Errors
    /// When the frame cannot come from an honest peer.
    pub(crate) fn arrived(
        &self,
        frame: Frame,
        from_epoch: Epoch,
        to_epoch: Epoch,
    ) -> io::Result<Option<Ack>> {
        let (Some(to), Some(from)) = (self.mailbox(frame.to), self.mailbox(frame.from)) else {
            return Err(crate::wire::invalid(
                "a frame between ranks that do not exist",
            ));
        };
        let here = to.location();
        if here.host != self.me || here.epoch != to_epoch || from_epoch < from.location().epoch {
            self.metrics.refused_frames.inc();
            return Ok(None);
        }
        self.metrics.received_frames.inc();
        self.metrics
            .received_bytes
            .inc_by(frame.body.payload() as u64);
        let mut answers = Vec::new();
        let ack = self.deliver(to, frame, &mut answers);
        self.route(&mut answers);
        Ok(ack)
    }

    /// Passes an acknowledgement to its rank, here or where it is now.
    pub(crate) fn acked(&self, ack: Ack) {
        let Some(mailbox) = self.mailbox(ack.of) else {
            return;
        };
        let host = mailbox.location().host;
        if host != self.me {
            let Ack { by, of, upto } = ack;
            self.link(host).push(Item::Ack { by, of, upto });
            return;
        }
        let noted = mailbox
            .lock()
            .as_mut()
            .map(|endpoint| endpoint.acked(ack.by, ack.upto));
        match noted {
            Some(Ok(can_ship)) if can_ship || mailbox.is_draining.load(Ordering::SeqCst) => {
                mailbox.changed.notify_all();
            }
            Some(Ok(_)) | None => {}
            Some(Err(violation)) => self.broken(&violation.to_string()),
        }
    }

    fn deliver(&self, to: &Mailbox, frame: Frame, answers: &mut Vec<Frame>) -> Option<Ack> {
        let (by, of) = (frame.to, frame.from);
        let mut endpoint = to.lock();
        let delivery = match endpoint.as_mut()?.deliver(frame, answers) {
            Ok(delivery) => delivery,
            Err(violation) => {
                drop(endpoint);
                self.broken(&violation.to_string());
                return None;
            }
        };
        if delivery.wake {
            to.changed.notify_all();
        }
        (delivery.outcome != Outcome::Held).then_some(Ack {
            by,
            of,
            upto: delivery.ack,
        })
    }

    /// A rank is (again) at a place: what it has not acknowledged goes there, and what is acknowledged to it.
    pub(crate) fn located(&self, location: Location) {
        let Some(mailbox) = self.mailbox(location.rank) else {
            return;
        };
        if !mailbox.relocate(location) {
            return;
        }
        let (mut frames, mut acks) = (Vec::new(), Vec::new());
        for local in self.local() {
            if let Some(endpoint) = local.lock().as_ref() {
                frames.extend(endpoint.unacked_to(location.rank));
                let upto = endpoint.accepted_from(location.rank);
                if upto > 0 {
                    let (by, of) = (local.rank, location.rank);
                    acks.push(Ack { by, of, upto });
                }
            }
        }
        self.route(&mut frames);
        for ack in acks {
            self.acked(ack);
        }
    }

    /// Sends everything that `rank`, which has just come to life here, knows unacknowledged.
    pub(crate) fn revived(&self, rank: Rank) {
        let Some(mailbox) = self.mailbox(rank) else {
            return;
        };
        let mut frames = Vec::new();
        if let Some(endpoint) = mailbox.lock().as_ref() {
            for to in endpoint.unacked_by() {
                frames.extend(endpoint.unacked_to(to));
            }
        }
        self.route(&mut frames);
    }

    /// The link to `host` is new: what may have been lost on an earlier one is sent again, and acknowledged again.
    pub(crate) fn reconnected(&self, host: HostId, link: &Link) {
        for local in self.local() {
            let guard = local.lock();
            let Some(endpoint) = guard.as_ref() else {
                continue;
            };
            for other in self
                .mailboxes
                .iter()
                .filter(|other| other.location().host == host)
            {
                let (here, there) = (local.location(), other.location());
                for frame in endpoint.unacked_to(there.rank) {
                    let (from_epoch, to_epoch) = (here.epoch, there.epoch);
                    link.push(Item::Frame {
                        frame,
                        from_epoch,
                        to_epoch,
                    });
                }
                let upto = endpoint.accepted_from(there.rank);
                if upto > 0 {
                    link.push(Item::Ack {
                        by: here.rank,
                        of: there.rank,
                        upto,
                    });
                }
            }
        }
    }

    /// The link to a host; it dials when its address is known.
    pub(crate) fn link(&self, host: HostId) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            links
                .entry(host)
                .or_insert_with(|| Arc::new(Link::new(host))),
        )
    }

    /// The ranks whose place is here.
    pub(crate) fn local_ranks(&self) -> Vec<Rank> {
        self.local().map(|mailbox| mailbox.rank).collect()
    }

    /// Whether a rank that waits may look again and again without taking a processor from another.
    pub(crate) fn has_spare_processors(&self) -> bool {
        self.n_running.load(Ordering::Relaxed) <= self.n_processors
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the ranks begin.
    pub(crate) fn go(&self) {
        self.phase().has_begun = true;
        self.phase_changed.notify_all();
    }

    pub(crate) fn wait_for_go(&self) {
        let phase = self.phase();
        let waited = self
            .phase_changed
            .wait_while(phase, |phase| !phase.has_begun);
        drop(waited);
    }

    /// Lets the ranks go on that wait for the end of a checkpoint.
    pub(crate) fn resume(&self, id: u32) {
        self.phase().resumed = id;
        self.phase_changed.notify_all();
    }

    pub(crate) fn wait_for_resume(&self, id: u32) {
        let phase = self.phase();
        let waited = self
            .phase_changed
            .wait_while(phase, |phase| phase.resumed < id);
        drop(waited);
    }

    pub(crate) fn note_exit(&self, rank: Rank, code: i32) {
        self.phase().exited.insert(rank, code);
    }

    pub(crate) fn exit_of(&self, rank: Rank) -> Option<i32> {
        self.phase().exited.get(&rank).copied()
    }

    /// Makes the record of a move durable.
    pub(crate) fn record(&self, commit: Commit) -> io::Result<()> {
        self.journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(commit)
    }

    /// Kills this process here if it was told to: how tests see what the others make of it.
    pub(crate) fn fail_point(&self, name: &str) {
        if self.fail_point.as_deref() == Some(name) {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL)
                .expect("a process can kill itself");
        }
    }

    /// Reports that a peer is not to be trusted, or that this host cannot go on; the coordinator decides.
    pub(crate) fn broken(&self, reason: &str) {
        tracing::error!(reason, "the world is broken");
        // It may be that of the thread that makes room for events.
        self.up.send_now(Event::Broken {
            reason: reason.to_owned(),
        });
    }
}

/// `by` has accepted the first `upto` frames of `of`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub by: Rank,
    pub of: Rank,
    pub upto: u64,
}

/// Where a rank is, as a mailbox knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub rank: Rank,
    pub host: HostId,
    pub epoch: Epoch,
}

impl Mailbox {
    fn new(location: Location) -> Self {
        Self {
            rank: location.rank,
            location: AtomicU64::new(pack(location)),
            endpoint: Mutex::new(None),
            changed: Condvar::new(),
            memory_bytes: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            stop_requested: AtomicBool::new(false),
            stop: Mutex::new(None),
        }
    }

    pub(crate) fn location(&self) -> Place {
        let packed = self.location.load(Ordering::SeqCst);
        let low = u32::try_from(packed & u64::from(u32::MAX)).expect("32 bits");
        let high = u32::try_from(packed >> 32).expect("32 bits");
        Place {
            rank: self.rank,
            host: high,
            epoch: low,
        }
    }

    /// False: this is older than what is known.
    fn relocate(&self, location: Location) -> bool {
        let mut is_news = false;
        // A plain store could lose against a newer location that another thread sets.
        let update = self
            .location
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |packed| {
                let known = u32::try_from(packed & u64::from(u32::MAX)).expect("32 bits");
                is_news = location.epoch >= known;
                is_news.then(|| pack(location))
            });
        update.is_ok() && is_news
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Endpoint>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the mailbox for the rank that begins or goes on here.
    pub(crate) fn open(&self, endpoint: Endpoint) {
        *self.lock() = Some(endpoint);
    }

    /// Closes the mailbox: the rank stands still.
    pub(crate) fn close(&self) -> Option<Endpoint> {
        self.lock().take()
    }

    /// Waits, with the endpoint's lock given, until something may have changed.
    pub(crate) fn wait<'a>(
        &self,
        guard: MutexGuard<'a, Option<Endpoint>>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'a, Option<Endpoint>> {
        match at_most {
            None => self
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let waited = self.changed.wait_timeout(guard, at_most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    pub(crate) fn note_memory(&self, bytes: u64) {
        self.memory_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// From now on every acknowledgement wakes the rank.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Asks the rank to stop; an earlier request that it has not noticed yet is returned.
    pub(crate) fn request_stop(&self, request: StopRequest) -> Option<StopRequest> {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = stop.replace(request);
        self.stop_requested.store(true, Ordering::Release);
        drop(stop);
        // The rank checks the request under the endpoint's lock before it waits: taken here, it cannot miss the notification.
        drop(self.lock());
        self.changed.notify_all();
        replaced
    }

    /// The request to stop, once.
    pub(crate) fn take_stop(&self) -> Option<StopRequest> {
        if !self.stop_requested.load(Ordering::Acquire) {
            return None;
        }
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop_requested.store(false, Ordering::Release);
        stop.take()
    }

    pub(crate) fn has_stop(&self) -> bool {
        self.stop_requested.load(Ordering::Acquire)
    }
}

fn pack(location: Location) -> u64 {
    u64::from(location.host) << 32 | u64::from(location.epoch)
}
