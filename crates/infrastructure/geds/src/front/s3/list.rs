//! Lists, page by page, each of one revision.

use s3::backend::{Error, ListFrom, ListItem, ListPage, ListQuery, Listed};
use s3::names::{BucketName, Key};

use super::buckets::find;
use super::meta::{etag_of, head_of, modified_of};
use super::{S3, places};
use crate::front::pages::{page, parse, render};
use crate::index::successor;
use crate::index::{Cursor, Folder, Item, Prefix, Query, Revision};

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
            Ok::<_, Error>(Some(page(index, &query, from)?))
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
pub(super) fn begin(from: ListFrom<'_>) -> Result<Option<(Option<Revision>, String)>, Error> {
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

pub(super) fn item(item: Item) -> ListItem {
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
