//! The loop.

use std::collections::BTreeMap;

use super::check::{Content, History, UNIT};
use super::clients::{Client, Context, clients};
use super::net::{Net, Tell};
use super::server::{Disk, Plant, Server, fetch};
use super::{Chance, Violation};
use crate::attributes::AttributeId;
use crate::container::{Info, Readable};
use crate::names::Seq;
use crate::op::Outcome;
use crate::segment::{KeyLength, Kind};
use crate::{Op, SegmentName};

/// What happened, to see that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub n_crashes: u64,
    pub n_breaks: u64,
    pub n_records: u64,
    pub n_events: u64,
    pub n_updates: u64,
    pub n_conditional: u64,
    pub n_held: u64,
    pub n_given_up: u64,
    pub n_checkpoints: u64,
    pub n_committed: u64,
    /// Of all that was told, to compare runs.
    pub digest: u64,
}

const TICKS: u64 = 3_000;
const QUIET_TICKS: u64 = 3_000;

struct Sim {
    chance: Chance,
    net: Net,
    disk: Disk,
    server: Server,
    epoch: u64,
    plant: Option<Plant>,
    clients: Vec<Box<dyn Client>>,
    history: History,
    summary: Summary,
}

/// A run: some time with failures, some without, and then whether all that was seen fits together.
///
/// # Errors
/// The [`Violation`], if there is one.
pub fn run(seed: u64, plant: Option<Plant>) -> Result<Summary, Violation> {
    let mut disk = Disk::default();
    let mut server = Server::open(&mut disk, 1, plant)?;
    for (name, kind) in segments() {
        let op = Op::Create {
            segment: name,
            kind,
            attributes: Vec::new(),
        };
        server.propose(&op, &mut disk).expect("it is new");
    }
    let mut sim = Sim {
        chance: Chance(seed),
        net: Net::new(12),
        disk,
        server,
        epoch: 1,
        plant,
        clients: clients(),
        history: History::default(),
        summary: Summary::default(),
    };
    sim.server
        .sync(100, &mut sim.disk, &mut sim.net, &mut sim.chance)?;
    for now in 0..TICKS + QUIET_TICKS {
        sim.net.now = now;
        if now < TICKS {
            sim.fail()?;
        }
        sim.tick()?;
    }
    sim.finish()
}

fn segments() -> Vec<(SegmentName, Kind)> {
    let name = |text| SegmentName::new(text).expect("a name");
    vec![
        (name("log/0"), Kind::Stream),
        (name("log/1"), Kind::Stream),
        (name("state"), Kind::Stream),
        (name("visited"), Kind::Stream),
        (name("crowd"), Kind::Stream),
        (name("merged"), Kind::Stream),
        (name("table"), Kind::Table(KeyLength::Any)),
        (name("sorted"), Kind::Table(KeyLength::Bytes(4))),
    ]
}

