mod format;
mod hostile;
mod model;
mod rules;
mod sim;
mod speed;

use super::Endpoint;
use super::call::{Envelope, Limits, Mode, Source, Span, Status, Wanted};
use super::frame::{Delivery, Frame, Violation};

/// Limits small enough that every test meets them.
const TIGHT: Limits = Limits {
    eager_bytes: 64,
    credit_bytes: 256,
    credit_messages: 6,
    requests: 24,
    chunk_bytes: 40,
    window_bytes: 100,
};

/// A guest's memory in which byte `n` is `n` modulo 251, so that misplaced copies show.
fn memory() -> Vec<u8> {
    (0..=250).cycle().take(4096).collect()
}

/// Ranks joined by links that lose nothing, for tests in which the links do not matter.
struct World {
    ranks: Vec<Endpoint>,
    memories: Vec<Vec<u8>>,
    wires: Vec<Frame>,
}

impl World {
    fn new(size: u32, limits: Limits) -> Self {
        World {
            ranks: (0..size)
                .map(|rank| Endpoint::new(rank, size, limits))
                .collect(),
            memories: vec![memory(); size as usize],
            wires: Vec::new(),
        }
    }

    fn send(&mut self, from: u32, to: u32, (ctx, tag): (u32, i32), len: u32, mode: Mode) -> u32 {
        let at = from as usize;
        let envelope = Envelope { ctx, dest: to, tag };
        let span = Span { ptr: 0, len };
        self.ranks[at]
            .send(envelope, span, mode, &self.memories[at], &mut self.wires)
            .expect("the send is in order")
    }

    /// Posts a receive into the upper half of memory.
    fn recv(&mut self, rank: u32, source: Source, tag: Option<i32>, len: u32) -> u32 {
        let at = rank as usize;
        let span = Span { ptr: 2048, len };
        self.ranks[at]
            .recv(
                Wanted {
                    ctx: 0,
                    source,
                    tag,
                },
                span,
                &self.memories[at],
                &mut self.wires,
            )
            .expect("the receive is in order")
    }

    fn deliver(&mut self, frame: Frame) -> Result<Delivery, Violation> {
        self.ranks[frame.to as usize].deliver(frame, &mut self.wires)
    }

    /// Carries everything until nobody has more to say.
    fn settle(&mut self) {
        loop {
            for (rank, memory) in self.ranks.iter_mut().zip(&self.memories) {
                rank.progress(memory, &mut self.wires)
                    .expect("spans are in memory");
            }
            if self.wires.is_empty() {
                return;
            }
            for frame in std::mem::take(&mut self.wires) {
                let (from, to) = (frame.from, frame.to);
                let ack = self.deliver(frame).expect("the frame is honest").ack;
                self.ranks[from as usize]
                    .acked(to, ack)
                    .expect("the ack is honest");
            }
        }
    }

    fn consume(&mut self, rank: u32, request: u32) -> Status {
        let at = rank as usize;
        self.ranks[at]
            .consume(request, &mut self.memories[at], &mut self.wires)
            .expect("the request is complete")
    }
}
