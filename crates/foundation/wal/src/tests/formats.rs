//! The bytes of version 1, and what parsers do with others.

use expect_test::{Expect, expect};

use crate::format::{self, Header, Kept, SegmentId, Slot, Table};
use crate::{LogId, Position};

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<_> = bytes.chunks(16).map(|line| line.join(" ")).collect();
    lines.join("\n")
}

fn id(seq: u64) -> SegmentId {
    SegmentId {
        epoch: 3,
        seq,
        base: Position(0x1234),
    }
}

fn slot() -> Slot {
    let kept = Kept {
        start: Position(0x1000),
        first: Position(0x1100),
        end: Position(0x1200),
    };
    Slot {
        id: id(2),
        prev: Some(id(1)),
        chain: 0xaabb_ccdd,
        salt: 0x1122_3344,
        edition: 5,
        table: Table([(LogId(7), kept)].into()),
    }
}

fn records() -> Vec<u8> {
    let mut records = Vec::new();
    let parts: &[&[u8]] = &[b"rec", b"ord"];
    format::push(
        &mut records,
        (LogId(7), Position(0x1234)),
        (6, format::body_crc(parts)),
        parts,
    );
    format::push(&mut records, (LogId(8), Position(0x125a)), (0, 0), &[]);
    let chain = format::seal(
        &mut records,
        (0x1122_3344, 0xaabb_ccdd),
        Position(0x1200),
        |_, _, _| {},
    );
    records.extend(format::mark(Position(0x127a), 0x1122_3344, chain));
    records
}

#[test]
fn golden() {
    let check = |bytes: &[u8], expected: Expect| expected.assert_eq(&hex(bytes));
    check(
        &slot().encode()[..112],
        expect![[r#"
            43 53 4b 4e 57 41 4c 31 03 00 00 00 00 00 00 00
            02 00 00 00 00 00 00 00 34 12 00 00 00 00 00 00
            03 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
            34 12 00 00 00 00 00 00 dd cc bb aa 44 33 22 11
            05 00 00 00 00 00 00 00 01 00 00 00 62 a7 0a 70
            07 00 00 00 00 10 00 00 00 00 00 00 00 11 00 00
            00 00 00 00 00 12 00 00 00 00 00 00 00 00 00 00"#]],
    );
    check(
        &records(),
        expect![[r#"
        34 12 00 00 00 00 00 00 06 00 00 00 07 00 00 00
        d4 ac 96 79 34 00 00 00 dd cc bb aa 9c 55 a3 41
        72 65 63 6f 72 64 5a 12 00 00 00 00 00 00 00 00
        00 00 08 00 00 00 00 00 00 00 5a 00 00 00 9c 55
        a3 41 ea f7 cc ce 7a 12 00 00 00 00 00 00 00 00
        00 00 ff ff ff ff 00 00 00 00 00 00 00 00 ea f7
        cc ce 40 4d fa 70"#]],
    );
    assert_eq!(
        id(2).file_name(),
        "0000000000000003-0000000000000002-0000000000001234.wal"
    );
}

#[test]
fn a_slot_is_itself_again_or_nothing() {
    let slot = slot();
    let bytes = slot.encode();
    assert_eq!(Slot::newest(&bytes.repeat(2), slot.id), Some(slot.clone()));
    assert_eq!(Slot::newest(&bytes.repeat(2), id(1)), None);
    assert!(bytes[108..].iter().all(|byte| *byte == 0));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(Slot::newest(&damaged, slot.id), None);
    }
    let mut newer = slot.clone();
    newer.edition += 1;
    let both = [newer.encode(), bytes].concat();
    assert_eq!(Slot::newest(&both, slot.id), Some(newer));
    let mut torn = both;
    torn[100] ^= 1;
    assert_eq!(Slot::newest(&torn, slot.id), Some(slot));
}

#[test]
fn a_full_table_fits() {
    let mut slot = slot();
    let n_logs = u32::try_from(crate::LOGS_MAX).expect("few");
    let logs = (0..n_logs).map(|n| {
        let kept = Kept {
            first: Position(u64::from(n) << 40),
            start: Position(n.into()),
            end: Position(u64::MAX - u64::from(n)),
        };
        (LogId(n), kept)
    });
    slot.table = Table(logs.collect());
    assert_eq!(Slot::newest(&slot.encode(), slot.id), Some(slot));
}

#[test]
fn names_are_strict() {
    assert_eq!(SegmentId::parse(&id(9).file_name()), Some(id(9)));
    for name in [
        "",
        ".wal",
        "1-2-3.wal",
        "0000000000000003-0000000000000002-0000000000001234.wal.old",
        "000000000000000A-0000000000000002-0000000000001234.wal",
        "0000000000000003-0000000000000002-0000000000001234-0.wal",
        "+000000000000003-0000000000000002-0000000000001234.wal",
    ] {
        assert_eq!(SegmentId::parse(name), None, "{name}");
    }
}

#[test]
fn a_header_is_nothing_without_the_salt() {
    let records = records();
    let header = Header::parse(&records, 0x1122_3344).expect("sound");
    assert_eq!(
        (header.position, header.synced()),
        (Position(0x1234), Position(0x1200))
    );
    assert_eq!(Header::parse(&records, 0x1122_3345), None);
    for at in 0..32 {
        assert_eq!(Header::parse(&records[..at], 0x1122_3344), None);
        let mut damaged = records.clone();
        damaged[at] ^= 1;
        assert_eq!(Header::parse(&damaged, 0x1122_3344), None);
    }
}
