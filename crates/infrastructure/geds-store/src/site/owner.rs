//! The node that owns the index, as the members of its site see it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ids::Epoch;
use tokio::sync::watch;
use tokio::time::timeout;

use super::peers::Peers;
use crate::core::index::{By, Command, Index, NodeId, Op, Piece, Precondition, Revision};
use crate::core::site::{Fenced, HEARTBEAT, Leases};
use crate::core::to_usize;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::wire::DATA_BYTES_MAX;
use crate::wire::site::{Committed, Followed, Joined, Member, Outcome, PieceLen, SiteId, to_data};

/// So many nodes get the names at a time: what they are then is kept for each.
const LOADING_MAX: usize = 4;
/// What is said of records in one answer has about so many bytes.
const RECORDS_BYTES: usize = 1 << 20;
/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(200);
/// All have seen everything.
const ALL: Revision = Revision(u64::MAX);

/// What an owner knows of its members.
#[derive(Debug)]
pub struct Owner {
    site: SiteId,
    node: NodeId,
    /// Held while a node joins.
    joining: Mutex<()>,
    state: Mutex<State>,
    /// A node has a lease, or may have one of an owner before this one.
    is_watched: AtomicBool,
    /// What all who have a lease have applied.
    seen: watch::Sender<Revision>,
    /// The version of what members are to know of each other.
    peers_version: watch::Sender<u64>,
    peers: Arc<Peers>,
}

#[derive(Debug, Default)]
struct State {
    leases: Leases,
    addrs: BTreeMap<NodeId, SocketAddr>,
    loading: BTreeMap<Member, Arc<[Piece]>>,
}

/// What an operator wants to know of the members.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub members: u64,
    /// Of the member that is furthest behind.
    pub behind_records: u64,
    /// Of the member that has the least time left.
    pub lease_left: Duration,
}

impl Owner {
    /// Waits for those who may have a lease of whoever was the owner before.
    pub(crate) fn new(site: SiteId, store: &Store, peers: Arc<Peers>) -> Self {
        let (node, _) = store.identity();
        let mut leases = Leases::default();
        let now = rt::now();
        store.namespace().read(|index| {
            for (other, known) in index.nodes() {
                if other != node && known.is_heard {
                    leases.expect(other, known.epoch, now);
                }
            }
        });
        let (seen, _) = watch::channel(ALL);
        let (peers_version, _) = watch::channel(1);
        let owner = Self {
            site,
            node,
            joining: Mutex::default(),
            state: Mutex::new(State {
                leases,
                ..State::default()
            }),
            is_watched: AtomicBool::new(false),
            seen,
            peers_version,
            peers,
        };
        owner.look_again(&owner.state());
        owner
    }

