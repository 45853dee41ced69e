//! Random programs on a hostile network, checked call by call against [`Model`].
//!
//! Frames and acknowledgements are lost, doubled, delayed and reordered; ranks freeze, lose what
//! comes meanwhile, and go on from their serialised state; all ranks together fall back to an
//! earlier cut. At the end every message must have been received once, and nothing may be left.

mod cell;

use std::collections::BTreeMap;

use super::super::call::Pending;
use super::super::flow::Volume;
use super::super::frame::{Body, Frame, Outcome};
use super::model::Note;
use super::{Endpoint, TIGHT};
use cell::Cell;

const N_SEEDS: u64 = 400;
const N_TICKS_MAX: u32 = 120_000;

#[test]
fn every_message_arrives_once_and_in_order() {
    let mut total = Tally::default();
    for seed in 0..N_SEEDS {
        let tally = run(seed, Fault::None).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        total.add(&tally);
    }
    // A simulation in which nothing happens proves nothing.
    let n = N_SEEDS;
    assert!(total.received > 100 * n, "{total:?}");
    assert!(
        total.duplicates > n && total.held > n && total.lost > n,
        "{total:?}"
    );
    assert!(
        total.revived > n && total.rolled_back > n / 4 && total.cancelled > n,
        "{total:?}"
    );
    assert!(
        total.bulk > 10 * n && total.truncated > n && total.wildcards > n,
        "{total:?}"
    );
}

#[test]
fn a_seed_says_everything() {
    for seed in 0..20 {
        let first = run(seed, Fault::None).map(|tally| tally.trace);
        assert_eq!(
            first,
            run(seed, Fault::None).map(|tally| tally.trace),
            "seed {seed}"
        );
    }
}

#[test]
fn the_checker_catches_a_frame_accepted_twice() {
    canary(Fault::AcceptTwice);
}

#[test]
fn the_checker_catches_an_ack_of_what_was_lost() {
    canary(Fault::FalseAck);
}

#[test]
fn the_checker_catches_one_rank_falling_back_alone() {
    canary(Fault::FallBackAlone);
}

#[test]
fn the_checker_catches_a_swapped_pair_of_frames() {
    canary(Fault::Swap);
}

/// A broken promise must be noticed whatever else happens.
fn canary(fault: Fault) {
    let mut n_caught = 0;
    for seed in 0..40 {
        match run(seed, fault) {
            Ok(tally) => assert!(!tally.sabotaged, "seed {seed}: nobody noticed {fault:?}"),
            Err(_) => n_caught += 1,
        }
    }
    assert!(n_caught >= 20, "{fault:?} happened {n_caught} times");
}

/// A promise of the world around the endpoints that is broken once, in the middle of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// An old message is presented under the next number, as if duplicates were not dropped.
    AcceptTwice,
    FalseAck,
    FallBackAlone,
    /// Two messages of different content change places.
    Swap,
}

#[derive(Debug, Default, Clone)]
struct Tally {
    received: u64,
    bulk: u64,
    truncated: u64,
    wildcards: u64,
    cancelled: u64,
    duplicates: u64,
    held: u64,
    lost: u64,
    revived: u64,
    rolled_back: u64,
    /// The fault happened.
    sabotaged: bool,
    /// A hash of all that happened.
    trace: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.received += other.received;
        self.bulk += other.bulk;
        self.truncated += other.truncated;
        self.wildcards += other.wildcards;
        self.cancelled += other.cancelled;
        self.duplicates += other.duplicates;
        self.held += other.held;
        self.lost += other.lost;
        self.revived += other.revived;
        self.rolled_back += other.rolled_back;
    }

    fn note(&mut self, event: [u64; 4]) {
        for number in event {
            self.trace = Rng(self.trace ^ number).next();
        }
    }
}

/// Splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() % u64::from(n)).expect("less than n")
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).expect("tests are small")) as usize
    }

    pub(super) fn percent(&mut self, n: u32) -> bool {
        self.below(100) < n
    }
}

/// A packet on its way.
#[derive(Debug, Clone)]
enum Packet {
    Frame(Frame),
    Ack { by: u32, to: u32, upto: u64 },
}

impl Packet {
    /// The address and number of a frame.
    fn place(&self) -> Option<(u32, u32, u64)> {
        match self {
            Packet::Frame(Frame { from, to, seq, .. }) => Some((*from, *to, *seq)),
            Packet::Ack { .. } => None,
        }
    }
}

/// Which message a frame carries or announces, by its address and number.
type Notes = BTreeMap<(u32, u32, u64), Note>;

struct Sim {
    rng: Rng,
    cells: Vec<Cell>,
    air: Vec<Packet>,
    notes: Notes,
    /// All ranks are being stopped for a checkpoint.
    stopping: bool,
    cut: Option<(Vec<Cell>, Notes)>,
    /// An earlier state of one rank, for the fault that goes back to it.
    earlier: Option<Cell>,
    fault: Fault,
    tally: Tally,
}

