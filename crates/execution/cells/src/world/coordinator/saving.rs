//! Checkpoints: all ranks stand still, and their snapshots make a consistent cut. A message that was sent and not received is with its
//! sender, and a rank that still runs receives nothing from one that has stopped but what that one sent before.

use std::time::{Duration, Instant};

use super::Coordinator;
use crate::wire::messages::{Command, Rank};

/// How long the ranks may take from one piece of a snapshot to the next; else the checkpoint is given up.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(30);

impl Coordinator<'_> {
    /// When the checkpoint that is being taken is given up.
    pub(super) fn checkpoint_deadline(&self) -> Option<Instant> {
        let (_, progress) = self.checkpoint.as_ref()?;
        Some(*progress + CHECKPOINT_TIMEOUT)
    }

    /// A disk that is full or broken costs the checkpoint, not the program.
    pub(super) fn begin_checkpoint(&mut self) {
        match self.checkpoints.begin(self.world.n_ranks) {
            Ok(partial) => {
                self.tell_all(&Command::Checkpoint { id: partial.id });
                self.checkpoint = Some((partial, rt::now()));
                self.next_checkpoint = None;
            }
            Err(error) => {
                tracing::warn!(%error, "no checkpoint can be taken");
                self.plan_checkpoint();
            }
        }
    }

    fn plan_checkpoint(&mut self) {
        let every = self.world.checkpoint_every;
        self.next_checkpoint = every.map(|every| rt::now() + every);
    }

    pub(super) fn piece(&mut self, id: u32, rank: Rank, bytes: &[u8]) {
        let Some((partial, progress)) = &mut self.checkpoint else {
            return;
        };
        if partial.id != id {
            return;
        }
        *progress = rt::now();
        match partial.take(rank, bytes) {
            Ok(false) => {}
            Ok(true) => self.end_checkpoint(true),
            Err(error) => {
                tracing::warn!(%error, "the checkpoint is given up");
                self.end_checkpoint(false);
            }
        }
    }

    /// Lets the ranks go on. A complete checkpoint becomes the newest.
    pub(super) fn end_checkpoint(&mut self, is_complete: bool) {
        let Some((partial, _)) = self.checkpoint.take() else {
            return;
        };
        let published = is_complete && {
            let synced = self.out.sync();
            let published = synced.and_then(|()| self.checkpoints.publish(&partial));
            if let Err(error) = &published {
                tracing::warn!(%error, "the checkpoint was not published");
            }
            published.is_ok()
        };
        if published {
            self.report.checkpoints += 1;
        } else {
            self.checkpoints.discard(&partial);
        }
        self.tell_all(&Command::Resume { id: partial.id });
        self.plan_checkpoint();
    }
}
