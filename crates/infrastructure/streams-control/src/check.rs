//! Whether the segments that rows speak of are those that a store has: for who looks for what is wrong.

use crate::Control;
use crate::cuts::{Cut, Passed};
use crate::error::Corrupt;
use crate::names::{Name, StreamName};
use crate::rows::{Key, Row, State};
use crate::state::Stream;

/// What a store says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The offset behind its last byte.
    pub length: u64,
    pub is_sealed: bool,
}

/// Whether it is a row.
///
/// # Errors
/// [`Corrupt`].
pub fn row(key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
    let key = Key::decode(key)?;
    Row::decode(&key, value).map(drop)
}

impl Control {
    /// Tells of each segment that is not as the rows say: its name, and what is wrong. `find` says `None` of one that is not there.
    pub fn check_segments(
        &self,
        find: impl Fn(&str) -> Option<Found>,
        mut tell: impl FnMut(&str, &'static str),
    ) {
        for (scope, streams) in self.scopes.iter().map(|(name, it)| (name, &it.streams)) {
            // Others are being made, or deleted.
            for (stream, it) in streams.iter().filter(|(_, it)| it.is_visible()) {
                it.check(&name(scope, stream), &find, &mut tell);
            }
        }
    }
}

fn name(scope: &Name, stream: &Name) -> StreamName {
    StreamName {
        scope: scope.clone(),
        stream: stream.clone(),
    }
}

impl Stream {
    fn check(
        &self,
        name: &StreamName,
        find: &impl Fn(&str) -> Option<Found>,
        tell: &mut impl FnMut(&str, &'static str),
    ) {
        let nothing = Cut::new();
        let head = self.row.head.as_ref().map_or(&nothing, |head| &head.cut);
        let passed = Passed::new(&self.epochs, head);
        for segment in self.epochs.segments().filter(|it| !passed.has(it)) {
            let (id, name) = (segment.id, name.segment(segment.id));
            let Some(found) = find(&name) else {
                tell(&name, "its stream has it, and the store does not");
                continue;
            };
            let is_last = self.active().get(id).is_some();
            if self.row.state == State::Sealed && is_last && !found.is_sealed {
                tell(&name, "its stream is sealed, and it is not");
            }
            if let Some(length) = self.epochs.sealed_length(id) {
                if !found.is_sealed {
                    tell(&name, "others have taken its place, and it is not sealed");
                }
                if found.length != length {
                    tell(&name, "it is not as long as it was when it was sealed");
                }
            }
            let from = head.get(&id).and_then(|offset| u64::try_from(*offset).ok());
            if from.is_some_and(|from| from > found.length) {
                tell(&name, "its stream begins behind its end");
            }
        }
    }
}
