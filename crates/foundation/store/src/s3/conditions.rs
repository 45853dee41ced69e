//! The conditions of uploads, which `object_store` cannot be told: they are added to the request that ends the upload.
//!
//! The header is not signed, as are the conditions that `object_store` itself adds there. A store that does not know it takes no notice; so do
//! some that know it for other requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use object_store::client::HttpRequest;
use url::form_urlencoded;

pub(super) type Condition = (HeaderName, HeaderValue);

/// Of uploads that are being ended, by their ids. Shared by its clones.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(Arc<Mutex<HashMap<String, Condition>>>);

/// There as long as this is.
#[derive(Debug)]
pub(super) struct Set<'a> {
    conditions: &'a Conditions,
    id: String,
}

impl Conditions {
    pub(super) fn set(&self, id: &str, condition: Condition) -> Set<'_> {
        self.lock().insert(id.to_owned(), condition);
        Set {
            conditions: self,
            id: id.to_owned(),
        }
    }

    pub(super) fn add_to(&self, request: &mut HttpRequest) {
        if request.method() != Method::POST {
            return;
        }
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let Some((_, id)) = pairs.find(|(name, _)| name == "uploadId") else {
            return;
        };
        let condition = self.lock().get(&*id).cloned();
        if let Some((name, value)) = condition {
            request.headers_mut().insert(name, value);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Condition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.conditions.lock().remove(&self.id);
    }
}
