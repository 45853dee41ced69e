use proptest::prelude::*;

use super::*;
use crate::any::Source;
use crate::events;
use crate::requests::{KeepAlive, SetupAppend};
use crate::shapes::{DelegationToken, Event};

const WRITER: u128 = 7;

fn block(data: &[u8]) -> AppendBlock {
    AppendBlock {
        writer_id: WRITER,
        data: Bytes::copy_from_slice(data),
    }
}

fn end(size_of_whole_events: i32, data: &'static [u8], num_events: i32) -> AppendBlockEnd {
    AppendBlockEnd {
        writer_id: WRITER,
        size_of_whole_events,
        data: Bytes::from_static(data),
        num_events,
        last_event_number: 5,
        request_id: 9,
    }
}

/// What the requests are together, and nothing waits behind them.
fn join(requests: impl IntoIterator<Item = Request>) -> Result<Vec<Joined>, JoinError> {
    let mut joiner = Joiner::default();
    let mut joined = Vec::new();
    for request in requests {
        match joiner.join(request)? {
            Joined::Nothing => {}
            other => joined.push(other),
        }
    }
    assert_eq!(joiner.block, None);
    Ok(joined)
}

fn bytes(pieces: &Pieces) -> Vec<u8> {
    let bytes: Vec<u8> = pieces.iter().flatten().copied().collect();
    let mut buf = pieces.buf();
    assert_eq!(buf.copy_to_bytes(buf.remaining()), bytes);
    assert_eq!(
        (pieces.len(), pieces.is_empty()),
        (bytes.len(), bytes.is_empty())
    );
    bytes
}

#[test]
fn a_block_and_its_end_are_an_append() {
    let partial = |begun: &'static [u8]| Tail::PartialEvent(Bytes::from_static(begun));
    let table = [
        // Whole events, tail, size, data of the end, what is appended.
        (&b"abcd"[..], Tail::Nothing, 4, &b""[..], &b"abcd"[..]),
        (b"abcd", Tail::Padding(0), 4, b"", b"abcd"),
        (b"abcd", Tail::Padding(3), 4, b"", b"abcd"),
        (b"abcd", partial(b"ef"), 4, b"gh", b"abcdefgh"),
        (b"abcd", partial(b"ef"), 4, b"", b"abcdef"),
        (b"", partial(b"ef"), 0, b"gh", b"efgh"),
        (b"", partial(b""), 0, b"gh", b"gh"),
        (b"", Tail::Nothing, 0, b"", b""),
    ];
    for (whole, tail, size, rest, appended) in table {
        let block = AppendBlock::new(WRITER, whole, &tail).expect("it is short");
        let joined = join([block.into(), end(size, rest, 2).into()]);
        let [Joined::Append(append)] = &joined.expect("it is an append")[..] else {
            panic!("{tail:?}: not one append");
        };
        assert_eq!(bytes(&append.data), appended, "{tail:?}");
        assert_eq!((append.writer_id, append.request_id), (WRITER, 9));
        assert_eq!((append.n_events, append.last_event_number), (2, 5));
        assert_eq!(append.expected_offset, None);
    }
}

#[test]
fn an_append_is_not_copied() {
    let tail = Tail::PartialEvent(Bytes::from_static(b"ef"));
    let block = AppendBlock::new(WRITER, b"abcd", &tail).expect("it is short");
    let (began, rest) = (block.data.as_ptr(), end(4, b"gh", 1));
    let ended = rest.data.as_ptr();
    let joined = join([block.into(), rest.into()]).expect("it is an append");
    let [Joined::Append(append)] = &joined[..] else {
        panic!("not one append");
    };
    let [whole, begun, rest] = &append.data.0;
    assert_eq!(whole.as_ptr(), began);
    assert_eq!(begun.as_ptr(), began.wrapping_add(4 + 8));
    assert_eq!(rest.as_ptr(), ended);
}

#[test]
fn one_without_a_block_is_all_in_its_end() {
    let joined = join([end(3, b"abc", 1).into(), end(0, b"", 1).into()]).expect("two appends");
    let [Joined::Append(first), Joined::Append(second)] = &joined[..] else {
        panic!("not two appends");
    };
    assert_eq!(bytes(&first.data), b"abc");
    assert!(second.data.is_empty());
}

#[test]
fn conditional_ones_are_appends_of_one() {
    let event = Event::new(b"abc").expect("it is short");
    let framed = event.framed().clone();
    let one = ConditionalAppend {
        writer_id: WRITER,
        event_number: 3,
        expected_offset: 100,
        event,
        request_id: 4,
    };
    let many = ConditionalBlockEnd {
        writer_id: WRITER,
        event_number: 3,
        expected_offset: 100,
        data: framed.clone(),
        request_id: 4,
    };
    let appended = Append {
        writer_id: WRITER,
        request_id: 4,
        data: framed.into(),
        n_events: 1,
        last_event_number: 3,
        expected_offset: Some(100),
    };
    let joined = join([one.into(), many.into()]).expect("they are appends");
    assert_eq!(
        joined,
        [Joined::Append(appended.clone()), Joined::Append(appended)]
    );
}

fn setup() -> Request {
    let request = SetupAppend {
        request_id: 1,
        writer_id: WRITER,
        segment: "a".to_owned(),
        token: DelegationToken::default(),
    };
    request.into()
}