fn run(seed: u64, fault: Fault) -> Result<Tally, String> {
    let mut rng = Rng(seed);
    let size = 2 + rng.below(4);
    let cells = (0..size)
        .map(|rank| Cell::new(rank, size, rng.next()))
        .collect();
    let mut sim = Sim {
        rng,
        cells,
        air: Vec::new(),
        notes: Notes::new(),
        stopping: false,
        cut: None,
        earlier: None,
        fault,
        tally: Tally::default(),
    };
    for tick in 0..N_TICKS_MAX {
        sim.tick()?;
        if tick % 64 == 0 && sim.is_over() {
            sim.check_end()?;
            return Ok(sim.tally);
        }
    }
    Err("the world came to a standstill".into())
}

impl Sim {
    fn tick(&mut self) -> Result<(), String> {
        let at = self.rng.index(self.cells.len());
        match self.rng.below(1000) {
            0..450 => {
                let calls_before = self.cells[at].received.len();
                let mut out = Vec::new();
                self.cells[at].step(&mut self.notes, &mut self.tally, &mut out)?;
                self.tally.received += (self.cells[at].received.len() - calls_before) as u64;
                self.air.extend(out.into_iter().map(Packet::Frame));
            }
            450..960 => self.carry()?,
            960..975 => self.resend_from(at),
            975..982 => self.freeze(at),
            982..996 if !self.stopping => self.revive(at)?,
            996..998 => self.stopping = true,
            998.. if self.rng.percent(20) && !self.is_draining() => self.roll_back(),
            _ => {}
        }
        if self.stopping {
            self.freeze(at);
            if self.cells.iter().all(|cell| cell.endpoint.is_none()) {
                self.cut = Some((self.cells.clone(), self.notes.clone()));
                self.stopping = false;
            }
        }
        Ok(())
    }

