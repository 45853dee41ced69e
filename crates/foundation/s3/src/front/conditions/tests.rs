use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::checksum::{Algorithm, Checksum, Hasher};
use crate::object::{Attributes, Class, Part, Tags};

fn object(parts: &[u64]) -> Object {
    let part = |(idx, size): (usize, &u64)| Part {
        number: PartNumber::new(i32::try_from(idx).expect("few") * 2 + 1).expect("a number"),
        size: *size,
        md5: [0; 16],
        checksum: checksum(),
        modified: UNIX_EPOCH,
    };
    Object {
        size: if parts.is_empty() {
            10
        } else {
            parts.iter().sum()
        },
        etag: Etag::new("tag").expect("an etag"),
        modified: UNIX_EPOCH + Duration::from_millis(1_000_500),
        attributes: Attributes::default(),
        tags: Tags::default(),
        checksum: None,
        parts: parts
            .iter()
            .enumerate()
            .map(part)
            .collect::<Vec<_>>()
            .into(),
        upload: None,
        class: Class::Durable,
    }
}

fn checksum() -> Checksum {
    Hasher::of(Algorithm::Crc32, b"")
}

#[test]
fn reads_are_conditional() {
    let tag = |text: &str| ETagCondition::parse_http_header(text.as_bytes()).expect("a condition");
    let at = |seconds| Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds));
    let [same, other, any] = ["\"tag\"", "\"other\"", "*"].map(tag);
    let [before, then, after] = [999, 1000, 1001].map(at);
    // If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since.
    let cases = [
        ((None, None, None, None), "Ok"),
        ((Some(&same), None, None, None), "Ok"),
        ((Some(&any), None, None, None), "Ok"),
        ((Some(&other), None, None, None), "Precondition"),
        ((None, Some(&same), None, None), "NotModified"),
        ((None, Some(&any), None, None), "NotModified"),
        ((None, Some(&other), None, None), "Ok"),
        ((None, None, Some(&before), None), "Ok"),
        ((None, None, Some(&then), None), "NotModified"),
        ((None, None, Some(&after), None), "NotModified"),
        ((None, None, None, Some(&before)), "Precondition"),
        ((None, None, None, Some(&then)), "Ok"),
        ((Some(&same), None, None, Some(&before)), "Ok"),
        ((None, Some(&other), Some(&after), None), "Ok"),
        ((Some(&other), Some(&same), None, None), "Precondition"),
    ];
    for (idx, (conditions, wanted)) in cases.into_iter().enumerate() {
        let (if_match, if_none_match, if_modified_since, if_unmodified_since) = conditions;
        let conditions = Conditions {
            if_match,
            if_none_match,
            if_modified_since,
            if_unmodified_since,
        };
        let name = |result: Result<(), Fault>| match result {
            Ok(()) => "Ok",
            Err(Fault::Precondition) => "Precondition",
            Err(Fault::NotModified { .. }) => "NotModified",
            Err(_) => "other",
        };
        assert_eq!(name(conditions.check(&object(&[]))), wanted, "{idx}");
        let wanted = if wanted == "NotModified" {
            "Precondition"
        } else {
            wanted
        };
        assert_eq!(name(conditions.check_source(&object(&[]))), wanted, "{idx}");
    }
}

#[test]
fn ranges_are_selected() {
    let cases = [
        ("bytes=0-0", Some((0..1, "bytes 0-0/10"))),
        ("bytes=3-", Some((3..10, "bytes 3-9/10"))),
        ("bytes=-3", Some((7..10, "bytes 7-9/10"))),
        ("bytes=0-99", Some((0..10, "bytes 0-9/10"))),
        ("bytes=-99", Some((0..10, "bytes 0-9/10"))),
        ("bytes=10-", None),
        ("bytes=10-20", None),
    ];
    for (text, wanted) in cases {
        let range = dto::Range::parse(text).expect("a range");
        let selection = Selection::new(&object(&[]), Some(&range), None);
        match (selection, wanted) {
            (Ok(selection), Some((range, header))) => {
                assert_eq!(selection.range, range, "{text}");
                assert_eq!(
                    selection.header(&object(&[])).as_deref(),
                    Some(header),
                    "{text}"
                );
            }
            (Err(Fault::InvalidRange { size: 10 }), None) => {}
            (other, _) => panic!("{text}: {}", other.is_ok()),
        }
    }
    let empty = Object {
        size: 0,
        ..object(&[])
    };
    for text in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
        let range = dto::Range::parse(text).expect("a range");
        let refused = Selection::new(&empty, Some(&range), None);
        assert!(
            matches!(refused, Err(Fault::InvalidRange { size: 0 })),
            "{text}"
        );
    }
}

#[test]
fn parts_are_selected() {
    let parts = object(&[5, 7, 2]);
    for (number, wanted) in [
        (1, Some(0..5)),
        (3, Some(5..12)),
        (5, Some(12..14)),
        (2, None),
        (0, None),
        (6, None),
    ] {
        let selection = Selection::new(&parts, None, Some(number));
        assert_eq!(
            selection.ok().map(|selection| selection.range),
            wanted,
            "{number}"
        );
    }
    let whole = Selection::new(&object(&[]), None, Some(1)).expect("it has one part");
    assert_eq!((whole.range.clone(), whole.is_partial), (0..10, false));
    assert!(Selection::new(&object(&[]), None, Some(2)).is_err());
}

#[test]
fn writes_are_conditional() {
    let condition =
        |text: &str| ETagCondition::parse_http_header(text.as_bytes()).expect("a condition");
    let tag = Etag::new("a").expect("an etag");
    let [any, a] = ["*", "\"a\""].map(condition);
    let cases = [
        (None, None, Some(Precondition::None)),
        (Some(&any), None, Some(Precondition::Present)),
        (Some(&a), None, Some(Precondition::Is(tag.clone()))),
        (None, Some(&any), Some(Precondition::Absent)),
        (None, Some(&a), Some(Precondition::IsNot(tag))),
        (Some(&a), Some(&any), None),
    ];
    for (if_match, if_none_match, wanted) in cases {
        assert_eq!(precondition(if_match, if_none_match).ok(), wanted);
    }
}
