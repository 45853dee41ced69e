//! The thread that answers clients.
//!
//! What a client tells lies in its socket until somebody looks. To wake a thread for it would cost the client more than all the rest of a
//! seal; so this one looks every tick while clients tell something, and only after a pause lets itself be woken.
//!
//! ```text
//!                               nothing told for a while
//!   awake: looks every tick ──────────────────────────────▶ asleep: is woken by the next one that tells something
//!                           ◀──────────────────────────────
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use geds_core::extents::SegmentNo;
use geds_core::{Error, Kind};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{Timespec, epoll as poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::session::{Member, Session};
use super::{ClientNo, State};
use crate::domain::Domain;
use crate::memory::Pages;
use crate::object::WeakObject;
use crate::socket::PACKET_BYTES_MAX;

const EVENTS_AT_ONCE: usize = 64;
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};
const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// How often it looks for what can only be found by looking.
const SWEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const SWEEP_TIME: Duration = Duration::from_millis(100);
/// So long it looks again at once after it has answered somebody, who may ask more: to be woken on a processor that sleeps takes as long.
const EAGER: Duration = Duration::from_micros(50);
/// How long it looks every tick after the last one that told something.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Server {
    state: Arc<State>,
    listener: OwnedFd,
    epoll: OwnedFd,
    /// When somebody told something last; `None`: asleep.
    awake_since: Option<Instant>,
    /// When it has answered somebody, if that is not long ago.
    answered: Option<Instant>,
    /// Their sessions are over, and they still read. What they read is kept until they do not.
    readers: BTreeMap<u64, Arc<Member>>,
    /// When it was looked last whether they do.
    swept: Instant,
    /// It could not accept a client, and waits a tick before it tries again.
    is_deaf: bool,
    /// Objects of clients that are gone, which keep more memory than they fill. They are copied when there is time.
    sparse: VecDeque<WeakObject>,
    buffer: Vec<u8>,
}

/// What has something to say.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Stop,
    Requests(u64),
    Told(u64),
}

impl Source {
    fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Listener => 0,
            Self::Stop => 1,
            Self::Requests(no) => 2 * no,
            Self::Told(no) => 2 * no + 1,
        })
    }

    /// Clients are numbered from 1.
    fn of(data: EventData) -> Self {
        match data.u64() {
            0 => Self::Listener,
            1 => Self::Stop,
            n if n % 2 == 0 => Self::Requests(n / 2),
            n => Self::Told(n / 2),
        }
    }
}

