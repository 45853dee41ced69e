//! Lists, as S3 gives them.

use std::sync::Arc;

use ::store::s3::List;
use ids::Name as Tenant;

use super::Through;
use crate::core::index::{Cursor, Entry, Etag, Item, Key, Name, Page, Prefix, Query, Revision};
use crate::error::{Error, Kind, Result};

impl Through<'_> {
    /// A page of names that are not less than `from`, as they are now. Of what is listed, neither metadata nor attributes are known.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn list(&self, tenant: &Tenant, query: &Query<'_>, from: &str) -> Result<Page> {
        let bucket = &query.folder.bucket;
        self.check(tenant, bucket)?;
        let after = before(from);
        let list = List {
            prefix: query.folder.prefix.as_str(),
            delimiter: query.delimiter,
            after: &after,
            items_max: query.items_max,
        };
        let page = self.cache.config.tier2.list(bucket, &list).await?;
        let mut items = Vec::with_capacity(page.objects.len() + page.prefixes.len());
        for prefix in page.prefixes {
            items.push(Item::Folder(Prefix::new(&prefix)?));
        }
        for object in page.objects {
            let name = Name {
                bucket: bucket.clone(),
                key: Key::new(&object.key)?,
            };
            let etag = Etag::new(&object.etag).map_err(|error| {
                let what = format!("S3 tells no etag of `{}`", name.key);
                Error::caused(Kind::Unavailable, what, error)
            })?;
            let entry = Arc::new(Entry {
                modified_at_ms: object.modified_ms,
                ..self.cache.entry(&name, etag, object.size)
            });
            items.push(Item::Object(name.key, entry));
        }
        items.sort_unstable_by(|one, other| text(one).cmp(text(other)));
        let last = items.last().filter(|_| page.is_cut).map(behind);
        items.retain(|item| text(item) >= from || matches!(item, Item::Folder(_)));
        Ok(Page {
            items,
            next: last.map(|from| Cursor {
                revision: Revision(0),
                from,
            }),
        })
    }
}

fn text(item: &Item) -> &str {
    match item {
        Item::Object(key, _) => key.as_str(),
        Item::Folder(prefix) => prefix.as_str(),
    }
}

/// What is not less than this comes after an item and, if that is a folder, after all that is in it, as far as keys do not begin with the last
/// of all characters there.
fn behind(item: &Item) -> String {
    match item {
        Item::Object(key, _) => format!("{key}\0"),
        Item::Folder(prefix) => format!("{prefix}{}\0", char::MAX),
    }
}

/// A text that comes before `from`, and hardly any other between them: S3 is told after what, not from where on.
fn before(from: &str) -> String {
    let mut before = from.to_owned();
    match before.pop() {
        None | Some('\0') => {}
        Some(last) => {
            // In the order of characters, without the surrogates.
            let less = ('\0'..last).next_back().expect("there is one before");
            before.push(less);
            before.push(char::MAX);
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_s3_is_told_comes_before_and_close() {
        for (from, expected) in [
            ("", ""),
            ("a\0", "a"),
            ("a\u{10ffff}\0", "a\u{10ffff}"),
            ("ab", "aa\u{10ffff}"),
            ("a/", "a.\u{10ffff}"),
            ("a\u{1}", "a\0\u{10ffff}"),
            ("\u{e000}", "\u{d7ff}\u{10ffff}"),
        ] {
            let before = before(from);
            assert_eq!(before, expected, "{from:?}");
            assert!(before.as_str() <= from);
        }
    }
}
