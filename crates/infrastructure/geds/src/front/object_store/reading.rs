//! Objects that are read.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use super::conditions::{check_read, quoted};
use super::{Bucket, attributes, extensions, generic, told};
use crate::front::s3::meta;
use crate::index::Entry;
use crate::store::Reader;
use geds_core::to_usize;

pub(super) fn meta_of(location: Path, entry: &Entry) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: meta::modified_of(entry).into(),
        size: entry.sealed.size,
        e_tag: Some(quoted(entry)),
        version: None,
    }
}

impl Bucket {
    pub(super) async fn read(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let name = self.find(location)?;
        let tenant = &self.0.tenant;
        let (entry, reader) = if options.head {
            let status = match self.through() {
                Some(through) => through.status(tenant, &name).await,
                None => self.store().status(tenant, &name),
            };
            (status.map_err(|error| told(location, error))?.entry, None)
        } else {
            let reader = self.open(location).await?;
            (reader.entry().clone(), Some(reader))
        };
        let meta = meta_of(location.clone(), &entry);
        check_read(&options, &entry, &meta)?;
        let range = match &options.range {
            Some(range) => selected(range, meta.size)?,
            None => 0..meta.size,
        };
        let pieces =
            reader.map_or_else(|| stream::empty().boxed(), |reader| pieces(&reader, &range));
        Ok(GetResult {
            payload: GetResultPayload::Stream(pieces),
            attributes: attributes::from_s3(meta::head_of(&entry).attributes),
            extensions: extensions(entry.sealed.class),
            meta,
            range,
        })
    }

    /// Of one object, whatever its name stands for meanwhile.
    pub(super) async fn get_all(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        let reader = self.open(location).await?;
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            let range = selected(&GetRange::Bounded(range.clone()), reader.len())?;
            all.push(joined(pieces(&reader, &range), &range).await?);
        }
        Ok(all)
    }

    async fn open(&self, location: &Path) -> Result<Reader> {
        let name = self.find(location)?;
        let opened = self.store().open_anywhere(&self.0.tenant, &name);
        opened.await.map_err(|error| told(location, error))
    }
}

fn selected(range: &GetRange, size: u64) -> Result<Range<u64>> {
    range.is_valid().map_err(generic)?;
    range.as_range(size).map_err(generic)
}

/// Where they lie, without a copy, if they are in memory.
fn pieces(reader: &Reader, range: &Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    reader.stream(range.clone()).map_err(generic).boxed()
}

/// All in one, which is a copy only if there are several.
async fn joined(
    mut pieces: BoxStream<'static, Result<Bytes>>,
    range: &Range<u64>,
) -> Result<Bytes> {
    let Some(first) = pieces.next().await.transpose()? else {
        return Ok(Bytes::new());
    };
    let len = to_usize(range.end - range.start);
    if first.len() == len {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(len);
    all.extend_from_slice(&first);
    while let Some(piece) = pieces.next().await.transpose()? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
