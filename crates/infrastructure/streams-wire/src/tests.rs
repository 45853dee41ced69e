//! Every command is the bytes that upstream writes, no part of it is taken for all unless an older version sends that part, and nothing breaks
//! anything.

mod samples;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

use self::samples::{OLDER, samples};
use crate::any::Source;
use crate::blocks::{AppendBlock, Padding, Tail};
use crate::frame::{FrameError, Split, split};
use crate::limits::{FRAME_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::replies::Reply;
use crate::requests::{Hello, Request, SealSegment};
use crate::shapes::{DelegationToken, Event};
use crate::{DecodeError, EncodeError, Flaw, Frame, Outgoing};

/// What goes one way or the other.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Request(Request),
    Reply(Reply),
}

impl Said {
    fn name(&self) -> &'static str {
        match self {
            Self::Request(request) => request.name(),
            Self::Reply(reply) => reply.name(),
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = Outgoing::default();
        let encoded = match self {
            Self::Request(request) => request.encode(&mut out),
            Self::Reply(reply) => reply.encode(&mut out),
        };
        assert_eq!(encoded, Ok(()), "{self:?}");
        out.copy_to_bytes(out.remaining())
    }

    /// The same side of it.
    fn decode(&self, frame: Frame) -> Result<Self, DecodeError> {
        match self {
            Self::Request(_) => Request::decode(frame).map(Self::Request),
            Self::Reply(_) => Reply::decode(frame).map(Self::Reply),
        }
    }
}

fn any_of_each(seed: u64) -> Vec<Said> {
    let source = &mut Source(seed);
    let requests = Request::any_of_each(source).into_iter().map(Said::Request);
    let replies = Reply::any_of_each(source).into_iter().map(Said::Reply);
    requests.chain(replies).collect()
}

fn whole(bytes: &[u8]) -> Frame {
    let mut received = BytesMut::from(bytes);
    match split(&mut received) {
        Ok(Split::Frame(frame)) if received.is_empty() => frame,
        other => panic!("not one frame: {other:?}"),
    }
}

fn cut(frame: &Frame, payload_bytes: usize) -> Frame {
    Frame {
        payload: frame.payload.slice(..payload_bytes),
        ..frame.clone()
    }
}

/// Of the golden file: side, name and fields.
fn golden() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let byte = |digits: &[u8]| {
        let digits = str::from_utf8(digits).expect("it is hexadecimal");
        u8::from_str_radix(digits, 16).expect("it is hexadecimal")
    };
    let lines = include_str!("../tests/golden/version-17.hex").lines();
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let (side, name) = (words.next().expect("a side"), words.next().expect("a name"));
        let fields = words.map(|word| word.as_bytes().chunks(2).map(byte).collect());
        (side, name, fields.collect())
    };
    lines
        .filter(|line| !line.starts_with('#'))
        .map(line)
        .collect()
}

#[test]
fn every_command_is_the_bytes_of_upstream() {
    let golden = golden();
    let commands: Vec<_> = golden
        .iter()
        .filter(|(side, ..)| *side != "within")
        .collect();
    let samples = samples();
    assert_eq!(commands.len(), samples.len());
    assert_eq!(any_of_each(0).len(), samples.len());
    for ((side, name, fields), said) in commands.into_iter().zip(samples) {
        let expected = if matches!(said, Said::Request(_)) {
            "request"
        } else {
            "reply"
        };
        assert_eq!((*side, *name), (expected, said.name()));
        let bytes = fields.concat();
        assert_eq!(&said.encode()[..], bytes, "{name}");
        assert_eq!(said.decode(whole(&bytes)), Ok(said), "{name}");
    }
}

#[test]
fn what_stands_in_blocks_only_is_the_bytes_of_upstream() {
    let golden = golden();
    let bytes_of = |wanted| {
        let (.., fields) = golden
            .iter()
            .find(|(_, name, _)| *name == wanted)
            .expect("it is there");
        fields.concat()
    };
    let event = Event::new(b"one").expect("it is short");
    assert_eq!(event.framed(), &bytes_of("Event"));
    let tail = Tail::PartialEvent(Bytes::from_static(b"begun"));
    let block = AppendBlock::new(0, b"", &tail).expect("it is short");
    assert_eq!(block.data, bytes_of("PartialEvent"));
}

