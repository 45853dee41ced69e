//! How a connection begins.
//!
//! ```text
//!  client                              node
//!    Hello: access key, nonce  ──▶
//!                              ◀──  Challenge: nonce
//!    Prove: proof              ──▶
//!                              ◀──  Welcome: proof, which node it is    (or an error, and the end)
//! ```

use geds_core::index::NodeId;
use geds_core::{Error, Kind, Result};
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::proof::{Nonce, Proof};
use super::{Reply, decode, encode};

/// Of what a client says before it is known.
pub const HELLO_BODY_BYTES_MAX: usize = 256;
const ACCESS_KEY_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub access_key: String,
    pub nonce: Nonce,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub nonce: Nonce,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prove {
    pub proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub proof: Proof,
    pub node: NodeId,
    /// Which incarnation of the node.
    pub epoch: Epoch,
}

#[derive(Serialize, Deserialize)]
struct HelloV1<'a> {
    access_key: &'a str,
    nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
struct WelcomeV1 {
    proof: Proof,
    node: u32,
    epoch: u64,
}

impl Reply for Hello {
    fn encode(&self) -> Vec<u8> {
        encode(&HelloV1 {
            access_key: &self.access_key,
            nonce: self.nonce,
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let hello: HelloV1<'_> = decode(body)?;
        if hello.access_key.len() > ACCESS_KEY_BYTES_MAX {
            let what = format!("an access key has at most {ACCESS_KEY_BYTES_MAX} bytes");
            return Err(Error::new(Kind::Invalid, what));
        }
        Ok(Self {
            access_key: hello.access_key.to_owned(),
            nonce: hello.nonce,
        })
    }
}

impl Reply for Challenge {
    fn encode(&self) -> Vec<u8> {
        encode(&self.nonce)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let nonce = decode(body)?;
        Ok(Self { nonce })
    }
}

impl Reply for Prove {
    fn encode(&self) -> Vec<u8> {
        encode(&self.proof)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let proof = decode(body)?;
        Ok(Self { proof })
    }
}

impl Reply for Welcome {
    fn encode(&self) -> Vec<u8> {
        encode(&WelcomeV1 {
            proof: self.proof,
            node: self.node.0,
            epoch: self.epoch.0,
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let welcome: WelcomeV1 = decode(body)?;
        Ok(Self {
            proof: welcome.proof,
            node: NodeId(welcome.node),
            epoch: Epoch(welcome.epoch),
        })
    }
}
