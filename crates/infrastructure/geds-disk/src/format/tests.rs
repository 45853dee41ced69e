//! Golden bytes, and bytes that are something else.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use geds_core::testing::nearly;

const GOLDEN: &str = include_str!("golden/tier1-1.txt");

fn id(serial: u64) -> Id {
    Id {
        node: 7,
        epoch: 0x0102_0304_0506,
        serial,
    }
}

fn place(segment: u64, first: u32, pages: u32) -> Place {
    Place {
        segment: SegmentNo(segment),
        first,
        pages,
    }
}

fn some_entries() -> Vec<Entry> {
    let entry = |serial, len, places: &[Place], sums: &[u32]| Entry {
        id: id(serial),
        len,
        places: places.iter().copied().collect(),
        sums: sums.iter().copied().collect(),
        is_joined: false,
    };
    vec![
        entry(1, 0, &[], &[]),
        entry(2, 4096, &[place(1, 5, 1)], &[0xdead_beef]),
        entry(
            3,
            65537,
            &[place(1, 6, 10), place(u64::MAX, u32::MAX - 7, 7)],
            &[1, 2],
        ),
    ]
}

/// Each kind once.
fn records() -> Vec<Vec<u8>> {
    let small = Said::small(id(1), 0x0102_0304);
    vec![
        [&small.with_freed(&[])[..], b"the bytes"].concat(),
        Said::small(id(2), 0).with_freed(&[id(8)]),
        Said::entries(&some_entries()).with_freed(&[]),
        Said::nothing().with_freed(&[id(1), id(u64::MAX)]),
    ]
}

fn head() -> Head {
    Head {
        edition: 5,
        position: Position(1 << 40),
        epoch: 9,
        blocks: 1,
        entries: 3,
    }
}

fn block() -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in some_entries() {
        push_entry(&mut bytes, &entry);
    }
    let mut block = vec![0xff; SNAPSHOT_BLOCK_BYTES];
    payload_mut(&mut block)[..bytes.len()].copy_from_slice(&bytes);
    seal_block(&mut block, 5, 0, bytes.len());
    block
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory takes it");
        text
    })
}

#[test]
fn the_bytes_of_version_1_stay() {
    let mut page = vec![0xff; 4096];
    head().encode(&mut page);
    let mut lines: Vec<_> = records().iter().map(|record| hex(record)).collect();
    lines.push(hex(&page[..HEAD_BYTES]));
    // The rest of a block is zeros.
    let block = hex(&block());
    lines.push(block.trim_end_matches("00").to_owned());
    assert_eq!(lines.join("\n"), GOLDEN.trim_end());
}

#[test]
fn what_was_made_of_others_says_so() {
    let joined = Entry {
        is_joined: true,
        ..some_entries().remove(1)
    };
    let bytes = Said::entries([&joined]).with_freed(&[]);
    let golden = include_str!("golden/tier1-1-joined.txt");
    assert_eq!(hex(&bytes), golden.trim_end());
    let body = Body::Entries(vec![joined]);
    let freed = Vec::new();
    assert_eq!(Record::parse(&bytes), Ok(Record { freed, body }));
}

#[test]
fn what_is_written_is_read() {
    let records = records();
    let parsed: Vec<_> = records.iter().map(|bytes| Record::parse(bytes)).collect();
    let record = |freed: &[Id], body| {
        let freed = freed.to_vec();
        Ok(Record { freed, body })
    };
    let expected = [
        record(&[], Body::Small(id(1), 0x0102_0304, b"the bytes")),
        record(&[id(8)], Body::Small(id(2), 0, b"")),
        record(&[], Body::Entries(some_entries())),
        record(&[id(1), id(u64::MAX)], Body::Nothing),
    ];
    assert_eq!(parsed, expected);
    let weight = Weight {
        entries: 3,
        places: 3,
        sums: 3,
    };
    assert_eq!(entries_bytes(weight), records[2].len() as u64 - 4);
    let mut page = vec![0xff; 4096];
    head().encode(&mut page);
    assert_eq!(Head::decode(&page), Some(head()));
    let block = block();
    let mut payload = Reader(open_block(&block, 5, 0).expect("it is that block"));
    let read: Result<Vec<_>, _> = (0..3).map(|_| payload.entry()).collect();
    assert_eq!((read, payload.0), (Ok(some_entries()), &[][..]));
    assert_eq!(open_block(&block, 5, 1), None, "another place");
    assert_eq!(open_block(&block, 4, 0), None, "another edition");
}

