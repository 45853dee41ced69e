//! What belongs to a tenant, and what to the store itself and so to none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ids::Name as Tenant;

use crate::arena::Domain;
use crate::core::index::{BucketName, Change, Index, ObjectId};
use crate::core::victims::Victims;
use crate::error::{Error, Kind, Result};
use crate::wire::local_name;

/// What a tenant has of the memory.
#[derive(Debug)]
pub(super) struct Share {
    pub tenant: Tenant,
    pub domain: Domain,
    victims: Mutex<Victims<ObjectId>>,
    /// What is being written: nothing of it can be moved away by others.
    unsealed_bytes: AtomicU64,
    /// Other processes have it mapped, or had.
    is_shared: AtomicBool,
}

/// Those of all tenants that have ever had something.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_tenant: RwLock<BTreeMap<Tenant, Arc<Share>>>,
    /// Any of them.
    are_shared: AtomicBool,
}

impl Share {
    pub(super) fn new(tenant: Tenant, domain: Domain) -> Self {
        Self {
            tenant,
            domain,
            victims: Mutex::default(),
            unsealed_bytes: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
        }
    }

    pub(super) fn unsealed_bytes(&self) -> u64 {
        self.unsealed_bytes.load(Ordering::Relaxed)
    }

    /// Its objects, in the order in which they leave memory.
    pub(super) fn victims(&self) -> MutexGuard<'_, Victims<ObjectId>> {
        self.victims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one writer has of the memory.
#[derive(Debug)]
pub(super) struct Unsealed {
    share: Arc<Share>,
    bytes: u64,
}

impl Unsealed {
    pub(super) fn new(share: Arc<Share>) -> Self {
        Self { share, bytes: 0 }
    }

    pub(super) fn set(&mut self, bytes: u64) {
        // It orders nothing else.
        let all = &self.share.unsealed_bytes;
        all.fetch_add(bytes, Ordering::Relaxed);
        all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Unsealed {
    fn drop(&mut self) {
        self.set(0);
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
        let mut shares = self
            .by_tenant
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let share = shares.entry(tenant.clone()).or_insert(Arc::new(share));
        Ok(Arc::clone(share))
    }

    pub(super) fn all(&self) -> Vec<Arc<Share>> {
        self.read().values().cloned().collect()
    }

    /// Tells the processes of a tenant which of its names stand for something else. To be called before the changes can be seen.
    pub(super) fn touch(&self, index: &Index, changes: &[Change]) {
        if !self.are_shared.load(Ordering::SeqCst) {
            return;
        }
        let shares = self.read();
        for change in changes {
            // A bucket that is gone had no names any more.
            if let Change::Named { name, .. } = change
                && let Ok(bucket) = index.bucket(&name.bucket)
                && let Some(share) = shares.get(&bucket.owner)
                && share.is_shared.load(Ordering::SeqCst)
            {
                share.domain.touch(&local_name(name));
            }
        }
    }

    /// From now on the processes of a tenant are told.
    pub(super) fn set_shared(&self, share: &Share) {
        share.is_shared.store(true, Ordering::SeqCst);
        self.are_shared.store(true, Ordering::SeqCst);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Tenant, Arc<Share>>> {
        self.by_tenant
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose buckets hold what the faces of the store have to remember. No user is of this tenant.
pub const OWN: &str = "geds-own";

pub(super) fn own() -> Tenant {
    OWN.parse().expect("it is a name")
}

/// Nodes of the site, which are of no tenant.
pub const PEER: &str = "geds-peer";

/// The name of [`PEER`].
///
/// # Panics
/// Never: it is one.
#[must_use]
pub fn peer() -> Tenant {
    PEER.parse().expect("it is a name")
}

/// A tenant that users may be of. What comes from a configuration passes here.
///
/// # Errors
/// `Invalid`: it is no name, or the store's own.
pub fn tenant(text: &str) -> Result<Tenant> {
    let name: Tenant = text.parse().map_err(|malformed| {
        Error::caused(Kind::Invalid, "read the name of a tenant", malformed)
    })?;
    if [OWN, PEER].contains(&name.as_str()) {
        let what = format!("`{name}` is the store itself: no user is of this tenant");
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
        let own = own();
        for text in [OWN, PEER, "Acme", "a_b", "-a", ""] {
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