    /// Takes any packet and lets it arrive, get lost, or arrive and stay.
    fn carry(&mut self) -> Result<(), String> {
        if self.air.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.air.len());
        let fate = self.rng.below(100);
        let packet = match fate {
            0..6 => self.air[at].clone(),
            _ => self.air.swap_remove(at),
        };
        let lost = fate >= 94;
        match packet {
            Packet::Frame(frame) if lost => self.lose(&frame),
            Packet::Frame(frame) => self.arrive(frame)?,
            Packet::Ack { .. } if lost => {}
            Packet::Ack { by, to, upto } => {
                if let Some(endpoint) = &mut self.cells[to as usize].endpoint {
                    endpoint
                        .acked(by, upto)
                        .map_err(|what| format!("ack {upto}: {what}"))?;
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, frame: &Frame) {
        self.tally.lost += 1;
        let Frame { from, to, seq, .. } = *frame;
        // The next frame cannot be held already, so its loss is one.
        let is_next = self.accepted(from, to) == Some(seq);
        let is_awake = self.cells[from as usize].endpoint.is_some();
        if is_next && is_awake && self.sabotage(Fault::FalseAck, 10) {
            let place = (from, to, seq);
            self.air.retain(|packet| packet.place() != Some(place));
            if let Some(endpoint) = &mut self.cells[from as usize].endpoint {
                endpoint.acked(to, seq + 1).expect("the frame was sent");
            }
        }
    }

    fn arrive(&mut self, mut frame: Frame) -> Result<(), String> {
        let Frame { from, to, seq, .. } = frame;
        let Some(endpoint) = &mut self.cells[to as usize].endpoint else {
            self.tally.lost += 1;
            return Ok(());
        };
        let accepted = endpoint.accepted_from(from);
        let note = self.notes.get(&(from, to, seq)).copied();
        self.cells[to as usize].model.frame(from, seq, note);
        if seq < accepted && frame.body.payload() > 0 && self.sabotage(Fault::AcceptTwice, 10) {
            frame.seq = accepted;
        }
        if seq == accepted && self.fault == Fault::Swap {
            self.swap(&mut frame);
        }
        let mut out = Vec::new();
        let cell = &mut self.cells[to as usize];
        let Some(endpoint) = &mut cell.endpoint else {
            return Ok(());
        };
        let delivery = endpoint
            .deliver(frame, &mut out)
            .map_err(|what| format!("frame {seq} from {from} to {to}: {what}"))?;
        self.tally
            .note([u64::from(from), u64::from(to), seq, delivery.ack]);
        match delivery.outcome {
            Outcome::Accepted => {}
            Outcome::Held => self.tally.held += 1,
            Outcome::Duplicate => self.tally.duplicates += 1,
        }
        self.air.push(Packet::Ack {
            by: to,
            to: from,
            upto: delivery.ack,
        });
        self.air.extend(out.into_iter().map(Packet::Frame));
        Ok(())
    }

    /// Exchanges the content of the message with that of another alike of the pair.
    fn swap(&mut self, frame: &mut Frame) {
        let other = self.air.iter().position(|packet| match packet {
            Packet::Frame(other) => {
                (other.from, other.to) == (frame.from, frame.to)
                    && other.seq > frame.seq
                    && are_alike(&other.body, &frame.body)
            }
            Packet::Ack { .. } => false,
        });
        if let Some(at) = other
            && self.sabotage(Fault::Swap, 100)
            && let Packet::Frame(other) = &mut self.air[at]
        {
            std::mem::swap(&mut other.body, &mut frame.body);
        }
    }

    /// A link to some rank was renewed.
    fn resend_from(&mut self, from: usize) {
        let to = self.rng.index(self.cells.len());
        self.resend(from, to);
    }

    fn resend(&mut self, from: usize, to: usize) {
        if let Some(endpoint) = &self.cells[from].endpoint {
            let to = u32::try_from(to).expect("tests are small");
            self.air.extend(endpoint.unacked_to(to).map(Packet::Frame));
        }
    }

    fn freeze(&mut self, at: usize) {
        self.cells[at].freeze();
        if self.fault == Fault::FallBackAlone && self.earlier.is_none() {
            self.earlier = Some(self.cells[at].clone());
        }
    }

    fn revive(&mut self, at: usize) -> Result<(), String> {
        if self.cells[at].endpoint.is_some() {
            return Ok(());
        }
        if let Some(earlier) = &self.earlier
            && earlier.rank as usize == at
            && earlier.received.len() + 20 < self.cells[at].received.len()
            && self.fault == Fault::FallBackAlone
        {
            self.cells[at] = earlier.clone();
            self.fault = Fault::None;
            self.tally.sabotaged = true;
            self.cut = None;
        }
        self.cells[at].revive()?;
        self.tally.revived += 1;
        for other in 0..self.cells.len() {
            self.resend(at, other);
            self.resend(other, at);
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        if let Some((cells, notes)) = &self.cut {
            self.cells = cells.clone();
            self.notes = notes.clone();
            self.air.clear();
            self.stopping = false;
            self.tally.rolled_back += 1;
        }
    }

    fn accepted(&self, from: u32, by: u32) -> Option<u64> {
        self.cells[by as usize]
            .endpoint
            .as_ref()
            .map(|endpoint| endpoint.accepted_from(from))
    }

    /// Whether to break this promise here and now; it happens once.
    fn sabotage(&mut self, fault: Fault, percent: u32) -> bool {
        let strikes = self.fault == fault && self.rng.percent(percent);
        if strikes {
            self.fault = Fault::None;
            self.tally.sabotaged = true;
            // Going back would undo the damage.
            self.cut = None;
        }
        strikes
    }

    fn is_draining(&self) -> bool {
        self.cells.iter().all(Cell::is_draining)
    }

    /// The programs are done, all messages are received and all frames acknowledged.
    fn is_over(&self) -> bool {
        let is_quiet = |cell: &Cell| {
            cell.endpoint
                .as_ref()
                .is_some_and(|endpoint| endpoint.pending() == Pending::default())
        };
        let sent: u32 = self.cells.iter().flat_map(|cell| &cell.sent).sum();
        let received: usize = self.cells.iter().map(|cell| cell.received.len()).sum();
        self.is_draining() && received >= sent as usize && self.cells.iter().all(is_quiet)
    }

    fn check_end(&self) -> Result<(), String> {
        for receiver in &self.cells {
            for sender in &self.cells {
                let (from, to) = (sender.rank, receiver.rank);
                let received = receiver
                    .received
                    .iter()
                    .filter(|(source, _)| *source == from);
                let mut serials: Vec<u32> = received.map(|(_, serial)| *serial).collect();
                serials.sort_unstable();
                let sent = sender.sent[to as usize];
                if !serials.iter().copied().eq(0..sent) {
                    return Err(format!(
                        "{from} sent {to} {sent} messages, it got {serials:?}"
                    ));
                }
                let (used, owed) = (used(sender, to), owed(receiver, from));
                if used != owed {
                    return Err(format!("{from} used {used:?} at {to}, which owes {owed:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Both are messages for the same receives, but not the same message.
fn are_alike(a: &Body, b: &Body) -> bool {
    match (a, b) {
        (
            Body::Eager {
                ctx: a_ctx,
                tag: a_tag,
                data: a,
            },
            Body::Eager {
                ctx: b_ctx,
                tag: b_tag,
                data: b,
            },
        ) => (a_ctx, a_tag) == (b_ctx, b_tag) && a.first() != b.first(),
        _ => false,
    }
}

fn used(cell: &Cell, at: u32) -> Volume {
    let peer = cell
        .endpoint
        .as_ref()
        .and_then(|endpoint: &Endpoint| endpoint.peers.get(&at));
    peer.map(|peer| peer.used).unwrap_or_default()
}

fn owed(cell: &Cell, to: u32) -> Volume {
    let peer = cell
        .endpoint
        .as_ref()
        .and_then(|endpoint: &Endpoint| endpoint.peers.get(&to));
    peer.map(|peer| peer.owed.plus(peer.kept))
        .unwrap_or_default()
}
