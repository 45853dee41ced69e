//! Who may come in.

use std::collections::HashMap;
use std::fmt;

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

/// Those who may sign requests. A tenant may have several, such as an old key and a new one.
#[derive(Clone, Default)]
pub struct Users(HashMap<String, User>);

impl Users {
    /// Of users with the same access key the last counts.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        let users = users.into_iter();
        Self(users.map(|user| (user.access_key.clone(), user)).collect())
    }

    pub(crate) fn get(&self, access_key: &str) -> Option<&User> {
        self.0.get(access_key)
    }

    pub(crate) fn secret(&self, access_key: &str) -> Option<SecretKey> {
        self.get(access_key).map(|user| user.secret.0.clone())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
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
}
