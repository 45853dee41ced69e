//! Names, numbers and labels that every layer above shares.
//!
//! Each type is a proof: a [`Name`] is a valid DNS label wherever it is seen, a [`Digest`] is 64 hexadecimal digits. They are parsed once,
//! where text comes in; serde goes through the same parser. So are texts with a unit, [`ByteSize`] and durations. [`utc`] is a time as a text.
#![forbid(unsafe_code)]

mod calendar;
mod quantity;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::calendar::utc;
pub use self::quantity::{
    BYTES_PATTERN, ByteSize, DURATION_PATTERN, Quantity, duration, parse_bytes, parse_duration,
};

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct Malformed {
    text: String,
    wanted: &'static str,
}

impl Malformed {
    fn new(text: &str, wanted: &'static str) -> Self {
        // An error must not repeat megabytes of hostile input.
        let text = text.chars().take(80).collect();
        Self { text, wanted }
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Malformed::new(text, $wanted))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text_type! {
    /// A name of a site, service, block or organisation: a DNS label (RFC 1123), at most 63 characters.
    Name,
    "a name: 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends",
    is_label
}

text_type! {
    /// A unit: `org/service/block/replica`, the replica being a number.
    UnitId,
    "a unit: org/service/block/replica",
    is_unit_id
}

text_type! {
    /// SHA-256 of an artefact, 64 lower-case hexadecimal digits.
    Digest,
    "a SHA-256: 64 of 0-9 and a-f",
    |text| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(is_inner)
}

fn is_unit_id(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    let [org, service, block, replica] = parts[..] else {
        return false;
    };
    let is_number = replica
        .parse::<u32>()
        .is_ok_and(|n| n.to_string() == replica);
    is_number && [org, service, block].into_iter().all(is_label)
}

impl UnitId {
    #[must_use]
    pub fn new(org: &Name, service: &Name, block: &Name, replica: u32) -> Self {
        Self(format!("{org}/{service}/{block}/{replica}"))
    }

    fn part(&self, idx: usize) -> &str {
        self.0.split('/').nth(idx).expect("it has four parts")
    }

    #[must_use]
    pub fn org(&self) -> &str {
        self.part(0)
    }

    #[must_use]
    pub fn service(&self) -> &str {
        self.part(1)
    }

    #[must_use]
    pub fn block(&self) -> &str {
        self.part(2)
    }

    #[must_use]
    pub fn replica(&self) -> u32 {
        self.part(3).parse().expect("it was checked")
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type! {
    /// Counts the blueprints. An older one never replaces a newer one.
    Generation
}

number_type! {
    /// Counts the incarnations of one thing. What an older one says or writes is refused.
    Epoch
}

/// What a site or a service is said to be: `tier=edge`.
pub type Labels = BTreeMap<String, String>;

/// Which labels are wanted. Without conditions it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Selector {
    #[serde(default)]
    pub match_labels: Labels,
}

impl Selector {
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "edge-1", "0", &"x".repeat(63)] {
            good.parse::<Name>().expect(good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", &"x".repeat(64)] {
            bad.parse::<Name>().expect_err(bad);
        }
    }

    #[test]
    fn units_have_four_parts() {
        let unit: UnitId = "acme/video/decode/12".parse().expect("it is one");
        let parts = (unit.org(), unit.service(), unit.block(), unit.replica());
        assert_eq!(parts, ("acme", "video", "decode", 12));
        for bad in [
            "",
            "a/b/c",
            "a/b/c/x",
            "a/b/c/01",
            "a/b/c/-1",
            "a/b/c/1/2",
            "a//c/1",
        ] {
            bad.parse::<UnitId>().expect_err(bad);
        }
    }

    #[test]
    fn serde_goes_through_the_parser() {
        serde_json::from_str::<Name>("\"edge\"").expect("a name");
        serde_json::from_str::<Name>("\"Edge\"").expect_err("not a name");
        serde_json::from_str::<Digest>("\"abc\"").expect_err("not a digest");
    }

    #[test]
    fn a_selector_wants_all_of_its_labels() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
            pairs.iter().map(owned).collect()
        };
        let check = |wanted, has, expected| {
            let selector = Selector {
                match_labels: labels(wanted),
            };
            assert_eq!(
                selector.matches(&labels(has)),
                expected,
                "{wanted:?} {has:?}"
            );
        };
        check(&[], &[], true);
        check(&[("tier", "edge")], &[("tier", "edge"), ("x", "y")], true);
        check(&[("tier", "edge")], &[("tier", "cloud")], false);
        check(
            &[("tier", "edge"), ("gpu", "1")],
            &[("tier", "edge")],
            false,
        );
    }
}
