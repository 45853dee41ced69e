//! The thread of one cell: it begins fresh, from a checkpoint, or from another host; it runs, stands still, leaves or ends.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm::engine::GUEST_STACK_BYTES;
use wasm::wasi;

use super::calls::Aborted;
use super::clock::wall_now_ns;
use super::image::{Image, trace_of};
use super::stop::Purpose;
use crate::core::endpoint::Endpoint;
use crate::core::endpoint::call::Limits;
use crate::core::moving::{Source, SourceInput};
use crate::core::trace::Trace;
use crate::disk::journal::Commit;
use crate::disk::snapshot::{self, Header};
use crate::host::incoming::Incoming;
use crate::host::node::Node;
use crate::wire::messages::{Ended, Epoch, Event, HostId, Location, Rank};
use crate::wire::{self, Stream};

/// The guest's stack, and room for the host's calls on top of it.
const STACK_BYTES: usize = GUEST_STACK_BYTES + (2 << 20);
/// How long a target may take to take in a snapshot.
const HELD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what a rank has printed may take to leave its host.
const PRINTED_TIMEOUT: Duration = Duration::from_secs(2);
const TRANSFER_BUFFER_BYTES: usize = 64 << 10;
const PIECE_BYTES: usize = 1 << 20;

/// How a cell begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// From the beginning; in a replay the recorded trace comes in pieces.
    Fresh {
        trace: Option<Receiver<Vec<u8>>>,
    },
    /// A snapshot in pieces; an empty one ends it.
    Checkpoint(Receiver<Vec<u8>>),
    Incoming(Arc<Incoming>),
}

/// What is said on the connection of a transfer by turns: room, then the snapshot, held, commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Turn {
    Room,
    Held,
    Commit,
}

/// Starts the thread of a rank.
pub(crate) fn spawn(node: &Arc<Node>, rank: Rank, start: Start) -> io::Result<()> {
    if matches!(start, Start::Fresh { .. }) {
        // Open before any rank begins: nobody would repeat what comes too early.
        open(
            node,
            rank,
            Endpoint::new(rank, node.spec.size, Limits::default()),
        );
    }
    let node = Arc::clone(node);
    let name = format!("rank {rank}");
    rt::thread(name, STACK_BYTES, move || {
        let lived = panic::catch_unwind(AssertUnwindSafe(|| begin_and_live(&node, rank, start)));
        let reason = match lived {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(_) => "the host has a bug: the rank's thread panicked".into(),
        };
        node.up.send(exit_event(rank, Ended::Trap(reason), 0));
    })?;
    Ok(())
}

fn begin_and_live(node: &Arc<Node>, rank: Rank, start: Start) -> Result<(), String> {
    let image = match start {
        Start::Fresh { trace } => fresh(node, rank, trace)?,
        Start::Checkpoint(pieces) => from_checkpoint(node, rank, pieces)?,
        Start::Incoming(incoming) => arrive(node, rank, &incoming)?,
    };
    if let Some(image) = image {
        live(node, rank, image);
    }
    Ok(())
}

fn exit_event(rank: Rank, ended: Ended, outputs: u64) -> Event {
    Event::Exited {
        rank,
        ended,
        outputs,
        hash: None,
    }
}

fn fresh(
    node: &Arc<Node>,
    rank: Rank,
    trace: Option<Receiver<Vec<u8>>>,
) -> Result<Option<Image>, String> {
    let mut recorded = Vec::new();
    if let Some(pieces) = trace {
        Pieces::new(pieces)
            .read_to_end(&mut recorded)
            .map_err(|error| error.to_string())?;
    }
    let trace = trace_of(node.spec.trace, &recorded).map_err(|error| error.to_string())?;
    let image = Image::new(node, rank, trace)?;
    node.wait_for_go();
    Ok(Some(image))
}

fn from_checkpoint(
    node: &Arc<Node>,
    rank: Rank,
    pieces: Receiver<Vec<u8>>,
) -> Result<Option<Image>, String> {
    let mut image = Image::new(node, rank, Trace::Off)?;
    image.blank();
    let mut pieces = Pieces::new(pieces);
    let restored = image
        .restore_or_ended(&mut pieces)
        .map_err(|error| error.to_string())?;
    node.wait_for_go();
    let (endpoint, exited) = restored;
    open(node, rank, endpoint);
    node.revived(rank);
    if let Some(code) = exited {
        node.note_exit(rank, code);
        node.up.send(exit_event(rank, Ended::Exit(code), 0));
        tell_running(node, rank);
        return Ok(None);
    }
    image.store.data_mut().resuming = Some(epoch_of(node, rank));
    Ok(Some(image))
}

