//! That somebody knows a secret, told without telling it.
//!
//! A proof is HMAC-SHA-256 under the secret, over who proves, both nonces, and what binds it to the connection: within TLS, the exporter that
//! only its two ends know, so that nobody in between passes proofs on. Over plain TCP whoever is in between can, and can read and change
//! what follows; it does not learn the secret, save by guessing one that is weak.

use ring::hmac;

use geds_core::{Error, Kind, Result};

pub type Nonce = [u8; 32];
pub type Proof = [u8; 32];
/// Zeroes on plain TCP.
pub type Binding = [u8; 32];

/// Of TLS exporters.
pub const LABEL: &[u8] = b"EXPORTER-geds-node-1";

/// What both ends know of a connection before one trusts the other.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    pub client: Nonce,
    pub node: Nonce,
    pub binding: Binding,
}

impl Meeting {
    pub fn client_proves(&self, secret: &str) -> Proof {
        self.prove(secret, Side::Client)
    }

    pub fn node_proves(&self, secret: &str) -> Proof {
        self.prove(secret, Side::Node)
    }

    /// # Errors
    /// `Denied`.
    pub fn check_client(&self, secret: &str, proof: &Proof) -> Result<()> {
        self.check(secret, Side::Client, proof)
    }

    /// # Errors
    /// `Denied`.
    pub fn check_node(&self, secret: &str, proof: &Proof) -> Result<()> {
        self.check(secret, Side::Node, proof)
    }

    fn prove(&self, secret: &str, side: Side) -> Proof {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &self.transcript(side));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Takes the same time whatever is wrong.
    fn check(&self, secret: &str, side: Side, proof: &Proof) -> Result<()> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, &self.transcript(side), proof).map_err(|_| {
            let what = match side {
                Side::Client => "there is no such access key, or its secret is another one",
                Side::Node => "the node does not know the secret of this access key",
            };
            Error::new(Kind::Denied, what)
        })
    }

    fn transcript(&self, side: Side) -> Vec<u8> {
        let who: &[u8] = match side {
            Side::Client => b"geds node 1: client",
            Side::Node => b"geds node 1: node\0\0",
        };
        [who, &self.client, &self.node, &self.binding].concat()
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Node,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_side_of_one_meeting_and_one_secret() {
        let meeting = Meeting {
            client: [1; 32],
            node: [2; 32],
            binding: [0; 32],
        };
        let proof = meeting.client_proves("secret");
        meeting.check_client("secret", &proof).expect("it is one");
        let node_proof = meeting.node_proves("secret");
        meeting
            .check_node("secret", &node_proof)
            .expect("it is one");
        meeting.check_node("secret", &proof).expect_err("reflected");
        meeting.check_client("other", &proof).expect_err("a secret");
        for other in [
            Meeting {
                client: [3; 32],
                ..meeting
            },
            Meeting {
                node: [3; 32],
                ..meeting
            },
            Meeting {
                binding: [3; 32],
                ..meeting
            },
        ] {
            other.check_client("secret", &proof).expect_err("replayed");
        }
    }

    #[test]
    fn a_proof_is_the_hmac_that_others_compute() {
        // python3 -c "import hmac;print(hmac.new(b'secret',b'geds node 1: client'+b'\1'*32+b'\2'*32+b'\0'*32,'sha256').hexdigest())"
        let meeting = Meeting {
            client: [1; 32],
            node: [2; 32],
            binding: [0; 32],
        };
        let proof = meeting.client_proves("secret");
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "eceee73a5b43466f75b95ef242f2d78677b36b4c8f6343b73c78cace30962615"
        );
    }
}
