//! The two sockets to the agent, and the words that both can see.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use geds_core::{Error, Kind, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::domain::{self, BOARD_WORDS};
use crate::lock;
use crate::memory::Words;
use crate::share::lent::{REFUSED, SLOTS, TOLD, WORDS, word_of};
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::wire::{self, Reply, Request, Tell, VERSION};

const THREAD_STACK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Link {
    requests: Mutex<Requests>,
    told: OwnedFd,
    words: Words,
    board: Words,
    pub segment_bytes: u64,
    pub quota_bytes: u64,
    /// So many refusals we know of.
    refused: AtomicU64,
    /// Sees the end of the agent.
    watch: Watch,
    /// What could not be told yet, since the agent has not listened for long.
    later: Mutex<Vec<(u32, u32)>>,
}

#[derive(Debug)]
struct Requests {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A thread that waits for the end of the agent: words that it has left behind do not change any more.
#[derive(Debug)]
struct Watch {
    is_over: Arc<AtomicBool>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(told: &OwnedFd) -> io::Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let (told, stopped, over) = (told.try_clone()?, stop.try_clone()?, Arc::clone(&is_over));
        let thread = rt::thread("geds-watch".to_owned(), THREAD_STACK_BYTES, move || {
            let mut fds = [
                // Nothing is ever to be read there; its end is told unasked.
                PollFd::new(&told, PollFlags::empty()),
                PollFd::new(&stopped, PollFlags::IN),
            ];
            while matches!(poll(&mut fds, None), Err(Errno::INTR)) {}
            over.store(true, Ordering::SeqCst);
        });
        Ok(Self {
            is_over,
            stop,
            thread: Some(thread?),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let woken = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take().filter(|_| woken.is_ok()) {
            // It does nothing that could panic.
            thread.join().unwrap_or_default();
        }
    }
}

impl Requests {
    /// Sends a packet and gives the answer to `hear`, with the bytes and descriptors that come with it.
    fn call<T>(
        &mut self,
        request: &Request<'_>,
        is_over: &AtomicBool,
        hear: impl FnOnce(Reply<'_>, &[u8], Vec<OwnedFd>) -> Result<T>,
    ) -> Result<T> {
        let over = || is_over.store(true, Ordering::SeqCst);
        let sent = socket::send(&self.socket, [&wire::packet(request), &[]], &[]);
        let sent = sent.inspect_err(|_| over());
        sent.map_err(|error| Error::io("ask the agent", error))?;
        let received = socket::recv_with_fds(&self.socket, &mut self.buffer);
        let received = received.inspect_err(|_| over());
        let (packet, fds) = received.map_err(|error| Error::io("hear the agent", error))?;
        if packet.is_empty() {
            over();
            return Err(gone());
        }
        match wire::parse_first(packet)? {
            (Reply::Refused { kind, what }, _) => Err(Error::new(wire::kind_of(kind), what)),
            (reply, rest) => hear(reply, rest, fds),
        }
    }
}

impl Link {
    pub(super) fn connect(path: &Path, token: &[u8]) -> Result<Self> {
        let socket = socket::connect(path);
        let socket = socket.map_err(|error| Error::io("connect to the agent", error))?;
        let mut requests = Requests {
            socket,
            buffer: vec![0; PACKET_BYTES_MAX],
        };
        let version = VERSION;
        let hello = Request::Hello { version, token };
        let (segment_bytes, quota_bytes, fds) = requests.call(
            &hello,
            &AtomicBool::default(),
            |reply, _, fds| match reply {
                Reply::Welcome {
                    segment_bytes,
                    n_slots: SLOTS,
                    quota_bytes,
                    ..
                } => Ok((segment_bytes, quota_bytes, fds)),
                _ => Err(unexpected()),
            },
        )?;
        let [told, words, board] = <[OwnedFd; 3]>::try_from(fds).map_err(|_| unexpected())?;
        let map = |error| Error::io("map what is shared with the agent", error);
        let watch = Watch::start(&told);
        Ok(Self {
            watch: watch.map_err(|error| Error::io("watch the agent", error))?,
            requests: Mutex::new(requests),
            told,
            words: Words::map(words, WORDS).map_err(map)?,
            board: Words::map(board, BOARD_WORDS).map_err(map)?,
            segment_bytes,
            quota_bytes,
            refused: AtomicU64::new(0),
            later: Mutex::default(),
        })
    }

    pub(super) fn call<T>(
        &self,
        request: &Request<'_>,
        hear: impl FnOnce(Reply<'_>, &[u8], Vec<OwnedFd>) -> Result<T>,
    ) -> Result<T> {
        let mut requests = lock(&self.requests);
        self.tell_later();
        requests.call(request, &self.watch.is_over, hear)
    }

    /// Asks something that is answered with bytes.
    pub(super) fn ask(&self, request: &Request<'_>) -> Result<Vec<u8>> {
        self.call(request, |reply, _, _| match reply {
            Reply::Answer { answer } => Ok(answer.to_vec()),
            _ => Err(unexpected()),
        })
    }

    /// Tells the agent something that it will know even if this process ends now.
    pub(super) fn tell(&self, tell: &Tell<'_>) -> Result<()> {
        let packet = wire::packet(tell);
        loop {
            match self.send(&packet) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // What the socket holds is to be done first.
                    self.ask(&Request::CatchUp)?;
                }
                result => return result.map_err(|error| Error::io("tell the agent", error)),
            }
        }
    }

    /// Tells the agent that what was lent is not needed any more; if it does not listen, later. This never waits: it is said when things
    /// are dropped.
    pub(super) fn done(&self, slot: u32, generation: u32) {
        if !self.is_over() {
            lock(&self.later).push((slot, generation));
            self.tell_later();
        }
    }

    fn tell_later(&self) {
        let mut later = lock(&self.later);
        while let Some(&(slot, generation)) = later.last() {
            let packet = wire::packet(&Tell::Done { slot, generation });
            if self.send(&packet).is_err() {
                return;
            }
            later.pop();
        }
    }

    fn send(&self, packet: &[u8]) -> std::io::Result<()> {
        socket::send(&self.told, [packet, &[]], &[])?;
        // In this order: who finds the count finds the packet.
        self.words[TOLD].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn check_refused(&self) -> Result<()> {
        let refused = self.words[REFUSED].load(Ordering::SeqCst);
        if self.refused.swap(refused, Ordering::SeqCst) == refused {
            Ok(())
        } else {
            Err(Error::new(
                Kind::Conflict,
                "something was sealed that the agent refuses",
            ))
        }
    }

    /// What others know of a name is to be looked up again.
    pub(super) fn touch(&self, name: &[u8]) {
        domain::touch(&self.board, name);
    }

    /// Nothing that is shared with the agent means anything any more.
    pub(super) fn is_over(&self) -> bool {
        self.watch.is_over.load(Ordering::SeqCst)
    }

    /// A number that is another one when the name may have been given other data.
    pub(super) fn version_of(&self, name: &[u8]) -> u64 {
        domain::word_of(&self.board, name).load(Ordering::SeqCst)
    }

    pub(super) fn slot(&self, slot: u32) -> Result<&AtomicU64> {
        self.words.get(word_of(slot)).ok_or_else(unexpected)
    }
}

pub(super) fn unexpected() -> Error {
    Error::new(Kind::Internal, "the agent answers something else")
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "the agent has closed the connection")
}
