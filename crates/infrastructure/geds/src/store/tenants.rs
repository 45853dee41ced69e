//! What belongs to a tenant, and what to the store itself and so to none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ids::Name as Tenant;

use crate::arena::Domain;
use crate::core::index::{BucketName, Change, ObjectId};
use crate::core::victims::Victims;
use crate::error::{Error, Kind, Result};
use crate::wire::local_name;

/// What a tenant has of the memory.
#[derive(Debug)]
pub(super) struct Share {
    pub tenant: Tenant,
    pub domain: Domain,
    victims: Mutex<Victims<ObjectId>>,
    /// Other processes have it mapped, or had.
    is_shared: AtomicBool,
}

/// Those of all tenants that have ever had something.
#[derive(Debug, Default)]
pub(super) struct Shares(RwLock<BTreeMap<Tenant, Arc<Share>>>);

impl Share {
    pub(super) fn new(tenant: Tenant, domain: Domain) -> Self {
        Self {
            tenant,
            domain,
            victims: Mutex::default(),
            is_shared: AtomicBool::new(false),
        }
    }

    /// From now on other processes are told which names stand for something else.
    pub(super) fn set_shared(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    /// Its objects, in the order in which they leave memory.
    pub(super) fn victims(&self) -> MutexGuard<'_, Victims<ObjectId>> {
        self.victims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shares {
    pub(super) fn get_or(
        &self,
        tenant: &Tenant,
        domain: impl FnOnce() -> Result<Domain>,
    ) -> Result<Arc<Share>> {
        if let Some(share) = self.read().get(tenant) {
            return Ok(Arc::clone(share));
        }
        let share = Share::new(tenant.clone(), domain()?);
        let mut shares = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let share = shares.entry(tenant.clone()).or_insert(Arc::new(share));
        Ok(Arc::clone(share))
    }

    pub(super) fn all(&self) -> Vec<Arc<Share>> {
        self.read().values().cloned().collect()
    }

    /// Tells other processes that names stand for something else. To be called before the changes can be seen.
    ///
    /// Whose names they are is not asked: a tenant whose they are not looks up a name once more than it would have to.
    pub(super) fn touch(&self, changes: &[Change]) {
        let shares = self.read();
        let shared = |share: &&Arc<Share>| share.is_shared.load(Ordering::SeqCst);
        let mut shared = shares.values().filter(shared).peekable();
        if shared.peek().is_none() {
            return;
        }
        let names = changes.iter().filter_map(|change| match change {
            Change::Named { name, .. } => Some(local_name(name)),
            _ => None,
        });
        let names: Vec<_> = names.collect();
        for share in shared {
            names.iter().for_each(|name| share.domain.touch(name));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Tenant, Arc<Share>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
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
