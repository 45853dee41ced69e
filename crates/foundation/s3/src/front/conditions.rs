//! Conditions of requests, and ranges.

use std::ops::Range;

use s3s::dto::{self, ETagCondition, Timestamp};

use crate::fault::Fault;
use crate::names::{Etag, PartNumber};
use crate::object::{Object, Precondition};

/// Of a read.
pub(super) struct Conditions<'a> {
    pub if_match: Option<&'a ETagCondition>,
    pub if_none_match: Option<&'a ETagCondition>,
    pub if_modified_since: Option<&'a Timestamp>,
    pub if_unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    /// As RFC 9110 says: a tag counts more than a time.
    pub(super) fn check(&self, object: &Object) -> Result<(), Fault> {
        let has_tag = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(tag) => tag.value() == object.etag.as_str(),
        };
        let is_later = |time: &Timestamp| {
            // What clients were told has no fractions of seconds.
            let modified = whole_second(object.modified);
            modified > *time
        };
        let is_match = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => has_tag(condition),
            (None, Some(time)) => !is_later(time),
            (None, None) => true,
        };
        if !is_match {
            return Err(Fault::Precondition);
        }
        let is_news = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => !has_tag(condition),
            (None, Some(time)) => is_later(time),
            (None, None) => true,
        };
        if !is_news {
            return Err(Fault::NotModified {
                etag: object.etag.clone(),
                modified: object.modified,
            });
        }
        Ok(())
    }

    /// Of what is copied: nobody is told that it has not changed.
    pub(super) fn check_source(&self, object: &Object) -> Result<(), Fault> {
        self.check(object).map_err(|fault| match fault {
            Fault::NotModified { .. } => Fault::Precondition,
            other => other,
        })
    }
}

fn whole_second(time: std::time::SystemTime) -> Timestamp {
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs()))
}

/// Of a write.
pub(super) fn precondition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> Result<Precondition, Fault> {
    // No content has a tag that is not one.
    let tag = |tag: &dto::ETag| {
        let tag = Etag::new(tag.value()).or_else(|| Etag::new("-"));
        tag.expect("the second one is a tag")
    };
    Ok(match (if_match, if_none_match) {
        (None, None) => Precondition::None,
        (None, Some(ETagCondition::Any)) => Precondition::Absent,
        (None, Some(ETagCondition::ETag(unwanted))) => Precondition::IsNot(tag(unwanted)),
        (Some(ETagCondition::Any), None) => Precondition::Present,
        (Some(ETagCondition::ETag(wanted)), None) => Precondition::Is(tag(wanted)),
        (Some(_), Some(_)) => return Err(Fault::NotImplemented("If-Match with If-None-Match")),
    })
}

/// What is read of an object.
pub(super) struct Selection {
    pub range: Range<u64>,
    /// It was asked for less than all, even if that is all.
    pub is_partial: bool,
    /// It was asked for by its number.
    pub part: Option<PartNumber>,
}

impl Selection {
    pub(super) fn new(
        object: &Object,
        range: Option<&dto::Range>,
        part: Option<i32>,
    ) -> Result<Self, Fault> {
        match (range, part) {
            (None, None) => Ok(Self {
                range: 0..object.size,
                is_partial: false,
                part: None,
            }),
            (Some(range), None) => {
                // Nothing is in an object without content, not even its last bytes.
                let range = range
                    .check(object.size)
                    .ok()
                    .filter(|range| !range.is_empty());
                Ok(Self {
                    range: range.ok_or(Fault::InvalidRange { size: object.size })?,
                    is_partial: true,
                    part: None,
                })
            }
            (None, Some(number)) => Self::part(object, number),
            (Some(_), Some(_)) => Err(Fault::Invalid(
                "a range and a part cannot be asked for at once",
            )),
        }
    }

    fn part(object: &Object, number: i32) -> Result<Self, Fault> {
        let number =
            PartNumber::new(number).ok_or(Fault::InvalidArgument("this is no part number"))?;
        if object.parts.is_empty() {
            if number.get() != 1 {
                return Err(Fault::NoSuchPart);
            }
            return Self::new(object, None, None);
        }
        let mut start = 0;
        for part in &*object.parts {
            let end = start + part.size;
            if part.number == number {
                return Ok(Self {
                    range: start..end,
                    is_partial: true,
                    part: Some(number),
                });
            }
            start = end;
        }
        Err(Fault::NoSuchPart)
    }

    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The header `Content-Range`, if there is one.
    pub(super) fn header(&self, object: &Object) -> Option<String> {
        let Range { start, end } = self.range;
        let size = object.size;
        (self.is_partial && start < end).then(|| format!("bytes {start}-{}/{size}", end - 1))
    }
}

#[cfg(test)]
mod tests;
