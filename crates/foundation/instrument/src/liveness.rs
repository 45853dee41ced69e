//! Which locals matter after each call.
//!
//! The walk goes backwards over the instructions with one set of live locals at hand. A construct's
//! label stands for the set after its end or, for a loop, for the set before its first instruction;
//! the latter is found by repeating the walk until no loop's set grows.

use std::collections::{HashMap, HashSet};

use super::module::{to_u32, to_usize};
use super::shape::{Kind, Shape, What};

/// Fills in what only liveness tells: the live locals of calls, the stale ones of constructs.
/// Returns false if these are more than `entries_max` altogether.
pub(super) fn annotate(shape: &mut Shape, entries_max: usize) -> bool {
    let mut loops = HashMap::new();
    while Pass::new(shape, &mut loops, None).run().grown {}
    let items = shape.sequences.values().flatten();
    let notes = Notes {
        calls: shape.calls.iter().map(|call| call.op).collect(),
        constructs: items.map(|item| item.op).collect(),
        entries_left: entries_max,
        ..Notes::default()
    };
    let pass = Pass::new(shape, &mut loops, Some(notes)).run();
    let mut notes = pass.notes.expect("given above");
    if notes.entries_left == 0 {
        return false;
    }
    for call in &mut shape.calls {
        call.live = notes.live.remove(&call.op).unwrap_or_default();
    }
    for item in shape.sequences.values_mut().flatten() {
        if let What::Construct { stale, .. } = &mut item.what {
            *stale = notes.stale.remove(&item.op).unwrap_or_default();
        }
    }
    true
}

#[derive(Clone, PartialEq)]
struct Locals(Vec<u64>);

impl Locals {
    fn none(count: usize) -> Locals {
        Locals(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, local: u32) {
        self.0[to_usize(local / 64)] |= 1 << (local % 64);
    }

    fn remove(&mut self, local: u32) {
        self.0[to_usize(local / 64)] &= !(1 << (local % 64));
    }

    fn add(&mut self, other: &Locals) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn members(&self) -> Vec<u32> {
        let mut members = Vec::new();
        for (index, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                members.push(to_u32(index) * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        members
    }

    fn without(mut self, other: &Locals) -> Locals {
        for (word, taken) in self.0.iter_mut().zip(&other.0) {
            *word &= !taken;
        }
        self
    }
}

/// A construct whose beginning is still to come.
struct Frame {
    /// What is live where a branch to the construct goes.
    label: Locals,
    /// What is live at the beginning of the second arm.
    second_arm: Option<Locals>,
}

/// What the last walk, which knows all sets, writes down.
#[derive(Default)]
struct Notes {
    calls: HashSet<usize>,
    constructs: HashSet<usize>,
    /// The locals live after each call.
    live: HashMap<usize, Vec<u32>>,
    /// What is live before each construct item whose sequence has not begun yet.
    entered: HashMap<usize, Locals>,
    stale: HashMap<usize, Vec<u32>>,
    entries_left: usize,
}

impl Notes {
    fn members(&mut self, locals: &Locals) -> Vec<u32> {
        let members = locals.members();
        self.entries_left = self.entries_left.saturating_sub(members.len());
        if self.entries_left == 0 {
            return Vec::new();
        }
        members
    }
}

struct Pass<'s> {
    shape: &'s Shape,
    /// What is live at the beginning of each loop, as far as known.
    loops: &'s mut HashMap<usize, Locals>,
    live: Locals,
    frames: Vec<Frame>,
    loops_open: usize,
    grown: bool,
    notes: Option<Notes>,
}

impl<'s> Pass<'s> {
    fn new(
        shape: &'s Shape,
        loops: &'s mut HashMap<usize, Locals>,
        notes: Option<Notes>,
    ) -> Pass<'s> {
        Pass {
            shape,
            loops,
            live: Locals::none(shape.locals.len()),
            frames: Vec::new(),
            loops_open: 0,
            grown: false,
            notes,
        }
    }

    fn run(mut self) -> Pass<'s> {
        for (index, op) in self.shape.ops.iter().enumerate().rev() {
            if let Some(notes) = &mut self.notes
                && notes.calls.contains(&index)
            {
                let live = notes.members(&self.live);
                notes.live.insert(index, live);
            }
            self.step(index, &op.kind);
            if let Some(mut notes) = self.notes.take() {
                self.note(index, &mut notes);
                self.notes = Some(notes);
            }
        }
        self
    }

    fn note(&self, index: usize, notes: &mut Notes) {
        // Outside of loops, what is stale is still as it was when the function began: a constant,
        // or a parameter.
        if self.loops_open == 0 {
            return;
        }
        if notes.constructs.contains(&index) {
            notes.entered.insert(index, self.live.clone());
        }
        for item in self.shape.sequences.get(&index).into_iter().flatten() {
            if let Some(entered) = notes.entered.remove(&item.op) {
                let stale = notes.members(&entered.without(&self.live));
                notes.stale.insert(item.op, stale);
            }
        }
    }

    fn step(&mut self, index: usize, kind: &Kind) {
        match kind {
            Kind::Plain => {}
            Kind::Get(local) => self.live.insert(*local),
            Kind::Set(local) | Kind::Tee(local) => self.live.remove(*local),
            Kind::End(start) => self.end(*start),
            Kind::Else => {
                let frame = self.frames.last_mut().expect("an `if` is open");
                let second = std::mem::replace(&mut self.live, frame.label.clone());
                frame.second_arm = Some(second);
            }
            Kind::Block | Kind::Loop | Kind::If => self.begin(index),
            Kind::Br(depth) => self.live = self.label(*depth).clone(),
            Kind::BrIf(depth) => {
                let label = self.label(*depth).clone();
                self.live.add(&label);
            }
            Kind::BrTable(depths, default) => {
                let mut live = self.label(*default).clone();
                for depth in depths {
                    live.add(self.label(*depth));
                }
                self.live = live;
            }
            Kind::Leave => self.live = Locals::none(self.shape.locals.len()),
        }
    }

    fn end(&mut self, start: Option<usize>) {
        let is_loop = start.is_some_and(|op| matches!(self.shape.ops[op].kind, Kind::Loop));
        let known = start.and_then(|op| self.loops.get(&op));
        let label = match known {
            Some(known) => known.clone(),
            None if is_loop => Locals::none(self.shape.locals.len()),
            None => self.live.clone(),
        };
        self.loops_open += usize::from(is_loop);
        self.frames.push(Frame {
            label,
            second_arm: None,
        });
    }

    fn begin(&mut self, index: usize) {
        let frame = self.frames.pop().expect("every beginning has an end");
        match &self.shape.ops[index].kind {
            Kind::Loop => {
                self.loops_open -= 1;
                if self.live != frame.label {
                    self.grown = true;
                    self.loops.insert(index, self.live.clone());
                }
            }
            Kind::If => {
                // Without a second arm, a false condition leads to the end.
                self.live
                    .add(frame.second_arm.as_ref().unwrap_or(&frame.label));
            }
            _ => {}
        }
    }

    fn label(&self, depth: u32) -> &Locals {
        &self.frames[self.frames.len() - 1 - to_usize(depth)].label
    }
}
