//! The messages of one rank: matching, buffering, reliability. The heart of MPI below the guest.
//!
//! Every rank owns one [`Endpoint`]. Its own thread makes the host calls (`send`, `recv`, …);
//! any thread may hand it the [`Frame`]s of other ranks. Each call returns at once, and appends the
//! frames that it causes to `out`; whoever called routes them after releasing the endpoint's lock.
//! There is no clock, thread or I/O in here.
//!
//! **Guarantee.** Each message arrives exactly once, and messages of an ordered pair of ranks and a
//! context do not overtake each other, if for every pair that has unacknowledged frames someone
//! repeats [`Endpoint::unacked_to`] after frames may have been lost (a link broke, a rank moved or
//! was revived), and passes `Delivery::ack` back to [`Endpoint::acked`]. Frames and acknowledgements
//! may be lost, doubled and reordered by all below.
//!
//! **Moving.** [`Endpoint::save`] takes everything along except frames held ahead of a gap, which
//! are unacknowledged. What is delivered to an endpoint after the save that is meant to survive
//! must not be acknowledged: stop delivering first, or drop the acknowledgements. States of several
//! ranks make a cut to roll back to if none received what another sent after its own save; frames
//! and acknowledgements from before a rollback must not arrive after it.
//!
//! **Two ways to send.** Small messages travel at once, on credit that the receiver returns as it
//! consumes them. Others, synchronous ones, and small ones when the credit is used up, are announced
//! (`Rts`), granted when a receive matches (`Cts`), and shipped in chunks (`Data`) from guest memory
//! by [`Endpoint::progress`]. So what one rank can pile up at another is bounded, and no send blocks.
//! The [`Limits`] are part of this protocol: all ranks of a world have the same.
//!
//! Reading order: [`call`] and [`frame`] are the vocabulary of the two sides, `requests` the life of
//! a request, `matching` who gets which message, `flow` order and credit between two ranks,
//! `delivery` what frames do, [`state`] and `format` the endpoint at rest.

pub(crate) mod call;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod state;

mod delivery;
mod flow;
mod matching;
mod requests;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use call::{Envelope, Error, Limits, Mode, Source, Span, Status, Wanted};
use flow::{Peer, Volume};
use frame::{Body, Frame};
use matching::{Content, Matching, Message, Pattern};
use requests::{Op, Origin, Receive, Requests};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Endpoint {
    rank: u32,
    size: u32,
    limits: Limits,
    /// Receives for any source so far.
    n_wildcards: u64,
    requests: Requests,
    matching: Matching,
    /// Ranks that this one has had to do with, itself maybe among them.
    peers: BTreeMap<u32, Peer>,
    /// Ranks to which `progress` can ship data at once.
    shippable: BTreeSet<u32>,
}

/// The calls of the rank's own thread. `memory` is all of the guest's memory.
impl Endpoint {
    pub(crate) fn new(rank: u32, size: u32, limits: Limits) -> Self {
        assert!(rank < size, "a rank is in its world");
        assert!(limits.chunk_bytes > 0, "data travels in chunks");
        Endpoint {
            rank,
            size,
            limits,
            n_wildcards: 0,
            requests: Requests::default(),
            matching: Matching::default(),
            peers: BTreeMap::new(),
            shippable: BTreeSet::new(),
        }
    }

    /// Starts a send and returns its request. A message that travels at once is copied out of
    /// `memory` here; any other stays there until the request completes.
    pub(crate) fn send(
        &mut self,
        envelope: Envelope,
        span: Span,
        mode: Mode,
        memory: &[u8],
        out: &mut Vec<Frame>,
    ) -> Result<u32, Error> {
        let Envelope { ctx, dest, tag } = envelope;
        let content = span.read(memory)?;
        self.check_rank(dest)?;
        let request = self
            .requests
            .vacant(self.limits.requests)
            .ok_or(Error::Exhausted)?;
        let peer = self.peers.entry(dest).or_default();
        let used = peer.used.plus(Volume::of(content));
        let is_small = mode == Mode::Standard && span.len <= self.limits.eager_bytes;
        let (op, body) = if is_small && used.fits(&self.limits) {
            peer.used = used;
            (
                Op::Sent,
                Body::Eager {
                    ctx,
                    tag,
                    data: Bytes::copy_from_slice(content),
                },
            )
        } else {
            let body = Body::Rts {
                ctx,
                tag,
                len: span.len,
                send_req: request,
            };
            (Op::Offered { to: dest, span }, body)
        };
        self.requests.insert(request, op);
        self.emit(dest, body, out);
        Ok(request)
    }

