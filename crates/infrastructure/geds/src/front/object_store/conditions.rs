//! What must hold of an object that is read or written.

use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, PutMode, Result};

use crate::index::{Entry, Etag, Precondition};

/// As HTTP and S3 tell it.
pub(super) fn quoted(entry: &Entry) -> String {
    format!("\"{}\"", entry.sealed.etag)
}

/// With or without its quotation marks.
fn unquoted(etag: &str) -> &str {
    let inner = etag
        .strip_prefix('"')
        .and_then(|etag| etag.strip_suffix('"'));
    inner.unwrap_or(etag)
}

pub(super) fn to_write(path: &Path, mode: &PutMode) -> Result<Precondition> {
    let refused = |why: String| Error::Precondition {
        path: path.to_string(),
        source: why.into(),
    };
    match mode {
        PutMode::Overwrite => Ok(Precondition::None),
        PutMode::Create => Ok(Precondition::Absent),
        PutMode::Update(version) => {
            if let Some(version) = &version.version {
                return Err(refused(format!("no object has the version `{version}`")));
            }
            let etag = version
                .e_tag
                .as_deref()
                .ok_or_else(|| Error::NotSupported {
                    source: "an update needs the etag of what it replaces".into(),
                })?;
            let found = Etag::new(unquoted(etag));
            let found = found.map_err(|error| refused(format!("{etag}: {error}")))?;
            Ok(Precondition::Etag(found))
        }
    }
}

/// As HTTP has it: an etag goes before a date.
pub(super) fn check_read(options: &GetOptions, entry: &Entry, meta: &ObjectMeta) -> Result<()> {
    if let Some(version) = &options.version {
        return Err(Error::NotSupported {
            source: format!("there are no versions, so also not `{version}`").into(),
        });
    }
    let etag = entry.sealed.etag.to_string();
    let modified = meta.last_modified;
    let is_as_wanted = match (&options.if_match, options.if_unmodified_since) {
        (Some(list), _) => names(list, &etag),
        (None, Some(date)) => modified <= date,
        (None, None) => true,
    };
    if !is_as_wanted {
        return Err(Error::Precondition {
            path: meta.location.to_string(),
            source: format!("it is \"{etag}\" of {modified}").into(),
        });
    }
    let is_known = match (&options.if_none_match, options.if_modified_since) {
        (Some(list), _) => names(list, &etag),
        (None, Some(date)) => modified <= date,
        (None, None) => false,
    };
    if is_known {
        return Err(Error::NotModified {
            path: meta.location.to_string(),
            source: format!("it is \"{etag}\" of {modified}").into(),
        });
    }
    Ok(())
}

/// Whether a list of etags has one. An etag may have a comma in it.
fn names(list: &str, etag: &str) -> bool {
    let list = list.trim();
    let is_it = |one: &str| unquoted(one.trim()) == etag;
    list == "*" || is_it(list) || list.split(',').any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_etags_are_read() {
        for (list, is_there) in [
            ("\"a\"", true),
            ("a", true),
            ("*", true),
            (" \"b\" , \"a\" ", true),
            ("b,a", true),
            ("", false),
            ("b", false),
            ("W/\"a\"", false),
            ("\"a", false),
            ("aa", false),
        ] {
            assert_eq!(names(list, "a"), is_there, "{list}");
        }
        assert!(names("\"a,b\"", "a,b"));
    }
}
