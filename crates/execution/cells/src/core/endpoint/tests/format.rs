//! The bytes of a saved endpoint.

use super::super::format::State;
use super::super::frame::Body;
use super::{Endpoint, Mode, Source, TIGHT, World};

/// A rank in the middle of everything.
fn busy() -> State {
    let mut world = World::new(3, TIGHT);
    // A posted receive, a send that is announced, one under way, one that is not acknowledged.
    world.recv(0, Source::Any, Some(-2), 9);
    world.send(0, 2, (3, 5), 70, Mode::Standard);
    world.send(0, 1, (0, 6), 200, Mode::Standard);
    world.recv(1, Source::Rank(0), Some(6), 200);
    // A message that waits, one announced, one matched, one that has come in part.
    for (tag, len) in [(1, 3), (2, 65), (3, 2), (4, 90)] {
        world.send(1, 0, (0, tag), len, Mode::Standard);
    }
    world.recv(0, Source::Any, Some(3), 9);
    world.recv(0, Source::Rank(1), Some(4), 300);
    let mut n_data = 0;
    while let Some(at) = world.wires.iter().position(|frame| frame.to != 2) {
        let frame = world.wires.remove(at);
        let is_data = matches!(frame.body, Body::Data { .. });
        n_data += u32::from(is_data && frame.to == 0);
        // Of all data only the first piece for rank 0 gets through.
        if !is_data || (frame.to == 0 && n_data == 1) {
            world.deliver(frame).expect("the frame is honest");
        }
        for rank in 0..2 {
            let memory = &world.memories[rank];
            world.ranks[rank]
                .progress(memory, &mut world.wires)
                .expect("spans are in memory");
        }
    }
    world.send(0, 1, (0, 9), 4, Mode::Standard);
    world.ranks[0].save()
}

const GOLDEN: &str = "
    000302060103000001038010090100010102004601020100c8010050010401068010090101020001010501088010
    ac02005a0128000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627
    01000100020000010203000102010001044102020103030028000102030405060708090a0b0c0d0e0f1011121314
    15161718191a1b1c1d1e1f202122232425262703002828292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f
    404142434445464748494a4b4c4d4e4f0000120400010203020604010000020101030a4601000000000000";

#[test]
fn the_format_stays_as_it_is() {
    let bytes = postcard::to_stdvec(&busy()).expect("state is plain data");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN.replace(['\n', ' '], ""));
}

#[test]
fn what_is_written_is_read_and_what_is_cut_is_not() {
    let state = busy();
    let bytes = postcard::to_stdvec(&state).expect("state is plain data");
    assert_eq!(postcard::from_bytes::<State>(&bytes), Ok(state.clone()));
    for len in 0..bytes.len() {
        assert!(
            postcard::from_bytes::<State>(&bytes[..len]).is_err(),
            "{len} bytes"
        );
    }
    let revived = Endpoint::restore(state.clone(), TIGHT).expect("it was saved");
    assert_eq!(revived.save(), state);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let refuse = |why: &str, forge: fn(&mut State)| {
        let mut state = busy();
        forge(&mut state);
        let refusal = Endpoint::restore(state, TIGHT).expect_err(why).to_string();
        assert!(refusal.ends_with(why), "{refusal} instead of {why}");
    };
    refuse("rank is not in its world", |state| state.rank = 3);
    refuse("peer is not in the world", |state| state.peers[0].rank = 3);
    refuse("peer occurs twice", |state| {
        state.peers[0].rank = state.peers[1].rank
    });
    refuse("frames are numbered too high", |state| {
        state.peers[0].accepted = u64::MAX
    });
    refuse("credit is exceeded", |state| {
        state.peers[0].used.bytes = 257
    });
    refuse("too many requests", |state| state.requests.resize(25, None));
    refuse("pending receive is not posted", |state| {
        state.posted.clear()
    });
    refuse("receive is posted twice", |state| {
        state.posted.push(state.posted[0])
    });
    refuse("posted request is no pending receive", |state| {
        state.posted[0] = 1
    });
    refuse("wildcard is not counted", |state| state.n_wildcards = 1);
    refuse("more eager messages are kept than credited", |state| {
        let message = state.unexpected[0].clone();
        state.unexpected.resize(state.unexpected.len() + 6, message);
    });
    refuse("too many messages wait", |state| {
        let message = state.unexpected[1].clone();
        state
            .unexpected
            .resize(state.unexpected.len() + 24, message);
    });
    refuse("too much is unacknowledged", |state| {
        let frame = state.peers[1].unacked[0].clone();
        state.peers[1].unacked.resize(200, frame);
    });
}
