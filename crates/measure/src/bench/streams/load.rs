//! What is asked of a server, and when: on a schedule that does not wait for answers, or as fast as it answers.

use std::sync::mpsc::sync_channel;
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::wire::PATIENCE;

const STACK_BYTES: usize = 1 << 20;
/// What may be under way of an open loop.
const UNDER_WAY_MAX: usize = 1 << 20;

/// Sends the `n`th.
pub(super) type Ask = Box<dyn FnMut(u64) -> anyhow::Result<()> + Send>;
/// Waits for an answer: so many were answered in all.
pub(super) type Answered = Box<dyn FnMut() -> anyhow::Result<u64> + Send>;

/// A way to a server that acknowledges what it is sent, in that order.
pub(super) struct Lane {
    send: Ask,
    receive: Answered,
    n_sent: u64,
}

/// When things are to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub first: Instant,
    pub every: Duration,
}

impl Pace {
    /// The one behind `n` others is due, and this is from when on it has waited: if the timer wakes up late, that is nobody's fault.
    pub(super) fn wait(&self, n: u64) -> Instant {
        let due = self.first + self.every.mul_f64(n as f64);
        if due <= rt::now() {
            return due;
        }
        while let Some(left) = due.checked_duration_since(rt::now()) {
            if left.is_zero() {
                break;
            }
            park_timeout(left);
        }
        rt::now()
    }

    /// The same a part of the distance later.
    pub(super) fn after(self, part: f64) -> Self {
        let first = self.first + self.every.mul_f64(part);
        Self { first, ..self }
    }
}

impl Lane {
    pub(super) fn new(send: Ask, receive: Answered) -> Self {
        Self {
            send,
            receive,
            n_sent: 0,
        }
    }

    /// Sends so many on a schedule. How long each took from when it was due.
    pub(super) fn open_loop(
        self,
        n_times: u64,
        pace: Pace,
    ) -> anyhow::Result<(Self, Vec<Duration>)> {
        let Self {
            mut send,
            mut receive,
            n_sent,
        } = self;
        let (told, due) = sync_channel(UNDER_WAY_MAX);
        let sending = thread("bench sender", move || {
            for n in 0..n_times {
                let since = pace.wait(n);
                told.send(since).context("tell what is under way")?;
                send(n_sent + n)?;
            }
            Ok(send)
        })?;
        let mut times = Vec::new();
        while (times.len() as u64) < n_times {
            let answered = receive()?.saturating_sub(n_sent);
            let now = rt::now();
            while (times.len() as u64) < answered {
                let due = due.recv_timeout(PATIENCE).context("what was answered")?;
                times.push(now.saturating_duration_since(due));
            }
        }
        let lane = Self {
            send: joined(sending)?,
            receive,
            n_sent: n_sent + n_times,
        };
        Ok((lane, times))
    }

    /// Sends as many as are answered, with so many under way, until the end. How many were answered; none is under way any more.
    pub(super) fn saturate(&mut self, window: u64, end: Instant) -> anyhow::Result<u64> {
        self.closed_loop(window, |_| rt::now() < end)
    }

    /// The same, so many times.
    pub(super) fn repeat(&mut self, window: u64, n_times: u64) -> anyhow::Result<u64> {
        self.closed_loop(window, |n| n < n_times)
    }

    fn closed_loop(&mut self, window: u64, goes_on: impl Fn(u64) -> bool) -> anyhow::Result<u64> {
        let first = self.n_sent;
        let mut n_answered = first;
        loop {
            let goes_on = goes_on(self.n_sent - first);
            if goes_on && self.n_sent - n_answered < window {
                (self.send)(self.n_sent)?;
                self.n_sent += 1;
            } else if n_answered < self.n_sent {
                n_answered = (self.receive)()?;
            } else if !goes_on {
                return Ok(n_answered - first);
            }
        }
    }
}

/// All of them at once, each in a thread of its own, all with the same work.
pub(super) fn at_once<T: Send + 'static>(
    lanes: Vec<Lane>,
    work: impl Fn(Lane, usize) -> anyhow::Result<(Lane, T)> + Clone + Send + 'static,
) -> anyhow::Result<(Vec<Lane>, Vec<T>)> {
    let working = lanes.into_iter().enumerate().map(|(n, lane)| {
        let work = work.clone();
        thread("bench lane", move || work(lane, n))
    });
    let working = working.collect::<anyhow::Result<Vec<_>>>()?;
    let done = working.into_iter().map(joined);
    let done = done.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(done.into_iter().unzip())
}