    /// Posts a receive and returns its request. `memory` stays as it is until [`Self::consume`].
    pub(crate) fn recv(
        &mut self,
        wanted: Wanted,
        span: Span,
        memory: &[u8],
        out: &mut Vec<Frame>,
    ) -> Result<u32, Error> {
        span.read(memory)?;
        let pattern = self.pattern(wanted)?;
        let request = self
            .requests
            .vacant(self.limits.requests)
            .ok_or(Error::Exhausted)?;
        let wildcard = match wanted.source {
            Source::Rank(_) => None,
            Source::Any | Source::Replay(_) => {
                self.n_wildcards += 1;
                Some(self.n_wildcards - 1)
            }
        };
        let receive = Receive { span, wildcard };
        let op = match self.matching.take(pattern) {
            None => {
                let at = self.matching.post(pattern, request);
                Op::Posted {
                    pattern,
                    at,
                    receive,
                }
            }
            Some(message) => {
                if let Content::There { .. } = message.content {
                    self.peers.entry(message.source).or_default().n_announced -= 1;
                }
                self.matched(request, receive, message, out)
            }
        };
        self.requests.insert(request, op);
        Ok(request)
    }

    /// The ordinal of the next receive from any source.
    pub(crate) fn next_wildcard(&self) -> u64 {
        self.n_wildcards
    }

    /// Ships the data of granted sends as far as the windows of their receivers allow. To be
    /// called in every host call of the rank, for no other thread may read its memory.
    pub(crate) fn progress(&mut self, memory: &[u8], out: &mut Vec<Frame>) -> Result<(), Error> {
        while let Some(rank) = self.shippable.first().copied() {
            while let Some((request, chunk)) = self.next_chunk(rank) {
                self.ship(rank, request, chunk, memory, out)?;
            }
            self.shippable.remove(&rank);
        }
        Ok(())
    }

    /// Whether the request can be consumed.
    pub(crate) fn completed(&self, request: u32) -> Result<bool, Error> {
        self.requests
            .get(request)
            .map(Op::is_complete)
            .ok_or(Error::Request(request))
    }

    /// Ends a complete request: copies what it received into `memory` and frees its number.
    pub(crate) fn consume(
        &mut self,
        request: u32,
        memory: &mut [u8],
        out: &mut Vec<Frame>,
    ) -> Result<Status, Error> {
        let op = self.requests.get(request).ok_or(Error::Request(request))?;
        if !op.is_complete() {
            return Err(Error::Incomplete(request));
        }
        let status = match op {
            Op::Eager {
                origin,
                receive,
                data,
            } => {
                let kept = data.len().min(receive.span.len as usize);
                receive.span.write(memory)?[..kept].copy_from_slice(&data[..kept]);
                receive.status(*origin, kept, data.len())
            }
            Op::Bulk {
                origin,
                receive,
                len,
                chunks,
                ..
            } => {
                let mut rest = receive.span.write(memory)?;
                for chunk in chunks {
                    let (here, behind) = rest.split_at_mut(chunk.len());
                    here.copy_from_slice(chunk);
                    rest = behind;
                }
                receive.status(*origin, receive.wanted(*len) as usize, *len as usize)
            }
            _ => Status {
                source: self.rank,
                tag: 0,
                len: 0,
                truncated: false,
                wildcard: None,
            },
        };
        if let Some(Op::Eager { origin, data, .. }) = self.requests.remove(request) {
            self.repay(origin.source, Volume::of(&data), out);
        }
        Ok(status)
    }

    /// The message that a receive with these arguments would get, if one waits.
    pub(crate) fn probe(&self, wanted: Wanted) -> Result<Option<Status>, Error> {
        let found = self.matching.find(self.pattern(wanted)?);
        Ok(found.map(|message| Status {
            source: message.source,
            tag: message.tag,
            len: message.len(),
            truncated: false,
            wildcard: None,
        }))
    }

