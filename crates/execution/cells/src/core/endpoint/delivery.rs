//! The calls of any thread: frames and acknowledgements from other ranks.

use super::Endpoint;
use super::call::{Pending, Span};
use super::flow::{Turn, Volume};
use super::frame::{Body, Delivery, Frame, Outcome, Violation};
use super::matching::{Content, Message};
use super::requests::Op;

impl Endpoint {
    /// Takes in a frame from another rank, or from this one.
    ///
    /// # Errors
    /// When no honest endpoint would send this. Should a frame that was held be the bad one, the
    /// frames between `frame` and it have taken effect.
    pub(crate) fn deliver(
        &mut self,
        frame: Frame,
        out: &mut Vec<Frame>,
    ) -> Result<Delivery, Violation> {
        let Frame {
            from,
            to,
            seq,
            ack,
            body,
        } = frame;
        if to != self.rank {
            return Err(Violation::Address);
        }
        let longest = match body {
            Body::Eager { .. } => self.limits.eager_bytes,
            _ => self.limits.chunk_bytes,
        };
        if body.payload() > longest as usize {
            return Err(Violation::Oversize);
        }
        let mut wake = self.acked(from, ack)?;
        let peer = self.peers.entry(from).or_default();
        if peer.is_starved_of_acks(&self.limits) {
            return Err(Violation::Ack);
        }
        let mut due = match peer.offer(seq, body, &self.limits)? {
            Turn::Now(body) => Some(body),
            turn => {
                let is_past = matches!(turn, Turn::Past);
                let outcome = if is_past {
                    Outcome::Duplicate
                } else {
                    Outcome::Held
                };
                return Ok(Delivery {
                    outcome,
                    ack: peer.expected,
                    wake,
                });
            }
        };
        while let Some(body) = due {
            self.check(from, &body)?;
            self.peers.entry(from).or_default().expected += 1;
            wake |= self.apply(from, body, out);
            due = self.peers.entry(from).or_default().due();
        }
        Ok(Delivery {
            outcome: Outcome::Accepted,
            ack: self.accepted_from(from),
            wake,
        })
    }

    /// Notes that `by` has accepted the first `upto` frames for it. True: the rank should make
    /// [`Self::progress`].
    pub(crate) fn acked(&mut self, by: u32, upto: u64) -> Result<bool, Violation> {
        if by >= self.size {
            return Err(Violation::Address);
        }
        self.peers.entry(by).or_default().acked(upto)?;
        Ok(self.next_chunk(by).is_some() && self.shippable.insert(by))
    }

    /// How many frames of `from` have taken effect.
    pub(crate) fn accepted_from(&self, from: u32) -> u64 {
        self.peers.get(&from).map_or(0, |peer| peer.expected)
    }

    /// The frames for `to` that may have been lost, oldest first.
    pub(crate) fn unacked_to(&self, to: u32) -> impl Iterator<Item = Frame> + '_ {
        self.peers.get(&to).into_iter().flat_map(move |peer| {
            (peer.acked..)
                .zip(&peer.unacked)
                .map(move |(seq, body)| Frame {
                    from: self.rank,
                    to,
                    seq,
                    ack: peer.expected,
                    body: body.clone(),
                })
        })
    }

    /// The ranks that have not acknowledged all frames for them.
    pub(crate) fn unacked_by(&self) -> impl Iterator<Item = u32> + '_ {
        self.peers
            .iter()
            .filter(|(_, peer)| !peer.unacked.is_empty())
            .map(|(rank, _)| *rank)
    }

    /// Its rank and the size of its world: after a restore, whose state was it?
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.rank, self.size)
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending {
            requests: self.requests.len(),
            posted: self.matching.n_posted(),
            unexpected: self.matching.n_unexpected(),
            unacked_frames: self.peers.values().map(|peer| peer.unacked.len()).sum(),
            unacked_bytes: self.peers.values().map(|peer| peer.in_flight).sum(),
        }
    }
}

