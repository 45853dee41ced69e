//! Lists of objects, in the three forms that S3 has.

use s3s::dto::*;
use s3s::{S3Request, S3Response};

use super::{Front, at, render, reply};
use crate::backend::{ListFrom, ListItem, ListPage, ListQuery, Listed};
use crate::fault::Fault;
use crate::names;
use crate::text::percent;

/// How keys and prefixes are written: XML cannot hold all of them.
pub(super) fn encoder(
    encoding: Option<&EncodingType>,
) -> Result<impl Fn(&str) -> String + Copy + use<>, Fault> {
    let is_url = match encoding.map(EncodingType::as_str) {
        None | Some("") => false,
        Some(EncodingType::URL) => true,
        Some(_) => return Err(Fault::InvalidArgument("the encoding type is url")),
    };
    Ok(move |text: &str| {
        if is_url {
            percent(text)
        } else {
            text.to_owned()
        }
    })
}

fn is_not_xml(character: char) -> bool {
    let is_blank = matches!(character, '\t' | '\n' | '\r');
    (character.is_control() && !is_blank) || matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// The beginning of a key that is told instead of it.
pub(crate) fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    let rest = key.strip_prefix(prefix)?;
    let at = rest.find(delimiter).filter(|_| !delimiter.is_empty())?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

struct Page {
    contents: Vec<Listed>,
    prefixes: Vec<String>,
    /// The last of both, where there are more.
    last: Option<String>,
    next: Option<String>,
}

impl Page {
    async fn of(
        front: &Front,
        bucket: &names::BucketName,
        query: ListQuery<'_>,
    ) -> Result<Self, Fault> {
        let found = if query.items_max == 0 {
            ListPage::default()
        } else {
            front.backend.list(bucket, query).await?
        };
        let mut page = Self {
            contents: Vec::new(),
            prefixes: Vec::new(),
            last: None,
            next: found.next,
        };
        for item in found.items {
            match item {
                ListItem::Object(listed) => {
                    page.last = Some(listed.key.to_string());
                    page.contents.push(listed);
                }
                ListItem::Prefix(prefix) => {
                    page.last = Some(prefix.clone());
                    page.prefixes.push(prefix);
                }
            }
        }
        if page.next.is_none() {
            page.last = None;
        }
        Ok(page)
    }

    fn n_items(&self) -> usize {
        self.contents.len() + self.prefixes.len()
    }

    fn common_prefixes(&self, encode: impl Fn(&str) -> String) -> Vec<CommonPrefix> {
        let render = |prefix: &String| CommonPrefix {
            prefix: Some(encode(prefix)),
        };
        self.prefixes.iter().map(render).collect()
    }
}

/// A marker may be what was told instead of keys: then the next page begins after all of them.
fn after<'a>(marker: &'a str, prefix: &str, delimiter: &str) -> ListFrom<'a> {
    match common_prefix(marker, prefix, delimiter) {
        _ if marker.is_empty() => ListFrom::Start,
        Some(common) if common.len() == marker.len() => ListFrom::AfterPrefix(marker),
        _ => ListFrom::After(marker),
    }
}

fn object(listed: &Listed, owner: Option<&Owner>, encode: impl Fn(&str) -> String) -> Object {
    let checksum = listed.checksum.as_ref();
    Object {
        checksum_algorithm: checksum
            .map(|checksum| vec![render::algorithm(checksum.value.algorithm())]),
        checksum_type: checksum.map(|checksum| render::coverage(checksum.coverage)),
        e_tag: Some(render::etag(&listed.etag)),
        key: Some(encode(listed.key.as_str())),
        last_modified: Some(render::time(listed.modified)),
        owner: owner.cloned(),
        restore_status: None,
        size: Some(render::size(listed.size)),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
    }
}

