//! Golden bytes, and bytes that are something else.

use proptest::prelude::*;
use s3::names::Key;

use super::*;
use geds_core::testing::nearly;

const GOLDEN: &str = include_str!("../golden/s3-1.txt");

fn tags() -> Tags {
    let tags =
        [("team", "blue"), ("é", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Tags::new(tags.into(), OBJECT_TAGS_MAX).expect("two tags")
}

fn attributes() -> Attributes {
    Attributes {
        content_type: Some("text/plain".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        content_language: Some("en".to_owned()),
        content_disposition: Some("inline".to_owned()),
        cache_control: Some("no-store".to_owned()),
        expires: from_ms(1_790_000_000_000),
        user: [("who".to_owned(), "me".to_owned())].into(),
    }
}

fn part(number: i32, checksum: Checksum) -> Part {
    Part {
        number: PartNumber::new(number).expect("a number"),
        size: 5 << 20,
        md5: [0xab; 16],
        checksum,
        modified: from_ms(1_790_000_000_000 - i64::from(number)).expect("a time"),
    }
}

fn id() -> UploadId {
    UploadId::new("00112233445566778899aabbccddeeff").expect("an id")
}

fn of() -> Incarnation {
    Incarnation {
        owner: "acme".parse().expect("a tenant"),
        created_at_ms: 1_790_000_000_000,
    }
}

/// Written at once; made of parts; tagged after a native user had written it.
fn objects() -> Vec<(Head, Vec<Part>)> {
    let checksum = |value, coverage| Some(ObjectChecksum { value, coverage });
    let parts = vec![
        part(1, Checksum::Crc32([1; 4])),
        part(2, Checksum::Crc32c([2; 4])),
        part(4, Checksum::Crc64Nvme([3; 8])),
        part(9_999, Checksum::Sha1([4; 20])),
        part(10_000, Checksum::Sha256([5; 32])),
    ];
    vec![
        (
            Head {
                attributes: attributes(),
                tags: tags(),
                checksum: checksum(Checksum::Crc64Nvme([6; 8]), Coverage::Whole),
                ..Head::default()
            },
            Vec::new(),
        ),
        (
            Head {
                checksum: checksum(Checksum::Sha256([7; 32]), Coverage::Composite),
                n_parts: 5,
                upload: Some(id()),
                ..Head::default()
            },
            parts,
        ),
        (
            Head {
                tags: tags(),
                native: Box::from(*b"\0S3 not ours"),
                ..Head::default()
            },
            Vec::new(),
        ),
    ]
}

fn uploads() -> [UploadMeta; 5] {
    let algorithms = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];
    algorithms.map(|algorithm| UploadMeta {
        of: of(),
        key: Key::new("a/é").expect("a key"),
        attributes: Attributes::default(),
        tags: tags(),
        checksum: UploadChecksum {
            algorithm,
            coverage: coverage(algorithm == Algorithm::Sha256),
            is_asked: algorithm == Algorithm::Sha1,
        },
    })
}

fn part_meta() -> PartMeta {
    PartMeta {
        checksum: Checksum::Crc64Nvme([8; 8]),
    }
}

fn bucket_tags() -> BucketTags {
    BucketTags {
        of: of(),
        tags: tags(),
    }
}

fn encoded() -> Vec<Box<[u8]>> {
    let objects = objects();
    let objects = objects.iter().map(|(head, parts)| head.encode(parts));
    let uploads = uploads();
    let uploads = uploads.iter().map(UploadMeta::encode);
    let others = [part_meta().encode(), bucket_tags().encode()];
    objects.chain(uploads).chain(others).collect()
}

/// What may be made of bytes.
#[derive(Debug, PartialEq)]
enum Decoded {
    Object(Head, Vec<Part>),
    Upload(UploadMeta),
    Part(PartMeta),
    Tags(BucketTags),
}

fn decoded(bytes: &[u8]) -> Option<Decoded> {
    let all = [
        Head::decode_all(bytes).map(|(head, parts)| Decoded::Object(head, parts)),
        UploadMeta::decode(bytes).map(Decoded::Upload),
        PartMeta::decode(bytes).map(Decoded::Part),
        BucketTags::decode(bytes).map(Decoded::Tags),
    ];
    let mut all = all.into_iter().flatten();
    let first = all.next();
    assert_eq!(all.next(), None, "nothing is two things");
    first
}

fn encode_again(decoded: &Decoded) -> Box<[u8]> {
    match decoded {
        Decoded::Object(head, parts) => head.encode(parts),
        Decoded::Upload(upload) => upload.encode(),
        Decoded::Part(part) => part.encode(),
        Decoded::Tags(tags) => tags.encode(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let encoded = encoded();
    let lines: Vec<_> = encoded.iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(lines, GOLDEN.lines().collect::<Vec<_>>());
    let objects = objects()
        .into_iter()
        .map(|(head, parts)| Decoded::Object(head, parts));
    let uploads = uploads().into_iter().map(Decoded::Upload);
    let others = [Decoded::Part(part_meta()), Decoded::Tags(bucket_tags())];
    for (bytes, wanted) in encoded.iter().zip(objects.chain(uploads).chain(others)) {
        assert_eq!(decoded(bytes), Some(wanted));
        let head = Head::decode(bytes);
        assert_eq!(head, Head::decode_all(bytes).map(|(head, _)| head));
        for end in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..end]), None, "{} until {end}", hex(bytes));
        }
        let more = [bytes, &b"\0"[..]].concat();
        assert_eq!(decoded(&more), None);
        let mut later = bytes.to_vec();
        later[MARK.len() - 1] += 1;
        assert_eq!(decoded(&later), None, "another version");
    }
}

#[test]
fn as_many_parts_as_there_may_be_have_room() {
    let sha256 = |number| part(number, Checksum::Sha256([9; 32]));
    let parts: Vec<_> = (1..=10_000).map(sha256).collect();
    let mut head = Head {
        n_parts: 10_000,
        attributes: attributes(),
        ..Head::default()
    };
    let value = "v".repeat(s3::object::USER_METADATA_BYTES_MAX);
    head.attributes.user.insert("long".to_owned(), value);
    let bytes = head.encode(&parts);
    assert!(
        bytes.len() < crate::front::s3::METADATA_BYTES_MAX * 3 / 4,
        "{}",
        bytes.len()
    );
    assert_eq!(Head::decode_all(&bytes), Some((head, parts)));
}

#[test]
fn times_are_told_to_the_millisecond() {
    for ms in [0, 1, -1, i64::MIN + 1, 1_790_000_000_001] {
        assert_eq!(from_ms(ms).map(to_ms), Some(ms));
    }
}

#[test]
fn what_is_nearly_what_was_written_is_refused_or_means_itself() {
    for bytes in encoded() {
        for bytes in nearly(&bytes) {
            if let Some(found) = decoded(&bytes) {
                assert_eq!(decoded(&encode_again(&found)), Some(found));
            }
        }
    }
}

proptest! {
    /// Neither garbage nor damage is taken for what was written, unless it is something that could have been.
    #[test]
    fn garbage_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let all = encoded();
        let mut damaged = which.get(&all).to_vec();
        let at = at.index(damaged.len());
        damaged.splice(at.., bytes.iter().copied());
        for bytes in [[&MARK[..], &bytes].concat(), bytes, damaged] {
            if let Some(found) = decoded(&bytes) {
                prop_assert_eq!(decoded(&encode_again(&found)), Some(found));
            }
        }
    }
}