/// Takes in a rank that another host sends. `None`: it does not come.
fn arrive(node: &Arc<Node>, rank: Rank, incoming: &Incoming) -> Result<Option<Image>, String> {
    let epoch = incoming.epoch;
    let mut image = match Image::new(node, rank, Trace::Off) {
        Ok(image) => image,
        Err(reason) => {
            node.up.send(Event::MoveFailed {
                rank,
                epoch,
                reason,
            });
            return Ok(None);
        }
    };
    image.blank();
    node.up.send(Event::Prepared { rank, epoch });
    let Some((mut stream, memory_bytes)) = incoming.wait_for_stream() else {
        return Ok(None);
    };
    image.make_room(memory_bytes.min(node.spec.memory_bytes_max));
    if let Err(error) = wire::send(&mut stream, &Turn::Room) {
        tracing::info!(rank, %error, "the source of a rank has gone");
    }
    node.fail_point("target-offered");
    let input = BufReader::with_capacity(TRANSFER_BUFFER_BYTES, stream);
    let (endpoint, input) = match image.restore(input) {
        Ok(restored) => restored,
        Err(error) => {
            // The source sees the connection close, lets the rank go on, and says why to the coordinator.
            tracing::warn!(rank, %error, "a rank did not arrive whole");
            incoming.discard();
            return Ok(None);
        }
    };
    let mut stream = input.into_inner();
    incoming.received();
    node.fail_point("target-received");
    if let Err(error) = wire::send(&mut stream, &Turn::Held) {
        tracing::info!(rank, %error, "the source of a rank has gone");
    }
    node.fail_point("target-held");
    if matches!(wire::receive(&mut stream), Ok(Turn::Commit)) {
        incoming.commit();
    }
    if !incoming.wait_for_decision() {
        return Ok(None);
    }
    node.fail_point("target-committed");
    open(node, rank, endpoint);
    node.located(Location {
        rank,
        host: node.me,
        epoch,
    });
    node.revived(rank);
    image.store.data_mut().resuming = Some(epoch);
    Ok(Some(image))
}

fn open(node: &Node, rank: Rank, endpoint: Endpoint) {
    node.mailbox(rank)
        .expect("a rank of this world")
        .open(endpoint);
}

fn epoch_of(node: &Node, rank: Rank) -> Epoch {
    node.mailbox(rank)
        .expect("a rank of this world")
        .location()
        .epoch
}

/// The endpoint of a rank is open again: everybody shall send what came while it was not.
fn tell_running(node: &Node, rank: Rank) {
    let epoch = epoch_of(node, rank);
    let resumed_ns = wall_now_ns();
    node.up.send(Event::Running {
        rank,
        epoch,
        resumed_ns,
    });
}

/// Runs the guest to its end, or until it has left.
fn live(node: &Arc<Node>, rank: Rank, mut image: Image) {
    node.n_running.fetch_add(1, Ordering::Relaxed);
    node.metrics.ranks.inc();
    loop {
        let result = image.run();
        if result.is_err() || !image.is_unwound() {
            end(node, rank, &mut image, result);
            break;
        }
        if stand_still(node, rank, &mut image) == Next::Gone {
            break;
        }
        image.rewind();
    }
    node.n_running.fetch_sub(1, Ordering::Relaxed);
    node.metrics.ranks.dec();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Gone,
}

/// Does what the guest has unwound for.
fn stand_still(node: &Arc<Node>, rank: Rank, image: &mut Image) -> Next {
    let mailbox = node.mailbox(rank).expect("a rank of this world");
    let endpoint = mailbox
        .close()
        .expect("the mailbox of a running cell is open");
    let stop = image
        .store
        .data_mut()
        .stop
        .take()
        .expect("a guest unwinds because it has to stop");
    match stop.purpose {
        Purpose::Move { stream, to, epoch } => {
            if let Err(reason) = depart(node, image, &endpoint, *stream, (to, epoch)) {
                node.up.send(Event::MoveFailed {
                    rank,
                    epoch,
                    reason,
                });
            } else {
                return Next::Gone;
            }
        }
        Purpose::Checkpoint { id } => {
            let written = write_pieces(node, id, rank, |out| {
                image.write(endpoint.save(), out).map(drop)
            });
            if let Err(error) = written {
                node.up.send(Event::CheckpointFailed {
                    id,
                    reason: error.to_string(),
                });
            }
            node.wait_for_resume(id);
        }
    }
    image.store.data_mut().iterations.interrupt();
    mailbox.open(endpoint);
    node.revived(rank);
    // When the coordinator hears of it, everybody sends again what came while the mailbox was closed.
    image.store.data_mut().resuming = Some(epoch_of(node, rank));
    Next::GoOn
}

