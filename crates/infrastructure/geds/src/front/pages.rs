//! Pages of names, each of one revision, and where the next begins as text.

use crate::error::Result;
use crate::index::{self, Cursor, Index, KEY_BYTES_MAX, Page, Query, Revision};

/// What was at a revision that is not known any more is listed as it is now, from the same key on.
pub(super) fn page(
    index: &Index,
    query: &Query<'_>,
    (revision, from): (Option<Revision>, String),
) -> Result<Page> {
    let now = index.cursor(&from);
    let cursor = match revision {
        Some(revision) => Cursor { revision, from },
        None => now.clone(),
    };
    let page = match index.list(query, &cursor) {
        Err(index::Error::Compacted { .. }) => index.list(query, &now),
        page => page,
    };
    Ok(page?)
}

/// Only digits and a point: keys may have what no document can.
pub(super) fn render(cursor: &Cursor) -> String {
    let mut text = format!("{}.", cursor.revision);
    for byte in cursor.from.bytes() {
        let digit = |half: u8| char::from_digit(half.into(), 16).expect("it is less than 16");
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// `None`: it is none.
pub(super) fn parse(text: &str) -> Option<Cursor> {
    let (revision, from) = text.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(revision) || from.len() > 2 * (KEY_BYTES_MAX + 1) || !from.len().is_multiple_of(2)
    {
        return None;
    }
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = from.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    Some(Cursor {
        revision: Revision(revision.parse().ok()?),
        from: String::from_utf8(bytes.collect::<Option<_>>()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_text_and_nothing_else_is_one() {
        for from in [
            "",
            "a",
            "\u{1}\0",
            "é\u{10ffff}",
            &"k".repeat(KEY_BYTES_MAX + 1),
        ] {
            let cursor = Cursor {
                revision: Revision(7),
                from: from.to_owned(),
            };
            assert_eq!(parse(&render(&cursor)), Some(cursor));
        }
        let long = format!("7.{}", "61".repeat(KEY_BYTES_MAX + 2));
        for text in [
            "",
            "7",
            ".61",
            "7.6",
            "7.6g",
            "+7.61",
            "-7.61",
            "7.c3",
            "7.é",
            "7.61.",
            "7 .61",
            "99999999999999999999.61",
            &long,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
