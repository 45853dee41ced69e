//! What a node and the processes of its machine say to each other beside the bytes of objects, which they share: with a seal [`Terms`], which are
//! answered with [`SealedAs`](super::SealedAs); of an object that is found [`Found`](super::Found).

use std::fmt;

use geds_core::index::{BucketName, Key, Name};
use geds_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::write::TermsV1;
use super::{Reply, decode, encode};
use crate::Terms;

/// Lets in whom it was given to, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// How to come to the node's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Of the arena's socket.
    pub path: String,
    pub token: Token,
    /// A process writes no longer object there.
    pub object_bytes_max: u64,
}

impl Reply for Attached {
    fn encode(&self) -> Vec<u8> {
        encode(&(&self.path, &self.token, self.object_bytes_max))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (path, token, object_bytes_max) = decode(body)?;
        Ok(Self {
            path,
            token,
            object_bytes_max,
        })
    }
}

/// What the arena knows a name as. No bucket has a `/` in its name.
pub fn local_name(name: &Name) -> Vec<u8> {
    let (bucket, key) = (name.bucket.as_str(), name.key.as_str());
    let mut local = Vec::with_capacity(bucket.len() + 1 + key.len());
    local.extend_from_slice(bucket.as_bytes());
    local.push(b'/');
    local.extend_from_slice(key.as_bytes());
    local
}

/// # Errors
/// `Invalid`.
pub fn name_of(local: &[u8]) -> Result<Name> {
    let no_name = || Error::new(Kind::Invalid, "this is no name: BUCKET/KEY");
    let local = str::from_utf8(local).map_err(|_| no_name())?;
    let (bucket, key) = local.split_once('/').ok_or_else(no_name)?;
    Ok(Name {
        bucket: BucketName::new(bucket)?,
        key: Key::new(key)?,
    })
}

/// With a seal.
impl Reply for Terms {
    fn encode(&self) -> Vec<u8> {
        encode(&TermsV1::from(self))
    }

    fn parse(said: &[u8]) -> Result<Self> {
        decode::<TermsV1<'_>>(said)?.parse()
    }
}
