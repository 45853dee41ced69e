//! Golden bytes, and bytes that are something else.

use ids::Epoch;
use proptest::prelude::*;

use super::*;
use crate::index::{Index, Limits, Node};
use crate::testing::nearly;

const GOLDEN: &str = include_str!("../golden/index-1.txt");

fn name(key: &str) -> Name {
    Name {
        bucket: BucketName::new("data").expect("a bucket"),
        key: Key::new(key).expect("a key"),
    }
}

fn owner() -> ids::Name {
    "acme".parse().expect("a name")
}

fn folder(prefix: &str) -> Folder {
    Folder {
        bucket: BucketName::new("data").expect("a bucket"),
        prefix: Prefix::new(prefix).expect("a prefix"),
    }
}

fn id() -> ObjectId {
    ObjectId {
        node: NodeId(3),
        epoch: Epoch(2),
        serial: 300,
    }
}

fn in_s3() -> Residency {
    let etag = Etag::new("persisted-2").expect("an etag");
    let name = name("old/é");
    Residency::S3(InS3 { name, etag }.into())
}

fn sealed(class: Class) -> Sealed {
    Sealed {
        id: id(),
        size: 1 << 20,
        etag: Etag::new("d41d8cd98f00b204e9800998ecf8427e").expect("an etag"),
        class,
    }
}

/// Each kind once.
fn ops() -> Vec<Op> {
    let bucket = || BucketName::new("data").expect("a bucket");
    let (from, to) = (name("a/1"), name("b/1"));
    let (from_folder, to_folder) = (folder("a/"), folder(""));
    let disk = Residency::Disk(NodeId(3));
    vec![
        Op::CreateBucket {
            bucket: bucket(),
            owner: owner(),
            created_at_ms: 1_790_000_000_000,
        },
        Op::DeleteBucket(bucket()),
        Op::Seal(Box::new(Seal {
            name: name("table/part-00001/000001.parquet"),
            sealed: sealed(Class::Ephemeral),
            modified_at_ms: 1_790_000_000_000,
            metadata: Box::default(),
            expires_at_ms: Some(1_790_000_060_000),
            readers: 2,
            copies: [Residency::Dram(NodeId(3)), disk.clone()]
                .into_iter()
                .collect(),
        })),
        Op::SetMetadata(name("a/1"), Box::from(*b"\0\xff")),
        Op::Consume(name("a/1"), ConsumerId(u128::MAX)),
        Op::Delete(name("a/1")),
        Op::DeletePrefix(folder("a/")),
        Op::Rename {
            from: from.clone(),
            to: to.clone(),
        },
        Op::RenamePrefix {
            from: from_folder,
            to: to_folder,
        },
        Op::Copy {
            from,
            to,
            modified_at_ms: 1_790_000_000_001,
            metadata: Some(Box::from(*b"m")),
        },
        Op::AddCopy(id(), in_s3()),
        Op::DropCopy(id(), disk.clone(), Cause::Moved),
        Op::DropCopy(id(), disk, Cause::Corrupt),
        Op::NodeJoined(NodeId(3), Epoch(2)),
        Op::NodeLost(NodeId(3), Epoch(2)),
        Op::ForgetNode(NodeId(3)),
        Op::DeletedInS3(name("a/1"), id()),
    ]
}

fn records() -> Vec<Record> {
    let revisions = (1..).map(Revision);
    let records = revisions.zip(ops());
    records
        .map(|(revision, op)| Record { revision, op })
        .collect()
}

fn pieces() -> Vec<Piece> {
    let node = |epoch, is_heard, last_serial| Node {
        epoch: Epoch(epoch),
        is_heard,
        last_serial,
    };
    let lost = Loss::Node {
        node: NodeId(3),
        epoch: Epoch(2),
    };
    let entry = Entry {
        generation: Revision(299),
        modified_at_ms: 1_790_000_000_000,
        sealed: sealed(Class::Durable),
        metadata: Box::from(*b"m"),
        hints: Hints {
            expires_at_ms: None,
            readers: 0,
            consumers: Box::from([ConsumerId(1), ConsumerId(u128::MAX)]),
        },
    };
    vec![
        Piece::Head {
            revision: Revision(300),
            buckets: vec![(
                BucketName::new("data").expect("a bucket"),
                Bucket::new(owner(), 1_790_000_000_000),
            )],
            nodes: vec![
                (NodeId(3), node(2, true, 300)),
                (NodeId(4), node(7, false, 0)),
            ],
            last_epoch: Epoch(8),
            n_names: 1,
            n_objects: 1,
        },
        Piece::Objects(vec![
            (
                id(),
                Placement::At([in_s3(), Residency::Disk(NodeId(3))].into_iter().collect()),
            ),
            (id(), Placement::Lost(lost)),
            (id(), Placement::Lost(Loss::Corrupt)),
        ]),
        Piece::Names {
            bucket: BucketName::new("data").expect("a bucket"),
            rows: vec![(Key::new("a").expect("a key"), entry.into())],
        },
        Piece::Doomed(vec![(name("a/1"), id())]),
    ]
}

