//! What the parts of a unit tell each other: public texts, JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ids::Name;
use serde::{Deserialize, Serialize};
use workload::{Offers, Phase};

use crate::world::admin::Admission;

/// Longer offers are not parsed.
const BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Offer {
    Home(Home),
    Host(Host),
}

/// Of the home: what the hosts of other sites need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Home {
    pub world: u64,
    pub incarnation: u32,
    pub coordinator: SocketAddr,
    /// The certificate of the world's authority, hexadecimal as all bytes here.
    pub authority: String,
    pub hosts: BTreeMap<Name, Admitted>,
    pub interpret: bool,
    /// How it ended.
    pub ended: Option<Phase>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admitted {
    pub host: u32,
    /// Whose certificate it is.
    pub public_key: String,
    pub certificate: String,
}

/// Of every other site: the key of the host that it has started or will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Host {
    pub public_key: String,
}

impl Offer {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers can be written")
    }

    /// `None`: nothing is offered that can be understood.
    fn of(offers: &Offers, site: &Name) -> Option<Self> {
        let text = offers.get(site).filter(|text| text.len() <= BYTES_MAX)?;
        serde_json::from_str(text).ok()
    }
}

impl Home {
    pub(super) fn of(offers: &Offers, site: &Name) -> Option<Self> {
        match Offer::of(offers, site)? {
            Offer::Home(home) => Some(home),
            Offer::Host(_) => None,
        }
    }

    /// What `site` was admitted with, if it is with this key.
    pub(super) fn admission(&self, site: &Name, public_key: &str) -> Option<Admission> {
        let admitted = self.hosts.get(site)?;
        if admitted.public_key != public_key {
            return None;
        }
        Some(Admission {
            host: admitted.host,
            world: self.world,
            incarnation: self.incarnation,
            coordinator: self.coordinator,
            authority: from_hex(&self.authority)?,
            certificate: from_hex(&admitted.certificate)?,
            interpret: self.interpret,
        })
    }
}

impl Host {
    pub(super) fn of(offers: &Offers, site: &Name) -> Option<Self> {
        match Offer::of(offers, site)? {
            Offer::Host(host) => Some(host),
            Offer::Home(_) => None,
        }
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digits = |idx| u8::from_str_radix(text.get(idx..idx + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_come_back_and_others_are_none() {
        let site: Name = "edge".parse().expect("a name");
        let key = to_hex(&[4, 255]);
        let offer = Offer::Host(Host {
            public_key: key.clone(),
        });
        let offers = Offers::from([(site.clone(), offer.text())]);
        assert_eq!(Host::of(&offers, &site).map(|h| h.public_key), Some(key));
        assert_eq!(Home::of(&offers, &site), None);
        for garbage in ["", "{}", "{\"host\":{}}", "[1]"] {
            let offers = Offers::from([(site.clone(), garbage.to_owned())]);
            assert_eq!(Host::of(&offers, &site), None, "{garbage}");
        }
    }

    #[test]
    fn bytes_come_back() {
        assert_eq!(from_hex(&to_hex(&[0, 1, 254])), Some(vec![0, 1, 254]));
        for bad in ["0", "zz", "ä0", "+1"] {
            assert_eq!(from_hex(bad).filter(|_| bad != "+1"), None, "{bad}");
        }
    }
}
