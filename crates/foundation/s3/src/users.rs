//! Who may come in.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use s3s::auth::SecretKey;

use crate::names::Tenant;

/// A secret that prints nothing of itself, and leaves nothing in memory when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretKey);

impl Secret {
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub access_key: String,
    pub secret: Secret,
    pub tenant: Tenant,
}

/// Those who may sign requests. A tenant may have several, such as an old key and a new one. Clones share them.
#[derive(Clone, Default)]
pub struct Users(Arc<RwLock<HashMap<String, User>>>);

impl Users {
    /// Of users with the same access key the last counts.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        let all = Self::default();
        all.replace(users);
        all
    }

    /// From now on it is these. A request whose signature was verified before goes on.
    pub fn replace(&self, users: impl IntoIterator<Item = User>) {
        let users = users.into_iter();
        let users = users.map(|user| (user.access_key.clone(), user)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = users;
    }

    pub(crate) fn tenant(&self, access_key: &str) -> Option<Tenant> {
        self.read().get(access_key).map(|user| user.tenant.clone())
    }

    pub(crate) fn secret(&self, access_key: &str) -> Option<SecretKey> {
        let users = self.read();
        users.get(access_key).map(|user| user.secret.0.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, User>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.read().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let user = User {
            access_key: "AKIA".to_owned(),
            secret: Secret::new("hunter2".to_owned()),
            tenant: Tenant::new("acme").expect("a tenant"),
        };
        let users = Users::new([user.clone()]);
        for text in [
            format!("{user:?}"),
            format!("{users:?}"),
            format!("{:?}", users.secret("AKIA")),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn users_are_replaced_for_all_who_share_them() {
        let user = |access_key: &str, tenant| User {
            access_key: access_key.to_owned(),
            secret: Secret::new("secret".to_owned()),
            tenant: Tenant::new(tenant).expect("a tenant"),
        };
        let users = Users::new([user("OLD", "one"), user("BOTH", "one")]);
        let shared = users.clone();
        users.replace([user("BOTH", "two"), user("NEW", "three")]);
        for (access_key, expected) in [("OLD", None), ("BOTH", Some("two")), ("NEW", Some("three"))]
        {
            let tenant = shared.tenant(access_key);
            assert_eq!(tenant, expected.and_then(Tenant::new), "{access_key}");
            assert_eq!(shared.secret(access_key).is_some(), expected.is_some());
        }
    }
}
