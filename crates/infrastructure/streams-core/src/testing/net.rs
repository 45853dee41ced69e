//! Connections: what is said on one arrives in order, later, until it breaks.

use std::collections::{BTreeMap, VecDeque};

use super::Chance;
use crate::attributes::AttributeId;
use crate::container::Info;
use crate::names::ConnectionId;
use crate::op::Outcome;
use crate::table::Found;
use crate::{Op, Refusal, SegmentName};

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Setup(SegmentName, AttributeId),
    Append {
        segment: SegmentName,
        writer: AttributeId,
        last: i64,
        n_events: i64,
        data: Vec<u8>,
        at: Option<u64>,
    },
    Do(Op),
    Info(SegmentName),
    Attribute(SegmentName, AttributeId),
    Read(SegmentName, u64),
    /// Entries of a table by their keys.
    Get(SegmentName, Vec<&'static [u8]>),
    /// The same by listing what is between.
    List(SegmentName, Vec<&'static [u8]>),
}

#[derive(Clone, Debug)]
pub(super) enum Tell {
    Setup(i64),
    Appended {
        last: i64,
    },
    ConditionFailed {
        last: i64,
    },
    Done(Outcome),
    Refused(Refusal),
    Info(Info),
    Attribute(i64),
    Bytes(u64, Vec<u8>),
    End,
    /// In the order of the keys that were asked for.
    Entries(Vec<Found>),
    /// The server has ended the connection, or itself.
    Broken,
}

/// What arrives at a server.
pub(super) enum Arrival {
    Ask(ConnectionId, Ask),
    Closed(ConnectionId),
}

#[derive(Debug, Default)]
struct Connection {
    to_server: VecDeque<(u64, Option<Ask>)>,
    to_client: VecDeque<(u64, Tell)>,
    /// Whose it is, if anybody still listens.
    client: Option<usize>,
    /// The server does not hear anything any more.
    has_ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) now: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    last: u64,
    /// How long anything takes at most.
    delay_max: u64,
}

impl Net {
    pub(super) fn new(delay_max: u64) -> Self {
        Self {
            delay_max,
            ..Self::default()
        }
    }

    pub(super) fn connect(&mut self, client: usize) -> ConnectionId {
        self.last += 1;
        let id = ConnectionId(self.last);
        let connection = Connection {
            client: Some(client),
            ..Connection::default()
        };
        self.connections.insert(id, connection);
        id
    }

    pub(super) fn ask(&mut self, on: ConnectionId, ask: Ask, chance: &mut Chance) {
        let at = self.now + 1 + chance.below(self.delay_max);
        if let Some(connection) = self.connections.get_mut(&on)
            && !connection.has_ended
        {
            let last = connection.to_server.back().map_or(0, |(at, _)| *at);
            connection.to_server.push_back((at.max(last), Some(ask)));
        }
    }

    pub(super) fn tell(&mut self, on: ConnectionId, tell: Tell, chance: &mut Chance) {
        let at = self.now + 1 + chance.below(self.delay_max);
        if let Some(connection) = self.connections.get_mut(&on) {
            let last = connection.to_client.back().map_or(0, |(at, _)| *at);
            connection.to_client.push_back((at.max(last), tell));
        }
    }

    /// The client hears nothing any more. Of what it has said, some still arrives, perhaps much later; then the server learns of it.
    pub(super) fn hang_up(&mut self, on: ConnectionId, chance: &mut Chance) {
        let Some(connection) = self.connections.get_mut(&on) else {
            return;
        };
        connection.client = None;
        connection.to_client.clear();
        if connection.has_ended {
            return;
        }
        let n_kept = chance.below(connection.to_server.len() as u64 + 1);
        let n_kept = usize::try_from(n_kept).expect("it is small");
        connection.to_server.truncate(n_kept);
        let later = chance.below(self.delay_max * 4);
        for (at, _) in &mut connection.to_server {
            *at += later;
        }
        let last = connection.to_server.back().map_or(self.now, |(at, _)| *at);
        connection.to_server.push_back((last + 1, None));
    }

    /// The server is gone, and so is all that is under way to it. What it has said may arrive.
    pub(super) fn crash(&mut self, chance: &mut Chance) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            self.end(id, chance);
        }
        for connection in self.connections.values_mut() {
            connection.to_server.clear();
        }
    }

    /// The server ends a connection.
    pub(super) fn end(&mut self, on: ConnectionId, chance: &mut Chance) {
        if let Some(connection) = self.connections.get_mut(&on) {
            connection.to_server.clear();
            connection.to_server.push_back((self.now, None));
            connection.has_ended = true;
        }
        self.tell(on, Tell::Broken, chance);
    }

    pub(super) fn arrivals(&mut self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (id, connection) in &mut self.connections {
            while let Some((_, ask)) = connection.to_server.pop_front_if(|(at, _)| *at <= self.now)
            {
                arrivals.push(match ask {
                    Some(ask) => Arrival::Ask(*id, ask),
                    None => Arrival::Closed(*id),
                });
            }
        }
        arrivals
    }

    /// To which client, on which connection.
    pub(super) fn told(&mut self) -> Vec<(usize, ConnectionId, Tell)> {
        let mut told = Vec::new();
        for (id, connection) in &mut self.connections {
            while let Some((_, tell)) = connection.to_client.pop_front_if(|(at, _)| *at <= self.now)
            {
                if let Some(client) = connection.client {
                    told.push((client, *id, tell));
                }
            }
        }
        self.connections.retain(|_, connection| {
            connection.client.is_some() || !connection.to_server.is_empty()
        });
        told
    }
}
