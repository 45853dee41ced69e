//! A rank that runs a random program and doubts every answer.

use super::super::super::frame::{Body, Frame};
use super::super::model::{Model, Note};
use super::super::{Endpoint, Envelope, Mode, Source, Span, Wanted};
use super::{Notes, Rng, TIGHT, Tally};

const N_CALLS: u32 = 400;
const SLOT_BYTES: u32 = 256;
/// One less than there are requests, for the receive that follows a probe.
const N_OPEN_MAX: usize = 23;
const UNTOUCHED: u8 = 0xee;

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) rank: u32,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) model: Model,
    /// How many messages it sent to each rank.
    pub(super) sent: Vec<u32>,
    /// Source and serial of all it received.
    pub(super) received: Vec<(u32, u32)>,
    frozen: Vec<u8>,
    rng: Rng,
    memory: Vec<u8>,
    free_slots: Vec<u32>,
    open: Vec<Open>,
    n_calls_left: u32,
    n_wildcards: u64,
}

/// An open request and its buffer.
#[derive(Debug, Clone, Copy)]
struct Open {
    request: u32,
    span: Span,
    /// For a receive its ordinal among those from any source, if it is one.
    receive: Option<Option<u64>>,
}

/// A copy of a frozen cell.
impl Clone for Cell {
    fn clone(&self) -> Self {
        assert!(self.endpoint.is_none(), "only what is frozen can be copied");
        Cell {
            endpoint: None,
            model: self.model.clone(),
            sent: self.sent.clone(),
            received: self.received.clone(),
            frozen: self.frozen.clone(),
            rng: self.rng.clone(),
            memory: self.memory.clone(),
            free_slots: self.free_slots.clone(),
            open: self.open.clone(),
            ..*self
        }
    }
}

impl Cell {
    pub(super) fn new(rank: u32, size: u32, seed: u64) -> Self {
        let n_slots = TIGHT.requests;
        Cell {
            rank,
            endpoint: Some(Endpoint::new(rank, size, TIGHT)),
            model: Model::default(),
            sent: vec![0; size as usize],
            received: Vec::new(),
            frozen: Vec::new(),
            rng: Rng(seed),
            memory: vec![UNTOUCHED; (n_slots * SLOT_BYTES) as usize],
            free_slots: (0..n_slots).collect(),
            open: Vec::new(),
            n_calls_left: N_CALLS,
            n_wildcards: 0,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.n_calls_left == 0
    }

    pub(super) fn freeze(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            self.model.save();
            self.frozen = postcard::to_stdvec(&endpoint.save()).expect("state is plain data");
        }
    }

    pub(super) fn revive(&mut self) -> Result<(), String> {
        let state = postcard::from_bytes(&self.frozen).map_err(|what| what.to_string())?;
        let endpoint = Endpoint::restore(state, TIGHT).map_err(|what| what.to_string())?;
        let again = postcard::to_stdvec(&endpoint.save()).map_err(|what| what.to_string())?;
        if again != self.frozen {
            return Err("a revived endpoint is not the one that was saved".into());
        }
        self.endpoint = Some(endpoint);
        Ok(())
    }

    /// Makes one host call, or two that belong together.
    pub(super) fn step(
        &mut self,
        notes: &mut Notes,
        tally: &mut Tally,
        out: &mut Vec<Frame>,
    ) -> Result<(), String> {
        let Some(endpoint) = &mut self.endpoint else {
            return Ok(());
        };
        endpoint
            .progress(&self.memory, out)
            .map_err(|what| what.to_string())?;
        if self.n_calls_left == 0 {
            return self.drain(tally, out);
        }
        self.n_calls_left -= 1;
        let has_room = self.open.len() < N_OPEN_MAX;
        match self.rng.below(100) {
            0..35 if has_room => self.send(notes, out),
            35..60 if has_room => {
                let wanted = self.wanted();
                let span = self.slot();
                self.recv(wanted, span, out)
            }
            60..64 => self.cancel(tally),
            64..70 => self.probe().map(|_| ()),
            _ => self.test(tally, out),
        }
    }

