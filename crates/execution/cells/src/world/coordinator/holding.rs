//! Output while the disk is full: it is held, and the world goes on.
//!
//! A program that writes little notices nothing. When much is held, hosts hear no acknowledgement any more: their queues fill, and ranks
//! wait at their next write.

use std::time::Duration;

use super::{Coordinator, INPUTS_MAX};
use crate::error::{Error, Kind};
use crate::wire::messages::Rank;
use crate::world::Input;

/// How often it is looked whether there is room again.
const RETRY_PERIOD: Duration = Duration::from_millis(100);
/// When so much is held, hosts are to send no more.
const HELD_BYTES_WISHED: u64 = 16 << 20;
/// What may come all the same: pieces of one rank that waited for a missing one, a full channel of the largest, and the queue of each host.
const GAP_BYTES_MAX: u64 = 17 << 20;
const CHANNEL_BYTES_MAX: u64 = INPUTS_MAX as u64 * (256 << 10);
const HOST_BYTES_MAX: u64 = 9 << 20;

impl Coordinator<'_> {
    pub(super) fn write_output(
        &mut self,
        rank: Rank,
        seq: u64,
        piece: (bool, Vec<u8>),
    ) -> Result<(), Error> {
        let taken = self.out.take(rank, seq, piece);
        taken.map_err(|error| Error::io("write output", error))?;
        match self.out.held_bytes() {
            None => {}
            Some(held) if held > self.held_bytes_max() => {
                let problem = format!("a host does not wait, and {held} bytes of output are held");
                return Err(Error::new(Kind::Unavailable, problem));
            }
            Some(_) if self.retry_output_at.is_none() => {
                tracing::warn!("the disk is full: output is held");
                self.retry_output_at = Some(rt::now() + RETRY_PERIOD);
            }
            Some(held) => self.hold_hosts(held),
        }
        Ok(())
    }

    fn held_bytes_max(&self) -> u64 {
        let queues = self.hosts.len() as u64 * HOST_BYTES_MAX;
        HELD_BYTES_WISHED + GAP_BYTES_MAX + CHANNEL_BYTES_MAX + queues
    }

    fn hold_hosts(&self, held_bytes: u64) {
        for host in self.hosts.values() {
            host.hold(held_bytes > HELD_BYTES_WISHED);
        }
    }

    /// Looks whether there is room again, if it is time.
    pub(super) fn retry_output(&mut self) -> Result<(), Error> {
        let now = rt::now();
        if self.retry_output_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        let written = self.out.retry();
        written.map_err(|error| Error::io("write output", error))?;
        self.retry_output_at = match self.out.held_bytes() {
            Some(held) => {
                self.hold_hosts(held);
                Some(now + RETRY_PERIOD)
            }
            None => {
                self.hold_hosts(0);
                tracing::info!("there is room on the disk again: output is written");
                None
            }
        };
        Ok(())
    }

    /// The program is over, but not before all that it has written is on the disk. A world that was lost or is to stop does not wait.
    pub(super) fn finish_output(&mut self) -> Result<(), Error> {
        loop {
            let Err(error) = self.out.finish() else {
                return Ok(());
            };
            if self.out.held_bytes().is_none() || matches!(self.verdict, Some(Err(_))) {
                return Err(Error::io("write output", error));
            }
            let retry_at = rt::now() + RETRY_PERIOD;
            loop {
                let left = retry_at.saturating_duration_since(rt::now());
                match self.input.recv_timeout(left) {
                    Ok(Input::Request(request, answer)) => self.answer(request, answer),
                    // Whatever hosts say is of a program that is over.
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