    /// Takes back a receive that has not matched, and frees its number. False: too late, or a send.
    pub(crate) fn cancel(&mut self, request: u32) -> Result<bool, Error> {
        match self.requests.get(request) {
            None => Err(Error::Request(request)),
            Some(&Op::Posted { pattern, at, .. }) => {
                self.matching.withdraw(pattern, at);
                self.requests.remove(request);
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }
}

/// What both sorts of calls use.
impl Endpoint {
    fn check_rank(&self, rank: u32) -> Result<(), Error> {
        if rank < self.size {
            Ok(())
        } else {
            Err(Error::Rank(rank))
        }
    }

    fn pattern(&self, wanted: Wanted) -> Result<Pattern, Error> {
        let source = match wanted.source {
            Source::Any => None,
            Source::Rank(rank) | Source::Replay(rank) => Some(rank),
        };
        source.map_or(Ok(()), |rank| self.check_rank(rank))?;
        Ok(Pattern {
            ctx: wanted.ctx,
            source,
            tag: wanted.tag,
        })
    }

    fn emit(&mut self, to: u32, body: Body, out: &mut Vec<Frame>) {
        let peer = self.peers.entry(to).or_default();
        let seq = peer.push(body.clone());
        out.push(Frame {
            from: self.rank,
            to,
            seq,
            ack: peer.expected,
            body,
        });
    }

    /// What becomes of a receive that has its message; one in its sender's memory is granted.
    fn matched(
        &mut self,
        request: u32,
        receive: Receive,
        message: Message,
        out: &mut Vec<Frame>,
    ) -> Op {
        let Message {
            source,
            tag,
            content,
            ..
        } = message;
        let origin = Origin { source, tag };
        match content {
            Content::Here(data) => Op::Eager {
                origin,
                receive,
                data,
            },
            Content::There { len, send_req } => {
                let wanted = receive.wanted(len);
                self.emit(
                    source,
                    Body::Cts {
                        send_req,
                        recv_req: request,
                        len: wanted,
                    },
                    out,
                );
                Op::Bulk {
                    origin,
                    receive,
                    len,
                    got: 0,
                    chunks: Vec::new(),
                }
            }
        }
    }

    /// The request whose data goes to `rank` next, and how much of it may go in one frame.
    fn next_chunk(&self, rank: u32) -> Option<(u32, u32)> {
        let peer = self.peers.get(&rank)?;
        let request = *peer.shipping.front()?;
        match self.requests.get(request)? {
            Op::Granted { span, shipped, .. } => {
                Some((request, peer.chunk(span.len - shipped, &self.limits)?))
            }
            _ => None,
        }
    }

    fn ship(
        &mut self,
        rank: u32,
        request: u32,
        chunk: u32,
        memory: &[u8],
        out: &mut Vec<Frame>,
    ) -> Result<(), Error> {
        let Some(op) = self.requests.get_mut(request) else {
            return Err(Error::Request(request));
        };
        let Op::Granted {
            span,
            recv_req,
            shipped,
            ..
        } = op
        else {
            return Err(Error::Request(request));
        };
        let content = &span.read(memory)?[*shipped as usize..][..chunk as usize];
        let body = Body::Data {
            recv_req: *recv_req,
            data: Bytes::copy_from_slice(content),
        };
        *shipped += chunk;
        if *shipped == span.len {
            *op = Op::Sent;
            self.peers.entry(rank).or_default().shipping.pop_front();
        }
        self.emit(rank, body, out);
        Ok(())
    }

    /// Counts an eager message as consumed, and tells its sender from time to time.
    fn repay(&mut self, source: u32, volume: Volume, out: &mut Vec<Frame>) {
        let peer = self.peers.entry(source).or_default();
        peer.kept = peer
            .kept
            .minus(volume)
            .expect("it was kept when it arrived");
        peer.owed = peer.owed.plus(volume);
        if let Some(body) = peer.repay(&self.limits) {
            self.emit(source, body, out);
        }
    }
}

impl Receive {
    fn status(&self, origin: Origin, kept: usize, len: usize) -> Status {
        Status {
            source: origin.source,
            tag: origin.tag,
            len: kept as u64,
            truncated: kept < len,
            wildcard: self.wildcard,
        }
    }
}
