//! Who may do what, decided elsewhere, and what things are called there.

use std::fmt;

use tonic::metadata::MetadataMap;
use tonic::{Status, async_trait};

/// Decides who may do what. Resources have the names that Pravega gives them, of which rules speak: `prn::/` for all scopes, `prn::/scope:S`, and
/// `prn::/scope:S/stream:T` or `prn::/scope:S/reader-group:G` in one.
#[async_trait]
pub trait Authority: fmt::Debug + Send + Sync {
    /// Whether they are who they say, if they say it at all. It may take its time: it is asked once for each request, before all else.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, and what keeps it from knowing.
    async fn admit(&self, _sender: &MetadataMap) -> Result<(), Status> {
        Ok(())
    }

    /// Whether they may, who have sent this with their request, and were admitted.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` and `PERMISSION_DENIED`.
    fn check(
        &self,
        sender: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<(), Status>;

    /// What the store takes for a proof of that; empty if it wants none. They were checked.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, and what keeps it from saying.
    fn token(
        &self,
        sender: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<String, Status>;
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    Read,
    ReadUpdate,
}

/// Everybody may do everything, and nobody needs a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authority for Anyone {
    fn check(&self, _: &MetadataMap, _: &str, _: Permission) -> Result<(), Status> {
        Ok(())
    }

    fn token(&self, _: &MetadataMap, _: &str, _: Permission) -> Result<String, Status> {
        Ok(String::new())
    }
}

/// All scopes.
pub(super) const SCOPES: &str = "prn::/";

const READER_GROUP_PREFIX: &str = "_RG";
const MARK_PREFIX: &str = "_MARK";

/// The names are such that nobody can say one thing and mean another.
pub(super) fn of_scope(scope: &str) -> Result<String, Status> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if scope.is_empty() || !scope.bytes().all(is_plain) {
        return Err(Status::invalid_argument("this is no name"));
    }
    Ok(format!("{SCOPES}scope:{scope}"))
}

/// In the store.
pub(super) fn of_segments(scope: &str, stream: &str) -> Result<String, Status> {
    of_scope(stream)?;
    Ok(format!("{}/stream:{stream}", of_scope(scope)?))
}

/// What belongs to something else is allowed with it.
pub(super) fn of_stream(scope: &str, stream: &str) -> Result<String, Status> {
    if let Some(group) = stream.strip_prefix(READER_GROUP_PREFIX) {
        of_scope(stream)?;
        return Ok(format!("{}/reader-group:{group}", of_scope(scope)?));
    }
    let stream = stream.strip_prefix(MARK_PREFIX).unwrap_or(stream);
    of_segments(scope, stream)
}

/// Readers write to what their group has in common, and to marks.
pub(super) fn to_write(stream: &str) -> Permission {
    if stream.starts_with(READER_GROUP_PREFIX) || stream.starts_with(MARK_PREFIX) {
        Permission::Read
    } else {
        Permission::ReadUpdate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_called_as_rules_expect() {
        let name = |stream| of_stream("lab", stream).expect("a name");
        assert_eq!(of_scope("lab").expect("a name"), "prn::/scope:lab");
        assert_eq!(name("video"), "prn::/scope:lab/stream:video");
        assert_eq!(name("_MARKvideo"), "prn::/scope:lab/stream:video");
        assert_eq!(name("_RGteam"), "prn::/scope:lab/reader-group:team");
        assert_eq!(name("team_kvtable"), "prn::/scope:lab/stream:team_kvtable");
        let segments = of_segments("lab", "_RGteam").expect("a name");
        assert_eq!(segments, "prn::/scope:lab/stream:_RGteam");
        for (scope, stream) in [
            ("", "a"),
            ("a", ""),
            ("a/stream:b", "c"),
            ("a", "b/*"),
            ("*", "a"),
        ] {
            of_stream(scope, stream).expect_err("it is no name");
        }
    }
}