#[test]
fn what_is_cut_off_is_refused() {
    for bytes in records() {
        // The bytes of an object have whatever length they have: the log says how long a record is.
        let least = bytes.len() - if bytes.ends_with(b"the bytes") { 9 } else { 0 };
        for n in 0..least {
            let parsed = Record::parse(&bytes[..n]);
            let is_shorter = match &parsed {
                Ok(Record {
                    body: Body::Entries(entries),
                    ..
                }) => entries[..] == some_entries()[..entries.len()],
                other => other.is_err(),
            };
            assert!(is_shorter, "{parsed:?}");
        }
    }
    let mut page = vec![0; 4096];
    head().encode(&mut page);
    for n in 0..HEAD_BYTES {
        assert_eq!(Head::decode(&page[..n]), None);
    }
    let block = block();
    for n in [0, 1, 7, 8, 100, SNAPSHOT_BLOCK_BYTES - 1] {
        assert_eq!(open_block(&block[..n], 5, 0), None);
    }
}

#[test]
fn every_flipped_bit_of_heads_and_blocks_is_found() {
    let mut page = vec![0; 4096];
    head().encode(&mut page);
    for bit in 0..HEAD_BYTES * 8 {
        page[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Head::decode(&page), None);
        page[bit / 8] ^= 1 << (bit % 8);
    }
    let mut block = block();
    for bit in (0..300 * 8).chain(SNAPSHOT_BLOCK_BYTES * 8 - 8..SNAPSHOT_BLOCK_BYTES * 8) {
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open_block(&block, 5, 0), None);
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let whole = some_entries().remove(2);
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = whole.clone();
        change(&mut entry);
        Record::parse(&Said::entries([&entry]).with_freed(&[])).map(|_| ())
    };
    assert_eq!(with(&|_| {}), Ok(()));
    for change in [
        &(|entry: &mut Entry| entry.places = vec![place(1, 6, 10)].into()) as &dyn Fn(&mut Entry),
        &|entry| entry.places = vec![place(1, 6, 10), place(1, 20, 0), place(1, 30, 7)].into(),
        &|entry| entry.places = vec![place(1, 6, 10), place(1, u32::MAX, 7)].into(),
        &|entry| entry.len = 1,
        &|entry| entry.len = u64::MAX,
        &|entry| entry.sums = vec![1].into(),
    ] {
        assert!(with(change).is_err());
    }
}

fn is_refused_or_means_itself(bytes: &[u8]) {
    let Ok(Record { freed, body }) = Record::parse(bytes) else {
        return;
    };
    let again = match body {
        Body::Small(id, sum, body) => [&Said::small(id, sum).with_freed(&freed)[..], body].concat(),
        Body::Entries(found) => Said::entries(&found).with_freed(&freed),
        Body::Nothing => Said::nothing().with_freed(&freed),
    };
    assert_eq!(again, bytes);
}

#[test]
fn what_is_nearly_a_record_a_head_or_a_block_is_refused_or_means_itself() {
    for record in records() {
        nearly(&record).for_each(|bytes| is_refused_or_means_itself(&bytes));
    }
    let mut page = vec![0; HEAD_BYTES];
    head().encode(&mut page);
    for bytes in nearly(&page) {
        let found = Head::decode(&bytes);
        assert!(found.is_none_or(|found| found == head()), "{bytes:02x?}");
    }
    let (block, used) = (block(), 1_000);
    for bytes in nearly(&block[..used]) {
        let bytes = [&bytes, &block[used..]].concat();
        let found = open_block(&bytes, 5, 0);
        assert!(found.is_none() || bytes.starts_with(&block));
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_or_means_itself(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0..5_u8,
        n_freed in 0..4_u8,
        n in 0_usize..300,
        change in any::<u8>(),
    ) {
        let mut bytes = bytes;
        let mut changed = records().swap_remove(usize::from(kind % 4));
        let n = n % changed.len();
        changed[n] ^= change;
        if let Some(head) = bytes.get_mut(..4) {
            head.copy_from_slice(&[VERSION, kind, n_freed, 0]);
        }
        for bytes in [bytes, changed] {
            is_refused_or_means_itself(&bytes);
        }
    }
}