    /// May anybody else answer?
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }

    /// `None`: all who answer have applied what was committed until then. To be called when it is applied here.
    pub(crate) fn seen_later(&self, revision: Revision) -> Option<watch::Receiver<Revision>> {
        if !self.is_watched() || *self.seen.borrow() >= revision {
            return None;
        }
        Some(self.seen.subscribe())
    }

    pub(crate) fn numbers(&self, last: Revision) -> Numbers {
        let state = self.state();
        let leased = state.leases.leased(rt::now());
        let of_one = |(_, applied, left): (_, Revision, _)| Numbers {
            members: 1,
            behind_records: last.0.saturating_sub(applied.0),
            lease_left: left,
        };
        let both = |one: Numbers, other: Numbers| Numbers {
            members: one.members + other.members,
            behind_records: one.behind_records.max(other.behind_records),
            lease_left: one.lease_left.min(other.lease_left),
        };
        leased.map(of_one).reduce(both).unwrap_or_default()
    }

    /// Says that members are lost when their time is over. Ends never.
    pub async fn watch_leases(self: Arc<Self>, store: Store) {
        loop {
            tokio::time::sleep(TICK).await;
            let expired = self.state().leases.expired(rt::now());
            for (node, epoch) in expired {
                tracing::warn!(
                    node = node.0,
                    %epoch,
                    "a node of the site is lost: nothing was heard of it for too long"
                );
                self.lose(&store, (node, epoch)).await;
            }
        }
    }

    async fn lose(&self, store: &Store, (node, epoch): Member) {
        let of = store.clone();
        let lost = rt::blocking(move || of.lose_node(node, epoch)).await;
        match lost {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                node = node.0,
                error = &error as &dyn std::error::Error,
                "say that a node is lost"
            ),
            // The node ends.
            Err(_) => return,
        }
        let mut state = self.state();
        state.addrs.remove(&node);
        state.loading.remove(&(node, epoch));
        self.tell_peers(&state);
        self.look_again(&state);
    }

    /// Lets a node begin a membership, whose last one had the epoch `former`. Waits for the log.
    ///
    /// # Errors
    /// `Invalid`: it is the owner's number, or the node is of another site. `Conflict`: a node of that number may be there still. `Exhausted`: too many
    /// join at once. What the log says.
    pub fn join(
        &self,
        store: &Store,
        (node, former): (NodeId, Option<Epoch>),
        addr: SocketAddr,
        site: Option<SiteId>,
    ) -> Result<Joined> {
        if node == self.node {
            let what = format!(
                "node {} is the owner of the index: choose another number",
                node.0
            );
            return Err(Error::new(Kind::Invalid, what));
        }
        if site.is_some_and(|site| site != self.site) {
            let what = "the node has been at another site: what it has does not belong here";
            return Err(Error::new(Kind::Invalid, what));
        }
        let _alone = lock(&self.joining);
        {
            let state = self.state();
            if !state.leases.may_join(node, former) {
                let what = format!("node {} was here, and may still be: wait", node.0);
                return Err(Error::new(Kind::Conflict, what));
            }
            if state.loading.len() >= LOADING_MAX {
                let what = format!("{LOADING_MAX} nodes are joining already");
                return Err(Error::new(Kind::Exhausted, what));
            }
        }
        let (epoch, pieces) = store.join_node(node)?;
        let mut state = self.state();
        state.leases.joined(node, epoch, rt::now());
        state.loading.retain(|(other, _), _| *other != node);
        let n_pieces = pieces.len() as u64;
        state.loading.insert((node, epoch), pieces.into());
        state.addrs.insert(node, addr);
        self.tell_peers(&state);
        self.look_again(&state);
        tracing::info!(node = node.0, %epoch, %addr, "a node joins the site");
        Ok(Joined {
            epoch,
            n_pieces,
            site: self.site,
        })
    }

    /// A part of a piece of the names, for who has joined and does not follow yet, and how long the piece is.
    ///
    /// # Errors
    /// `Fenced`: the membership is over. `Invalid`: there is no such piece.
    pub fn names(&self, member: Member, piece: u64, from: u64) -> Result<(PieceLen, Bytes)> {
        let (node, epoch) = member;
        let pieces = {
            let mut state = self.state();
            let loads = state.leases.loads(node, epoch, rt::now());
            loads.map_err(|Fenced| fenced(member))?;
            state.loading.get(&member).cloned()
        };
        let pieces = pieces.ok_or_else(|| fenced(member))?;
        let piece = usize::try_from(piece).ok().and_then(|at| pieces.get(at));
        let missing = || Error::new(Kind::Invalid, "there are not so many pieces");
        let bytes = Bytes::from(piece.ok_or_else(missing)?.encode());
        let len = bytes.len() as u64;
        let from = to_usize(from.min(len));
        let until = bytes.len().min(from + DATA_BYTES_MAX);
        Ok((PieceLen(len), bytes.slice(from..until)))
    }

    /// What comes after `applied`, when there is something, or a little later. `peers`: the version of the other members that is known.
    ///
    /// # Errors
    /// `Fenced`: the membership is over.
    pub async fn follow(
        &self,
        store: &Store,
        member: Member,
        applied: Revision,
        peers: u64,
    ) -> Result<(Followed, Bytes)> {
        let (node, epoch) = member;
        let is_first = {
            let mut state = self.state();
            let called = state.leases.called(node, epoch, applied);
            called.map_err(|Fenced| fenced(member))?;
            self.look_again(&state);
            state.loading.remove(&member).is_some()
        };
        let mut revisions = store.namespace().revisions();
        let mut versions = self.peers_version.subscribe();
        let is_news = async {
            tokio::select! {
                more = revisions.wait_for(|last| *last > applied) => drop(more),
                more = versions.wait_for(|version| *version != peers) => drop(more),
            }
        };
        if !is_first {
            // Or it is time to say that this node is there.
            timeout(HEARTBEAT, is_news).await.ok();
        }
        let records = store.namespace().records_after(applied, RECORDS_BYTES)?;
        let (grant, told) = {
            let mut state = self.state();
            let grant = state.leases.grant(node, epoch, applied, rt::now());
            let grant = grant.map_err(|Fenced| fenced(member))?;
            self.look_again(&state);
            let version = *self.peers_version.borrow();
            let addrs = || {
                state
                    .addrs
                    .iter()
                    .map(|(node, addr)| (*node, *addr))
                    .collect()
            };
            (grant, (version != peers).then(|| (version, addrs())))
        };
        // After the grant: see `core::site`.
        let last = store.namespace().read(Index::revision);
        let followed = Followed {
            needed: grant.is_first.then_some(last),
            last,
            peers: told,
        };
        Ok((followed, to_data(&records)))
    }

    /// Waits until all who answer know of what was committed until then, and, if that is wanted, it is durable.
    ///
    /// # Errors
    /// What the log says; `Unavailable`: the node ends.
    pub async fn confirm(&self, store: &Store, revision: Revision, is_durable: bool) -> Result<()> {
        if let Some(seen) = self.seen_later(revision) {
            until_seen(seen, revision).await?;
        }
        if is_durable {
            let of = store.clone();
            let ticket = rt::blocking(move || of.namespace().barrier()).await;
            let ticket = ticket.map_err(|error| Error::io("wait for the log", error))?;
            ticket?.await?;
        }
        Ok(())
    }

    /// It ends in order.
    ///
    /// # Errors
    /// `Fenced`: the membership is over.
    pub async fn leave(&self, store: &Store, member: Member) -> Result<()> {
        let (node, epoch) = member;
        if !self.state().leases.left(node, epoch) {
            return Err(fenced(member));
        }
        tracing::info!(node = node.0, %epoch, "a node leaves the site");
        self.lose(store, member).await;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets those go on who wait for members, if there is nobody to be waited for.
    fn look_again(&self, state: &State) {
        let seen = state.leases.seen();
        // Before anybody looks what is needed, and after that nobody needs it.
        self.is_watched.store(seen.is_some(), Ordering::SeqCst);
        self.seen.send_replace(seen.unwrap_or(ALL));
    }

    fn tell_peers(&self, state: &State) {
        self.peers.set_addrs(state.addrs.clone());
        self.peers_version.send_modify(|version| *version += 1);
    }
}