    /// Without a program, a rank takes back what it asked for and receives whatever there is.
    fn drain(&mut self, tally: &mut Tally, out: &mut Vec<Frame>) -> Result<(), String> {
        match self.rng.below(3) {
            0 => self.cancel(tally),
            1 => self.test(tally, out),
            _ => match self.probe()? {
                Some(note) if self.open.len() <= N_OPEN_MAX => {
                    let source = Source::Rank(note.source);
                    let wanted = Wanted {
                        ctx: note.ctx,
                        source,
                        tag: Some(note.tag),
                    };
                    let span = self.slot();
                    self.recv(wanted, span, out)
                }
                _ => Ok(()),
            },
        }
    }

    fn send(&mut self, notes: &mut Notes, out: &mut Vec<Frame>) -> Result<(), String> {
        let dest = self
            .rng
            .below(u32::try_from(self.sent.len()).expect("tests are small"));
        let mut span = self.slot();
        if self.rng.percent(50) {
            span.len = span.len.min(16);
        }
        let mode = if self.rng.percent(10) {
            Mode::Synchronous
        } else {
            Mode::Standard
        };
        let envelope = Envelope {
            ctx: self.rng.below(2),
            dest,
            tag: self.tag(),
        };
        let serial = self.sent[dest as usize];
        self.sent[dest as usize] += 1;
        let buffer = &mut self.memory[span.ptr as usize..][..span.len as usize];
        buffer.copy_from_slice(&content(self.rank, dest, serial, span.len));
        let Some(endpoint) = &mut self.endpoint else {
            return Ok(());
        };
        let sent = endpoint.send(envelope, span, mode, &self.memory, out);
        let request = sent.map_err(|what| what.to_string())?;
        self.check_number(request)?;
        let Some(frame) = out.last() else {
            return Err("a send caused no frame".into());
        };
        let eager = matches!(frame.body, Body::Eager { .. });
        if eager && (mode == Mode::Synchronous || span.len > TIGHT.eager_bytes) {
            return Err("a message travels without being asked for".into());
        }
        let (Envelope { ctx, tag, .. }, len) = (envelope, span.len);
        let note = Note {
            ctx,
            source: self.rank,
            tag,
            serial,
            len,
            eager,
        };
        notes.insert((self.rank, dest, frame.seq), note);
        self.open.push(Open {
            request,
            span,
            receive: None,
        });
        Ok(())
    }

    fn recv(&mut self, wanted: Wanted, span: Span, out: &mut Vec<Frame>) -> Result<(), String> {
        self.memory[span.ptr as usize..][..SLOT_BYTES as usize].fill(UNTOUCHED);
        let Some(endpoint) = &mut self.endpoint else {
            return Ok(());
        };
        let posted = endpoint.recv(wanted, span, &self.memory, out);
        let request = posted.map_err(|what| what.to_string())?;
        self.check_number(request)?;
        self.model.post(request, wanted);
        let wildcard = match wanted.source {
            Source::Rank(_) => None,
            Source::Any | Source::Replay(_) => {
                self.n_wildcards += 1;
                Some(self.n_wildcards - 1)
            }
        };
        self.open.push(Open {
            request,
            span,
            receive: Some(wildcard),
        });
        Ok(())
    }

    fn probe(&mut self) -> Result<Option<Note>, String> {
        let draining = Wanted {
            ctx: self.rng.below(2),
            source: Source::Any,
            tag: None,
        };
        let wanted = if self.is_draining() {
            draining
        } else {
            self.wanted()
        };
        let Some(endpoint) = &self.endpoint else {
            return Ok(None);
        };
        let found = endpoint.probe(wanted).map_err(|what| what.to_string())?;
        let expected = self.model.probe(wanted);
        let same = match (found, expected) {
            (Some(status), Some(note)) => {
                (status.source, status.tag, status.len)
                    == (note.source, note.tag, u64::from(note.len))
            }
            (found, expected) => found.is_none() && expected.is_none(),
        };
        if same {
            Ok(expected)
        } else {
            Err(format!("probe saw {found:?}, not {expected:?}"))
        }
    }

