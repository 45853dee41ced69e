//! Lists, page by page, each of one revision.

use s3::backend::{Error, ListFrom, ListItem, ListPage, ListQuery, Listed};
use s3::names::{BucketName, Key};

use super::buckets::find;
use super::meta::{etag_of, head_of, modified_of};
use super::{S3, places};
use crate::core::index::names::successor;
use crate::core::index::{
    self, Cursor, Folder, Index, Item, KEY_BYTES_MAX, Page, Prefix, Query, Revision,
};
use crate::error;

impl S3 {
    pub(super) fn list(
        &self,
        bucket: &BucketName,
        query: ListQuery<'_>,
    ) -> Result<ListPage, Error> {
        let bucket = places::bucket(bucket)?;
        let from = begin(query.from)?;
        let page = self.store.namespace().read(|index| {
            find(index, &bucket)?;
            let (Ok(prefix), Some(from)) = (Prefix::new(query.prefix), from) else {
                // No key begins so, or comes so late.
                return Ok(None);
            };
            let query = Query {
                folder: &Folder { bucket, prefix },
                delimiter: query.delimiter,
                items_max: query.items_max,
            };
            page(index, &query, from).map(Some)
        })?;
        let Some(page) = page else {
            return Ok(ListPage::default());
        };
        Ok(ListPage {
            items: page.items.into_iter().map(item).collect(),
            next: page.next.map(|cursor| render(&cursor)),
        })
    }
}

/// From where on, and of which revision if not the present one. `None`: behind all.
fn begin(from: ListFrom<'_>) -> Result<Option<(Option<Revision>, String)>, Error> {
    let now = |from| Some((None, from));
    Ok(match from {
        ListFrom::Start => now(String::new()),
        ListFrom::After(text) => now(format!("{text}\0")),
        ListFrom::AfterPrefix(prefix) => successor(prefix).and_then(now),
        ListFrom::Cursor(text) => {
            let Cursor { revision, from } = parse(text).ok_or(Error::Cursor)?;
            Some((Some(revision), from))
        }
    })
}

/// What was at a revision that is not known any more is listed as it is now, from the same key on.
pub(super) fn page(
    index: &Index,
    query: &Query<'_>,
    (revision, from): (Option<Revision>, String),
) -> Result<Page, Error> {
    let now = index.cursor(&from);
    let cursor = match revision {
        Some(revision) => Cursor { revision, from },
        None => now.clone(),
    };
    let page = match index.list(query, &cursor) {
        Err(index::Error::Compacted { .. }) => index.list(query, &now),
        page => page,
    };
    Ok(page.map_err(error::Error::from)?)
}

fn item(item: Item) -> ListItem {
    match item {
        Item::Folder(prefix) => ListItem::Prefix(prefix.as_str().to_owned()),
        Item::Object(key, entry) => ListItem::Object(Listed {
            key: Key::new(key.as_str()).expect("the rule is the same"),
            size: entry.sealed.size,
            etag: etag_of(&entry),
            modified: modified_of(&entry),
            checksum: head_of(&entry).checksum,
        }),
    }
}

/// Only digits and a point: keys may have what no document can.
fn render(cursor: &Cursor) -> String {
    let mut text = format!("{}.", cursor.revision);
    for byte in cursor.from.bytes() {
        let digit = |half: u8| char::from_digit(half.into(), 16).expect("it is less than 16");
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

fn parse(text: &str) -> Option<Cursor> {
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
