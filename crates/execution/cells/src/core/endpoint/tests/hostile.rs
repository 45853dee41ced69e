//! Whatever peers say and whatever stands in a checkpoint, an endpoint keeps its bounds and its
//! feet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::super::format::State;
use super::super::frame::Body;
use super::{Endpoint, Envelope, Frame, Mode, Source, Span, TIGHT, Wanted, memory};

const SIZE: u32 = 3;

/// Bytes that decide what happens next.
type Move = [u8; 8];

/// Makes the moves: host calls and frames, among which hardly one is honest.
fn play(endpoint: &mut Endpoint, moves: &[Move]) {
    let mut memory = memory();
    let mut out = Vec::new();
    for one in moves {
        let is_refused = match one[0] % 8 {
            0..4 => !call(endpoint, one, &mut memory, &mut out),
            _ => endpoint.deliver(frame(endpoint, one), &mut out).is_err(),
        };
        if !is_refused && endpoint.progress(&memory, &mut out).is_err() {
            // A send whose buffer is not in memory: it came out of a forged state.
            return;
        }
    }
}

/// Makes a host call. False: it was refused.
fn call(endpoint: &mut Endpoint, one: &Move, memory: &mut [u8], out: &mut Vec<Frame>) -> bool {
    let [what, rank, tag, len, a, b, c, seq] = *one;
    let request = u32::from(a % 32);
    let rank = u32::from(rank % 4);
    let span = Span {
        ptr: u32::from(b) * 17,
        len: u32::from(len),
    };
    let source = if c % 2 == 0 {
        Source::Any
    } else {
        Source::Rank(rank)
    };
    let wanted = Wanted {
        ctx: 0,
        source,
        tag: (tag > 99).then_some(i32::from(tag % 2)),
    };
    match what % 8 {
        0 => {
            let mode = if c % 4 == 0 {
                Mode::Synchronous
            } else {
                Mode::Standard
            };
            let envelope = Envelope {
                ctx: 0,
                dest: rank,
                tag: i32::from(tag % 2),
            };
            endpoint.send(envelope, span, mode, memory, out).is_ok()
        }
        1 => endpoint.recv(wanted, span, memory, out).is_ok(),
        2 => endpoint.consume(request, memory, out).is_ok(),
        _ => match a % 3 {
            0 => endpoint.cancel(request).is_ok(),
            1 => endpoint.probe(wanted).is_ok(),
            _ => endpoint.acked(rank, u64::from(seq % 16)).is_ok(),
        },
    }
}

fn frame(endpoint: &Endpoint, one: &Move) -> Frame {
    let [what, rank, tag, len, a, b, c, seq] = *one;
    let from = u32::from(rank % 4);
    // Mostly the next frame, so that its body gets looked at.
    let next = endpoint.accepted_from(from);
    let seq = if seq < 200 {
        next
    } else {
        next.saturating_add(u64::from(seq - 200))
    };
    let ack = endpoint
        .unacked_to(from)
        .next()
        .map_or(0, |frame| frame.seq)
        + u64::from(c % 3);
    let to = u32::from(c == 255);
    Frame {
        from,
        to,
        seq,
        ack,
        body: body([what / 8, tag, len, a, b]),
    }
}

fn body([what, tag, len, a, b]: [u8; 5]) -> Body {
    let (recv_req, send_req) = (u32::from(a % 32), u32::from(b % 32));
    let (ctx, tag) = (0, i32::from(tag % 2));
    let data = Bytes::from(vec![what; usize::from(len % 80)]);
    let length = if b > 250 { u32::MAX } else { u32::from(len) };
    match what % 6 {
        0 => Body::Eager { ctx, tag, data },
        1 => Body::Rts {
            ctx,
            tag,
            len: length,
            send_req,
        },
        2 => Body::Cts {
            send_req,
            recv_req,
            len: length,
        },
        3 => Body::Data {
            recv_req,
            data: Bytes::from(vec![what; 40]),
        },
        4 => Body::Data { recv_req, data },
        _ => Body::Credit {
            bytes: u64::from(length),
            messages: u32::from(a % 8),
        },
    }
}

/// No peer can make an endpoint keep more than this.
fn check_bounds(endpoint: &Endpoint) {
    let pending = endpoint.pending();
    let n_frames_max = usize::try_from(TIGHT.frames_ahead()).expect("it is small");
    let n_eager_max = (TIGHT.credit_messages + TIGHT.requests) * SIZE;
    assert!(pending.requests <= TIGHT.requests as usize);
    assert!(pending.unexpected <= n_eager_max as usize);
    // A peer that takes everything and acknowledges nothing is refused with its next frame.
    let slack = TIGHT.requests as usize + 1;
    assert!(pending.unacked_frames <= (n_frames_max + slack) * SIZE as usize);
}

proptest! {
    #[test]
    fn frames_cannot_break_an_endpoint(moves in vec(any::<Move>(), 0..300)) {
        let mut endpoint = Endpoint::new(0, SIZE, TIGHT);
        play(&mut endpoint, &moves);
        check_bounds(&endpoint);
        let state = endpoint.save();
        match Endpoint::restore(state.clone(), TIGHT) {
            Ok(revived) => assert_eq!(revived.save(), state),
            Err(why) => assert!(why.to_string().ends_with("too much is unacknowledged"), "{why}"),
        }
    }

    #[test]
    fn a_forged_state_is_refused_or_harmless(
        before in vec(any::<Move>(), 0..120),
        forgeries in vec(any::<(u16, u8)>(), 1..6),
        after in vec(any::<Move>(), 0..120),
    ) {
        let mut endpoint = Endpoint::new(0, SIZE, TIGHT);
        play(&mut endpoint, &before);
        let mut bytes = postcard::to_stdvec(&endpoint.save()).expect("state is plain data");
        for (at, byte) in forgeries {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(state) = postcard::from_bytes::<State>(&bytes)
            && state.rank == 0
            && let Ok(mut endpoint) = Endpoint::restore(state, TIGHT)
        {
            check_bounds(&endpoint);
            play(&mut endpoint, &after);
            let again = endpoint.save();
            assert_eq!(postcard::to_stdvec(&again).map(|bytes| bytes.is_empty()), Ok(false));
        }
    }
}
