//! Being told of changes.

use std::sync::Arc;
use std::time::Duration;

use geds_core::index::{
    BucketName, Entry, Folder, Key, Name, ObjectId, Placement, Revision, Scope,
};
use geds_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::shapes::{EntryV1, ObjectIdV1, PlacementV1, TextsV1};
use super::{Reply, decode, encode};

/// Nobody waits longer for an answer; who wants to know more asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Of one answer.
pub const EVENTS_MAX: usize = 1_000;

/// Up to where somebody has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// All that happened until then.
    pub revision: Revision,
    /// And so many of the changes after it.
    pub n_more: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// A folder or a name.
    pub scope: Scope,
    /// `None`: answered at once with where now is.
    pub from: Option<Position>,
    pub wait: Duration,
}

#[derive(Serialize, Deserialize)]
struct WatchV1<'a> {
    #[serde(borrow)]
    scope: ScopeV1<'a>,
    from: Option<(u64, u64)>,
    wait_ms: u32,
}

#[derive(Serialize, Deserialize)]
enum ScopeV1<'a> {
    Folder(#[serde(borrow)] TextsV1<'a>),
    Name(TextsV1<'a>),
}

impl Watch {
    pub(super) fn encode(&self) -> Vec<u8> {
        let scope = match &self.scope {
            Scope::Folder(folder) => ScopeV1::Folder(folder.into()),
            Scope::Name(name) => ScopeV1::Name(name.into()),
            Scope::All => unreachable!("no client asks that"),
        };
        encode(&WatchV1 {
            scope,
            from: self.from.map(|from| (from.revision.0, from.n_more)),
            wait_ms: u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let watch: WatchV1<'_> = decode(body)?;
        let wait = Duration::from_millis(u64::from(watch.wait_ms));
        Ok(Self {
            scope: match watch.scope {
                ScopeV1::Folder(folder) => Scope::Folder(folder.folder()?),
                ScopeV1::Name(name) => Scope::Name(name.name()?),
            },
            from: watch.from.map(position),
            wait: wait.min(WAIT_MAX),
        })
    }
}

fn position((revision, n_more): (u64, u64)) -> Position {
    let revision = Revision(revision);
    Position { revision, n_more }
}

/// Something that happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It stands for other data, or something else is said of it.
    Named { name: Name, entry: Arc<Entry> },
    /// It stands for nothing any more.
    Removed(Name),
    /// Its data has moved, is lost, or is found.
    Placed {
        name: Name,
        id: ObjectId,
        placement: Placement,
    },
}

#[derive(Serialize, Deserialize)]
enum EventV1<'a> {
    Named(&'a str, #[serde(borrow)] EntryV1<'a>),
    Removed(&'a str),
    Placed(&'a str, ObjectIdV1, PlacementV1<'a>),
}

impl<'a> From<&'a Event> for EventV1<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Named { name, entry } => Self::Named(name.key.as_str(), (&**entry).into()),
            Event::Removed(name) => Self::Removed(name.key.as_str()),
            Event::Placed {
                name,
                id,
                placement,
            } => Self::Placed(name.key.as_str(), (*id).into(), placement.into()),
        }
    }
}

/// What is told to who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// What happened, oldest first; perhaps nothing, within the time.
    Events {
        bucket: BucketName,
        events: Vec<(Revision, Event)>,
        /// From where to watch on.
        next: Position,
    },
    /// It is not known any more what happened since: list again, and watch from here on.
    Compacted { now: Position },
}

#[derive(Serialize, Deserialize)]
enum WatchedV1<'a> {
    Events {
        bucket: &'a str,
        #[serde(borrow)]
        events: Vec<(u64, EventV1<'a>)>,
        next: (u64, u64),
    },
    Compacted((u64, u64)),
}

impl Reply for Watched {
    fn encode(&self) -> Vec<u8> {
        let pair = |at: &Position| (at.revision.0, at.n_more);
        encode(&match self {
            Self::Events {
                bucket,
                events,
                next,
            } => WatchedV1::Events {
                bucket: bucket.as_str(),
                events: events
                    .iter()
                    .map(|(at, what)| (at.0, what.into()))
                    .collect(),
                next: pair(next),
            },
            Self::Compacted { now } => WatchedV1::Compacted(pair(now)),
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (bucket, events, next) = match decode(body)? {
            WatchedV1::Events {
                bucket,
                events,
                next,
            } => (BucketName::new(bucket)?, events, next),
            WatchedV1::Compacted(now) => return Ok(Self::Compacted { now: position(now) }),
        };
        if events.len() > EVENTS_MAX {
            return Err(Error::new(Kind::Invalid, "too many changes are told"));
        }
        let name = |key: &str| {
            Ok::<_, Error>(Name {
                bucket: bucket.clone(),
                key: Key::new(key)?,
            })
        };
        let event = |(revision, event)| {
            let event = match event {
                EventV1::Named(key, entry) => Event::Named {
                    name: name(key)?,
                    entry: entry.parse()?,
                },
                EventV1::Removed(key) => Event::Removed(name(key)?),
                EventV1::Placed(key, id, placement) => Event::Placed {
                    name: name(key)?,
                    id: id.into(),
                    placement: placement.parse()?,
                },
            };
            Ok((Revision(revision), event))
        };
        let events: Result<_> = events.into_iter().map(event).collect();
        Ok(Self::Events {
            events: events?,
            next: position(next),
            bucket: bucket.clone(),
        })
    }
}

impl Watch {
    pub fn bucket(&self) -> &BucketName {
        match &self.scope {
            Scope::Folder(Folder { bucket, .. }) | Scope::Name(Name { bucket, .. }) => bucket,
            Scope::All => unreachable!("no client asks that"),
        }
    }
}
