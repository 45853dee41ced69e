//! Each message is the bytes it was when its version was released, and no part of it is taken for all.

use std::fmt::Debug;

use geds_core::Kind;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Place, Reply, Request, Seal, Tell, kind_of, packet, parse};

const PLACE: Place = Place {
    segment: 300,
    first: 5,
    pages: 1,
};
use geds_core::testing::nearly;

fn seal() -> Seal<'static> {
    Seal {
        name: b"n",
        meta: b"mm",
        len: 4000,
        places: vec![PLACE],
        sums: vec![0xdead_beef],
    }
}

fn check<'a, T>(message: &T, golden: &'a str, bytes: &'a mut Vec<u8>)
where
    T: Serialize + Deserialize<'a> + Debug + PartialEq,
{
    *bytes = packet(message);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden, "{message:?}");
    let bytes = &*bytes;
    assert_eq!(parse::<T>(bytes).ok().as_ref(), Some(message));
    for len in 0..bytes.len() {
        assert!(
            parse::<T>(&bytes[..len]).is_err(),
            "{len} bytes of {message:?}"
        );
    }
    nearly(bytes).for_each(|bytes| is_parsed_or_refused(&bytes));
}

/// Whatever it is, it is one or it is not.
fn is_parsed_or_refused(bytes: &[u8]) {
    if let Ok(Request::Seal(seal)) = parse::<Request<'_>>(bytes) {
        let _is_consistent = seal.check().is_ok();
    }
    let _is_told = parse::<Tell<'_>>(bytes).is_ok();
    let _is_answer = parse::<Reply<'_>>(bytes).is_ok();
}

#[test]
fn requests_are_those_of_version_1() {
    let requests = [
        (
            Request::Hello {
                version: 1,
                token: b"me",
            },
            "0001026d65",
        ),
        (
            Request::Lease {
                least: 1,
                most: 4096,
            },
            "01018020",
        ),
        (Request::Open { name: b"a/b" }, "0203612f62"),
        (
            Request::Copy {
                name: b"a",
                position: 1 << 20,
            },
            "030161808040",
        ),
        (
            Request::Seal(seal()),
            "04016e026d6da01f01ac02050101effdb6f50d",
        ),
        (Request::Ask { question: b"?" }, "05013f"),
        (Request::CatchUp, "06"),
        (
            Request::Unmapped {
                segments: vec![7, 300],
            },
            "070207ac02",
        ),
    ];
    for (request, golden) in requests {
        check(&request, golden, &mut Vec::new());
    }
}

#[test]
fn what_is_told_is_that_of_version_1() {
    let told = [
        (Tell::Seal(seal()), "00016e026d6da01f01ac02050101effdb6f50d"),
        (
            Tell::Done {
                slot: 4095,
                generation: 1,
            },
            "01ff1f01",
        ),
    ];
    for (tell, golden) in told {
        check(&tell, golden, &mut Vec::new());
    }
}

#[test]
fn replies_are_those_of_version_1() {
    let replies = [
        (
            Reply::Refused {
                kind: 2,
                what: "no",
            },
            "0002026e6f",
        ),
        (
            Reply::Welcome {
                version: 1,
                segment_bytes: 1 << 24,
                n_slots: 4096,
                quota_bytes: 0,
            },
            "01018080800880 2000",
        ),
        (Reply::Leased(PLACE), "02ac020501"),
        (
            Reply::Opened {
                slot: 1,
                generation: 2,
                len: 3,
                meta: b"m",
                places: vec![PLACE],
                segments: vec![300],
            },
            "03010203016d01ac02050101ac02",
        ),
        (
            Reply::NotLent {
                is_over_quota: true,
                object: 9,
                len: 3,
                meta: b"m",
            },
            "04010903016d",
        ),
        (Reply::Copied { object: 9 }, "0509"),
        (Reply::Answer { answer: b"ok" }, "06026f6b"),
    ];
    for (reply, golden) in replies {
        check(&reply, &golden.replace(' ', ""), &mut Vec::new());
    }
}

#[test]
fn kinds_of_errors_survive_the_wire() {
    for kind in [
        Kind::Invalid,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Exhausted,
        Kind::Unavailable,
        Kind::Corrupt,
        Kind::Internal,
    ] {
        let bytes = packet(&Reply::refused(kind, "why"));
        let heard = match parse(&bytes) {
            Ok(Reply::Refused { kind, .. }) => kind_of(kind),
            other => unreachable!("{other:?}"),
        };
        assert_eq!(heard, kind);
    }
}

proptest! {
    #[test]
    fn anything_is_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..9_u8) {
        let bytes = [&[kind], &bytes[..]].concat();
        is_parsed_or_refused(&bytes);
    }
}
