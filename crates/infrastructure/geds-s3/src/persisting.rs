//! Objects on their way into S3.

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use geds_core::index::{InS3, Name, ObjectId, Precondition};
use geds_core::{Error, Kind, Result};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    UpdateVersion,
};
use store::s3::{Bucket, Upload};

use crate::{ID, KEY, Tier2, etag, failed, keys};

/// From so many bytes on an object is sent in parts, each as large, or larger if there would be too many.
const PART_BYTES: u64 = 16 << 20;
const PARTS_MAX: u64 = 10_000;
/// S3 takes so much metadata of users.
const METADATA_BYTES_MAX: usize = 2_000;
/// So many parts are on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// What is to be there.
#[derive(Clone, Debug)]
pub struct Persist {
    pub name: Name,
    /// Which one it is: if it is there already, it is not sent again but told.
    pub id: ObjectId,
    pub size: u64,
    /// As other tools see it.
    pub attributes: Attributes,
    /// What must be there now: nothing, an etag of S3, or whatever it is.
    pub when: Precondition,
}

impl Tier2 {
    /// Sends the pieces of an object, `size` bytes in all, from where they lie.
    ///
    /// # Errors
    /// `Conflict` when something else is there than `when` says; those of the pieces; what S3 says. What was there is there then, unless the
    /// answer was lost and could not be asked for again.
    pub async fn persist(
        &self,
        what: &Persist,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<InS3> {
        let bucket = self.bucket(&what.name)?;
        let path = keys::path(&what.name.key);
        let mode = mode(&what.when)?;
        let attributes = self.attributes(what);
        let sent = if what.size < PART_BYTES {
            put(&bucket, &path, (what, attributes), &mode, pieces).await
        } else {
            put_parts(&bucket, &path, (what, attributes), &mode, pieces).await
        };
        let etag = match sent {
            Ok(put) => etag(put.e_tag)?,
            // It may be ours: the answer to an earlier attempt was lost.
            Err(error) => match self.find(&what.name).await {
                Ok(Some(found)) if found.id == Some(what.id) && found.size == what.size => {
                    found.etag
                }
                _ => return Err(error),
            },
        };
        Ok(InS3 {
            name: what.name.clone(),
            etag,
        })
    }

    pub(super) fn attributes(&self, what: &Persist) -> Attributes {
        let key = keys::mapped(&what.name.key);
        let own = [(ID, Some(self.text_of(what.id, &what.name))), (KEY, key)];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let own: Vec<_> = own.collect();
        let mut left = own.iter().fold(METADATA_BYTES_MAX, |left, (name, value)| {
            left - name.len() - value.len()
        });
        let said = what.attributes.iter().filter(|(name, value)| {
            let bytes = match name {
                Attribute::Metadata(name) => name.len() + value.len(),
                _ => 0,
            };
            let is_said = bytes <= left && can_be_said(name, value);
            left -= if is_said { bytes } else { 0 };
            is_said
        });
        let said = said.map(|(name, value)| (name.clone(), value.clone()));
        let mut attributes: Attributes = said.collect();
        for (name, value) in own {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        }
        attributes
    }
}

/// Headers cannot say everything that metadata may be, and some of it is ours. What they cannot say is known here only.
fn can_be_said(name: &Attribute, value: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let is_fit = match name {
        Attribute::Metadata(name) => {
            let is_ours = [ID, KEY].iter().any(|own| name.eq_ignore_ascii_case(own));
            !is_ours && !name.is_empty() && name.bytes().all(is_token)
        }
        _ => true,
    };
    is_fit && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

fn mode(when: &Precondition) -> Result<PutMode> {
    match when {
        Precondition::None => Ok(PutMode::Overwrite),
        Precondition::Absent => Ok(PutMode::Create),
        Precondition::Etag(etag) => Ok(PutMode::Update(UpdateVersion {
            e_tag: Some(format!("\"{etag}\"")),
            version: None,
        })),
        Precondition::Generation(_) => Err(Error::new(
            Kind::Invalid,
            "S3 knows no generations of the index",
        )),
    }
}

async fn put(
    bucket: &Bucket,
    path: &Path,
    (what, attributes): (&Persist, Attributes),
    mode: &PutMode,
    pieces: impl Stream<Item = Result<Bytes>> + Send,
) -> Result<PutResult> {
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    check(what, pieces.iter().map(|piece| piece.len() as u64).sum())?;
    let options = PutOptions {
        mode: mode.clone(),
        attributes,
        ..PutOptions::default()
    };
    let payload: PutPayload = pieces.into_iter().collect();
    let put = bucket.objects().put_opts(path, payload, options).await;
    put.map_err(|error| failed("put into S3", error))
}

fn check(what: &Persist, size: u64) -> Result<()> {
    if size == what.size {
        return Ok(());
    }
    let told = format!("{size} bytes came of an object of {}", what.size);
    Err(Error::new(Kind::Internal, told))
}

async fn put_parts(
    bucket: &Bucket,
    path: &Path,
    (what, attributes): (&Persist, Attributes),
    mode: &PutMode,
    pieces: impl Stream<Item = Result<Bytes>> + Send,
) -> Result<PutResult> {
    let options = PutMultipartOptions {
        attributes,
        ..PutMultipartOptions::default()
    };
    let upload = bucket.upload(path, options).await;
    let upload = upload.map_err(|error| failed("begin an upload to S3", error))?;
    let sent = async {
        let parts = send(&upload, what, pieces).await?;
        let completed = upload.complete(parts, mode).await;
        completed.map_err(|error| failed("complete an upload to S3", error))
    };
    let sent = sent.await;
    if sent.is_err()
        && let Err(error) = upload.abort().await
        && !matches!(error, object_store::Error::NotFound { .. })
    {
        // It takes room in S3 until somebody clears up there.
        tracing::warn!(%error, key = %what.name.key, "abort an upload to S3");
    }
    sent
}

async fn send(
    upload: &Upload,
    what: &Persist,
    pieces: impl Stream<Item = Result<Bytes>> + Send,
) -> Result<Vec<PartId>> {
    let part_bytes = PART_BYTES.max(what.size.div_ceil(PARTS_MAX));
    let parts = parts(pieces, part_bytes).enumerate();
    let sent = parts.map(|(idx, part)| async move {
        let part = part?;
        let size = part.content_length() as u64;
        let part = upload.put(idx, part).await;
        Ok::<_, Error>((
            part.map_err(|error| failed("put a part into S3", error))?,
            size,
        ))
    });
    let sent: Vec<_> = sent.buffered(PARTS_AT_ONCE).try_collect().await?;
    check(what, sent.iter().map(|(_, size)| size).sum())?;
    Ok(sent.into_iter().map(|(part, _)| part).collect())
}

/// Pieces, cut and put together to parts of one size, but for the last.
fn parts(
    pieces: impl Stream<Item = Result<Bytes>> + Send,
    part_bytes: u64,
) -> impl Stream<Item = Result<PutPayload>> + Send {
    let state = (Box::pin(pieces), Bytes::new());
    stream::try_unfold(state, move |(mut pieces, mut rest)| async move {
        let mut part = Vec::new();
        let mut missing = geds_core::to_usize(part_bytes);
        while missing > 0 {
            if rest.is_empty() {
                match pieces.try_next().await? {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            let piece = rest.split_to(rest.len().min(missing));
            missing -= piece.len();
            if !piece.is_empty() {
                part.push(piece);
            }
        }
        let part = (!part.is_empty()).then(|| PutPayload::from_iter(part));
        Ok(part.map(|part| (part, (pieces, rest))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_they_can() {
        let user = |name: &str| Attribute::Metadata(name.to_owned().into());
        for (name, value, is_said) in [
            (user("a"), "b c", true),
            (Attribute::ContentType, "text/plain", true),
            (user("a"), "a\nb", false),
            (user("a"), "é", false),
            (user("a b"), "c", false),
            (user(""), "c", false),
            (user("GEDS-object"), "c", false),
            (user("geds-key"), "c", false),
            (Attribute::ContentType, "a\0b", false),
        ] {
            assert_eq!(can_be_said(&name, value), is_said, "{name:?} {value:?}");
        }
    }

    #[tokio::test]
    async fn parts_have_one_size_and_nothing_is_copied() {
        let all = Bytes::from((0..=255).collect::<Vec<u8>>());
        for cuts in [
            &[][..],
            &[256],
            &[10, 10, 30, 100],
            &[0, 255, 255],
            &[32, 64, 96],
        ] {
            let mut from = 0;
            let mut pieces = Vec::new();
            for to in cuts.iter().copied().chain([256]) {
                pieces.push(Ok(all.slice(from..to)));
                from = to;
            }
            let parts: Vec<_> = parts(stream::iter(pieces), 100)
                .try_collect()
                .await
                .expect("parts");
            let sizes: Vec<_> = parts.iter().map(PutPayload::content_length).collect();
            assert_eq!(sizes, [100, 100, 56], "{cuts:?}");
            let mut at = all.as_ptr();
            for bytes in parts.iter().flatten() {
                assert_eq!(bytes.as_ptr(), at);
                at = at.wrapping_add(bytes.len());
            }
        }
        let none = parts(stream::empty(), 100);
        assert_eq!(none.count().await, 0);
    }
}
