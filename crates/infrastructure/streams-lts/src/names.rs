//! What objects are called.
//!
//! ```text
//! <prefix>/<container>/<hash>/<segment>.E<epoch>.O<offset>.<random>    a chunk
//! <prefix>/<container>/manifest/<number>                               who owns the container: see `fence.rs`
//! ```
//! The hash, of two digits, spreads the chunks, since stores give each prefix so many requests a second.

use std::fmt;

use ids::Epoch;
use object_store::path::Path;
use streams_core::SegmentId;

use crate::{Error, Result};

const MANIFESTS: &str = "manifest";

/// A container of segments, all of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub u32);

/// Of one object, which is written once. Its fields are in the order in which segments are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkName {
    pub segment: SegmentId,
    /// Where in the segment it begins.
    pub offset: u64,
    /// Of the owner that wrote it.
    pub epoch: Epoch,
    /// Drawn for each attempt: none is ever made twice under one name.
    pub random: u64,
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            offset,
            epoch,
            random,
        } = self;
        let [.., hash] = crc32c::crc32c(&segment.0.to_be_bytes()).to_be_bytes();
        write!(
            f,
            "{hash:02x}/{}.E{epoch}.O{offset}.{random:016x}",
            segment.0
        )
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ChunkName {
    /// Only what [`Display`](fmt::Display) writes: two texts are never one name.
    fn parse(text: &str) -> Option<Self> {
        let (_, file) = text.split_once('/')?;
        let mut parts = file.split('.');
        let segment = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.strip_prefix('E')?.parse().ok()?;
        let offset = parts.next()?.strip_prefix('O')?.parse().ok()?;
        let random = u64::from_str_radix(parts.next()?, 16).ok()?;
        let name = Self {
            segment: SegmentId(segment),
            offset,
            epoch: Epoch(epoch),
            random,
        };
        (name.to_string() == text).then_some(name)
    }
}

/// What an object of a container is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Chunk(ChunkName),
    Manifest(u64),
    /// None of ours.
    Foreign,
}

/// Where the objects of one container are.
#[derive(Clone, Debug)]
pub(crate) struct Layout(Path);

impl Layout {
    pub(crate) fn new(prefix: &str, container: ContainerId) -> Result<Self> {
        let invalid = |_| Error::Invalid("the prefix cannot be one of objects");
        let prefix = Path::parse(prefix).map_err(invalid)?;
        Ok(Self(prefix.join(container.0.to_string())))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn chunk(&self, name: &ChunkName) -> Path {
        let name = name.to_string();
        name.split('/')
            .fold(self.0.clone(), |path, part| path.join(part))
    }

    pub(crate) fn manifest(&self, number: u64) -> Path {
        self.0.clone().join(MANIFESTS).join(format!("{number:020}"))
    }

    pub(crate) fn find(&self, path: &Path) -> Found {
        let Some(parts) = path.prefix_match(&self.0) else {
            return Found::Foreign;
        };
        let parts: Vec<_> = parts.collect();
        let text = |idx: usize| parts.get(idx).map_or("", |part| part.as_ref());
        if parts.len() != 2 {
            return Found::Foreign;
        }
        if text(0) == MANIFESTS {
            let is_number = text(1).len() == 20 && text(1).bytes().all(|b| b.is_ascii_digit());
            let number = text(1).parse().ok().filter(|_| is_number);
            return number.map_or(Found::Foreign, Found::Manifest);
        }
        let name = ChunkName::parse(&format!("{}/{}", text(0), text(1)));
        name.map_or(Found::Foreign, Found::Chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout::new("a/b", ContainerId(7)).expect("a layout")
    }

    fn found(text: &str) -> Found {
        layout().find(&Path::from(text))
    }

    #[test]
    fn names_say_what_an_object_is() {
        let name = ChunkName {
            segment: SegmentId(5),
            offset: 1 << 40,
            epoch: Epoch(3),
            random: 0xAB,
        };
        let path = layout().chunk(&name);
        assert_eq!(
            path.as_ref(),
            "a/b/7/96/5.E3.O1099511627776.00000000000000ab"
        );
        assert_eq!(layout().find(&path), Found::Chunk(name));
        let manifest = layout().manifest(12);
        assert_eq!(manifest.as_ref(), "a/b/7/manifest/00000000000000000012");
        assert_eq!(layout().find(&manifest), Found::Manifest(12));
        let root = Layout::new("", ContainerId(0)).expect("a layout");
        assert_eq!(root.root().as_ref(), "0");
        Layout::new("a//b", ContainerId(0)).expect_err("an empty part");
    }

    #[test]
    fn what_is_not_ours_is_foreign() {
        let good = "5.E3.O7.00000000000000ab";
        assert!(matches!(
            found(&format!("a/b/7/96/{good}")),
            Found::Chunk(_)
        ));
        for bad in [
            format!("a/b/7/97/{good}"),
            format!("a/b/8/96/{good}"),
            format!("a/b/7/{good}"),
            format!("a/b/7/96/x/{good}"),
            format!("a/b/7/96/{good}.x"),
            format!("a/b/7/96/0{good}"),
            format!("a/b/7/96/+{good}"),
            "a/b/7/96/5.E3.O7.00000000000000AB".to_owned(),
            "a/b/7/96/5.E3.O7.ab".to_owned(),
            "a/b/7/96/5.E3.O-7.00000000000000ab".to_owned(),
            "a/b/7/96/5.E99999999999999999999.O7.00000000000000ab".to_owned(),
            "a/b/7/96/5.O7.E3.00000000000000ab".to_owned(),
            "a/b/7/manifest/12".to_owned(),
            "a/b/7/manifest/0000000000000000001x".to_owned(),
            "a/b/7".to_owned(),
            String::new(),
        ] {
            assert_eq!(found(&bad), Found::Foreign, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_are_read_as_they_were_written(fields: [u64; 4]) {
            let [segment, offset, epoch, random] = fields;
            let name = ChunkName {
                segment: SegmentId(segment),
                offset,
                epoch: Epoch(epoch),
                random,
            };
            prop_assert_eq!(layout().find(&layout().chunk(&name)), Found::Chunk(name));
        }

        #[test]
        fn any_text_is_a_name_or_foreign(text in "[0-9a-fEO./]{0,40}") {
            if let Some(name) = ChunkName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