impl Endpoint {
    /// Whether the next frame of an honest `from` can be this one.
    fn check(&self, from: u32, body: &Body) -> Result<(), Violation> {
        let peer = &self.peers[&from];
        let (is_honest, violation) = match body {
            Body::Eager { data, .. } => {
                let kept = peer.kept.plus(peer.owed).plus(Volume::of(data));
                (kept.fits(&self.limits), Violation::Credit)
            }
            Body::Rts { .. } => (peer.n_announced < self.limits.requests, Violation::Requests),
            Body::Cts { send_req, len, .. } => {
                let is_offer = matches!(self.requests.get(*send_req),
                    Some(Op::Offered { to, span }) if *to == from && *len <= span.len);
                (is_offer, Violation::Cts)
            }
            Body::Data { recv_req, data } => {
                let next = match self.requests.get(*recv_req) {
                    Some(Op::Bulk {
                        origin,
                        receive,
                        len,
                        got,
                        ..
                    }) if origin.source == from => {
                        let rest = u64::from(receive.wanted(*len)) - got;
                        rest.min(u64::from(self.limits.chunk_bytes))
                    }
                    _ => 0,
                };
                (next > 0 && data.len() as u64 == next, Violation::Data)
            }
            Body::Credit { bytes, messages } => {
                let returned = Volume {
                    bytes: *bytes,
                    messages: *messages,
                };
                (peer.used.minus(returned).is_some(), Violation::Credit)
            }
        };
        if is_honest { Ok(()) } else { Err(violation) }
    }

    /// Lets a checked frame take effect. True: the rank may want to know.
    fn apply(&mut self, from: u32, body: Body, out: &mut Vec<Frame>) -> bool {
        let peer = self.peers.entry(from).or_default();
        match body {
            Body::Eager { ctx, tag, data } => {
                peer.kept = peer.kept.plus(Volume::of(&data));
                self.arrive(
                    Message {
                        ctx,
                        source: from,
                        tag,
                        content: Content::Here(data),
                    },
                    out,
                )
            }
            Body::Rts {
                ctx,
                tag,
                len,
                send_req,
            } => {
                let content = Content::There { len, send_req };
                self.arrive(
                    Message {
                        ctx,
                        source: from,
                        tag,
                        content,
                    },
                    out,
                )
            }
            Body::Cts {
                send_req,
                recv_req,
                len,
            } => {
                if let Some(op) = self.requests.get_mut(send_req)
                    && let Op::Offered { to, span } = *op
                {
                    // Nothing to ship completes the send: the receiver matched it.
                    let span = Span { len, ..span };
                    *op = match len {
                        0 => Op::Sent,
                        _ => Op::Granted {
                            to,
                            span,
                            recv_req,
                            shipped: 0,
                        },
                    };
                    if len > 0 {
                        peer.shipping.push_back(send_req);
                    }
                }
                let can_ship = self.next_chunk(from).is_some() && self.shippable.insert(from);
                can_ship || len == 0
            }
            Body::Data { recv_req, data } => match self.requests.get_mut(recv_req) {
                Some(op) => op.fill(data),
                None => false,
            },
            Body::Credit { bytes, messages } => {
                let left = peer.used.minus(Volume { bytes, messages });
                peer.used = left.expect("the frame was checked");
                false
            }
        }
    }

    fn arrive(&mut self, message: Message, out: &mut Vec<Frame>) -> bool {
        let Message {
            ctx, source, tag, ..
        } = message;
        let posted = self.matching.posted_for(ctx, source, tag);
        let Some((
            request,
            &Op::Posted {
                pattern,
                at,
                receive,
            },
        )) = posted.and_then(|request| Some((request, self.requests.get(request)?)))
        else {
            if let Content::There { .. } = message.content {
                self.peers.entry(source).or_default().n_announced += 1;
            }
            self.matching.keep(message);
            return true;
        };
        self.matching.withdraw(pattern, at);
        let op = self.matched(request, receive, message, out);
        let is_complete = op.is_complete();
        if let Some(slot) = self.requests.get_mut(request) {
            *slot = op;
        }
        is_complete
    }
}
