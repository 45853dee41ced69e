//! Output while the disk is full: it is held, and the world goes on.

use std::time::Duration;

use super::Coordinator;
use crate::error::{Error, Kind};
use crate::wire::messages::Rank;
use crate::world::Input;

/// How often it is looked whether there is room again.
const RETRY_PERIOD: Duration = Duration::from_millis(100);
/// A world that writes more than this on a full disk ends.
const HELD_BYTES_MAX: u64 = 64 << 20;

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
            Some(held) if held > HELD_BYTES_MAX => {
                let problem = format!("the disk is full, and {held} bytes of output wait for it");
                return Err(Error::new(Kind::Unavailable, problem));
            }
            Some(_) if self.retry_output_at.is_none() => {
                tracing::warn!("the disk is full: output is held");
                self.retry_output_at = Some(rt::now() + RETRY_PERIOD);
            }
            Some(_) => {}
        }
        Ok(())
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
            Some(_) => Some(now + RETRY_PERIOD),
            None => {
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
