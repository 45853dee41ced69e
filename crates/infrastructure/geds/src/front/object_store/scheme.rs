//! `geds://BUCKET/PREFIX`.

use std::sync::Arc;

use ::store::{Class, Error, Opened, Result, Scheme, within};
use ids::Name as Tenant;
use url::Url;

use super::Bucket;
use crate::front::s3::S3;
use crate::index::BucketName;

/// The buckets of a tenant by URL, for who registers it.
#[derive(Clone, Debug)]
pub struct Buckets {
    face: Arc<S3>,
    tenant: Tenant,
}

impl Buckets {
    #[must_use]
    pub fn new(face: Arc<S3>, tenant: Tenant) -> Self {
        Self { face, tenant }
    }
}

impl Scheme for Buckets {
    fn open(&self, url: &Url) -> Result<Opened> {
        let wanted = || Error::Invalid("a bucket is geds://BUCKET/PREFIX".to_owned());
        let bucket = BucketName::new(url.host_str().unwrap_or_default()).map_err(|_| wanted())?;
        let bucket = Bucket::new(Arc::clone(&self.face), self.tenant.clone(), bucket);
        Ok(Opened {
            store: within(bucket, url)?,
            class: Class::Durable,
        })
    }
}
