//! The store of a node whose names another one owns: see [`site`](crate::site).

use std::ops::ControlFlow;
use std::result::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ids::Epoch;

use super::objects::{Unnamed, in_index, on_disk};
use super::steps::Numbered;
use super::{Ack, Store, Terms, entry_of};
use crate::arena::Object;
use crate::core::index::{
    Cause, Change, Class, Entry, Index, Name, ObjectId, Op, Precondition, Record, Residency,
    Revision, Scope,
};
use crate::core::victims::Backing;
use crate::error::{Error, Kind};
use crate::site::member::{Member, Session};
use crate::site::owner::Owner;
use crate::site::peers::Peers;
use crate::tier1::Prepared;
use crate::wire::site::{Committed, Outcome};

/// So often something is decided anew because what it depends on has changed.
const TRIES: usize = 16;
/// So many objects are looked at in one step.
const BATCH: usize = 1_000;

impl Store {
    /// May this node say what names stand for?
    ///
    /// # Errors
    /// `Unavailable`: it has lost touch with the node that owns them.
    pub fn live(&self) -> Result<(), Error> {
        match &self.0.member {
            None => Ok(()),
            Some(member) => member.check_lease(self.0.namespace.last()),
        }
    }

    /// Does another node own its names?
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.0.member.is_some()
    }

    /// Other nodes may come and go, and follow.
    pub(crate) fn set_owner(&self, owner: Arc<Owner>) {
        self.0.owner.set(owner).expect("it is said once");
    }

    /// Who speaks with the members of the site, if this node owns its names and there may be some.
    #[must_use]
    pub fn owner(&self) -> Option<&Arc<Owner>> {
        self.0.owner.get()
    }

    /// Who speaks with the owner of the names, if that is another node.
    #[must_use]
    pub fn member(&self) -> Option<&Arc<Member>> {
        self.0.member.as_ref()
    }

    /// The other nodes of the site, if there may be some.
    #[must_use]
    pub fn peers(&self) -> Option<&Arc<Peers>> {
        self.0.peers.get()
    }

    pub(crate) fn set_peers(&self, peers: Arc<Peers>) {
        self.0.peers.set(peers).expect("it is said once");
    }

    /// From now on this is what there is, under a new epoch. Nobody is answered meanwhile.
    pub(crate) fn begin_membership(&self, epoch: Epoch, index: Index) {
        self.0.epoch.store(epoch.0, Ordering::SeqCst);
        self.0.namespace.replace(index);
        self.0.warm.clear();
    }

    /// Carries out what the owner has committed next.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn follow(&self, records: Vec<Record>) -> Result<(), Error> {
        for commit in self.0.namespace.follow(records)? {
            self.note(&commit.changes);
        }
        Ok(())
    }

    /// Makes the index and what is here agree, at the begin of a membership, while others may write: as at a start, and what is in memory is found too.
    ///
    /// # Errors
    /// What the owner says; `Unavailable` when the membership is over.
    pub(crate) fn tell_what_is_here(&self, epoch: Epoch) -> Result<(), Error> {
        let inner = &*self.0;
        // Of this membership: who has made it tells of it.
        let is_new = |id: ObjectId| id.node == inner.node && id.epoch == epoch;
        let here = Residency::Disk(inner.node);
        let mut after = None;
        loop {
            let found = inner.disk.objects(after, BATCH);
            let Some((last, _)) = found.last() else { break };
            after = Some(*last);
            for (id, bytes) in found {
                let id = in_index(id);
                if is_new(id) {
                    continue;
                }
                match self.is_known(id, &here) {
                    Some(true) => {}
                    Some(false) => self.tell(Op::AddCopy(id, here.clone()))?,
                    None => {
                        self.free(id);
                        continue;
                    }
                }
                self.came_to_disk(id, bytes);
            }
        }
        let missing = inner.namespace.read(|index| {
            let believed = index.objects().filter(|(id, object)| {
                !is_new(*id)
                    && object.placement().copies().contains(&here)
                    && inner.disk.len_of(on_disk(*id)).is_none()
            });
            believed.map(|(id, _)| id).collect::<Vec<_>>()
        });
        for id in missing {
            tracing::error!(?id, "an object that was on the disk is not there any more");
            self.tell(Op::DropCopy(id, here.clone(), Cause::Corrupt))?;
        }
        for id in inner.residents.ids() {
            if is_new(id) {
                continue;
            }
            let n_copies = inner.namespace.read(|index| {
                let object = index.object(id).ok()?;
                Some(object.placement().copies().len())
            });
            match n_copies {
                None => self.release(id),
                Some(0) if id.node == inner.node => {
                    self.tell(Op::AddCopy(id, Residency::Dram(inner.node)))?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// It may be that nobody names it any more.
    fn tell(&self, op: Op) -> Result<(), Error> {
        match self.place(op) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            told => told,
        }
    }

    /// Has the owner do what a command says.
    pub(super) fn commit_there(
        &self,
        member: &Member,
        when: Precondition,
        op: Op,
    ) -> Result<(Arc<[Change]>, Ack), Error> {
        let session = member.session()?;
        let committed = member.commit(self, &session, None, (None, when, op))?;
        self.told(member, session, committed)
    }

    pub(super) fn change_there<E: From<Error>>(
        &self,
        member: &Member,
        mut op: impl FnMut(&Index) -> Result<Option<Op>, E>,
    ) -> Result<(Arc<[Change]>, Ack), E> {
        for _ in 0..TRIES {
            let session = member.session()?;
            self.live()?;
            let (base, op) = self
                .0
                .namespace
                .read(|index| Ok::<_, E>((index.revision(), op(index)?)))?;
            let Some(op) = op else {
                return Ok(([].into(), Ack::there(member, session, base)));
            };
            let wanted = (Some(base), Precondition::None, op);
            let committed = member.commit(self, &session, None, wanted)?;
            if committed.outcome != Outcome::Changed {
                return Ok(self.told(member, session, committed)?);
            }
        }
        Err(E::from(contended()))
    }

    /// What was written is on the disk, if it is to be durable, before its name is spoken of: what the name stood for before is let go then.
    pub(super) fn seal_there<E: From<Error>>(
        &self,
        member: &Member,
        name: &Name,
        unnamed: Unnamed,
        mut terms: impl FnMut(&Index) -> Result<Terms, E>,
    ) -> Result<(Arc<Entry>, Ack), E> {
        let inner = &*self.0;
        let Unnamed {
            object,
            len: bytes,
            share,
            mut prepared,
        } = unnamed;
        let (class, backing) = match prepared {
            Some(_) => (Class::Durable, Backing::Clean),
            None => (Class::Ephemeral, Backing::Dirty),
        };
        for _ in 0..TRIES {
            let session = member.session()?;
            self.live()?;
            let (base, terms) = inner
                .namespace
                .read(|index| Ok::<_, E>((index.revision(), terms(index)?)))?;
            let expires_at_ms = terms.expires_at_ms;
            let turn = member.turn();
            let numbered = Numbered {
                epoch: session.epoch,
                serial: turn.serial,
            };
            let (id, command) = self.seal_command(name, (class, bytes), numbered, terms)?;
            if class == Class::Durable {
                self.put_before(id, object.as_ref(), prepared.take())?;
            }
            // Whoever sees the name finds the data.
            if let Some(object) = object.clone()
                && let Err(error) = inner.residents.insert(id, object, &share, backing)
            {
                self.free(id);
                return Err(E::from(error));
            }
            let wanted = (Some(base), command.when, command.op);
            let committed = member.commit(self, &session, Some(turn), wanted);
            let is_named = match &committed {
                Ok(committed) => committed.outcome != Outcome::Changed,
                // It may be. The next membership finds out.
                Err(error) => error.kind == Kind::Unavailable,
            };
            if !is_named {
                let again = match (&object, &committed) {
                    (None, Ok(_)) => self.prepare_again(id, self.room_by()).map(Some),
                    _ => Ok(None),
                };
                inner.residents.remove(id);
                if class == Class::Durable {
                    self.free(id);
                }
                prepared = again?;
            }
            let committed = committed?;
            if !is_named {
                continue;
            }
            if class == Class::Durable {
                self.came_to_disk(id, bytes);
            }
            if expires_at_ms.is_some() {
                share.victims().set_expiry(&id, expires_at_ms);
            }
            let (changes, ack) = self.told(member, session, committed)?;
            let entry = entry_of(&*changes, name)?;
            inner.counts.sealed(entry.sealed.size);
            return Ok((entry, ack));
        }
        Err(E::from(contended()))
    }

    /// Has it on the disk before somebody hears of it. `prepared`: it is there already, without a number.
    fn put_before(
        &self,
        id: ObjectId,
        object: Option<&Object>,
        prepared: Option<Prepared>,
    ) -> Result<(), Error> {
        let prepared = match (prepared, object) {
            (Some(prepared), _) => prepared,
            (None, Some(object)) => self.prepare(object, self.room_by())?,
            (None, None) => unreachable!("what is not in memory was prepared"),
        };
        let put = self.0.disk.put_prepared(on_disk(id), prepared)?.wait();
        if put.is_err() {
            self.free(id);
        }
        put.map(drop).map_err(Error::from)
    }

    /// What the replica has heard of a change by now.
    fn told(
        &self,
        member: &Member,
        session: Arc<Session>,
        Committed { outcome, at }: Committed,
    ) -> Result<(Arc<[Change]>, Ack), Error> {
        let changes = match outcome {
            Outcome::Done => self.changes_of(at)?,
            Outcome::Nothing | Outcome::Changed => [].into(),
        };
        Ok((changes, Ack::there(member, session, at)))
    }

    fn changes_of(&self, revision: Revision) -> Result<Arc<[Change]>, Error> {
        self.0.namespace.read(|index| {
            let before = Revision(revision.0.saturating_sub(1));
            // Unless it has joined anew in between.
            let changes = index.changes_since(before, &Scope::All).map_err(|error| {
                Error::caused(Kind::Unavailable, "find what was changed", error)
            })?;
            let own = changes.take_while(|(at, _)| *at == revision);
            Ok(own.map(|(_, change)| change.clone()).collect())
        })
    }
}

/// A member's directory has no index, or was another node's.
pub(super) fn check_empty(log: &dyn wal::DurableLog) -> Result<(), Error> {
    let mut is_empty = true;
    log.read(log.start(), &mut |_, _| {
        is_empty = false;
        ControlFlow::Break(())
    })?;
    if is_empty {
        return Ok(());
    }
    let what = "the directory has names of its own, and so is none of a member: take another";
    Err(Error::new(Kind::Invalid, what))
}

fn contended() -> Error {
    let what = "what this depends on changes all the time: try again";
    Error::new(Kind::Unavailable, what)
}
