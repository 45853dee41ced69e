//! Long-term storage of a container, for who does not own it. Nothing is written.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use store::Opened;

use crate::chunk::Chunk;
use crate::disk::{footer, manifest};
use crate::fence::Owner;
use crate::footer::Footer;
use crate::lts::{read_block, read_footer};
use crate::names::{ChunkName, ContainerId, Found, Layout};
use crate::objects::Objects;
use crate::{Config, Error, Result};

/// What is under a container's names.
#[derive(Debug)]
pub struct Inspector {
    layout: Layout,
    objects: Objects,
}

/// The objects that there are, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub chunks: Vec<ChunkName>,
    /// In order.
    pub manifests: Vec<u64>,
    pub n_foreign: usize,
}

impl Inspector {
    /// # Errors
    /// `Invalid`: there can be no such prefix.
    pub fn new(config: &Config, opened: Opened, container: ContainerId) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(&config.prefix, container)?,
            objects: Objects::new(opened, config.deadline),
        })
    }

    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self) -> Result<Listing> {
        let root = self.layout.root();
        let listed =
            self.objects
                .list(root)
                .try_fold(Listing::default(), async |mut listing, object| {
                    match self.layout.find(&object.location) {
                        Found::Chunk(name) => listing.chunks.push(name),
                        Found::Manifest(number) => listing.manifests.push(number),
                        Found::Foreign => listing.n_foreign += 1,
                    }
                    Ok(listing)
                });
        let mut listing = listed.await.map_err(|error| Error::Unavailable {
            doing: "list",
            object: root.to_string(),
            source: error.into(),
        })?;
        listing.manifests.sort_unstable();
        Ok(listing)
    }

    /// # Errors
    /// `NotFound`, `Corrupt`, `Unavailable`.
    pub async fn manifest(&self, number: u64) -> Result<Owner> {
        let path = self.layout.manifest(number);
        let range = 0..manifest::MANIFEST_BYTES_MAX;
        let bytes = self.objects.read(&path, range).await?;
        manifest::decode(&bytes).map_err(|what| Error::corrupt(path, what))
    }

    /// Reads all of a chunk, and looks whether it is what its entry says.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Unavailable`.
    pub async fn verify(&self, chunk: &Chunk) -> Result<()> {
        let footer = read_footer(&self.objects, &self.layout, chunk.name()).await?;
        if footer.chunk != *chunk {
            let path = self.layout.chunk(chunk.name());
            return Err(Error::corrupt(path, "its footer is not that of its entry"));
        }
        for block in 0..chunk.n_blocks() {
            read_block(&self.objects, &self.layout, chunk, block).await?;
        }
        Ok(())
    }
}

/// The footer of the object that has these bytes, and of its blocks those whose checksum is another one.
///
/// # Errors
/// `Corrupt`: it has none.
pub fn object(bytes: &Bytes) -> Result<(Footer, Vec<u32>)> {
    let from = bytes.len().saturating_sub(footer::FOOTER_BYTES_MAX);
    let footer = footer::decode(&bytes[from..], bytes.len() as u64)
        .map_err(|what| Error::corrupt("the object", what))?;
    let chunk = &footer.chunk;
    let start = chunk.range().start;
    let is_damaged = |block: &u32| {
        let range = chunk.block_range(*block);
        let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
        let data = bytes.get(at(range.start)..at(range.end));
        let idx = usize::try_from(*block).expect("there are few");
        data.is_none_or(|data| crc32c::crc32c(data) != chunk.checksums()[idx])
    };
    let damaged = (0..chunk.n_blocks()).filter(is_damaged).collect();
    Ok((footer, damaged))
}
