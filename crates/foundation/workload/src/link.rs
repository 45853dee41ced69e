//! What a site's agent and its controller say to each other. The agent dials, over mutual TLS; both sides send whenever they have something.
//!
//! A frame is `header_len u32 LE · payload_len u32 LE · header (JSON of [`Up`] or [`Down`]) · payload`. Only messages that carry bytes have a
//! payload. JSON, because fleets are upgraded a site at a time: an unknown field is skipped, an unknown message is refused by name.
//!
//! ```text
//! agent                        controller
//!   │ Join (token) ───────────────▶ │   once in a site's life, without a client certificate
//!   │ ◀───────────────── Joined     │   its certificate; the connection ends
//!   │ Hello ──────────────────────▶ │
//!   │ ◀──────────────── Configure   │   again whenever there is a newer generation than the agent's
//!   │ Inventory ──────────────────▶ │   on change, and every PERIOD; also says which generation is in force
//!   │ ◀────────────────── Offers    │   on change, and after every Hello
//!   │ Samples ────────────────────▶ │   every sample period; kept (bounded) while there is no link
//!   │ WantModule ─────▶ ◀─ Module   │   in pieces
//!   │ ◀─── ReadLog, Log ──────────▶ │
//! ```

use std::time::Duration;

use ids::{Digest, Epoch, Generation, Labels, Name, UnitId};
use serde::{Deserialize, Serialize};

use crate::{Observed, Offers, SiteConfig};

pub const VERSION: u32 = 1;

/// How often an agent reports even if nothing changed. A site that has not reported for three periods is stale.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The longest header and the longest payload of a frame.
pub const HEADER_BYTES_MAX: usize = 8 << 20;
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The name in a controller's certificate, and in a site's.
pub const CONTROLLER_NAME: &str = "controller.cloudskin";

#[must_use]
pub fn site_certificate_name(site: &Name) -> String {
    format!("{site}.site.cloudskin")
}

/// Agent to controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Up {
    /// The first and only message of a site that has no certificate yet.
    Join {
        version: u32,
        token: String,
        site: Name,
        labels: Labels,
        /// Uncompressed P-256 point, hexadecimal.
        public_key: String,
    },
    /// The first message of every other connection.
    Hello {
        version: u32,
        site: Name,
        labels: Labels,
        /// The newest generation in its ledger.
        generation: Generation,
        /// Processors that its workloads may use; 0.5 is half of one.
        cpu_share: f64,
        /// How the share is enforced: `cgroup`, `affinity` or `none`.
        cpu_share_by: String,
    },
    Inventory(Inventory),
    Samples {
        samples: Vec<Sample>,
    },
    WantModule {
        digest: Digest,
    },
    /// Answer to [`Down::ReadLog`]; the payload is what was written from `offset` on.
    Log {
        request: u64,
        offset: u64,
        error: Option<String>,
    },
}

/// What a site has, whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The generation that is in force, and why a newer one is not.
    pub generation: Generation,
    /// [`SiteConfig::digest`] of the configuration that is in force. Without it, only its number is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    pub refused: Option<String>,
    pub units: Vec<Observed>,
    /// What is wrong with the site.
    pub conditions: Vec<Condition>,
}

/// Something about a site that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `DiskFull`, `ClockJumped`, `Slept`, …
    pub kind: String,
    pub message: String,
}

/// One number at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    /// Wall clock, ms since 1970.
    pub at_ms: u64,
    pub value: f64,
}

/// Controller to agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Down {
    /// Certificates as DER, hexadecimal.
    Joined {
        authority: String,
        certificate: String,
    },
    Configure {
        config: SiteConfig,
    },
    /// What the other parts of a unit offer now, whole.
    Offers {
        unit: UnitId,
        epoch: Epoch,
        offers: Offers,
    },
    /// A piece of a module as payload; an empty one ends it. `error`: there is none.
    Module {
        digest: Digest,
        error: Option<String>,
    },
    ReadLog {
        request: u64,
        unit: UnitId,
        offset: u64,
        max: u32,
    },
    /// The connection is not taken, and why.
    Refused {
        reason: String,
    },
}

