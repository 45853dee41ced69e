//! The names of one revision, in pages.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::history::{Past, Versions};
use super::names::{Folder, Key, Prefix, Revision, successor};
use super::object::Entry;
use super::state::Names;

/// More are not in one page.
pub const PAGE_ITEMS_MAX: usize = 10_000;

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub folder: &'a Folder,
    /// Names that have it after the prefix are told as folders. It may have any length; an empty one is none.
    pub delimiter: &'a str,
    /// At least one is listed.
    pub items_max: usize,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// What it lists is as it was then.
    pub revision: Revision,
    /// Names that are not less. What comes right after a key is the key with a NUL behind it.
    pub from: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub items: Vec<Item>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Object(Key, Arc<Entry>),
    /// At least one name begins so.
    Folder(Prefix),
}

/// The names of a bucket at a revision: those of the present, and what is to be said otherwise.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub names: &'a Names,
    pub past: Option<&'a Past>,
}

impl<'a> View<'a> {
    pub(crate) fn list(self, query: &Query<'_>, from: &Cursor) -> Page {
        let prefix = query.folder.prefix.as_str();
        let items_max = query.items_max.clamp(1, PAGE_ITEMS_MAX);
        let mut items = Vec::new();
        let mut next = None;
        let mut rows = self.rows(prefix.max(&from.from), from.revision);
        while let Some((key, entry)) = rows.next() {
            let Some(rest) = key.as_str().strip_prefix(prefix) else {
                break;
            };
            if items.len() == items_max {
                next = Some(Cursor {
                    revision: from.revision,
                    from: key.as_str().to_owned(),
                });
                break;
            }
            match rest.find(query.delimiter) {
                Some(at) if !query.delimiter.is_empty() => {
                    let folder = &key.as_str()[..prefix.len() + at + query.delimiter.len()];
                    let item = Prefix::new(folder).expect("it is a part of a key");
                    items.push(Item::Folder(item));
                    match successor(folder) {
                        Some(end) => rows = self.rows(&end, from.revision),
                        None => break,
                    }
                }
                _ => items.push(Item::Object(key.clone(), Arc::clone(entry))),
            }
        }
        Page { items, next }
    }

    fn rows(self, from: &str, at: Revision) -> Rows<'a> {
        Rows {
            at,
            names: not_less(self.names, from).peekable(),
            past: self.past.map(|past| not_less(past, from).peekable()),
        }
    }
}

/// From a text on, which need not be a key.
pub(crate) fn not_less<'a, V>(map: &'a BTreeMap<Key, V>, text: &str) -> Range<'a, Key, V> {
    map.range::<str, _>((Bound::Included(text), Bound::Unbounded))
}

struct Rows<'a> {
    at: Revision,
    names: Peekable<Range<'a, Key, Arc<Entry>>>,
    past: Option<Peekable<Range<'a, Key, Versions>>>,
}

impl<'a> Iterator for Rows<'a> {
    type Item = (&'a Key, &'a Arc<Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let names = &mut self.names;
            let is_next = |(key, _): &(&Key, _)| names.peek().is_none_or(|(name, _)| key <= name);
            let (key, entry) = match self.past.as_mut().and_then(|past| past.next_if(is_next)) {
                Some((key, versions)) => {
                    let present = self.names.next_if(|(name, _)| *name == key);
                    let after = versions.partition_point(|(revision, _)| *revision <= self.at);
                    let before = versions.get(after).map(|(_, before)| before);
                    (key, before.or(present.map(|(_, entry)| entry)))
                }
                None => {
                    let (key, entry) = self.names.next()?;
                    (key, Some(entry))
                }
            };
            if let Some(entry) = entry
                && entry.generation <= self.at
            {
                return Some((key, entry));
            }
        }
    }
}
