//! What is answered from the index.

use std::collections::BTreeMap;

use geds_core::index::{
    BucketName, Cursor, Folder, Item, KEY_BYTES_MAX, Key, Name, PAGE_ITEMS_MAX, Page, Prefix,
    Revision,
};
use geds_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::shapes::{EntryV1, PlacementV1, TextsV1};
use super::{Op, Reply, decode, encode};
use crate::Status;

/// A page of a list has hardly more, unless one name alone has.
pub const PAGE_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub enum Look {
    /// In order, those whose names are not less.
    Buckets {
        from: String,
    },
    Status(Name),
    List {
        folder: Folder,
        delimiter: String,
        items_max: usize,
        /// `None`: the first page, of what is now.
        from: Option<Cursor>,
        with_metadata: bool,
    },
    Statistics,
    /// How to come to the node's memory.
    Attach,
}

#[derive(Serialize, Deserialize)]
struct ListV1<'a> {
    #[serde(borrow)]
    folder: TextsV1<'a>,
    delimiter: &'a str,
    items_max: u32,
    from: Option<(u64, &'a str)>,
    with_metadata: bool,
}

impl Look {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Buckets { from } => (Op::Buckets, encode(from)),
            Self::Status(name) => (Op::Status, encode(&TextsV1::from(name))),
            Self::List {
                folder,
                delimiter,
                items_max,
                from,
                with_metadata,
            } => {
                let from = from.as_ref().map(|at| (at.revision.0, at.from.as_str()));
                let list = ListV1 {
                    folder: folder.into(),
                    delimiter,
                    items_max: u32::try_from(*items_max).unwrap_or(u32::MAX),
                    from,
                    with_metadata: *with_metadata,
                };
                (Op::List, encode(&list))
            }
            Self::Statistics => (Op::Statistics, Vec::new()),
            Self::Attach => (Op::Attach, Vec::new()),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        Ok(match op {
            Op::Buckets => {
                let from: &str = decode(body)?;
                check_text(from)?;
                Self::Buckets {
                    from: from.to_owned(),
                }
            }
            Op::Status => Self::Status(decode::<TextsV1<'_>>(body)?.name()?),
            Op::List => {
                let list: ListV1<'_> = decode(body)?;
                let (_, from) = list.from.unwrap_or_default();
                check_text(list.delimiter)?;
                check_text(from)?;
                let cursor = |(revision, from): (u64, &str)| Cursor {
                    revision: Revision(revision),
                    from: from.to_owned(),
                };
                let items_max = usize::try_from(list.items_max).unwrap_or(usize::MAX);
                Self::List {
                    folder: list.folder.folder()?,
                    delimiter: list.delimiter.to_owned(),
                    items_max: items_max.clamp(1, PAGE_ITEMS_MAX),
                    from: list.from.map(cursor),
                    with_metadata: list.with_metadata,
                }
            }
            _ => {
                decode::<()>(body)?;
                if op == Op::Attach {
                    Self::Attach
                } else {
                    Self::Statistics
                }
            }
        })
    }
}

/// A position in a list may lie right behind a key.
fn check_text(text: &str) -> Result<()> {
    if text.len() <= KEY_BYTES_MAX + 1 {
        Ok(())
    } else {
        let what = "a delimiter and a position in a list have at most 1024 bytes";
        Err(Error::new(Kind::Invalid, what))
    }
}

/// Some buckets of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// When each was created: since 1970, in ms.
    pub buckets: Vec<(BucketName, u64)>,
    pub are_all: bool,
}

impl Reply for Buckets {
    fn encode(&self) -> Vec<u8> {
        let buckets = self.buckets.iter().map(|(name, at)| (name.as_str(), *at));
        encode(&(buckets.collect::<Vec<_>>(), self.are_all))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (buckets, are_all): (Vec<(&str, u64)>, bool) = decode(body)?;
        let buckets = buckets
            .into_iter()
            .map(|(name, at)| Ok((BucketName::new(name)?, at)));
        Ok(Self {
            buckets: buckets.collect::<Result<_>>()?,
            are_all,
        })
    }
}

impl Reply for Status {
    fn encode(&self) -> Vec<u8> {
        let shape: (EntryV1<'_>, PlacementV1<'_>) =
            ((&*self.entry).into(), (&self.placement).into());
        encode(&shape)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (entry, placement): (EntryV1<'_>, PlacementV1<'_>) = decode(body)?;
        Ok(Self {
            entry: entry.parse()?,
            placement: placement.parse()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
enum ItemV1<'a> {
    Object(&'a str, #[serde(borrow)] EntryV1<'a>),
    Folder(&'a str),
}

/// A page of names, and which revision it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub page: Page,
    pub revision: Revision,
}

#[derive(Serialize, Deserialize)]
struct ListedV1<'a> {
    revision: u64,
    #[serde(borrow)]
    items: Vec<ItemV1<'a>>,
    next: Option<&'a str>,
}

impl Reply for Listed {
    fn encode(&self) -> Vec<u8> {
        let items = self.page.items.iter().map(|item| match item {
            Item::Object(key, entry) => ItemV1::Object(key.as_str(), (&**entry).into()),
            Item::Folder(prefix) => ItemV1::Folder(prefix.as_str()),
        });
        encode(&ListedV1 {
            revision: self.revision.0,
            items: items.collect(),
            next: self.page.next.as_ref().map(|next| next.from.as_str()),
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let listed: ListedV1<'_> = decode(body)?;
        let revision = Revision(listed.revision);
        let item = |item| {
            Ok(match item {
                ItemV1::Object(key, entry) => Item::Object(Key::new(key)?, entry.parse()?),
                ItemV1::Folder(prefix) => Item::Folder(Prefix::new(prefix)?),
            })
        };
        let items: Result<_> = listed.items.into_iter().map(item).collect();
        let next = listed.next.map(|from| Cursor {
            revision,
            from: from.to_owned(),
        });
        let page = Page {
            items: items?,
            next,
        };
        Ok(Self { page, revision })
    }
}

/// Numbers of a node, by name, with units at the ends of the names: which there are is not a matter of the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics(pub BTreeMap<String, u64>);

impl Reply for Statistics {
    fn encode(&self) -> Vec<u8> {
        let numbers = self.0.iter().map(|(name, number)| (name.as_str(), *number));
        encode(&numbers.collect::<Vec<_>>())
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let numbers: Vec<(&str, u64)> = decode(body)?;
        let numbers = numbers
            .into_iter()
            .map(|(name, number)| (name.to_owned(), number));
        Ok(Self(numbers.collect()))
    }
}
