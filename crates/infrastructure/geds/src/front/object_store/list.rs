//! Lists. Those of paths are made of lists of keys: most keys are their own paths, and the others are looked for among all.

use std::ops::Bound;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::{DELIMITER, Path};
use object_store::{Error, Extensions, ListResult, ObjectMeta, Result};

use super::reading::meta_of;
use super::{Bucket, generic, told};
use crate::error;
use crate::front::pages::{page, parse, render};
use crate::index::{Cursor, Folder, Item, Key, Prefix, Query};
use crate::tier2::paths::{RESERVED, RESERVED_END, is_own, is_path, path_of};

const PAGE_ITEMS_MAX: usize = 1000;
/// So many keys are looked at before others may change the index.
const LOOK_KEYS_MAX: usize = 10_000;

/// Paths that begin in one way and come after another, page by page.
struct Walk {
    begin: String,
    after: Option<String>,
    /// Of keys; an empty one is none.
    delimiter: String,
    /// What keys begin with that may have such paths.
    keys: String,
    /// `None`: the end.
    next: Option<Cursor>,
}

#[derive(Default)]
struct Found {
    objects: Vec<ObjectMeta>,
    folders: Vec<Path>,
}

impl Bucket {
    pub(super) fn list_after(
        &self,
        prefix: Option<&Path>,
        after: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let after = after.map(|path| path.as_ref().to_owned());
        let state = (self.clone(), self.walk(begin(prefix), after, ""));
        let pages = stream::try_unfold(state, |(bucket, mut walk)| async move {
            let found = bucket.page(&mut walk, PAGE_ITEMS_MAX).await?;
            Ok::<_, Error>(found.map(|found| (stream::iter(found.objects).map(Ok), (bucket, walk))))
        });
        pages.try_flatten().boxed()
    }

    /// What is directly within. A folder may have no paths in it, but keys that are no paths.
    pub(super) async fn list_level(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let begin = begin(prefix);
        let is_root = begin.is_empty();
        let mut walk = self.walk(begin, None, DELIMITER);
        let mut all = Found::default();
        while let Some(found) = self.page(&mut walk, PAGE_ITEMS_MAX).await? {
            all.objects.extend(found.objects);
            all.folders.extend(found.folders);
        }
        let reserved = parsed(RESERVED);
        if is_root && !all.folders.contains(&reserved) && self.has_others()? {
            all.folders.insert(0, reserved);
        }
        Ok(all.told())
    }

    fn walk(&self, begin: String, after: Option<String>, delimiter: &str) -> Walk {
        // Keys that are no paths are anywhere.
        let is_reserved = begin.starts_with(RESERVED);
        let is_anywhere = is_reserved || (delimiter.is_empty() && RESERVED.starts_with(&begin));
        let is_behind = |after: &str| !is_reserved && after >= RESERVED_END;
        let from = match &after {
            Some(after) if !is_anywhere || is_behind(after) => format!("{after}\0"),
            _ => String::new(),
        };
        let namespace = self.store().namespace();
        Walk {
            keys: if is_anywhere {
                String::new()
            } else {
                begin.clone()
            },
            // What is under the prefix has no folders.
            delimiter: if is_reserved { "" } else { delimiter }.to_owned(),
            next: Some(namespace.read(|index| index.cursor(&from))),
            begin,
            after,
        }
    }

    /// The next that there are. `None`: there are no more.
    async fn page(&self, walk: &mut Walk, items_max: usize) -> Result<Option<Found>> {
        let mut found = Found::default();
        let Ok(prefix) = Prefix::new(&walk.keys) else {
            // No key is as long.
            return Ok(None);
        };
        let folder = Folder {
            bucket: self.0.bucket.clone(),
            prefix,
        };
        while let Some(Cursor { revision, from }) = walk.next.take() {
            let query = Query {
                folder: &folder,
                delimiter: &walk.delimiter,
                items_max: items_max - found.len(),
            };
            let page = match self.through() {
                Some(through) => through.list(&self.0.tenant, &query, &from).await,
                None => self.store().namespace().read(|index| {
                    self.check(index)?;
                    page(index, &query, (Some(revision), from))
                }),
            };
            let page = page.map_err(|error| told(&Path::default(), error))?;
            walk.next = page.next;
            for item in page.items {
                walk.take(item, &mut found);
            }
            if found.len() == items_max {
                break;
            }
        }
        Ok((found.len() > 0 || walk.next.is_some()).then_some(found))
    }

    /// Whether there are keys that are no paths.
    fn has_others(&self) -> Result<bool> {
        let mut last: Option<Key> = None;
        loop {
            let from = last
                .as_ref()
                .map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_str()));
            let looked = self.store().namespace().read(|index| {
                self.check(index)?;
                let names = index.names(&self.0.bucket)?;
                let keys = names.range::<str, _>((from, Bound::Unbounded));
                let mut keys = keys.map(|(key, _)| key).take(LOOK_KEYS_MAX);
                let mut last = None;
                let has_others = keys.any(|key| {
                    last = Some(key);
                    !is_own(key.as_str())
                });
                Ok::<_, error::Error>((has_others, last.cloned()))
            });
            match looked.map_err(|error| told(&Path::default(), error))? {
                (true, _) => return Ok(true),
                (false, None) => return Ok(false),
                (false, key) => last = key,
            }
        }
    }
}

impl Walk {
    fn take(&self, item: Item, found: &mut Found) {
        match item {
            Item::Object(key, entry) => {
                let path = path_of(key.as_str());
                let is_behind = self.after.as_deref().is_none_or(|after| *path > *after);
                // With a delimiter, what is elsewhere is not directly within.
                let is_within = self.delimiter.is_empty() || is_own(key.as_str());
                if is_within && is_behind && path.starts_with(&self.begin) {
                    found.objects.push(meta_of(parsed(&path), &entry));
                }
            }
            Item::Folder(prefix) => {
                let text = prefix.as_str();
                let text = text.strip_suffix(DELIMITER).unwrap_or(text);
                if is_path(text) {
                    found.folders.push(parsed(text));
                }
            }
        }
    }
}

impl Found {
    fn len(&self) -> usize {
        self.objects.len() + self.folders.len()
    }

    fn told(self) -> ListResult {
        ListResult {
            common_prefixes: self.folders,
            objects: self.objects,
            extensions: Extensions::new(),
        }
    }
}

/// How paths in a folder begin.
fn begin(prefix: Option<&Path>) -> String {
    match prefix.map(AsRef::as_ref) {
        None | Some("") => String::new(),
        Some(folder) => format!("{folder}{DELIMITER}"),
    }
}

fn parsed(path: &str) -> Path {
    Path::parse(path).expect("it is a path")
}

/// With a delimiter, keys that are no paths are told only of prefixes that begin with `!geds-key/`.
#[async_trait]
impl PaginatedListStore for Bucket {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        let delimiter = opts.delimiter.unwrap_or_default();
        let begin = prefix.unwrap_or_default().to_owned();
        let mut walk = self.walk(begin, opts.offset, &delimiter);
        if let Some(token) = &opts.page_token {
            let cursor = parse(token).ok_or_else(|| generic("the page token is none"))?;
            walk.next = Some(cursor);
        }
        let items_max = opts.max_keys.unwrap_or(PAGE_ITEMS_MAX);
        let items_max = items_max.clamp(1, PAGE_ITEMS_MAX);
        let found = self.page(&mut walk, items_max).await?.unwrap_or_default();
        Ok(PaginatedListResult {
            result: found.told(),
            page_token: walk.next.map(|cursor| render(&cursor)),
        })
    }
}