/// A frame's first eight bytes.
#[must_use]
pub fn frame_head(header_len: usize, payload_len: usize) -> Option<[u8; 8]> {
    if header_len > HEADER_BYTES_MAX || payload_len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut head = [0; 8];
    head[..4].copy_from_slice(&u32::try_from(header_len).ok()?.to_le_bytes());
    head[4..].copy_from_slice(&u32::try_from(payload_len).ok()?.to_le_bytes());
    Some(head)
}

/// The lengths in a frame's first eight bytes: of its header, of its payload. `None`: longer than allowed.
#[must_use]
pub fn parse_frame_head(head: [u8; 8]) -> Option<(usize, usize)> {
    let len = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize;
    let (header_len, payload_len) = (len(&head[..4]), len(&head[4..]));
    (header_len <= HEADER_BYTES_MAX && payload_len <= PAYLOAD_BYTES_MAX)
        .then_some((header_len, payload_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_head_comes_back_and_a_long_one_is_refused() {
        let head = frame_head(7, 9).expect("short enough");
        assert_eq!(parse_frame_head(head), Some((7, 9)));
        assert_eq!(frame_head(HEADER_BYTES_MAX + 1, 0), None);
        assert_eq!(frame_head(0, PAYLOAD_BYTES_MAX + 1), None);
        assert_eq!(parse_frame_head([255; 8]), None);
    }

    #[test]
    fn messages_are_tagged_and_skip_unknown_fields() {
        let text = r#"{"type":"want_module","digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","later":1}"#;
        let up: Up = serde_json::from_str(text).expect("a message of a newer agent");
        assert!(matches!(up, Up::WantModule { .. }));
        serde_json::from_str::<Up>(r#"{"type":"unheard_of"}"#).expect_err("an unknown message");
    }

    #[test]
    fn a_greeting_that_still_has_an_address_is_one() {
        let text = r#"{"type":"hello","version":1,"site":"edge","labels":{},"generation":3,"cpu_share":0.5,"cpu_share_by":"none"}"#;
        let older = text.replace(r#""none"}"#, r#""none","address":"10.0.0.7"}"#);
        assert_ne!(older, text);
        let up: Up = serde_json::from_str(&older).expect("a message of an older agent");
        assert_eq!(serde_json::to_string(&up).expect("it is JSON"), text);
    }

    #[test]
    fn an_inventory_without_a_digest_is_one() {
        let text =
            r#"{"type":"inventory","generation":3,"refused":null,"units":[],"conditions":[]}"#;
        let up: Up = serde_json::from_str(text).expect("a message of an older agent");
        assert!(matches!(&up, Up::Inventory(inventory) if inventory.digest.is_none()));
        assert_eq!(serde_json::to_string(&up).expect("it is JSON"), text);
    }

    #[test]
    fn a_configuration_is_told_from_another_of_its_number() {
        let config = |epoch: u64, site: &str| -> SiteConfig {
            let unit = serde_json::json!({
                "id": "acme/va/decode/0", "epoch": epoch, "home": "edge", "placement": [site],
                "kind": {"cell": {"module": "a".repeat(64), "ranks": 1, "args": [], "env": {}, "mounts": [], "iteration": null,
                    "checkpoint_every_ms": null, "limits": {"memory_bytes_max": 1, "log_bytes_max": 1}}},
            });
            serde_json::from_value(serde_json::json!({"generation": 7, "units": [unit]}))
                .expect("one")
        };
        let digest = config(1, "edge").digest();
        assert_eq!(digest, config(1, "edge").digest());
        assert_ne!(digest, config(2, "edge").digest());
        assert_ne!(digest, config(1, "cloud").digest());
        let golden = "772994730eea6c76d04c95c6d0053e8545fa3ae2cc21c3f9d107d8b6d62c2c7b";
        assert_eq!(
            digest.as_str(),
            golden,
            "sites of other versions say it too"
        );
    }
}