/// Sends the guest away. An error says why it stays; once the move is recorded there is none.
fn depart(
    node: &Arc<Node>,
    image: &mut Image,
    endpoint: &Endpoint,
    stream: Stream,
    (to, epoch): (HostId, Epoch),
) -> Result<(), String> {
    let rank = image.store.data().rank;
    let pending = endpoint.pending();
    let (source, _) = Source::Running.step(SourceInput::Stopped);
    node.fail_point("source-frozen");
    // What the rank has printed must not depend on this process any more.
    let printed = node.up.barrier();
    let offered = offer(image, endpoint, stream)
        .map_err(|error| error.to_string())
        .and_then(|offered| match printed.recv_timeout(PRINTED_TIMEOUT) {
            Ok(()) => Ok(offered),
            Err(_) => Err("nobody reads what the rank has printed".to_owned()),
        });
    let (bytes, mut stream) = match offered {
        Ok(offered) => offered,
        Err(reason) => {
            let (source, _) = source.step(SourceInput::Lost);
            assert_eq!(source, Source::Running, "without a record the rank stays");
            return Err(reason);
        }
    };
    let report = image.store.data().report(pending, bytes);
    let (source, _) = source.step(SourceInput::Held);
    node.fail_point("source-offered");
    let recorded = node.record(Commit { rank, epoch, to });
    let (source, _) = source.step(match &recorded {
        Ok(()) => SourceInput::Recorded,
        Err(_) => SourceInput::RecordFailed,
    });
    if let Err(error) = recorded {
        // Whether the record is on the disk decides, and only reading it again can tell: this host must not go on.
        node.broken(&format!("the record of a move cannot be written: {error}"));
        return Ok(());
    }
    assert_eq!(source, Source::Committed, "a recorded move is committed");
    node.fail_point("source-recorded");
    // Before it can come back.
    image.store.data_mut().iterations.forget();
    if let Err(error) = wire::send(&mut stream, &Turn::Commit) {
        tracing::info!(rank, %error, "the coordinator has to tell the target to run the rank");
    }
    node.up.send(Event::Committed {
        rank,
        epoch,
        report,
    });
    node.fail_point("source-committed");
    node.located(Location {
        rank,
        host: to,
        epoch,
    });
    image.store.data_mut().flush_marks();
    node.metrics.departed_ranks.inc();
    Ok(())
}

fn offer(image: &mut Image, endpoint: &Endpoint, stream: Stream) -> io::Result<(u64, Stream)> {
    stream.socket().set_read_timeout(Some(HELD_TIMEOUT))?;
    stream.socket().set_write_timeout(Some(HELD_TIMEOUT))?;
    let mut out = BufWriter::with_capacity(TRANSFER_BUFFER_BYTES, stream);
    let bytes = image.write(endpoint.save(), &mut out)?;
    let mut stream = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    match wire::receive(&mut stream)? {
        Turn::Held => Ok((bytes, stream)),
        turn => Err(out_of_turn(turn)),
    }
}

/// Waits until the target has made room: only then the rank has to stop.
pub(crate) fn await_room(stream: &mut Stream) -> io::Result<()> {
    stream.socket().set_read_timeout(Some(HELD_TIMEOUT))?;
    match wire::receive(stream)? {
        Turn::Room => Ok(()),
        turn => Err(out_of_turn(turn)),
    }
}

fn out_of_turn(turn: Turn) -> io::Error {
    wire::invalid(format!("the target of a move says {turn:?} out of turn"))
}

