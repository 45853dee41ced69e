//! Attributes as those of S3, and back.

use object_store::{Attribute, Attributes, Error, Result, TagSet};
use s3::object::{self, OBJECT_TAGS_MAX, Tags, USER_METADATA_BYTES_MAX};

use crate::front::s3::meta::Head;

/// What is kept with a name. None if there is nothing to keep.
pub(super) fn metadata(attributes: &Attributes, tags: &TagSet) -> Result<Box<[u8]>> {
    if attributes.is_empty() && tags.is_empty() {
        return Ok(Box::default());
    }
    let head = Head {
        attributes: to_s3(attributes)?,
        tags: tags_to_s3(tags)?,
        ..Head::default()
    };
    Ok(head.encode(&[]))
}

pub(super) fn tags_to_s3(tags: &TagSet) -> Result<Tags> {
    Tags::from_header(tags.encoded()).ok_or_else(|| {
        refused(format!(
            "there are at most {OBJECT_TAGS_MAX} tags, of 128 and 256 characters, each of another name"
        ))
    })
}

/// As headers have them, where S3's clients find them.
pub(super) fn to_s3(attributes: &Attributes) -> Result<object::Attributes> {
    let mut into = object::Attributes::default();
    let mut user_bytes = 0;
    for (attribute, value) in attributes {
        let is_header = |byte| matches!(byte, b' '..=b'~');
        if !value.bytes().all(is_header) {
            return Err(refused(format!("{attribute:?} is not visible ASCII")));
        }
        let value = value.to_string();
        let field = match attribute {
            Attribute::CacheControl => &mut into.cache_control,
            Attribute::ContentDisposition => &mut into.content_disposition,
            Attribute::ContentEncoding => &mut into.content_encoding,
            Attribute::ContentLanguage => &mut into.content_language,
            Attribute::ContentType => &mut into.content_type,
            Attribute::Metadata(name) => {
                user_bytes += name.len() + value.len();
                let name = user_name(name)?;
                if into.user.insert(name, value).is_some() {
                    return Err(refused("two names differ only in capitals".to_owned()));
                }
                continue;
            }
            other => return Err(refused(format!("{other:?} is not kept"))),
        };
        *field = Some(value);
    }
    if user_bytes > USER_METADATA_BYTES_MAX {
        return Err(refused(format!(
            "an object has at most {USER_METADATA_BYTES_MAX} bytes of user metadata"
        )));
    }
    Ok(into)
}

/// A header's, so without capitals.
fn user_name(name: &str) -> Result<String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(refused(format!("{name:?} cannot be the name of a header")));
    }
    Ok(name.to_ascii_lowercase())
}

pub(super) fn from_s3(attributes: object::Attributes) -> Attributes {
    let fields = [
        (Attribute::CacheControl, attributes.cache_control),
        (
            Attribute::ContentDisposition,
            attributes.content_disposition,
        ),
        (Attribute::ContentEncoding, attributes.content_encoding),
        (Attribute::ContentLanguage, attributes.content_language),
        (Attribute::ContentType, attributes.content_type),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let user = attributes.user.into_iter();
    let user = user.map(|(name, value)| (Attribute::Metadata(name.into()), value));
    fields.chain(user).collect()
}

fn refused(why: String) -> Error {
    Error::NotSupported { source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_can_be_is_refused() {
        let attribute = |name: &'static str| Attribute::Metadata(name.into());
        for (attribute, value) in [
            (Attribute::StorageClass, "STANDARD"),
            (Attribute::ContentType, "a\nb"),
            (Attribute::ContentType, "ü"),
            (attribute(""), "a"),
            (attribute("a b"), "a"),
            (attribute("a:"), "a"),
            (attribute("ü"), "a"),
        ] {
            let attributes = Attributes::from_iter([(attribute.clone(), value)]);
            to_s3(&attributes).expect_err(&format!("{attribute:?} {value:?}"));
        }
        let twice = Attributes::from_iter([(attribute("a"), "1"), (attribute("A"), "2")]);
        to_s3(&twice).expect_err("one name");
        let long = "a".repeat(USER_METADATA_BYTES_MAX);
        let long = Attributes::from_iter([(attribute("a"), long)]);
        to_s3(&long).expect_err("too long");
    }

    #[test]
    fn tags_are_those_of_s3() {
        let mut tags = TagSet::default();
        tags.push("a b", "c&d");
        let read = tags_to_s3(&tags).expect("a tag");
        assert_eq!(read.as_slice(), [("a b".to_owned(), "c&d".to_owned())]);
        tags.push("a b", "");
        tags_to_s3(&tags).expect_err("twice");
    }
}
