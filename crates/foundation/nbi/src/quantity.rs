//! Texts with a unit.

use std::time::Duration;

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

pub(crate) const DURATION_PATTERN: &str = "^[1-9][0-9]{0,8}(us|ms|s|m|h)$";
pub(crate) const BYTES_PATTERN: &str = "^[1-9][0-9]{0,8}(Ki|Mi|Gi)?$";

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

#[cfg(test)]
mod tests {
    use super::*;

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