pub(super) async fn first_version(
    front: &Front,
    request: S3Request<ListObjectsInput>,
) -> Result<S3Response<ListObjectsOutput>, Fault> {
    let input = &request.input;
    let encode = encoder(input.encoding_type.as_ref())?;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let delimiter = input.delimiter.as_deref().unwrap_or("");
    let marker = input.marker.as_deref().unwrap_or("");
    let items_max = render::page(input.max_keys)?;
    let query = ListQuery {
        prefix,
        delimiter,
        from: after(marker, prefix, delimiter),
        items_max,
    };
    let page = Page::of(front, &bucket.name, query).await?;
    let owner = render::owner(&bucket.owner);
    let contents = page
        .contents
        .iter()
        .map(|listed| object(listed, Some(&owner), encode));
    reply(ListObjectsOutput {
        name: Some(input.bucket.clone()),
        // Clients decode all but this. Where they ask for the encoding, what XML cannot hold is encoded all the same.
        prefix: Some(if prefix.chars().any(is_not_xml) {
            encode(prefix)
        } else {
            prefix.to_owned()
        }),
        marker: Some(encode(marker)),
        max_keys: Some(render::number(items_max)),
        is_truncated: Some(page.next.is_some()),
        contents: Some(contents.collect()),
        common_prefixes: Some(page.common_prefixes(encode)),
        delimiter: input
            .delimiter
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(encode),
        // Without a delimiter clients go on from the last key.
        next_marker: page
            .last
            .as_deref()
            .filter(|_| !delimiter.is_empty())
            .map(encode),
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    })
}

pub(super) async fn second_version(
    front: &Front,
    request: S3Request<ListObjectsV2Input>,
) -> Result<S3Response<ListObjectsV2Output>, Fault> {
    let input = &request.input;
    let encode = encoder(input.encoding_type.as_ref())?;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let delimiter = input.delimiter.as_deref().unwrap_or("");
    let start_after = input.start_after.as_deref().unwrap_or("");
    let items_max = render::page(input.max_keys)?;
    let token = input.continuation_token.as_deref().unwrap_or("");
    let query = ListQuery {
        prefix,
        delimiter,
        from: if token.is_empty() {
            after(start_after, prefix, delimiter)
        } else {
            ListFrom::Cursor(token)
        },
        items_max,
    };
    let page = Page::of(front, &bucket.name, query).await?;
    let owner = (input.fetch_owner == Some(true)).then(|| render::owner(&bucket.owner));
    let contents = page
        .contents
        .iter()
        .map(|listed| object(listed, owner.as_ref(), encode));
    reply(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(encode(prefix)),
        max_keys: Some(render::number(items_max)),
        key_count: Some(render::number(page.n_items())),
        continuation_token: input.continuation_token.clone(),
        is_truncated: Some(page.next.is_some()),
        contents: Some(contents.collect()),
        common_prefixes: Some(page.common_prefixes(encode)),
        delimiter: input
            .delimiter
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(encode),
        encoding_type: input.encoding_type.clone(),
        start_after: input.start_after.as_deref().map(encode),
        next_continuation_token: page.next,
        request_charged: None,
    })
}

/// Each object has one version.
pub(super) async fn versions(
    front: &Front,
    request: S3Request<ListObjectVersionsInput>,
) -> Result<S3Response<ListObjectVersionsOutput>, Fault> {
    let input = &request.input;
    let encode = encoder(input.encoding_type.as_ref())?;
    let bucket = front
        .bucket(&request, at(&input.bucket, &input.expected_bucket_owner))
        .await?;
    let prefix = input.prefix.as_deref().unwrap_or("");
    let delimiter = input.delimiter.as_deref().unwrap_or("");
    let marker = input.key_marker.as_deref().unwrap_or("");
    let items_max = render::page(input.max_keys)?;
    let query = ListQuery {
        prefix,
        delimiter,
        from: after(marker, prefix, delimiter),
        items_max,
    };
    let page = Page::of(front, &bucket.name, query).await?;
    let owner = render::owner(&bucket.owner);
    let versions = page.contents.iter().map(|listed| {
        let object = object(listed, Some(&owner), encode);
        ObjectVersion {
            checksum_algorithm: object.checksum_algorithm,
            checksum_type: object.checksum_type,
            e_tag: object.e_tag,
            is_latest: Some(true),
            key: object.key,
            last_modified: object.last_modified,
            owner: object.owner,
            restore_status: None,
            size: object.size,
            storage_class: Some(ObjectVersionStorageClass::from_static(
                ObjectVersionStorageClass::STANDARD,
            )),
            version_id: Some("null".to_owned()),
        }
    });
    let next_marker = page.last.as_deref().map(encode);
    reply(ListObjectVersionsOutput {
        common_prefixes: Some(page.common_prefixes(encode)),
        delimiter: input
            .delimiter
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(encode),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(encode(marker)),
        max_keys: Some(render::number(items_max)),
        name: Some(input.bucket.clone()),
        next_version_id_marker: next_marker.as_ref().map(|_| "null".to_owned()),
        next_key_marker: next_marker,
        prefix: Some(encode(prefix)),
        version_id_marker: input.version_id_marker.clone(),
        versions: Some(versions.collect()),
        ..ListObjectVersionsOutput::default()
    })
}
