//! An endpoint at rest: what travels with a rank and lies in checkpoints.
//!
//! Plain data that refers to requests by number and to guest memory by offset. [`Endpoint::restore`]
//! trusts none of it: whatever it accepts can neither break an assertion nor exceed a limit. It
//! cannot know whether the peers agree; if they do not, they or this endpoint will see a violation.
//!
//! Left out are the frames ahead of a gap, which are sent again, and what follows from the rest:
//! free request numbers, the order of shipping, and how much of the credit lies here.

use std::collections::BTreeMap;

use super::Endpoint;
use super::call::Limits;
use super::flow::{Peer, Volume};
use super::format::{MessageState, PeerState, RequestState, State};
use super::frame::Body;
use super::matching::{Content, Message};
use super::requests::{Op, Requests};

/// Why a state cannot be that of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state of a rank is inconsistent: {0}")]
pub(crate) struct Inconsistent(&'static str);

/// Numbers of frames stay below this, so that counting on never overflows.
const SEQ_MAX: u64 = 1 << 62;

impl Endpoint {
    /// See the [module](super) on what may happen after a save.
    pub(crate) fn save(&self) -> State {
        State {
            rank: self.rank,
            size: self.size,
            n_wildcards: self.n_wildcards,
            requests: self
                .requests
                .slots()
                .map(|op| op.map(RequestState::from))
                .collect(),
            posted: self.matching.posted(),
            unexpected: self.matching.unexpected().map(MessageState::from).collect(),
            peers: self
                .peers
                .iter()
                .map(|(rank, peer)| PeerState::new(*rank, peer))
                .collect(),
        }
    }

    /// An endpoint that goes on where the saved one was. Then all of [`Endpoint::unacked_to`] is
    /// to be sent again, and so is what others have unacknowledged for this rank.
    ///
    /// # Errors
    /// When the state is not one that an endpoint with these limits can have had.
    pub(crate) fn restore(state: State, limits: Limits) -> Result<Self, Inconsistent> {
        let State {
            rank,
            size,
            n_wildcards,
            requests,
            posted,
            unexpected,
            peers,
        } = state;
        ensure(rank < size, "rank is not in its world")?;
        ensure(n_wildcards < SEQ_MAX, "too many wildcards")?;
        ensure(
            requests.len() as u64 <= u64::from(limits.requests),
            "too many requests",
        )?;
        let mut endpoint = Endpoint::new(rank, size, limits);
        endpoint.n_wildcards = n_wildcards;
        for peer in peers {
            endpoint.add_peer(peer)?;
        }
        let ops = requests
            .into_iter()
            .map(|request| request.map(Op::from))
            .collect();
        endpoint.requests = Requests::from_slots(ops);
        endpoint.check_requests()?;
        endpoint.post_all(&posted)?;
        for message in unexpected {
            endpoint.add_unexpected(message.into())?;
        }
        endpoint.resume_shipping();
        Ok(endpoint)
    }

    fn add_peer(&mut self, state: PeerState) -> Result<(), Inconsistent> {
        let PeerState {
            rank,
            unacked,
            acked,
            accepted,
            used,
            owed,
        } = state;
        ensure(rank < self.size, "peer is not in the world")?;
        ensure(
            acked < SEQ_MAX && accepted < SEQ_MAX,
            "frames are numbered too high",
        )?;
        ensure(
            used.fits(&self.limits) && owed.fits(&self.limits),
            "credit is exceeded",
        )?;
        let mut peer = Peer::resume(acked, accepted, used, owed);
        for body in unacked.into_iter().map(Body::from) {
            let longest = match &body {
                Body::Eager { .. } => self.limits.eager_bytes,
                _ => self.limits.chunk_bytes,
            };
            ensure(body.payload() <= longest as usize, "frame is too long")?;
            peer.push(body);
            ensure(
                !peer.is_starved_of_acks(&self.limits),
                "too much is unacknowledged",
            )?;
        }
        ensure(self.peers.insert(rank, peer).is_none(), "peer occurs twice")
    }

    /// Checks each request by itself, and counts the eager messages among them as kept.
    fn check_requests(&mut self) -> Result<(), Inconsistent> {
        let Endpoint {
            size,
            limits,
            n_wildcards,
            requests,
            peers,
            ..
        } = self;
        for op in requests.slots().flatten() {
            let (peer, receive) = match op {
                Op::Sent => continue,
                Op::Offered { to, .. } => (Some(*to), None),
                Op::Granted {
                    to, span, shipped, ..
                } => {
                    ensure(*shipped < span.len, "send is shipped and yet pending")?;
                    (Some(*to), None)
                }
                Op::Posted {
                    pattern, receive, ..
                } => (pattern.source, Some(receive)),
                Op::Eager {
                    origin,
                    receive,
                    data,
                } => {
                    ensure(
                        data.len() <= limits.eager_bytes as usize,
                        "message is too long",
                    )?;
                    keep(peers, origin.source, Volume::of(data), limits)?;
                    (Some(origin.source), Some(receive))
                }
                Op::Bulk {
                    origin,
                    receive,
                    len,
                    got,
                    ..
                } => {
                    let wanted = u64::from(receive.wanted(*len));
                    ensure(*got <= wanted, "more is received than was granted")?;
                    (Some(origin.source), Some(receive))
                }
            };
            ensure(
                peer.is_none_or(|rank| rank < *size),
                "request is for no rank of the world",
            )?;
            let wildcard = receive.and_then(|receive| receive.wildcard);
            ensure(
                wildcard.is_none_or(|n| n < *n_wildcards),
                "wildcard is not counted",
            )?;
        }
        Ok(())
    }

    fn post_all(&mut self, posted: &[u32]) -> Result<(), Inconsistent> {
        for request in posted {
            let Some(Op::Posted { pattern, at, .. }) = self.requests.get_mut(*request) else {
                return Err(Inconsistent("posted request is no pending receive"));
            };
            ensure(*at == 0, "receive is posted twice")?;
            *at = self.matching.post(*pattern, *request);
        }
        let is_pending = |op: &&Op| matches!(op, Op::Posted { .. });
        let n_pending = self.requests.slots().flatten().filter(is_pending).count();
        ensure(posted.len() == n_pending, "pending receive is not posted")
    }

    fn add_unexpected(&mut self, message: Message) -> Result<(), Inconsistent> {
        let Message {
            ctx, source, tag, ..
        } = message;
        ensure(source < self.size, "message is from no rank of the world")?;
        let matching = self.matching.posted_for(ctx, source, tag);
        ensure(
            matching.is_none(),
            "message waits though its receive is posted",
        )?;
        match &message.content {
            Content::Here(data) => {
                ensure(
                    data.len() <= self.limits.eager_bytes as usize,
                    "message is too long",
                )?;
                keep(&mut self.peers, source, Volume::of(data), &self.limits)?;
            }
            Content::There { .. } => {
                let peer = self.peers.entry(source).or_default();
                peer.n_announced += 1;
                ensure(
                    peer.n_announced <= self.limits.requests,
                    "too many messages wait",
                )?;
            }
        }
        self.matching.keep(message);
        Ok(())
    }

    /// Queues granted sends, those under way first: chunks of one message need no other order.
    fn resume_shipping(&mut self) {
        let mut granted: Vec<_> = (0..)
            .zip(self.requests.slots())
            .filter_map(|(request, op)| match op {
                Some(Op::Granted { to, shipped, .. }) => Some((*shipped == 0, request, *to)),
                _ => None,
            })
            .collect();
        granted.sort_unstable();
        for (_, request, to) in granted {
            self.peers
                .entry(to)
                .or_default()
                .shipping
                .push_back(request);
            if self.next_chunk(to).is_some() {
                self.shippable.insert(to);
            }
        }
    }
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Inconsistent> {
    if holds {
        Ok(())
    } else {
        Err(Inconsistent(otherwise))
    }
}

fn keep(
    peers: &mut BTreeMap<u32, Peer>,
    source: u32,
    volume: Volume,
    limits: &Limits,
) -> Result<(), Inconsistent> {
    let peer = peers.entry(source).or_default();
    peer.kept = peer.kept.plus(volume);
    ensure(
        peer.kept.plus(peer.owed).fits(limits),
        "more eager messages are kept than credited",
    )
}