/// Cuts each command of the golden file behind each of its fields: that is how older versions send it, or an error.
#[test]
fn what_older_versions_do_not_send_has_a_value() {
    let mut seen = Vec::new();
    let commands = golden().into_iter().filter(|(side, ..)| *side != "within");
    for ((_, name, fields), said) in commands.zip(samples()) {
        let frame = whole(&fields.concat());
        // Type and length are the first two.
        for n_fields in 2..fields.len() {
            let cut = cut(&frame, fields[2..n_fields].concat().len());
            match (
                said.decode(cut),
                OLDER.iter().find(|older| older.0 == (name, n_fields - 2)),
            ) {
                (Ok(decoded), Some((older, change))) => {
                    let mut expected = said.clone();
                    change(&mut expected);
                    assert_eq!(decoded, expected, "{older:?}");
                    seen.push(*older);
                }
                (Err(DecodeError::Malformed { command, .. }), None) => assert_eq!(command, name),
                // What these carry has no length of its own.
                (Ok(_), None) => assert!(
                    ["AppendBlock", "Padding"].contains(&name),
                    "{name} {n_fields}"
                ),
                (decoded, older) => panic!("{name}: {decoded:?}, {:?}", older.map(|older| older.0)),
            }
        }
    }
    let mut expected: Vec<_> = OLDER.iter().map(|older| older.0).collect();
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

/// A part of a command is an error, or what an older version sends: then it says so in fewer bytes.
fn check_cuts(said: &Said) {
    let frame = whole(&said.encode());
    for payload_bytes in 0..frame.payload.len() {
        match said.decode(cut(&frame, payload_bytes)) {
            Err(DecodeError::Malformed { command, .. }) => assert_eq!(command, said.name()),
            Err(other) => panic!("{said:?}: {other}"),
            Ok(decoded) => {
                let again = whole(&decoded.encode());
                assert_eq!(said.decode(again.clone()), Ok(decoded), "{said:?}");
                assert!(
                    again.payload.starts_with(&frame.payload[..payload_bytes]),
                    "{said:?}"
                );
            }
        }
    }
}

#[test]
fn no_part_of_a_golden_command_is_taken_for_another_one() {
    for said in samples() {
        check_cuts(&said);
    }
}

#[test]
fn what_newer_versions_will_add_is_passed_over() {
    for said in samples() {
        if ["AppendBlock", "Padding"].contains(&said.name()) {
            continue;
        }
        let frame = whole(&said.encode());
        let payload = [&frame.payload[..], b"more"].concat().into();
        assert_eq!(said.decode(Frame { payload, ..frame }), Ok(said));
    }
}

/// Any byte may be any other: what is understood is then what it says.
#[test]
fn every_byte_of_a_golden_command_may_be_any_other() {
    for said in samples() {
        let bytes = said.encode();
        for at in HEADER_BYTES..bytes.len() {
            for change in 1..=u8::MAX {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                if let Ok(decoded) = said.decode(whole(&changed)) {
                    let again = whole(&decoded.encode());
                    assert_eq!(said.decode(again), Ok(decoded), "{said:?} {at} {change}");
                }
            }
        }
    }
}

#[test]
fn unknown_types_and_those_of_the_other_side_are_told_apart() {
    let frame = |type_id| Frame {
        type_id,
        payload: Bytes::new(),
    };
    for type_id in [6, 72, 73, -128, 101, i32::MIN, i32::MAX] {
        assert_eq!(
            Request::decode(frame(type_id)),
            Err(DecodeError::Unknown(type_id))
        );
        assert_eq!(
            Reply::decode(frame(type_id)),
            Err(DecodeError::Unknown(type_id))
        );
    }
    let wrong = |command| DecodeError::WrongSide { command };
    assert_eq!(Request::decode(frame(7)), Err(wrong("DataAppended")));
    assert_eq!(Request::decode(frame(0)), Err(wrong("Event")));
    assert_eq!(Request::decode(frame(-2)), Err(wrong("PartialEvent")));
    assert_eq!(Reply::decode(frame(1)), Err(wrong("SetupAppend")));
    assert_eq!(Reply::decode(frame(0)), Err(wrong("Event")));
}

#[test]
fn types_go_one_way_or_are_of_both() {
    for type_id in -200..=200 {
        let names = (Request::name_of(type_id), Reply::name_of(type_id));
        let are_both = [-127, 100].contains(&type_id);
        assert_eq!(
            names.0.is_some() && names.1.is_some(),
            are_both,
            "{names:?}"
        );
    }
    for said in samples() {
        let (type_id, name) = match &said {
            Said::Request(request) => (request.type_id(), Request::name_of(request.type_id())),
            Said::Reply(reply) => (reply.type_id(), Reply::name_of(reply.type_id())),
        };
        assert_eq!(name, Some(said.name()));
        assert_eq!(whole(&said.encode()).type_id, type_id);
    }
}

#[test]
fn the_request_id_is_found() {
    for said in samples() {
        let (request_id, name) = match &said {
            Said::Request(request) => (request.request_id(), request.name()),
            Said::Reply(reply) => (reply.request_id(), reply.name()),
        };
        let has_none = ["Hello", "KeepAlive", "AppendBlock", "Padding"].contains(&name);
        assert_eq!(
            request_id,
            (!has_none).then_some(samples::REQUEST_ID),
            "{name}"
        );
    }
}

#[test]
fn frames_are_split_where_they_are_whole() {
    let two = [
        Said::Request(Hello::OURS.into()).encode(),
        samples()[3].encode(),
    ]
    .concat();
    for end in 0..=two.len() {
        let mut received = BytesMut::from(&two[..end]);
        let mut n_frames = 0;
        let missing = loop {
            match split(&mut received).expect("these are frames") {
                Split::Frame(_) => n_frames += 1,
                Split::Missing(missing) => break missing,
            }
        };
        let left = end - [0, 16, two.len()][n_frames];
        assert_eq!(received.len(), left, "{end}");
        let wanted = match (n_frames, left) {
            (0, 8..) => 16,
            (1, 8..) => two.len() - 16,
            _ => 8,
        };
        assert_eq!(missing, wanted - left, "{end}");
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_at_once() {
    let check = |length: i32, expected| {
        let mut received = BytesMut::new();
        received.extend_from_slice(&7_i32.to_be_bytes());
        received.extend_from_slice(&length.to_be_bytes());
        assert_eq!(split(&mut received), expected, "{length}");
        assert_eq!(received.len(), HEADER_BYTES);
    };
    let type_id = 7;
    check(0x00FF_FFFF, Ok(Split::Missing(PAYLOAD_BYTES_MAX)));
    for length in [0x0100_0000, i32::MAX] {
        check(length, Err(FrameError::TooLong { type_id, length }));
    }
    for length in [-1, i32::MIN] {
        check(length, Err(FrameError::Negative { type_id, length }));
    }
}

/// Nothing is taken from memory for what is only claimed: that would be 50 GiB here.
#[test]
fn counts_and_lengths_within_commands_are_not_believed() {
    let check = |type_id, before: &[u8], claimed: i32, flaw| {
        let payload: Bytes = [before, &claimed.to_be_bytes(), &[0; 20]].concat().into();
        let frame = Frame { type_id, payload };
        let decoded = match Request::name_of(type_id) {
            Some(_) => Request::decode(frame).map(|_| ()),
            None => Reply::decode(frame).map(|_| ()),
        };
        match decoded {
            Err(DecodeError::Malformed { flaw: found, .. }) => assert_eq!(found, flaw, "{type_id}"),
            other => panic!("{type_id}: {other:?}"),
        }
    };
    for claimed in [i32::MAX, 1 << 20, -1, i32::MIN] {
        let length = if claimed < 0 {
            Flaw::Length(claimed)
        } else {
            Flaw::Cut
        };
        // Request id, segment, token or none, count.
        check(78, &[0; 12], claimed, Flaw::Count(claimed));
        check(90, &[0; 10], claimed, Flaw::Count(claimed));
        check(75, &[0; 8], claimed, Flaw::Count(claimed));
        check(91, &[0; 10], claimed, Flaw::Count(claimed));
        // Writer, size, length; writer, numbers, event.
        check(4, &[0; 20], claimed, length);
        check(5, &[0; 36], claimed, length);
        check(83, &[0; 16], claimed, length);
    }
    // One element more than there can be in the 20 bytes that follow.
    for (type_id, before, one_more) in [(78, 12, 3), (90, 10, 11), (75, 8, 3), (91, 10, 3)] {
        let before = vec![0; before];
        check(type_id, &before, one_more, Flaw::Count(one_more));
    }
    check(5, &[0; 32], 3, Flaw::NotAnEvent(3));
    // A key that says another length than it has.
    check(
        78,
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        13,
        Flaw::Length(13),
    );
}

#[test]
fn what_fits_into_no_frame_is_not_sent() {
    let mut out = Outgoing::default();
    let fits = FRAME_BYTES_MAX - HEADER_BYTES;
    let padding = |n_bytes| Request::from(Padding { n_bytes });
    let bytes = FRAME_BYTES_MAX + 1;
    let command = "Padding";
    assert_eq!(
        padding(fits + 1).encode(&mut out),
        Err(EncodeError::Frame { command, bytes })
    );

    let seal = |segment: String| {
        let token = DelegationToken::default();
        let request = SealSegment {
            request_id: 1,
            segment,
            token,
        };
        Request::from(request)
    };
    // One byte, or two, each.
    for segment in ["a".repeat(65_536), "\0".repeat(32_768)] {
        let bytes = 65_536;
        assert_eq!(
            seal(segment).encode(&mut out),
            Err(EncodeError::Text { bytes })
        );
    }
    let command = "AppendBlock";
    let block = AppendBlock::new(0, &[0; 10], &Tail::Padding(fits));
    let bytes = FRAME_BYTES_MAX + 8 + 16 + 10;
    assert_eq!(block, Err(EncodeError::Frame { command, bytes }));
    assert!(Event::new(&vec![0; fits + 1]).is_err());

    assert_eq!(out.remaining(), 0);
    assert_eq!(seal("\0".repeat(32_767)).encode(&mut out), Ok(()));
    assert_eq!(padding(fits).encode(&mut out), Ok(()));
}

#[test]
fn versions_meet() {
    let check = |high_version, low_version, meet| {
        let theirs = Hello {
            high_version,
            low_version,
        };
        assert_eq!(Hello::OURS.meets(&theirs), meet, "{theirs:?}");
        assert_eq!(theirs.meets(&Hello::OURS), meet, "{theirs:?}");
    };
    check(15, 5, true);
    check(17, 17, true);
    check(5, 1, true);
    check(30, 1, true);
    check(4, 1, false);
    check(20, 18, false);
}

#[test]
fn a_token_is_in_no_log() {
    let token = DelegationToken("secret".to_owned());
    assert_eq!(format!("{token:?}"), "DelegationToken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn commands_are_the_same_after_the_wire(seed: u64) {
        for said in any_of_each(seed) {
            prop_assert_eq!(&said.decode(whole(&said.encode())), &Ok(said));
        }
    }

    #[test]
    fn no_part_of_a_command_is_taken_for_another_one(seed: u64) {
        let all = any_of_each(seed);
        let any = Source(seed).below(all.len());
        check_cuts(&all[any]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever comes, it is understood or refused; and what is understood can be said again.
    #[test]
    fn no_bytes_break_anything(payload in prop::collection::vec(any::<u8>(), 0..100), small in 0..=u8::MAX, type_id in -10..110_i32) {
        // With many zeros and small numbers more lengths are possible ones.
        let payload: Bytes = payload.iter().map(|&byte| if byte <= small { byte % 3 } else { byte }).collect();
        let frame = Frame { type_id, payload };
        if let Ok(request) = Request::decode(frame.clone()) {
            let said = Said::Request(request);
            prop_assert_eq!(&said.decode(whole(&said.encode())), &Ok(said));
        }
        if let Ok(reply) = Reply::decode(frame) {
            let said = Said::Reply(reply);
            prop_assert_eq!(&said.decode(whole(&said.encode())), &Ok(said));
        }
    }

    #[test]
    fn no_stream_of_bytes_breaks_anything(bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..60)) {
        let mut received = BytesMut::from(&bytes[..]);
        while let Ok(Split::Frame(frame)) = split(&mut received) {
            prop_assert!(Request::decode(frame.clone()).is_err() || Request::name_of(frame.type_id).is_some());
        }
    }
}