impl Server {
    pub(super) fn new(state: Arc<State>, listener: OwnedFd, stop: &OwnedFd) -> io::Result<Self> {
        let server = Self {
            state,
            listener,
            epoll: poll::create(epoll::CreateFlags::CLOEXEC)?,
            awake_since: None,
            answered: None,
            readers: BTreeMap::new(),
            swept: rt::now(),
            is_deaf: false,
            sparse: VecDeque::new(),
            buffer: vec![0; PACKET_BYTES_MAX],
        };
        server.watch(&server.listener, Source::Listener, EventFlags::IN)?;
        server.watch(stop, Source::Stop, EventFlags::IN)?;
        Ok(server)
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            self.answered = self.answered.filter(|at| rt::now() - *at < EAGER);
            let timeout = match self.awake_since {
                _ if !self.sparse.is_empty() || self.answered.is_some() => Some(&NO_TIME),
                Some(_) => Some(&TICK),
                None if self.is_deaf || !self.readers.is_empty() => Some(&SWEEP),
                None => None,
            };
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the arena's socket");
                    break;
                }
            }
            if events.is_empty() {
                self.settle_one();
            }
            self.sweep();
            if self.state.hear(None) {
                self.wake();
            } else if self
                .awake_since
                .is_some_and(|since| rt::now() - since >= LINGER)
            {
                self.awake_since = None;
                self.watch_told(EventFlags::IN);
            }
            for epoll::Event { flags, data } in events.drain(..) {
                match Source::of(data) {
                    Source::Stop => return self.end_all(),
                    Source::Listener => self.accept(),
                    Source::Requests(no) => {
                        self.serve(no);
                        self.answered = Some(rt::now());
                    }
                    Source::Told(no) if flags.contains(EventFlags::HUP) => self.end(no),
                    Source::Told(_) => self.wake(),
                }
            }
        }
    }

    /// Lets go who reads no more, and listens again.
    fn sweep(&mut self) {
        let now = rt::now();
        if now - self.swept < SWEEP_TIME {
            return;
        }
        self.swept = now;
        let state = &self.state;
        self.readers.retain(|no, member| {
            let is_reading = member.is_reading();
            if !is_reading {
                state.keeper.left(ClientNo(*no));
            }
            is_reading
        });
        if std::mem::take(&mut self.is_deaf) {
            self.listen(EventFlags::IN);
        }
    }

    fn listen(&self, flags: EventFlags) {
        if let Err(error) =
            epoll::modify(&self.epoll, &self.listener, Source::Listener.data(), flags)
        {
            tracing::error!(%error, "listen for clients");
        }
    }

    fn wake(&mut self) {
        if self.awake_since.replace(rt::now()).is_none() {
            self.watch_told(EventFlags::empty());
        }
    }

    /// Whether what is told wakes this thread.
    fn watch_told(&self, flags: EventFlags) {
        for session in self.state.lock().by_no.values() {
            if let Some(member) = session.member() {
                let data = Source::Told(session.no.0).data();
                if let Err(error) = epoll::modify(&self.epoll, &member.told, data, flags) {
                    tracing::error!(%error, "watch what clients tell");
                }
            }
        }
    }

    fn watch(&self, fd: impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        epoll::add(&self.epoll, fd, source.data(), flags)?;
        Ok(())
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "accept a client");
                // There are too many descriptors, perhaps; it would be woken for this again at once.
                self.is_deaf = true;
                self.listen(EventFlags::empty());
                return;
            }
        };
        let mut sessions = self.state.lock();
        if sessions.by_no.len() + self.readers.len() >= self.state.clients_max {
            tracing::warn!(
                clients = self.state.clients_max,
                "no client more is accepted"
            );
            return;
        }
        sessions.last += 1;
        let no = sessions.last;
        if let Err(error) = self.watch(&socket, Source::Requests(no), EventFlags::IN) {
            tracing::error!(%error, "watch a client");
            return;
        }
        let session = Arc::new(Session::new(ClientNo(no), socket));
        sessions.by_no.insert(no, session);
    }

    fn serve(&mut self, no: u64) {
        let session = self.state.lock().by_no.get(&no).cloned();
        let Some(session) = session else { return };
        let was_member = session.member().is_some();
        let state = &self.state;
        let before = |domain: &Domain| {
            state.hear(Some(domain));
        };
        let mut served = session.serve(&*state.keeper, &mut self.buffer, before);
        if let Some(member) = session.member()
            && !was_member
        {
            let watched = self.watch(&member.told, Source::Told(no), EventFlags::empty());
            served = served.and(watched.map_err(|error| Error::io("watch a client", error)));
            self.wake();
        }
        if let Err(error) = served {
            tracing::debug!(client = no, %error, "a session ends");
            self.end(no);
        }
    }

    fn end(&mut self, no: u64) {
        if self.readers.remove(&no).is_some() {
            self.state.keeper.left(ClientNo(no));
            return;
        }
        let session = self.state.lock().by_no.get(&no).cloned();
        let Some(session) = session else { return };
        if let Some(member) = session.member() {
            let (sealed, is_reading) = member.end(session.no, &*self.state.keeper);
            self.sparse.extend(sparse(sealed));
            if is_reading {
                self.let_read(&session, member);
            }
        }
        // Not before what it has told is done: somebody may be about to look for it.
        self.state.lock().by_no.remove(&no);
        if !self.readers.contains_key(&no) {
            self.state.keeper.left(session.no);
        }
    }

    /// Hears nothing more of a client but its end.
    fn let_read(&mut self, session: &Session, member: &Arc<Member>) {
        let no = session.no.0;
        let how = rustix::net::Shutdown::Both;
        // It may be closed already.
        rustix::net::shutdown(&session.requests, how).unwrap_or_default();
        let unwatched = epoll::delete(&self.epoll, &session.requests);
        let data = Source::Told(no).data();
        let watched = epoll::modify(&self.epoll, &member.told, data, EventFlags::empty());
        if let Err(error) = unwatched.and(watched) {
            tracing::error!(client = no, %error, "watch a client that reads");
        }
        self.readers.insert(no, Arc::clone(member));
    }

    fn end_all(&mut self) {
        let all: Vec<u64> = self.state.lock().by_no.keys().copied().collect();
        for no in all {
            self.end(no);
        }
        // Nobody hears when they are gone. What they read is not used again, as long as this process lives.
        for member in std::mem::take(&mut self.readers).into_values() {
            std::mem::forget(member);
        }
    }

    /// Copies one object to where it needs no more memory than it fills.
    fn settle_one(&mut self) {
        let object = self.sparse.pop_front();
        let object = object.and_then(|object| object.upgrade());
        match object.map(|object| (object.no(), object.settle())) {
            None | Some((_, Ok(()))) => {}
            // It is where it can stay.
            Some((_, Err(error))) if error.kind == Kind::Exhausted => {}
            Some((no, Err(error))) => {
                tracing::warn!(object = no.0, %error, "an object of a client that is gone");
            }
        }
    }
}

/// Those that have parts in segments of which at most half is used. Nobody writes there any more.
fn sparse(sealed: Vec<WeakObject>) -> Vec<WeakObject> {
    let mut used: BTreeMap<SegmentNo, u64> = BTreeMap::new();
    let mut alive = Vec::new();
    for object in sealed.iter().filter_map(WeakObject::upgrade) {
        let placement = object.placement();
        for pages in placement.pages() {
            *used.entry(pages.extent().segment).or_default() += pages.len();
        }
        alive.push((object, placement));
    }
    alive.retain(|(object, placement)| {
        let segment_bytes = object.domain().segment_bytes();
        let is_sparse = |pages: &Pages| used[&pages.extent().segment] * 2 <= segment_bytes;
        placement.bytes() <= segment_bytes && placement.pages().iter().any(is_sparse)
    });
    alive.iter().map(|(object, _)| object.downgrade()).collect()
}
