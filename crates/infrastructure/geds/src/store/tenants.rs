//! What belongs to a tenant, and what to the store itself and so to none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ids::Name as Tenant;

use crate::arena::Domain;
use crate::core::index::{BucketName, ObjectId};
use crate::core::victims::Victims;
use crate::error::{Error, Kind, Result};

/// What a tenant has of the memory.
#[derive(Debug)]
pub(super) struct Share {
    pub tenant: Tenant,
    pub domain: Domain,
    victims: Mutex<Victims<ObjectId>>,
}

impl Share {
    pub(super) fn new(tenant: Tenant, domain: Domain) -> Self {
        Self {
            tenant,
            domain,
            victims: Mutex::default(),
        }
    }

    /// Its objects, in the order in which they leave memory.
    pub(super) fn victims(&self) -> MutexGuard<'_, Victims<ObjectId>> {
        self.victims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose buckets hold what the faces of the store have to remember. No user is of this tenant.
pub(crate) const OWN: &str = "geds-own";

/// A tenant that users may be of. What comes from a configuration passes here.
///
/// # Errors
/// `Invalid`: it is no name, or the store's own.
pub fn tenant(text: &str) -> Result<Tenant> {
    let name: Tenant = text.parse().map_err(|malformed| {
        Error::caused(Kind::Invalid, "read the name of a tenant", malformed)
    })?;
    if name.as_str() == OWN {
        let what = format!("`{OWN}` is the store itself: no user is of this tenant");
        return Err(Error::new(Kind::Invalid, what));
    }
    Ok(name)
}

/// S3 has no buckets with two dots in a row: that is how the store's own are called.
pub(super) fn check_bucket(tenant: &Tenant, bucket: &BucketName) -> Result<()> {
    if bucket.as_str().contains("..") == (tenant.as_str() == OWN) {
        Ok(())
    } else {
        let what = format!("bucket `{bucket}` would not be one of `{tenant}`");
        Err(Error::new(Kind::Invalid, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_store_is_not_for_tenants() {
        let acme = tenant("acme").expect("a tenant");
        let own: Tenant = OWN.parse().expect("a name");
        for text in [OWN, "Acme", "a_b", "-a", ""] {
            assert_eq!(tenant(text).expect_err(text).kind, Kind::Invalid);
        }
        for (tenant, bucket, is_allowed) in [
            (&acme, "data", true),
            (&acme, "a.b.c", true),
            (&acme, "a..b", false),
            (&own, "a..b", true),
            (&own, "data", false),
        ] {
            let bucket = BucketName::new(bucket).expect("a bucket");
            let result = check_bucket(tenant, &bucket);
            assert_eq!(result.is_ok(), is_allowed, "{tenant} {bucket}");
        }
    }
}
