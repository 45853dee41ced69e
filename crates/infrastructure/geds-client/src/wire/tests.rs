//! Each message is the bytes it was when its version was released, no part of it is taken for all, and nothing else breaks anything.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use geds_core::index::{
    BucketName, Class, ConsumerId, Cursor, Entry, Etag, Folder, Hints, InS3, Item, Key, Loss, Name,
    NodeId, ObjectId, Page, Placement, Precondition, Prefix, Residency, Revision, Scope, Sealed,
};
use geds_core::testing::nearly;
use ids::Epoch;
use proptest::prelude::*;

use super::site::{Committed, Followed, Joined, Outcome, PieceLen, from_data, to_data};
use super::*;
use crate::{Condition, Status, Terms, WriterToken};

fn bucket() -> BucketName {
    BucketName::new("data").expect("a bucket")
}

fn name(key: &str) -> Name {
    Name {
        bucket: bucket(),
        key: Key::new(key).expect("a key"),
    }
}

fn folder(prefix: &str) -> Folder {
    Folder {
        bucket: bucket(),
        prefix: Prefix::new(prefix).expect("a prefix"),
    }
}

fn entry() -> Arc<Entry> {
    Arc::new(Entry {
        generation: Revision(300),
        modified_at_ms: 1000,
        sealed: Sealed {
            id: ObjectId {
                node: NodeId(1),
                epoch: Epoch(2),
                serial: 3,
            },
            size: 4,
            etag: Etag::new("x-2").expect("an etag"),
            class: Class::Durable,
        },
        metadata: (*b"mm").into(),
        hints: Hints {
            expires_at_ms: Some(5),
            readers: 6,
            consumers: [ConsumerId(7)].into(),
        },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A golden may have spaces.
fn check_golden(what: &impl Debug, bytes: &[u8], golden: &str) {
    assert_eq!(hex(bytes), golden.replace(' ', ""), "{what:?}");
}

fn check_request(request: &Request, op: u8, golden: &str) {
    let (encoded_op, body) = request.encode();
    assert_eq!(encoded_op.code(), op);
    check_golden(request, &body, golden);
    let again = Request::parse(op, &body).expect("it is one");
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
    for len in 0..body.len() {
        Request::parse(op, &body[..len]).expect_err("a part is not all");
    }
    Request::parse(op, &[&body[..], &[0]].concat()).expect_err("more is not all");
    for body in nearly(&body) {
        is_parsed_or_refused(op, &body);
    }
}

/// Whatever it is, it is one or it is not.
fn is_parsed_or_refused(op: u8, body: &[u8]) {
    if let Ok(request) = Request::parse(op, body) {
        let (op, body) = request.encode();
        let again = Request::parse(op.code(), &body).expect("it is one");
        assert_eq!(format!("{again:?}"), format!("{request:?}"));
    }
}

fn check_reply<T: Reply + Debug>(reply: &T, golden: &str) {
    let body = reply.encode();
    check_golden(reply, &body, golden);
    let again = T::parse(&body).expect("it is one");
    assert_eq!(format!("{again:?}"), format!("{reply:?}"));
    for len in 0..body.len() {
        T::parse(&body[..len]).expect_err("a part is not all");
    }
    for body in nearly(&body) {
        if let Ok(reply) = T::parse(&body) {
            let again = T::parse(&reply.encode()).expect("it is one");
            assert_eq!(format!("{again:?}"), format!("{reply:?}"));
        }
        parse_all(&body);
    }
}

#[test]
fn headers_are_those_of_version_1() {
    let request = Header {
        op: Op::Write.code(),
        is_reply: false,
        error: None,
        request: 0x0102,
        body_bytes: 3,
        data_bytes: DATA_BYTES_MAX,
    };
    let reply = Header {
        is_reply: true,
        error: Some(Kind::Conflict),
        data_bytes: 0,
        ..request
    };
    for (header, golden) in [
        (
            request,
            "47454453 01 0d 0000 0201000000000000 0000 0000 03000000 0000400000000000",
        ),
        (
            reply,
            "47454453 01 0d 0100 0201000000000000 0400 0000 03000000 0000000000000000",
        ),
    ] {
        let bytes = header.encode();
        check_golden(&header, &bytes, golden);
        assert_eq!(Header::parse(&bytes).expect("it is one"), header);
    }
}

#[test]
fn other_headers_are_refused_and_say_why() {
    let good = Header {
        op: 1,
        is_reply: false,
        error: None,
        request: 1,
        body_bytes: 0,
        data_bytes: 0,
    };
    let cases: [(usize, u8, &str); 8] = [
        (0, b'H', "not the node protocol"),
        (
            4,
            7,
            "version 7 of the node protocol is not spoken here, but 1",
        ),
        (6, 2, "flags"),
        (7, 1, "flags"),
        (16, 1, "flags"),
        (18, 1, "flags"),
        (23, 1, "at most 2097152 bytes of body"),
        (31, 1, "4194304 of data"),
    ];
    for (at, byte, why) in cases {
        let mut bytes = good.encode();
        bytes[at] = byte;
        let error = Header::parse(&bytes).expect_err(why);
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn kinds_of_errors_survive_the_wire() {
    for kind in [
        Kind::Invalid,
        Kind::NotFound,
        Kind::Denied,
        Kind::Conflict,
        Kind::Fenced,
        Kind::Exhausted,
        Kind::Unavailable,
        Kind::Lost,
        Kind::Corrupt,
        Kind::Internal,
    ] {
        let header = Header {
            op: 1,
            is_reply: true,
            error: Some(kind),
            request: 0,
            body_bytes: 0,
            data_bytes: 0,
        };
        let again = Header::parse(&header.encode()).expect("it is one");
        assert_eq!(again.error, Some(kind));
    }
    let cause = Error::new(Kind::Conflict, "b");
    let error = Error::caused(Kind::Lost, "a", cause);
    let again = super::error(Kind::Lost, &describe(&error));
    assert_eq!((again.kind, again.to_string()), (Kind::Lost, "a: b".into()));
    let odd = super::error(Kind::Lost, b"a\x1b[2J\xff\n");
    assert_eq!(odd.to_string(), "a [2J\u{fffd} ");
    let long = Error::new(Kind::Lost, "é".repeat(ERROR_BYTES_MAX));
    assert_eq!(describe(&long).len(), ERROR_BYTES_MAX);
}

#[test]
fn operations_have_the_numbers_of_version_1() {
    let codes: Vec<u8> = Op::ALL.iter().map(|op| op.code()).collect();
    assert_eq!(codes, (1..=39).collect::<Vec<_>>());
    for op in Op::ALL {
        assert_eq!(Op::parse(op.code()).expect("it is one"), *op);
    }
    for code in [0, 40, 255] {
        Op::parse(code).expect_err("none");
    }
}

#[test]
fn meetings_are_those_of_version_1() {
    let hello = Hello {
        access_key: "AK".to_owned(),
        nonce: [1; 32],
    };
    check_reply(&hello, &format!("02414b {}", "01".repeat(32)));
    check_reply(&Challenge { nonce: [2; 32] }, &"02".repeat(32));
    check_reply(&Prove { proof: [3; 32] }, &"03".repeat(32));
    let welcome = Welcome {
        proof: [4; 32],
        node: NodeId(5),
        epoch: Epoch(300),
    };
    check_reply(&welcome, &format!("{} 05 ac02", "04".repeat(32)));
    let hello = Hello {
        access_key: "A".repeat(129),
        nonce: [1; 32],
    };
    Hello::parse(&hello.encode()).expect_err("a long key");
}

#[test]
fn looks_are_those_of_version_1() {
    let from = |revision, from: &str| Cursor {
        revision: Revision(revision),
        from: from.to_owned(),
    };
    let list = |from| Look::List {
        folder: folder("a/"),
        delimiter: "/".to_owned(),
        items_max: 1000,
        from,
        with_metadata: true,
    };
    let buckets = Look::Buckets {
        from: "b".to_owned(),
    };
    for (look, op, golden) in [
        (buckets, 5, "0162"),
        (Look::Status(name("k")), 6, "0464617461 016b"),
        (list(None), 7, "0464617461 02612f 012f e807 00 01"),
        (
            list(Some(from(300, "a/x"))),
            7,
            "0464617461 02612f 012f e807 01ac02 03612f78 01",
        ),
        (Look::Statistics, 8, ""),
        (Look::Attach, 28, ""),
    ] {
        check_request(&Request::Look(look), op, golden);
    }
    let too_long = Request::Look(Look::Buckets {
        from: "x".repeat(2000),
    });
    Request::parse(5, &too_long.encode().1).expect_err("it is too long");
}

#[test]
fn changes_are_those_of_version_1() {
    let etag = Etag::new("x").expect("an etag");
    let (from, to) = (name("a"), name("b"));
    let copy = Change::Copy {
        from: from.clone(),
        to: to.clone(),
        metadata: Some((*b"m").into()),
        when: Precondition::Absent,
    };
    let rename = Change::Rename {
        from,
        to,
        when: Precondition::Etag(etag),
    };
    let rename_prefix = Change::RenamePrefix {
        from: folder("a/"),
        to: folder("b/"),
        when: Precondition::None,
    };
    let delete = Change::Delete {
        name: name("a"),
        when: Precondition::Generation(Revision(300)),
    };
    const A: &str = "0464617461 0161";
    for (change, op, golden) in [
        (Change::CreateBucket(bucket()), 3, "0464617461".to_owned()),
        (Change::DeleteBucket(bucket()), 4, "0464617461".to_owned()),
        (copy, 17, format!("{A} 0464617461 0162 01016d 01")),
        (rename, 18, format!("{A} 0464617461 0162 02 01 0178")),
        (
            rename_prefix,
            19,
            "0464617461 02612f 0464617461 02622f 00".to_owned(),
        ),
        (delete, 20, format!("{A} 03ac02")),
        (
            Change::DeletePrefix(folder("a/")),
            21,
            "0464617461 02612f".to_owned(),
        ),
        (
            Change::SetMetadata(name("a"), (*b"m").into()),
            22,
            format!("{A} 016d"),
        ),
        (
            Change::Consume(name("a"), ConsumerId(300)),
            23,
            format!("{A} ac02"),
        ),
    ] {
        check_request(&Request::Change(change), op, &golden);
    }
    let long = Change::SetMetadata(name("a"), vec![0; METADATA_BYTES_MAX + 1].into());
    let (op, body) = Request::Change(long).encode();
    let error = Request::parse(op.code(), &body).expect_err("it is too long");
    assert_eq!(error.kind, Kind::Exhausted);
}

#[test]
fn reads_are_those_of_version_1() {
    let open = Read::Open {
        name: name("k"),
        when: Precondition::None,
        range: 300..310,
        keep: Some(9),
    };
    let read = Read::More {
        open: 9,
        range: 0..DATA_BYTES_MAX as u64,
    };
    for (read, op, golden) in [
        (open, 9, "0464617461 016b 00 ac02 0a 0109"),
        (read, 10, "09 00 80808002"),
        (Read::Close { open: 9 }, 11, "09"),
    ] {
        check_request(&Request::Read(read), op, golden);
    }
    for (from, bytes) in [(0, DATA_BYTES_MAX as u64 + 1), (u64::MAX, 1)] {
        let body = encode(&(1_u32, from, bytes));
        Request::parse(Op::Read.code(), &body).expect_err("no such range");
    }
}

#[test]
fn writes_are_those_of_version_1() {
    let seal = Seal {
        writer: 1,
        name: name("k"),
        class: Class::Durable,
        terms: Terms {
            when: Precondition::Absent,
            metadata: (*b"m").into(),
            expires_at_ms: Some(300),
            readers: 2,
            etag: Some(Etag::digest([0xab; 16])),
        },
    };
    let digest = "ab".repeat(16);
    for (write, op, golden) in [
        (
            Write::Begin {
                writer: 1,
                reserve: 300,
            },
            12,
            "01 ac02".to_owned(),
        ),
        (
            Write::Put {
                writer: 1,
                position: None,
            },
            13,
            "01 00".to_owned(),
        ),
        (
            Write::Put {
                writer: 1,
                position: Some(300),
            },
            13,
            "01 01ac02".to_owned(),
        ),
        (
            Write::Truncate {
                writer: 1,
                len: 300,
            },
            14,
            "01 ac02".to_owned(),
        ),
        (
            Write::Seal(Box::new(seal)),
            15,
            format!("01 0464617461 016b 01 01 016d 01ac02 02 0100{digest}"),
        ),
        (Write::Abort { writer: 1 }, 16, "01".to_owned()),
        (Write::Detach { writer: 1 }, 38, "01".to_owned()),
        (
            Write::Attach {
                writer: 1,
                token: WriterToken([7; 16]),
                epoch: Epoch(300),
            },
            39,
            format!("01 {} ac02", "07".repeat(16)),
        ),
    ] {
        check_request(&Request::Write(write), op, &golden);
    }
}

#[test]
fn watches_are_those_of_version_1() {
    let watch = Watch {
        scope: Scope::Folder(folder("a/")),
        from: Some(Position {
            revision: Revision(300),
            n_more: 2,
        }),
        wait: Duration::from_secs(1),
    };
    let of_name = Watch {
        scope: Scope::Name(name("k")),
        from: None,
        wait: Duration::ZERO,
    };
    for (watch, golden) in [
        (watch, "00 0464617461 02612f 01ac0202 e807"),
        (of_name, "01 0464617461 016b 00 00"),
    ] {
        check_request(&Request::Watch(watch), 24, golden);
    }
    check_request(&Request::Cancel(300), 25, "ac02");
}

#[test]
fn moves_are_those_of_version_1() {
    for (what, op) in [
        (Move::Relocate(name("k")), 26),
        (Move::Persist(name("k")), 27),
        (Move::Scrub(name("k")), 30),
    ] {
        check_request(&Request::Move(what), op, "0464617461 016b");
    }
    check_request(&Request::Move(Move::MakeRoom(300)), 29, "ac02");
    for (bucket, key) in [("data", ""), ("Data", "k"), ("data", &*"k".repeat(2000))] {
        let body = encode(&(bucket, key));
        Request::parse(Op::Relocate.code(), &body).expect_err("no name");
        Request::parse(Op::Persist.code(), &body).expect_err("no name");
    }
}

const ENTRY: &str = "ac02 e807 010203 04 01 03782d32 01 026d6d 0105 06 0107";

#[test]
fn replies_are_those_of_version_1() {
    check_reply(&(), "");
    let buckets = Buckets {
        buckets: vec![(bucket(), 300)],
        are_all: true,
    };
    check_reply(&buckets, "01 0464617461 ac02 01");
    let in_s3 = Residency::S3(Arc::new(InS3 {
        name: name("k"),
        etag: Etag::new("x").expect("an etag"),
    }));
    let copies = [
        Residency::Dram(NodeId(1)),
        Residency::Disk(NodeId(1)),
        in_s3,
    ];
    let loss = Loss::Node {
        node: NodeId(1),
        epoch: Epoch(2),
    };
    for (placement, golden) in [
        (
            Placement::At(copies.into_iter().collect()),
            "00 03 0001 0101 02 0464617461 016b 01 0178",
        ),
        (Placement::Lost(loss), "01 01 02"),
        (Placement::Lost(Loss::Corrupt), "02"),
    ] {
        let entry = entry();
        check_reply(&Status { entry, placement }, &format!("{ENTRY} {golden}"));
    }
    let key = Key::new("k").expect("a key");
    let prefix = Prefix::new("k/").expect("a prefix");
    let page = Page {
        items: vec![Item::Object(key, entry()), Item::Folder(prefix)],
        next: Some(Cursor {
            revision: Revision(300),
            from: "k0".to_owned(),
        }),
    };
    let listed = Listed {
        page,
        revision: Revision(300),
    };
    check_reply(
        &listed,
        &format!("ac02 02 00 016b {ENTRY} 01 026b2f 01 026b30"),
    );
    let statistics = [("a_bytes".to_owned(), 300)].into_iter().collect();
    check_reply(&Statistics(statistics), "01 07615f6279746573 ac02");
    check_reply(&Found(entry()), ENTRY);
    let attached = Attached {
        path: "/g".to_owned(),
        token: Token([7; 16]),
        object_bytes_max: 300,
    };
    for (condition, golden) in [
        (Condition::Whole, "00"),
        (Condition::Repaired, "01"),
        (Condition::Lost, "02"),
        (Condition::Unreadable, "03"),
    ] {
        check_reply(&condition, golden);
    }
    check_reply(&attached, "022f67 07070707070707070707070707070707 ac02");
    for (lost_with, golden) in [(Some((NodeId(1), Epoch(2))), "01 01 02"), (None, "00")] {
        let entry = entry();
        let sealed = SealedAs { entry, lost_with };
        check_reply(&sealed, &format!("{ENTRY} {golden}"));
    }
}

#[test]
fn events_are_those_of_version_1() {
    let named = Event::Named {
        name: name("k"),
        entry: entry(),
    };
    let placed = Event::Placed {
        name: name("k"),
        id: entry().sealed.id,
        placement: Placement::Lost(Loss::Corrupt),
    };
    let events = [named, Event::Removed(name("k")), placed];
    let next = Position {
        revision: Revision(300),
        n_more: 1,
    };
    let watched = Watched::Events {
        bucket: bucket(),
        events: (1..).map(Revision).zip(events).collect(),
        next,
    };
    let golden =
        format!("00 0464617461 03  01 00 016b {ENTRY}  02 01 016b  03 02 016b 010203 02  ac02 01");
    check_reply(&watched, &golden);
    check_reply(&Watched::Compacted { now: next }, "01 ac02 01");
}

const MEMBER: site::Member = (NodeId(2), Epoch(300));
const ADDR: &str = "0c 3132372e302e302e313a3830";

#[test]
fn what_nodes_of_a_site_ask_is_that_of_version_1() {
    let join = |former, site| Site::Join {
        node: NodeId(2),
        former,
        addr: ([127, 0, 0, 1], 80).into(),
        site,
    };
    let commit = |base| Site::Commit {
        member: MEMBER,
        base,
        when: Precondition::Absent,
        op: index::Op::Delete(name("k")),
    };
    let names = Site::Names {
        member: MEMBER,
        piece: 1,
        from: 300,
    };
    let follow = Site::Follow {
        member: MEMBER,
        applied: Revision(300),
        peers: 1,
    };
    let confirm = Site::Confirm {
        member: MEMBER,
        revision: Revision(300),
        is_durable: true,
    };
    let leave = Site::Leave { member: MEMBER };
    let sevens = "07".repeat(16);
    for (site, op, golden) in [
        (join(None, None), 31, format!("02 00 {ADDR} 00")),
        (
            join(Some(Epoch(300)), Some([7; 16])),
            31,
            format!("02 01ac02 {ADDR} 01{sevens}"),
        ),
        (names, 32, "02ac02 01 ac02".to_owned()),
        (follow, 33, "02ac02 ac02 01".to_owned()),
        (
            commit(None),
            34,
            "02ac02 00 01 0a 01 00 05 0464617461 016b".to_owned(),
        ),
        (
            commit(Some(Revision(5))),
            34,
            "02ac02 01 01 0a 01 05 05 0464617461 016b".to_owned(),
        ),
        (confirm, 35, "02ac02 ac02 01".to_owned()),
        (leave, 36, "02ac02".to_owned()),
    ] {
        check_request(&Request::Site(site), op, &golden);
    }
    let hold = Read::Hold {
        id: entry().sealed.id,
        tenant: "acme".parse().expect("a tenant"),
        range: 300..304,
        keep: 1,
    };
    check_request(&Request::Read(hold), 37, "01 02 03 0461636d65 ac02 04 01");
    for addr in ["here:1", "127.0.0.1", "10.0.0.1:99999"] {
        let (_, body) = Request::Site(join(None, None)).encode();
        let head = [2, 0, u8::try_from(addr.len()).expect("short")];
        let text = [&head[..], addr.as_bytes(), &[0]].concat();
        assert_ne!(text, body);
        Request::parse(31, &text).expect_err(addr);
    }
}

#[test]
fn what_nodes_of_a_site_are_answered_is_that_of_version_1() {
    let joined = Joined {
        epoch: Epoch(300),
        n_pieces: 2,
        site: [7; 16],
    };
    check_reply(&joined, &format!("ac02 02 {}", "07".repeat(16)));
    check_reply(&PieceLen(300), "ac02");
    let followed = Followed {
        needed: None,
        last: Revision(301),
        peers: None,
    };
    check_reply(&followed, "00 ad02 00");
    let followed = Followed {
        needed: Some(Revision(300)),
        peers: Some((1, vec![(NodeId(2), ([127, 0, 0, 1], 80).into())])),
        ..followed
    };
    check_reply(&followed, &format!("01ac02 ad02 01 01 01 02 {ADDR}"));
    for (outcome, golden) in [
        (Outcome::Done, "00 ac02"),
        (Outcome::Nothing, "01 ac02"),
        (Outcome::Changed, "02 ac02"),
    ] {
        let at = Revision(300);
        check_reply(&Committed { outcome, at }, golden);
    }
}

#[test]
fn records_come_whole_or_are_refused() {
    let records = [5, 6].map(|revision| index::Record {
        revision: Revision(revision),
        op: index::Op::Delete(name("k")),
    });
    let data = to_data(&records.each_ref().map(index::Record::encode));
    assert_eq!(from_data(&data).expect("they are"), records);
    for len in 0..data.len() {
        let is_whole = len % (data.len() / 2) == 0;
        assert_eq!(from_data(&data[..len]).is_ok(), is_whole, "{len}");
    }
    assert!(from_data(&[255; 8]).is_err());
}

/// Whatever it is, it is one or it is not.
fn parse_all(body: &[u8]) {
    let is_any = [
        Hello::parse(body).is_ok(),
        Welcome::parse(body).is_ok(),
        Buckets::parse(body).is_ok(),
        Status::parse(body).is_ok(),
        Listed::parse(body).is_ok(),
        Statistics::parse(body).is_ok(),
        Found::parse(body).is_ok(),
        SealedAs::parse(body).is_ok(),
        WriterToken::parse(body).is_ok(),
        Written::parse(body).is_ok(),
        Watched::parse(body).is_ok(),
        Joined::parse(body).is_ok(),
        Followed::parse(body).is_ok(),
        Committed::parse(body).is_ok(),
        from_data(body).is_ok(),
    ];
    std::hint::black_box(is_any);
}

proptest! {
    #[test]
    fn anything_is_parsed_or_refused(op in 0..41_u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        is_parsed_or_refused(op, &body);
        parse_all(&body);
    }

    #[test]
    fn a_header_is_parsed_or_refused(
        bytes in prop::array::uniform32(any::<u8>()),
        is_close in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if is_close {
            bytes[..5].copy_from_slice(b"GEDS\x01");
            (bytes[6], bytes[7]) = (bytes[6] & 1, 0);
            bytes[16..20].copy_from_slice(&[0; 4]);
            (bytes[22], bytes[23]) = (bytes[22] & 0x3f, 0);
            bytes[26] &= 0x7f;
            bytes[27..].copy_from_slice(&[0; 5]);
        }
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert!(header.body_bytes <= BODY_BYTES_MAX && header.data_bytes <= DATA_BYTES_MAX);
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn names_and_metadata_survive_the_wire(
        key in "\\PC{1,40}",
        prefix in "\\PC{0,40}",
        metadata in prop::collection::vec(any::<u8>(), 0..100),
        serial in any::<u64>(),
        consumers in prop::collection::vec(any::<u128>(), 0..5),
    ) {
        let (from, to) = (folder(&prefix), folder(&key));
        let change = Change::RenamePrefix { from, to, when: Precondition::None };
        let (op, body) = Request::Change(change.clone()).encode();
        match Request::parse(op.code(), &body) {
            Ok(Request::Change(again)) => prop_assert_eq!(again, change),
            other => prop_assert!(false, "{other:?}"),
        }
        let mut entry = Entry::clone(&entry());
        entry.metadata = metadata.into();
        entry.sealed.id.serial = serial;
        entry.hints.consumers = consumers.into_iter().map(ConsumerId).collect();
        let found = Found(Arc::new(entry));
        prop_assert_eq!(Found::parse(&found.encode()).expect("it is one"), found);
    }
}
