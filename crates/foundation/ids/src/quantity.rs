//! Texts with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// What a text should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Quantity {
    #[error(
        "a duration is a whole number above 0, of at most 9 digits, and one of us, ms, s, m, h: `200ms`"
    )]
    Duration,
    #[error(
        "an amount of bytes is a whole number above 0, of at most 9 digits, alone or with one of Ki, Mi, Gi: `512Mi`"
    )]
    Bytes,
}

/// What [`parse_duration`] reads, as a regular expression.
pub const DURATION_PATTERN: &str = "^[1-9][0-9]{0,8}(us|ms|s|m|h)$";
/// What [`parse_bytes`] reads, as a regular expression.
pub const BYTES_PATTERN: &str = "^[1-9][0-9]{0,8}(Ki|Mi|Gi)?$";

/// # Errors
/// When the text is not one.
pub fn parse_duration(text: &str) -> Result<Duration, Quantity> {
    let (number, unit) = split(text).ok_or(Quantity::Duration)?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        _ => Err(Quantity::Duration),
    }
}

/// # Errors
/// When the text is not one.
pub fn parse_bytes(text: &str) -> Result<u64, Quantity> {
    let (number, unit) = split(text).ok_or(Quantity::Bytes)?;
    match unit {
        "" => Ok(number),
        "Ki" => Ok(number << 10),
        "Mi" => Ok(number << 20),
        "Gi" => Ok(number << 30),
        _ => Err(Quantity::Bytes),
    }
}

/// Nine digits at most: with any unit they fit 64 bits.
fn split(text: &str) -> Option<(u64, &str)> {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(n_digits);
    let is_number = (1..=9).contains(&n_digits) && !digits.starts_with('0');
    is_number
        .then(|| digits.parse().ok())?
        .map(|number| (number, unit))
}

/// A number of bytes in a configuration: `512Mi`, or `512MiB` as people write it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Quantity;

    fn from_str(text: &str) -> Result<Self, Quantity> {
        let short = text.strip_suffix('B').filter(|short| short.ends_with('i'));
        parse_bytes(short.unwrap_or(text)).map(Self)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = Quantity;

    fn try_from(text: String) -> Result<Self, Quantity> {
        text.parse()
    }
}

impl fmt::Display for ByteSize {
    /// Exactly, in the largest unit that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// A duration in a configuration: `#[serde(deserialize_with = "ids::duration")]`.
///
/// # Errors
/// When the text is not one.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_configurations() {
        for (text, expected, shown) in [
            ("1", 1, "1"),
            ("1536", 1536, "1536"),
            ("1024Ki", 1 << 20, "1Mi"),
            ("256MiB", 256 << 20, "256Mi"),
            ("1GiB", 1 << 30, "1Gi"),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size.0, &*size.to_string()), (expected, shown), "{text}");
            assert_eq!(shown.parse(), Ok(size), "{text}");
        }
        for bad in ["", "B", "1B", "1GB", "1iB", "1GiBB", "0"] {
            bad.parse::<ByteSize>().expect_err(bad);
        }
    }

    #[test]
    fn durations_in_configurations() {
        let read = |json: &str| duration(&mut serde_json::Deserializer::from_str(json));
        assert_eq!(read("\"200ms\"").expect("one"), Duration::from_millis(200));
        for bad in ["200", "\"200\"", "null"] {
            read(bad).expect_err(bad);
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1us", Duration::from_micros(1)),
            ("200ms", Duration::from_millis(200)),
            ("30s", Duration::from_secs(30)),
            ("5m", Duration::from_secs(300)),
            ("999999999h", Duration::from_secs(3600 * 999_999_999)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "s",
            "1",
            "0s",
            "01s",
            "1d",
            "1 s",
            "-1s",
            "1.5s",
            "1000000000s",
            "1s ",
            "١s",
        ] {
            parse_duration(bad).expect_err(bad);
        }
    }

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("1", 1),
            ("64Ki", 64 << 10),
            ("512Mi", 512 << 20),
            ("999999999Gi", 999_999_999 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "Gi",
            "0",
            "1G",
            "1gi",
            "1 Gi",
            "1.5Gi",
            "-1",
            "1000000000",
        ] {
            parse_bytes(bad).expect_err(bad);
        }
    }
}