    fn cancel(&mut self, tally: &mut Tally) -> Result<(), String> {
        let Some(at) = self.pick() else { return Ok(()) };
        let Open { request, span, .. } = self.open[at];
        let Some(endpoint) = &mut self.endpoint else {
            return Ok(());
        };
        let cancelled = endpoint.cancel(request).map_err(|what| what.to_string())?;
        if cancelled != self.model.cancel(request) {
            return Err(format!("request {request} cancelled: {cancelled}"));
        }
        if cancelled {
            tally.cancelled += 1;
            self.open.swap_remove(at);
            self.free_slots.push(span.ptr / SLOT_BYTES);
        }
        Ok(())
    }

    /// Looks at one request and consumes it if it is complete.
    fn test(&mut self, tally: &mut Tally, out: &mut Vec<Frame>) -> Result<(), String> {
        let Some(at) = self.pick() else { return Ok(()) };
        let Open {
            request,
            span,
            receive,
        } = self.open[at];
        let Some(endpoint) = &mut self.endpoint else {
            return Ok(());
        };
        let completed = endpoint
            .completed(request)
            .map_err(|what| what.to_string())?;
        let note = self.model.matched(request);
        if !completed {
            if note.is_some_and(|note| note.eager) {
                return Err(format!(
                    "request {request} should be complete with {note:?}"
                ));
            }
            return Ok(());
        }
        let consumed = endpoint.consume(request, &mut self.memory, out);
        let status = consumed.map_err(|what| what.to_string())?;
        tally.note([
            self.rank.into(),
            request.into(),
            status.source.into(),
            status.len,
        ]);
        self.model.consume(request);
        self.open.swap_remove(at);
        self.free_slots.push(span.ptr / SLOT_BYTES);
        let slot = &mut self.memory[span.ptr as usize..][..SLOT_BYTES as usize];
        if let Some(wildcard) = receive {
            let Some(note) = note else {
                return Err(format!("request {request} got {status:?} from nowhere"));
            };
            let kept = note.len.min(span.len);
            let truncated = kept < note.len;
            let expected = (note.source, note.tag, u64::from(kept), truncated, wildcard);
            let got = (
                status.source,
                status.tag,
                status.len,
                status.truncated,
                status.wildcard,
            );
            let mut bytes = content(note.source, self.rank, note.serial, note.len);
            bytes.resize(kept as usize, UNTOUCHED);
            bytes.resize(SLOT_BYTES as usize, UNTOUCHED);
            if got != expected || bytes != slot {
                return Err(format!("request {request} got {status:?}, not {note:?}"));
            }
            self.received.push((note.source, note.serial));
            tally.bulk += u64::from(!note.eager);
            tally.truncated += u64::from(truncated);
            tally.wildcards += u64::from(wildcard.is_some());
        }
        // From now on the buffer is the program's again.
        slot.fill(0x55);
        Ok(())
    }

    fn check_number(&mut self, request: u32) -> Result<(), String> {
        let expected = self.model.request();
        if request == expected {
            Ok(())
        } else {
            Err(format!("request {request} should be {expected}"))
        }
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.open.is_empty()).then(|| self.rng.index(self.open.len()))
    }

    fn slot(&mut self) -> Span {
        let at = self.rng.index(self.free_slots.len());
        let slot = self.free_slots.swap_remove(at);
        Span {
            ptr: slot * SLOT_BYTES,
            len: self.rng.below(SLOT_BYTES),
        }
    }

    fn wanted(&mut self) -> Wanted {
        let rank = self
            .rng
            .below(u32::try_from(self.sent.len()).expect("tests are small"));
        let source = match self.rng.below(10) {
            0..3 => Source::Any,
            3 => Source::Replay(rank),
            _ => Source::Rank(rank),
        };
        let tag = if self.rng.percent(30) {
            None
        } else {
            Some(self.tag())
        };
        Wanted {
            ctx: self.rng.below(2),
            source,
            tag,
        }
    }

    fn tag(&mut self) -> i32 {
        i32::try_from(self.rng.below(3)).expect("less than 3")
    }
}

/// What a message says follows from its place, so that no two are alike.
fn content(from: u32, to: u32, serial: u32, len: u32) -> Vec<u8> {
    let mut rng = Rng(u64::from(from) << 48 | u64::from(to) << 32 | u64::from(serial));
    (0..len).map(|_| rng.next().to_le_bytes()[0]).collect()
}
