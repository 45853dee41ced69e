//! What becomes of a world when one of its hosts dies.

use super::{Coordinator, Moving, Recovering};
use crate::error::{Error, Kind};
use crate::wire::messages::{Command, HostId, Rank};
use crate::world::admin::Answer;
use crate::world::hosts::Origin;

/// So many hosts are replaced; a machine on which more die has another problem.
const REPLACEMENTS_MAX: u32 = 32;

impl Coordinator<'_> {
    /// A host has ended, and all that it had said is heard.
    pub(super) fn host_died(&mut self, id: HostId, status: &str) -> Result<(), Error> {
        let Some(dead) = self.hosts.remove(&id) else {
            return Ok(());
        };
        tracing::warn!(host = id, status, "a host died");
        self.end_checkpoint(false);
        let is_undecided = |m: &Moving| m.from == id && m.is_told && !m.committed;
        let undecided = self.moving.as_ref().filter(|m| is_undecided(m));
        let undecided = undecided.map(|m| m.rank);
        // A rank that has ended counts, too: others may wait for messages of it that nobody has now.
        let mut lost: Vec<Rank> = (0..)
            .zip(&self.ranks)
            .filter(|(rank, state)| state.host == id && Some(*rank) != undecided)
            .map(|(rank, _)| rank)
            .collect();
        let was_recovering = self.recovering == Some(Recovering::Host(id));
        if was_recovering && !dead.is_admitted() {
            lost.extend(self.moving.as_ref().map(|m| m.rank));
        }
        if !lost.is_empty() {
            return self.lost(&lost, id, status);
        }
        // A source that was told finds out by itself, and says which way it went.
        if let Some(moving) = self.moving.as_ref().filter(|m| m.to == id && !m.is_told) {
            let (rank, epoch) = (moving.rank, moving.epoch);
            self.move_failed(rank, epoch, "the target died".into())?;
        }
        match &dead.origin {
            Origin::Child { dir, .. } => self.replace(&dir.clone(), undecided.is_some()),
            Origin::Admitted { .. } => {
                if undecided.is_some() || was_recovering {
                    // Its site starts another on the same directory.
                    self.recovering = Some(Recovering::Label(dead.label.clone()));
                }
                Ok(())
            }
        }
    }

    /// Starts a host in the place of one that died: on its directory, for the journal in it may have to decide.
    fn replace(&mut self, dir: &std::path::Path, has_to_decide: bool) -> Result<(), Error> {
        self.n_replacements += 1;
        if self.n_replacements > REPLACEMENTS_MAX {
            let problem = format!("more than {REPLACEMENTS_MAX} hosts died");
            return Err(Error::new(Kind::Unavailable, problem));
        }
        let dir = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match self.start_host(dir, None) {
            Ok(replacement) if has_to_decide => {
                self.recovering = Some(Recovering::Host(replacement));
            }
            Ok(_) => {}
            Err(error) if has_to_decide => return Err(error),
            Err(error) => tracing::warn!(%error, "a dead host is not replaced"),
        }
        if let Err(error) = self.starter.keep_spare() {
            tracing::warn!(%error, "there is no spare host");
        }
        Ok(())
    }

    /// Lets a host take part that was started while the world runs, once it is ready.
    pub(super) fn invite(&mut self, id: HostId) -> Result<(), Error> {
        let Some(host) = self.hosts.get_mut(&id) else {
            return Ok(());
        };
        if host.is_invited || !host.is_ready() {
            return Ok(());
        }
        host.is_invited = true;
        let committed = std::mem::take(&mut host.committed);
        let address = host.address;
        let is_it = |recovering: &mut Recovering| *recovering == Recovering::Host(id);
        if self.recovering.take_if(is_it).is_some()
            && let Some(moving) = &self.moving
        {
            let (rank, epoch, to) = (moving.rank, moving.epoch, moving.to);
            if committed.contains(&(rank, epoch)) {
                self.committed(rank, epoch, None)?;
            } else {
                self.tell(to, Command::Discard { rank, epoch });
                return self.lost(&[rank], moving.from, "before the move was recorded");
            }
        }
        let spec = self.spec();
        self.tell(id, self.join_command(&spec, Vec::new()));
        if let Some(address) = address {
            self.tell_all(&Command::Peer { host: id, address });
        }
        Ok(())
    }

    /// Ranks are lost: the world begins again from its checkpoint, or ends.
    pub(super) fn lost(&mut self, ranks: &[Rank], host: HostId, how: &str) -> Result<(), Error> {
        if self.checkpoints.newest().is_none() && !self.may_begin_again() {
            let names: Vec<_> = ranks.iter().map(u32::to_string).collect();
            let problem = format!(
                "host {host} died ({how}) with rank {}, and there is no checkpoint to begin again \
                 from (see --checkpoint-every)",
                names.join(", ")
            );
            self.verdict = Some(Err(Error::new(Kind::Lost, problem)));
            return Ok(());
        }
        tracing::warn!(host, "the world begins again from its last checkpoint");
        self.stop_hosts();
        self.recovering = None;
        self.next_checkpoint = None;
        if let Some(moving) = self.moving.take()
            && let Some(asked_by) = moving.asked_by
        {
            // Whoever asked may be gone.
            asked_by.send(Answer::Failed("a host died".into())).ok();
        }
        if let Some((partial, _)) = self.checkpoint.take() {
            self.checkpoints.discard(&partial);
        }
        for state in &mut self.ranks {
            state.ended = None;
        }
        self.id.incarnation += 1;
        self.report.restarts += 1;
        self.begin()
    }

    /// A world that is kept, and was to have checkpoints, begins again even before it has the first.
    fn may_begin_again(&self) -> bool {
        self.setting.is_kept && self.world.checkpoint_every.is_some()
    }
}