/// Returns when all have seen it.
pub(crate) async fn until_seen(
    mut seen: watch::Receiver<Revision>,
    revision: Revision,
) -> Result<()> {
    let waited = seen.wait_for(|seen| *seen >= revision).await;
    let ended = || Error::new(Kind::Unavailable, "the node has ended");
    waited.map(drop).map_err(|_| ended())
}

fn fenced((node, epoch): Member) -> Error {
    crate::core::index::Error::Fenced { node, epoch }.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Says that a node is lost, and what only it had.
    fn lose_node(&self, node: NodeId, epoch: Epoch) -> Result<()> {
        let op = Op::NodeLost(node, epoch);
        let (by, when) = (By::Owner, Precondition::None);
        let committed = self.namespace().commit(Command { by, when, op })?;
        self.note(committed.changes());
        Ok(())
    }

    /// Durably.
    fn join_node(&self, node: NodeId) -> Result<(Epoch, Vec<Piece>)> {
        let (committed, pieces) = self.namespace().join(node)?;
        let epoch = self.namespace().read(|index| index.node(node));
        let missing = || Error::new(Kind::Internal, "a node that has joined is not there");
        let epoch = epoch.ok_or_else(missing)?.epoch;
        self.note(committed.changes());
        committed.ticket.wait()?;
        Ok((epoch, pieces))
    }

    /// Carries out what a member wants, if what it has seen of it is so yet.
    ///
    /// # Errors
    /// Why the index refuses it; what the log says.
    pub fn commit_of_member(
        &self,
        (node, epoch): Member,
        base: Option<Revision>,
        when: Precondition,
        op: Op,
    ) -> Result<Committed> {
        let mut changed = false;
        let mut nothing_at = Revision(0);
        let committed = self.namespace().commit_with(|index| {
            if let Some(base) = base
                && touches::has_changed(index, base, &op)
            {
                (changed, nothing_at) = (true, index.revision());
                return Ok(None);
            }
            let by = By::Node(node, epoch);
            let record = index.decide(Command { by, when, op })?;
            nothing_at = index.revision();
            Ok::<_, Error>(record)
        })?;
        let revision = committed.commit.as_ref().map(|commit| commit.revision);
        self.note(committed.changes());
        let outcome = match revision {
            Some(_) => Outcome::Done,
            None if changed => Outcome::Changed,
            None => Outcome::Nothing,
        };
        Ok(Committed {
            outcome,
            at: revision.unwrap_or(nothing_at),
        })
    }
}

