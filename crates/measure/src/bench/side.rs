//! Two sides that are measured in turn.

use std::time::Duration;

use super::{Cpu, Measured, median, process};

/// How long each time took, and how much of the processors all of them: one of two sides that are measured in turn.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub times: Vec<Duration>,
    pub cpu: Duration,
}

impl Side {
    /// Does something so many times, on this thread and no other one.
    pub(super) fn turn(
        &mut self,
        n_times: usize,
        act: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.take_turn(n_times, act, || Ok(rt::thread_cpu_time()))
    }

    /// The same with all threads of this process, and perhaps of another one.
    pub(super) fn turn_with(
        &mut self,
        pid: Option<u32>,
        n_times: usize,
        act: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.take_turn(n_times, act, || {
            let other = pid.map_or(Ok(Duration::ZERO), process::cpu_time)?;
            Ok(rt::process_cpu_time() + other)
        })
    }

    fn take_turn(
        &mut self,
        n_times: usize,
        mut act: impl FnMut(usize) -> anyhow::Result<()>,
        cpu: impl Fn() -> anyhow::Result<Duration>,
    ) -> anyhow::Result<()> {
        let before = cpu()?;
        for n in 0..n_times {
            let start = rt::now();
            act(n)?;
            self.times.push(start.elapsed());
        }
        // A thread that has ended meanwhile takes its time with it.
        self.cpu += cpu()?.saturating_sub(before);
        Ok(())
    }

    pub(super) fn middle(&self) -> Duration {
        median(&self.times)
    }

    /// As times, in the middle.
    pub(super) fn against(&self, peer: &Self) -> Measured {
        self.compare(peer, |time| time.as_secs_f64() * 1e6)
    }

    pub(super) fn seconds_against(&self, peer: &Self) -> Measured {
        self.compare(peer, |time| time.as_secs_f64())
    }

    /// As rates, in GB/s, of so many bytes each time.
    pub(super) fn rate_against(&self, peer: &Self, bytes: usize) -> Measured {
        self.compare(peer, |time| bytes as f64 / time.as_secs_f64() / 1e9)
    }

    pub(super) fn per_second_against(&self, peer: &Self) -> Measured {
        self.compare(peer, |time| 1.0 / time.as_secs_f64())
    }

    fn compare(&self, peer: &Self, of: impl Fn(Duration) -> f64) -> Measured {
        Measured {
            value: of(self.middle()),
            peer_value: of(peer.middle()),
            runs: self.times.len(),
            cpu: Some(Cpu {
                us: self.cpu_us(),
                peer_us: peer.cpu_us(),
            }),
        }
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.len() as f64
    }
}
