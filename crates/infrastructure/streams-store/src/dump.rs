//! What files of a store say, line by line.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use streams_core::dump;
use wal::inspect::Dumped;

use crate::checkpoint;
use crate::error::{Error, Result};

pub use streams_core::dump::{Field, Fields as Line};

/// Takes a line.
pub type Each<'a> = dyn FnMut(Line) + 'a;

/// Of a file of the log: its head, its records, and what is behind them.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Unavailable`]: it cannot be read.
pub fn log(path: &Path, each: &mut Each<'_>) -> Result<()> {
    let bytes = read(path)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let told = wal::inspect::dump(name.unwrap_or_default(), &bytes, &mut |dumped| {
        each(of_log(&dumped));
    });
    told.map_err(|error| Error::reading(&error))
}

fn of_log(dumped: &Dumped<'_>) -> Line {
    match dumped {
        Dumped::Head {
            epoch,
            first,
            before,
            starts,
        } => {
            let starts = starts
                .iter()
                .map(|(log, start)| format!("{}:{start}", log.0));
            let starts: Vec<_> = starts.collect();
            vec![
                ("log", "head".into()),
                ("epoch", epoch.0.into()),
                ("first", first.0.into()),
                ("before", before.as_deref().unwrap_or("none").into()),
                ("starts", starts.join(",").into()),
            ]
        }
        Dumped::Record {
            offset,
            log,
            position,
            bytes,
        } => {
            let mut fields: Line = vec![
                ("log", "record".into()),
                ("at", (*offset).into()),
                ("position", position.0.into()),
                ("container", u64::from(log.0).into()),
                ("record_bytes", Field::Number(bytes.len() as u64)),
            ];
            match dump::record(&Bytes::copy_from_slice(bytes)) {
                Ok(record) => fields.extend(record),
                Err(error) => fields.push(("wrong", error.to_string().into())),
            }
            fields
        }
        Dumped::End { offset, what } => vec![
            ("log", "end".into()),
            ("at", (*offset).into()),
            ("there", (*what).into()),
        ],
    }
}

/// Of a checkpoint: its head, and what is in its pieces.
///
/// # Errors
/// As [`log`].
pub fn checkpoint(path: &Path, each: &mut Each<'_>) -> Result<()> {
    let damaged = |what: String| Error::corrupt(format!("{}: {what}", path.display()));
    let parts = checkpoint::parts(&read(path)?);
    let parts = parts.map_err(|error| damaged(error.to_string()))?;
    each(vec![
        ("piece", "file".into()),
        ("container", u64::from(parts.container).into()),
        ("position", parts.position.into()),
        ("pieces", Field::Number(parts.pieces.len() as u64)),
    ]);
    for piece in parts.pieces {
        let lines = dump::piece(&piece).map_err(|error| damaged(error.to_string()))?;
        lines.into_iter().for_each(&mut *each);
    }
    Ok(())
}

/// Of an object of long-term storage, as a file: its footer, and its blocks.
///
/// # Errors
/// As [`log`]; and a block whose checksum is another one.
pub fn chunk(path: &Path, each: &mut Each<'_>) -> Result<()> {
    let bytes = Bytes::from(read(path)?);
    let (footer, damaged) = streams_lts::inspect::object(&bytes).map_err(Error::corrupt)?;
    let (chunk, range) = (&footer.chunk, footer.chunk.range());
    let mut fields: Line = vec![
        ("chunk", chunk.name().to_string().into()),
        ("scope", (&*footer.scope).into()),
        ("stream", (&*footer.stream).into()),
        ("name", footer.segment.as_str().into()),
        ("segment", chunk.segment().0.into()),
        ("epoch", chunk.name().epoch.0.into()),
        ("offset", range.start.into()),
        ("bytes", (range.end - range.start).into()),
        ("blocks", u64::from(chunk.n_blocks()).into()),
        ("events", Field::Number(footer.events.len() as u64)),
    ];
    if let Some(at) = chunk.next_event_at() {
        fields.push(("next_event_at", at.into()));
    }
    each(fields);
    for block in 0..chunk.n_blocks() {
        let range = chunk.block_range(block);
        let is_damaged = damaged.contains(&block);
        each(vec![
            ("block", u64::from(block).into()),
            ("offset", range.start.into()),
            ("bytes", (range.end - range.start).into()),
            (
                "checksum",
                if is_damaged { "wrong" } else { "right" }.into(),
            ),
        ]);
    }
    match damaged.len() {
        0 => Ok(()),
        n => Err(Error::corrupt(format!("{n} blocks have changed"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::unavailable(format!("{}: {error}", path.display())))
}