#[test]
fn others_go_through_a_block_if_they_are_not_about_appends() {
    let alive = || Request::from(KeepAlive {});
    let joined = join([block(b"ab").into(), alive(), end(2, b"", 1).into(), setup()]);
    let joined = joined.expect("it is well-formed");
    assert_eq!(joined[0], Joined::Other(alive()));
    assert!(matches!(joined[1], Joined::Append(_)));
    assert_eq!(joined[2], Joined::Other(setup()));

    let padding = || Request::from(Padding { n_bytes: 3 });
    assert_eq!(join([padding()]), Ok(vec![]));
    let conditional = ConditionalBlockEnd {
        writer_id: WRITER,
        event_number: 3,
        expected_offset: 100,
        data: Bytes::new(),
        request_id: 4,
    };
    for other in [setup(), padding(), block(b"").into(), conditional.into()] {
        let command = other.name();
        let mut joiner = Joiner::default();
        assert_eq!(joiner.join(block(b"ab").into()), Ok(Joined::Nothing));
        assert_eq!(joiner.join(other), Err(JoinError::WithinBlock { command }));
        assert_eq!(joiner.block, None);
    }
}

fn check_refused(block: Option<AppendBlock>, end: AppendBlockEnd, error: JoinError) {
    let requests = block.map(Request::from).into_iter().chain([end.into()]);
    assert_eq!(join(requests), Err(error));
}

fn block_with_tail(tail: &[u8]) -> Option<AppendBlock> {
    Some(block(&[b"abcd", tail].concat()))
}

#[test]
fn an_end_that_does_not_fit_its_block_is_refused() {
    let foreign = AppendBlock {
        writer_id: 8,
        data: Bytes::new(),
    };
    let (began, ended) = (8, WRITER);
    let size = |claimed, there| JoinError::Size { claimed, there };
    let superfluous = JoinError::Superfluous { bytes: 1 };
    let padding = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

    check_refused(None, end(0, b"", 0), JoinError::NoEvents(0));
    check_refused(None, end(0, b"", -1), JoinError::NoEvents(-1));
    check_refused(None, end(2, b"abc", 1), size(2, 3));
    check_refused(None, end(-1, b"", 1), size(-1, 0));
    check_refused(block_with_tail(b""), end(5, b"", 1), size(5, 4));
    check_refused(block_with_tail(b""), end(-4, b"", 1), size(-4, 4));
    check_refused(block_with_tail(b""), end(4, b"x", 1), superfluous.clone());
    check_refused(block_with_tail(&padding), end(4, b"x", 1), superfluous);
    check_refused(
        Some(foreign),
        end(0, b"", 1),
        JoinError::OtherWriter { began, ended },
    );
}

#[test]
fn a_tail_is_one_padding_or_one_beginning() {
    // Not a whole header, another type, too long, too short, negative.
    for tail in [
        &b"efg"[..],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0],
        &[0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 0, 1],
        &[0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0, 0, 1],
    ] {
        check_refused(block_with_tail(tail), end(4, b"", 1), JoinError::Tail);
    }
}

proptest! {
    /// However a client cuts its events into blocks, they are what is appended.
    #[test]
    fn events_are_the_same_however_they_are_cut(lengths in prop::collection::vec(0..40_usize, 1..8), seed: u64) {
        let mut source = Source(seed);
        let events = lengths.iter().map(|&length| Event::new(&vec![7; length]).expect("it is short"));
        let whole: Vec<Bytes> = events.map(|event| event.framed().clone()).collect();
        let n_whole = source.below(whole.len() + 1);
        let before = whole[..n_whole].concat();
        let behind = whole[n_whole..].concat();
        let (tail, rest) = if behind.is_empty() {
            let tails = [Tail::Nothing, Tail::Padding(source.below(10))];
            (tails[source.below(2)].clone(), Bytes::new())
        } else {
            let mut begun = Bytes::from(behind);
            let rest = begun.split_off(source.below(begun.len() + 1));
            (Tail::PartialEvent(begun), rest)
        };
        let block = AppendBlock::new(WRITER, &before, &tail).expect("it is short");
        let end = AppendBlockEnd { data: rest, ..end(to_i32(before.len()), b"", 1) };
        let joined = join([block.into(), end.into()]).expect("it is an append");
        let [Joined::Append(append)] = &joined[..] else {
            panic!("not one append");
        };
        prop_assert_eq!(bytes(&append.data), whole.concat());
        prop_assert_eq!(events::count(&append.data), Ok(whole.len()));
    }

    /// Nothing makes it panic, and after an error no block waits.
    #[test]
    fn requests_in_any_order_are_joined_or_refused(seed: u64) {
        let mut source = Source(seed);
        let mut joiner = Joiner::default();
        for _ in 0..20 {
            let requests = Request::any_of_each(&mut source);
            let request = requests[source.below(requests.len())].clone();
            let is_block = matches!(request, Request::AppendBlock(_));
            let outside = joiner.block.is_none();
            let joined = joiner.join(request);
            prop_assert_eq!(joiner.block.is_some(), (is_block && outside) || (!outside && matches!(joined, Ok(Joined::Other(_)))));
        }
    }
}