/// Reports how the guest ended. Its endpoint stays, for messages to it are still acknowledged.
fn end(node: &Arc<Node>, rank: Rank, image: &mut Image, result: wasmtime::Result<()>) {
    let cell = image.store.data_mut();
    cell.flush_marks();
    let mut ended = ended_of(result);
    if matches!(ended, Ended::Exit(_)) && (cell.has_diverged || cell.trace.has_rest()) {
        ended = Ended::Trap("the replay leaves the recording".into());
    }
    let stop = cell.stop.take().map(|stop| stop.purpose);
    let outputs = cell.output_seq;
    if matches!(cell.trace, Trace::Record(_)) {
        match postcard::to_stdvec(&cell.trace) {
            Ok(trace) => {
                for piece in trace.chunks(PIECE_BYTES) {
                    let bytes = piece.to_vec();
                    node.up.send(Event::Trace { rank, bytes });
                }
            }
            Err(error) => ended = Ended::Trap(format!("encode the recording: {error}")),
        }
    }
    let hash = node
        .spec
        .hash_memory
        .then(|| blake3::hash(image.memory()).to_hex().to_string());
    if let Ended::Exit(code) = ended {
        node.note_exit(rank, code);
    }
    node.up.send(Event::Exited {
        rank,
        ended,
        outputs,
        hash,
    });
    answer_stops(node, rank, stop);
}

fn ended_of(result: wasmtime::Result<()>) -> Ended {
    let Err(error) = result else {
        return Ended::Exit(0);
    };
    if let Some(wasi::Exit(code)) = error.downcast_ref() {
        return Ended::Exit(i32::from(u8::try_from(code & 0xff).expect("8 bits")));
    }
    if let Some(Aborted(code)) = error.downcast_ref() {
        return Ended::Abort(*code);
    }
    Ended::Trap(error.root_cause().to_string())
}

/// A rank that has ended does not stop any more.
fn answer_stops(node: &Arc<Node>, rank: Rank, stop: Option<Purpose>) {
    let mailbox = node.mailbox(rank).expect("a rank of this world");
    for purpose in stop
        .into_iter()
        .chain(mailbox.take_stop().map(|stop| stop.purpose))
    {
        match purpose {
            Purpose::Move { epoch, .. } => {
                let reason = "the rank has ended".to_owned();
                node.up.send(Event::MoveFailed {
                    rank,
                    epoch,
                    reason,
                });
            }
            Purpose::Checkpoint { id } => checkpoint_of_ended(node, id, rank),
        }
    }
}

/// The part in a checkpoint of a rank that has ended: its messages.
pub(crate) fn checkpoint_of_ended(node: &Arc<Node>, id: u32, rank: Rank) {
    let mailbox = node.mailbox(rank).expect("a rank of this world");
    let Some(exited) = node.exit_of(rank) else {
        return;
    };
    let Some(endpoint) = mailbox.close() else {
        return;
    };
    let header = Header {
        module: node.program.sha256.clone(),
        rank,
        size: node.spec.size,
        memory_pages: 0,
        frames_bytes: 0,
        globals: Vec::new(),
        wasi: None,
        endpoint: endpoint.save(),
        trace: Trace::Off,
        monotonic_ns: 0,
        wall_ns: wall_now_ns(),
        output_seq: 0,
        collective_tag: None,
        exited: Some(exited),
    };
    let written = write_pieces(node, id, rank, |out| {
        snapshot::write(out, &header, &[], &[]).map(drop)
    });
    if let Err(error) = written {
        node.up.send(Event::CheckpointFailed {
            id,
            reason: error.to_string(),
        });
    }
    node.wait_for_resume(id);
    mailbox.open(endpoint);
    node.revived(rank);
    tell_running(node, rank);
}

fn write_pieces(
    node: &Node,
    id: u32,
    rank: Rank,
    write: impl FnOnce(&mut BufWriter<PieceWriter<'_>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE_BYTES, PieceWriter { node, id, rank });
    write(&mut out)?;
    out.flush()?;
    node.up.send(Event::Piece {
        id,
        rank,
        bytes: Vec::new(),
    });
    Ok(())
}

/// Sends what is written to the coordinator.
struct PieceWriter<'a> {
    node: &'a Node,
    id: u32,
    rank: Rank,
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE_BYTES)];
        if !bytes.is_empty() {
            self.node.up.send(Event::Piece {
                id: self.id,
                rank: self.rank,
                bytes: bytes.to_vec(),
            });
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what comes in pieces.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Pieces {
    fn new(pieces: Receiver<Vec<u8>>) -> Self {
        let current = io::Cursor::default();
        Self { pieces, current }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            match self.pieces.recv() {
                Ok(piece) if !piece.is_empty() => self.current = io::Cursor::new(piece),
                Ok(_) | Err(_) => return Ok(0),
            }
        }
    }
}
