//! What an index of many names costs: `index-bench [N [MIB]]`, a million names and 128 MiB of history unless said otherwise. One line of JSON for each
//! figure; times are those of the processor, because the machine may have other things to do.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::hint::black_box;

use geds_core::index::{
    BucketName, Class, Cursor, Etag, Folder, Index, Key, Limits, Name, NodeId, ObjectId, Op, Piece,
    Prefix, Query, Record, Residency, Revision, Seal, Sealed,
};
use ids::Epoch;

fn main() -> Result<(), Box<dyn Error>> {
    let arg = |idx| std::env::args().nth(idx);
    let n = arg(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let history_mib: usize = arg(2).map_or(Ok(128), |mib| mib.parse())?;
    bench(n, history_mib << 20)
}

fn bench(n: u64, history_bytes_max: usize) -> Result<(), Box<dyn Error>> {
    let limits = Limits {
        history_bytes_max,
        ..Limits::default()
    };
    let log = log(n)?;
    let log_bytes: usize = log.iter().map(Vec::len).sum();
    tell("record", log_bytes as f64 / log.len() as f64, "bytes");

    let memory = memory_bytes()?;
    let start = cpu_s()?;
    let mut index = Index::new(limits.clone());
    for bytes in &log {
        index.apply(Record::decode(bytes)?)?;
    }
    tell("replay", cpu_s()? - start, "s");
    let memory = memory_bytes()? - memory;
    tell("memory", memory / n as f64, "bytes/object");
    drop(log);
    list_all(&index, &index.cursor(""), "list", n)?;

    let start = cpu_s()?;
    let pieces: Vec<_> = index.pieces().map(|piece| piece.encode()).collect();
    tell("snapshot.encode", cpu_s()? - start, "s");
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    tell("snapshot", bytes as f64 / n as f64, "bytes/object");
    drop(index);

    let start = cpu_s()?;
    let decoded = pieces.iter().map(|bytes| Piece::decode(bytes));
    let mut index = Index::from_pieces(limits, decoded)?;
    tell("snapshot.load", cpu_s()? - start, "s");
    drop(pieces);
    let before = index.cursor("");
    list_all(&index, &before, "list.loaded", n)?;

    let start = cpu_s()?;
    let rename = Op::RenamePrefix {
        from: folder("table/part-000")?,
        to: folder("table/renamed-000")?,
    };
    let revision = Revision(before.revision.0 + 1);
    let commit = index.apply(Record {
        revision,
        op: rename,
    })?;
    tell("rename_100k", cpu_s()? - start, "s");
    tell(
        "rename_100k.changes",
        commit.changes.len() as f64,
        "changes",
    );
    list_all(&index, &before, "list.before", n)?;

    let start = cpu_s()?;
    let op = Op::NodeLost(NodeId(1), Epoch(1));
    let revision = Revision(revision.0 + 1);
    index.apply(Record { revision, op })?;
    tell("node_lost", cpu_s()? - start, "s");
    Ok(())
}

/// Seals in an order that is not that of the names.
fn log(n: u64) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let node = NodeId(1);
    let epoch = Epoch(1);
    let create = Op::CreateBucket {
        bucket: bucket()?,
        owner: "acme".parse()?,
        created_at_ms: 1_790_000_000_000,
    };
    let first = [create, Op::NodeJoined(node, epoch)];
    let seal = |serial: u64| -> Result<Op, Box<dyn Error>> {
        let k = serial * 7_919 % n;
        let digest = u128::from(serial)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_be_bytes();
        Ok(Op::Seal(Box::new(Seal {
            name: Name {
                bucket: bucket()?,
                key: Key::new(&format!("table/part-{:05}/{k:06}.parquet", k / 1_000))?,
            },
            sealed: Sealed {
                id: ObjectId {
                    node,
                    epoch,
                    serial,
                },
                size: 1 << 20,
                etag: Etag::digest(digest),
                class: Class::Ephemeral,
            },
            modified_at_ms: 1_790_000_000_000 + serial,
            metadata: Box::default(),
            expires_at_ms: None,
            readers: 1,
            copies: [Residency::Dram(node)].into_iter().collect(),
        })))
    };
    let ops = first.into_iter().map(Ok).chain((1..=n).map(seal));
    let records = ops.zip(1..).map(|(op, revision)| {
        Ok(Record {
            revision: Revision(revision),
            op: op?,
        }
        .encode())
    });
    records.collect()
}

fn bucket() -> Result<BucketName, geds_core::index::Error> {
    BucketName::new("warehouse")
}

fn folder(prefix: &str) -> Result<Folder, geds_core::index::Error> {
    Ok(Folder {
        bucket: bucket()?,
        prefix: Prefix::new(prefix)?,
    })
}

/// All names, the folders above them, and each name as if it were a folder.
fn list_all(index: &Index, from: &Cursor, what: &str, n: u64) -> Result<(), Box<dyn Error>> {
    let n = usize::try_from(n)?;
    let cases = [
        ("flat", "", "", n),
        ("folders", "table/", "/", n.div_ceil(1_000)),
        ("all_folders", "", ".", n),
    ];
    for (kind, prefix, delimiter, n_expected) in cases {
        let start = cpu_s()?;
        let n_items = list(index, from, &folder(prefix)?, delimiter)?;
        tell(&format!("{what}.{kind}"), cpu_s()? - start, "s");
        assert_eq!(n_items, n_expected, "{what} {kind}");
    }
    Ok(())
}

fn list(
    index: &Index,
    from: &Cursor,
    folder: &Folder,
    delimiter: &str,
) -> Result<usize, Box<dyn Error>> {
    let query = Query {
        folder,
        delimiter,
        items_max: 1_000,
    };
    let mut n_items = 0;
    let mut cursor = Some(from.clone());
    while let Some(from) = cursor {
        let page = index.list(&query, &from)?;
        n_items += black_box(&page.items).len();
        cursor = page.next;
    }
    Ok(n_items)
}

/// Of this process, on a processor: the machine may be busy with other things.
fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let ns = std::fs::read_to_string("/proc/self/schedstat")?;
    let ns = ns.split_whitespace().next().ok_or("no schedstat")?;
    Ok(ns.parse::<f64>()? / 1e9)
}

fn memory_bytes() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

fn tell(what: &str, value: f64, unit: &str) {
    println!(r#"{{"bench":"geds.index.{what}","value":{value:.3},"unit":"{unit}"}}"#);
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    bench(3_000, 64 << 20)
}