/// So many were answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub n: u64,
    pub took: Duration,
}

impl Done {
    pub(super) fn per_second(self) -> f64 {
        self.n as f64 / self.took.as_secs_f64()
    }
}

/// All lanes saturated for so long, each with so many under way.
pub(super) fn saturate(
    lanes: Vec<Lane>,
    window: u64,
    turn: Duration,
) -> anyhow::Result<(Vec<Lane>, Done)> {
    let start = rt::now();
    let (lanes, answered) = at_once(lanes, move |mut lane, _| {
        let n = lane.saturate(window, start + turn)?;
        Ok((lane, n))
    })?;
    let done = Done {
        n: answered.iter().sum(),
        took: start.elapsed(),
    };
    ensure!(done.n > 0, "nothing was answered in time");
    Ok((lanes, done))
}

/// All lanes on one schedule together.
pub(super) fn open_loop(
    lanes: Vec<Lane>,
    per_second: f64,
    turn: Duration,
) -> anyhow::Result<(Vec<Lane>, Vec<Duration>)> {
    let n_lanes = lanes.len() as f64;
    let pace = Pace {
        first: rt::now() + Duration::from_millis(5),
        every: Duration::from_secs_f64(n_lanes / per_second),
    };
    let n_times = times(turn, pace.every);
    let (lanes, found) = at_once(lanes, move |lane, n| {
        lane.open_loop(n_times, pace.after(n as f64 / n_lanes))
    })?;
    Ok((lanes, found.concat()))
}

/// How often something is due within a turn.
pub(super) fn times(turn: Duration, every: Duration) -> u64 {
    let n = u64::try_from(turn.as_nanos() / every.as_nanos().max(1));
    n.unwrap_or(u64::MAX).max(1)
}

pub(super) fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    Ok(rt::thread(name.to_owned(), STACK_BYTES, work)?)
}

pub(super) fn joined<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    let ended = thread.join();
    ended.map_err(|_| anyhow::anyhow!("a thread of the benchmark has panicked"))?
}

/// Answers one for one: a queue of what waits for one of our own clients.
pub(super) fn asked<T: Send + 'static>(
    mut ask: impl FnMut(u64) -> anyhow::Result<T> + Send + 'static,
    mut wait: impl FnMut(T) -> anyhow::Result<()> + Send + 'static,
) -> Lane {
    let (put, taken) = sync_channel(UNDER_WAY_MAX);
    let send: Ask = Box::new(move |n| {
        put.send(ask(n)?).ok();
        Ok(())
    });
    let mut n_answered = 0;
    let receive: Answered = Box::new(move || {
        wait(taken.recv_timeout(PATIENCE).context("an answer")?)?;
        n_answered += 1;
        Ok(n_answered)
    });
    Lane::new(send, receive)
}

/// One lane out of many pieces that are answered each for itself: `pieces` belong to each that is sent.
pub(super) fn counted(
    send: Ask,
    pieces: u64,
    mut more: impl FnMut() -> anyhow::Result<u64> + Send + 'static,
) -> Lane {
    let mut n_pieces = 0;
    let receive: Answered = Box::new(move || {
        n_pieces += more()?;
        Ok(n_pieces / pieces)
    });
    Lane::new(send, receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once, but the one with that number so much later.
    fn echo(late: u64, by: Duration) -> Lane {
        asked(
            |n| Ok((n, rt::now())),
            move |(n, asked)| {
                while n == late && asked.elapsed() < by {
                    park_timeout(Duration::from_millis(1));
                }
                Ok(())
            },
        )
    }

    #[test]
    fn who_comes_behind_one_that_is_late_has_waited_too() {
        let pace = Pace {
            first: rt::now(),
            every: Duration::from_millis(1),
        };
        let lane = echo(10, Duration::from_millis(50));
        let (_, times) = lane.open_loop(30, pace).expect("it answers");
        assert_eq!(times.len(), 30);
        let is_late = |time: &&Duration| **time >= Duration::from_millis(20);
        assert!(times.iter().filter(is_late).count() >= 10, "{times:?}");
    }

    #[test]
    fn a_closed_loop_leaves_nothing_under_way() {
        let mut lane = echo(u64::MAX, Duration::ZERO);
        assert_eq!(lane.repeat(8, 100).expect("it answers"), 100);
        assert_eq!(lane.repeat(1, 3).expect("it answers"), 3);
    }
}