impl Sim {
    fn fail(&mut self) -> Result<(), Violation> {
        if self.chance.one_in(250) {
            self.net.crash(&mut self.chance);
            return self.crash();
        }
        if self.chance.one_in(30) {
            let which = self.chance.below(self.clients.len() as u64);
            let idx = usize::try_from(which).expect("it is small");
            let client = &mut self.clients[idx];
            if client.may_hang_up() {
                self.summary.n_breaks += 1;
                client.link().hang_up(&mut Context {
                    idx,
                    net: &mut self.net,
                    chance: &mut self.chance,
                    history: &mut self.history,
                });
            }
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<(), Violation> {
        self.summary.n_crashes += 1;
        let durable = self.server.container.durable_to().0;
        let n_more = self.server.container.proposed_to().0 - durable;
        let mut kept = Seq(durable + self.chance.below(n_more + 1));
        if self.plant == Some(Plant::LoseTail) {
            kept = Seq(durable - 1);
        }
        self.disk.log.retain(|seq, _| *seq <= kept);
        self.epoch += 1;
        self.server = Server::open(&mut self.disk, self.epoch, self.plant)?;
        if Server::open(&mut self.disk.clone(), self.epoch, self.plant).is_ok() {
            return Err(Violation("two owners have one epoch".to_owned()));
        }
        if self.chance.one_in(4) {
            // Before it has done anything.
            return self.crash();
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Violation> {
        let Self {
            chance,
            net,
            disk,
            server,
            ..
        } = self;
        for arrival in net.arrivals() {
            server.arrive(arrival, disk, net, chance)?;
        }
        if chance.one_in(3) {
            let n_records = chance.below(12);
            server.sync(n_records, disk, net, chance)?;
        }
        if chance.one_in(15) {
            server.store(disk, chance)?;
        }
        server.delete_early(disk);
        if chance.one_in(60) {
            server.draw_checkpoint();
            self.summary.n_checkpoints += 1;
        }
        for (client, on, tell) in net.told() {
            let word = format!("{client} {on:?} {tell:?}");
            for byte in word.bytes() {
                let digest = &mut self.summary.digest;
                *digest = digest.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte);
            }
            if let Tell::Done(Outcome::Created(id)) = tell
                && !self.history.created.insert(id)
            {
                let what = format!("{id:?} is given again");
                self.history.wrong.push(what);
            }
            let mut cx = Context {
                idx: client,
                net,
                chance,
                history: &mut self.history,
            };
            let client = &mut self.clients[client];
            if client.link().on != Some(on) {
                continue;
            }
            match tell {
                Tell::Broken => client.link().hang_up(&mut cx),
                tell => client.told(tell, &mut cx),
            }
        }
        for (idx, client) in self.clients.iter_mut().enumerate() {
            client.act(&mut Context {
                idx,
                net,
                chance,
                history: &mut self.history,
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary, Violation> {
        for (idx, client) in self.clients.iter_mut().enumerate() {
            client.link().hang_up(&mut Context {
                idx,
                net: &mut self.net,
                chance: &mut self.chance,
                history: &mut self.history,
            });
        }
        self.net.now += 1_000;
        for arrival in self.net.arrivals() {
            let Self {
                chance,
                net,
                disk,
                server,
                ..
            } = &mut self;
            server.arrive(arrival, disk, net, chance)?;
        }
        self.server
            .sync(1_000, &mut self.disk, &mut self.net, &mut self.chance)?;
        let all = self.server.container.segments(None, usize::MAX).value;
        let is_transient = |(_, info): &&(_, Info)| matches!(info.kind, Kind::Transient(_));
        if let Some((name, _)) = all.iter().find(is_transient) {
            return Err(Violation(format!("{name} is left, and is transient")));
        }
        // What is left is what the next one finds.
        let mut contents = BTreeMap::new();
        self.server = Server::open(&mut self.disk, self.epoch + 1, None)?;
        let server = &self.server;
        for (name, kind) in segments() {
            if matches!(kind, Kind::Table(_)) {
                continue;
            }
            let info = server.container.info(&name);
            let info = info
                .map_err(|refused| Violation(refused.to_string()))?
                .value;
            let mut bytes = Vec::new();
            if info.start_offset < info.length {
                let all = server.container.read(&name, info.start_offset, u64::MAX);
                let Ok(Readable::Bytes(sources)) = all else {
                    return Err(Violation(format!("{name} cannot be read")));
                };
                bytes = fetch(&sources, &self.disk)?;
            }
            let start = info.start_offset;
            contents.insert(name, Content { start, bytes });
        }
        let mut wrong = self.history.check(&contents);
        self.check_count(&contents, &mut wrong);
        if !wrong.is_empty() {
            return Err(Violation(wrong.join("; ")));
        }
        let summary = &mut self.summary;
        summary.n_records = server.container.proposed_to().0;
        let acknowledged = self.history.acknowledged.values();
        summary.n_events = acknowledged.map(|number| u64::from(*number)).sum();
        summary.n_updates = self.history.updates.len() as u64;
        summary.n_conditional = self.history.conditional.len() as u64;
        summary.n_held = self.history.held.len() as u64;
        summary.n_given_up = self.history.n_given_up;
        summary.n_committed = self.history.n_committed;
        Ok(self.summary)
    }

    /// Events are counted with what they are.
    fn check_count(&self, contents: &BTreeMap<SegmentName, Content>, wrong: &mut Vec<String>) {
        for (name, content) in contents {
            let bytes = content.start + content.bytes.len() as u64;
            let count = self
                .server
                .container
                .attribute(name, AttributeId::EVENT_COUNT);
            let count = count.expect("it was just read").value.max(0).unsigned_abs();
            if count * UNIT as u64 != bytes {
                wrong.push(format!("{name} counts {count} in {bytes} bytes"));
            }
        }
    }
}
