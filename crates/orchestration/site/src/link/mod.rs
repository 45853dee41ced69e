//! The link to the controller: one thread that dials, and dials again.
//!
//! ```text
//!          ┌────────── backoff, with jitter ◀───────────┐
//!          ▼                                            │ lost, refused, nonsense
//!   resolve, dial ──▶ handshake ──▶ Hello, Inventory ──▶ both directions
//! ```
//!
//! It is one loop around `poll`: the socket, and a bell that the agent rings when it has something to say. So it never waits for a slow
//! controller while there is something to hear, and stops at once.

mod connection;
mod session;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use auth::Tls;
use ids::{Generation, Labels, Name};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use workload::link::{self, CONTROLLER_NAME};

use crate::disk::modules::Modules;
use crate::hub::{Hub, LinkState};
use session::Session;

pub(crate) use connection::blocking;
pub(crate) use session::LINK_LOST;

/// The delay before the next dial: the first, and the longest. Up to half of it is taken off at random, so that a fleet does not come back
/// all at once. The longest is such that a site is back, and has reported, within three periods.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(2);
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most addresses of a name that are tried at a time.
const ADDRESSES_MAX: usize = 8;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that the other side's kernel has not acknowledged for so long are a broken link.
const SILENCE_MS_MAX: u32 = 5_000;

/// What the link says in its `Hello`.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub site: Name,
    pub labels: Labels,
    pub cpu_share: f64,
    pub cpu_share_by: String,
}

impl Introduction {
    fn hello(&self, generation: Generation) -> link::Up {
        link::Up::Hello {
            version: link::VERSION,
            site: self.site.clone(),
            labels: self.labels.clone(),
            generation,
            cpu_share: self.cpu_share,
            cpu_share_by: self.cpu_share_by.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub hub: Arc<Hub>,
    pub modules: Modules,
    pub tls: Tls,
    pub controller: String,
    pub introduction: Introduction,
}

impl Link {
    /// Keeps a link up until it is told to stop.
    pub(crate) fn run(&self) {
        let mut delay = DELAY_MIN;
        while !self.is_stopping() {
            let began = rt::now();
            let why = match self.dial().and_then(|session| self.serve(session)) {
                Ok(()) => return,
                Err(error) => error.to_string(),
            };
            self.hub.metrics.linked.set(0);
            tracing::info!(controller = self.controller, why, "no link");
            self.hub
                .tell(|inbox| inbox.link = Some(LinkState::Down(why)));
            // A link that stood for a while was good; one that is ended again and again is not.
            if began.elapsed() > DELAY_MAX {
                delay = DELAY_MIN;
            }
            self.pause(jittered(delay, rt::random_u64()));
            delay = (delay * 2).min(DELAY_MAX);
        }
    }

    fn is_stopping(&self) -> bool {
        self.hub.outbox().is_stopping
    }

    fn dial(&self) -> io::Result<Session<'_>> {
        self.hub.metrics.dials.inc();
        let stream = at_any(self.controller.as_str(), |address| {
            if self.is_stopping() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.tls.open(address, CONTROLLER_NAME, DIAL_TIMEOUT)
        })?;
        stream.socket().set_nonblocking(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(stream.socket(), SILENCE_MS_MAX)?;
        Ok(Session::new(stream, &self.hub, &self.modules))
    }

    /// Serves a connection until it is told to stop; everything else is an error.
    fn serve(&self, mut session: Session<'_>) -> io::Result<()> {
        let began = rt::now();
        let generation = self.hub.outbox().latest.generation;
        session.introduce(&self.introduction.hello(generation))?;
        let mut is_up = false;
        loop {
            let has_more = session.exchange()?;
            if self.is_stopping() {
                return Ok(());
            }
            if !is_up && !session.is_handshaking() {
                is_up = true;
                self.hub.metrics.linked.set(1);
                tracing::info!(controller = self.controller, "linked");
                self.hub.tell(|inbox| inbox.link = Some(LinkState::Up));
            }
            let left = HANDSHAKE_TIMEOUT.saturating_sub(began.elapsed());
            if !is_up && left.is_zero() {
                return Err(io::Error::other("the handshake takes too long"));
            }
            let mut wanted = PollFlags::IN;
            if session.wants_write() {
                wanted |= PollFlags::OUT;
            }
            let mut fds = [
                PollFd::new(session.socket(), wanted),
                PollFd::from_borrowed_fd(self.hub.bell(), PollFlags::IN),
            ];
            let timeout = match (has_more, is_up) {
                (true, _) => Duration::ZERO,
                (false, true) => link::PERIOD,
                (false, false) => left,
            };
            wait(&mut fds, timeout)?;
            self.hub.quiet_bell();
        }
    }

    /// Waits, unless it is told to stop.
    fn pause(&self, time: Duration) {
        let began = rt::now();
        while !self.is_stopping() && began.elapsed() < time {
            let mut fds = [PollFd::from_borrowed_fd(self.hub.bell(), PollFlags::IN)];
            let left = time.saturating_sub(began.elapsed());
            if let Err(error) = wait(&mut fds, left) {
                tracing::error!(%error, "wait for the next dial");
            }
            self.hub.quiet_bell();
        }
    }
}

fn wait(fds: &mut [PollFd<'_>], at_most: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Attempts something at the addresses of a name, one after the other, until it succeeds. A name may have addresses at which nobody is:
/// `localhost` has one of IPv6 on many machines.
pub(crate) fn at_any<T>(
    controller: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut result = Err(io::Error::other("its name has no address"));
    for address in controller.to_socket_addrs()?.take(ADDRESSES_MAX) {
        result = attempt(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn jittered(delay: Duration, random: u64) -> Duration {
    let half = u64::try_from((delay / 2).as_nanos()).expect("seconds");
    delay - Duration::from_nanos(random % (half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_name_are_tried() {
        let check = |open: &[u16], expected: Option<u16>, tried: usize| {
            let ports = 1..=20;
            let addresses: Vec<SocketAddr> =
                ports.map(|port| ([127, 0, 0, 1], port).into()).collect();
            let mut n_tried = 0;
            let found = at_any(&addresses[..], |address| {
                n_tried += 1;
                let is_open = open.contains(&address.port());
                let port = is_open.then_some(address.port());
                port.ok_or(io::ErrorKind::ConnectionRefused.into())
            });
            assert_eq!(found.ok(), expected, "{open:?}");
            assert_eq!(n_tried, tried, "{open:?}");
        };
        check(&[1, 2], Some(1), 1);
        check(&[2], Some(2), 2);
        check(&[8, 9], Some(8), 8);
        check(&[9], None, ADDRESSES_MAX);
        at_any(&[][..], |_| Ok(())).expect_err("no address");
    }

    #[test]
    fn sites_do_not_come_back_all_at_once() {
        for random in [0, 1, 12_345_678, u64::MAX] {
            let delay = jittered(DELAY_MIN, random);
            assert!(delay <= DELAY_MIN && delay >= DELAY_MIN / 2, "{delay:?}");
        }
        assert_ne!(jittered(DELAY_MAX, 1 << 30), jittered(DELAY_MAX, 1 << 31));
    }
}