/// What of the names a decision may have depended on.
mod touches {
    use crate::core::index::{Change, Folder, Index, Name, Op, Revision, Scope};

    /// Whether any of that is different now. What the store remembers for its faces, in buckets of its own, counts as a whole.
    pub(super) fn has_changed(index: &Index, base: Revision, op: &Op) -> bool {
        let Ok(mut changes) = index.changes_since(base, &Scope::All) else {
            return true;
        };
        changes.any(|(_, change)| match change {
            Change::Named { name, .. } => name.bucket.as_str().contains("..") || touches(op, name),
            Change::BucketCreated { bucket, .. } | Change::BucketDeleted(bucket) => buckets(op)
                .iter()
                .flatten()
                .any(|touched| *touched == bucket),
            Change::Placed { .. } | Change::Released { .. } => false,
        })
    }

    fn touches(op: &Op, name: &Name) -> bool {
        let within = |folder: &Folder| {
            let key = name.key.as_str();
            folder.bucket == name.bucket && key.starts_with(folder.prefix.as_str())
        };
        match op {
            Op::Seal(seal) => seal.name == *name,
            Op::SetMetadata(of, _) | Op::Consume(of, _) | Op::Delete(of) => of == name,
            Op::Rename { from, to } | Op::Copy { from, to, .. } => from == name || to == name,
            Op::DeletePrefix(folder) => within(folder),
            Op::RenamePrefix { from, to } => within(from) || within(to),
            Op::CreateBucket { bucket, .. } | Op::DeleteBucket(bucket) => *bucket == name.bucket,
            Op::AddCopy(..) | Op::DropCopy(..) | Op::DeletedInS3(..) => false,
            Op::NodeJoined(..) | Op::NodeLost(..) | Op::ForgetNode(_) => true,
        }
    }

    fn buckets(op: &Op) -> [Option<&crate::core::index::BucketName>; 2] {
        match op {
            Op::Seal(seal) => [Some(&seal.name.bucket), None],
            Op::SetMetadata(name, _) | Op::Consume(name, _) | Op::Delete(name) => {
                [Some(&name.bucket), None]
            }
            Op::Rename { from, to } | Op::Copy { from, to, .. } => {
                [Some(&from.bucket), Some(&to.bucket)]
            }
            Op::DeletePrefix(folder) => [Some(&folder.bucket), None],
            Op::RenamePrefix { from, to } => [Some(&from.bucket), Some(&to.bucket)],
            Op::CreateBucket { bucket, .. } | Op::DeleteBucket(bucket) => [Some(bucket), None],
            Op::AddCopy(..)
            | Op::DropCopy(..)
            | Op::NodeJoined(..)
            | Op::NodeLost(..)
            | Op::ForgetNode(_)
            | Op::DeletedInS3(..) => [None, None],
        }
    }
}