fn encoded() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let records = records().iter().map(Record::encode).collect();
    (records, pieces().iter().map(Piece::encode).collect())
}

#[test]
fn golden() {
    let (records, pieces) = encoded();
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let written: Vec<String> = records.iter().chain(&pieces).map(hex).collect();
    assert_eq!(written, GOLDEN.lines().collect::<Vec<_>>());
}

#[test]
fn what_was_written_is_read() {
    let (as_records, as_pieces) = encoded();
    for (record, bytes) in records().iter().zip(as_records) {
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(record));
    }
    for (piece, bytes) in pieces().iter().zip(as_pieces) {
        assert_eq!(Piece::decode(&bytes).as_ref(), Ok(piece));
    }
}

#[test]
fn a_typical_seal_is_small() {
    let n_bytes = records()[2].encode().len();
    assert!(n_bytes <= 100, "{n_bytes}");
}

#[test]
fn what_is_cut_or_too_long_or_of_another_version_is_refused() {
    let (records, pieces) = encoded();
    let is_refused = |bytes: &[u8], is_record| {
        let error = match is_record {
            true => Record::decode(bytes).err(),
            false => Piece::decode(bytes).err(),
        };
        assert!(matches!(error, Some(Error::Corrupt(_))), "{bytes:?}");
    };
    let all = records.into_iter().map(|bytes| (bytes, true));
    for (mut bytes, is_record) in all.chain(pieces.into_iter().map(|bytes| (bytes, false))) {
        for cut in 0..bytes.len() {
            is_refused(&bytes[..cut], is_record);
        }
        bytes.push(0);
        is_refused(&bytes, is_record);
        bytes.pop();
        bytes[0] = VERSION + 1;
        is_refused(&bytes, is_record);
    }
}

#[test]
fn what_no_type_allows_is_refused() {
    let bucket = |text, owner| RecordV1 {
        revision: 1,
        op: OpV1::CreateBucket(BucketV1(text, owner, 1)),
    };
    let delete = |key| RecordV1 {
        revision: 1,
        op: OpV1::Delete(TextsV1("data", key)),
    };
    let long = "k".repeat(1025);
    let bad = [
        bucket("No", "acme"),
        bucket("data", "No"),
        delete(""),
        delete(&long),
    ];
    for record in bad {
        let decoded = Record::decode(&encode(&record));
        assert!(matches!(decoded, Err(Error::Corrupt(_))));
    }
    let sealed = sealed(Class::Durable);
    for consumers in [vec![1, 1], vec![2, 1]] {
        let row = RowV1 {
            key: "k",
            generation: 1,
            sealed: (&sealed).into(),
            modified_at_ms: 1,
            metadata: b"",
            expires_at_ms: None,
            readers: 0,
            consumers,
        };
        let (bucket, rows) = ("data", vec![row]);
        let decoded = Piece::decode(&encode(&PieceV1::Names { bucket, rows }));
        assert!(matches!(decoded, Err(Error::Corrupt(_))));
    }
}

/// What was written, with one byte of it otherwise, is refused, or something that could have been written.
#[test]
fn what_is_nearly_a_record_is_refused_or_means_itself() {
    let (records, pieces) = encoded();
    for bytes in [records, pieces].concat() {
        nearly(&bytes).for_each(|bytes| is_refused_or_means_itself(&bytes));
    }
}

fn is_refused_or_means_itself(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
    let piece = Piece::decode(bytes);
    if let Ok(piece) = &piece {
        assert_eq!(&Piece::decode(&piece.encode()), &Ok(piece.clone()));
    }
    // Whatever it says, it is an index or an error.
    drop(Index::from_pieces(Limits::default(), [piece]));
}

proptest! {
    /// Neither garbage nor damage is taken for what was written, unless it is something that could have been.
    #[test]
    fn garbage_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let (records, pieces) = encoded();
        let all = [records, pieces].concat();
        let mut damaged = which.get(&all).clone();
        let at = at.index(damaged.len());
        damaged.splice(at.., bytes.iter().copied());
        for bytes in [bytes, damaged] {
            is_refused_or_means_itself(&bytes);
        }
    }
}
