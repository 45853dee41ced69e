//! What a store wants to see, and when it is to be replaced.

use std::time::{Duration, SystemTime};

use streams_wire::shapes::DelegationToken;

/// It is replaced so long before it ends; upstream's clients do the same (`auth/src/lib.rs`).
const AHEAD: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: DelegationToken,
    /// None if it does not say.
    pub(crate) ends: Option<SystemTime>,
}

impl Token {
    pub(crate) fn is_ending(&self, now: SystemTime) -> bool {
        self.ends.is_some_and(|ends| ends <= now + AHEAD)
    }
}

/// When a JSON Web Token ends, if it says so. It is not verified: that is up to the store.
pub(crate) fn ends(token: &str) -> Option<SystemTime> {
    let claims = from_base64(token.split('.').nth(1)?)?;
    let claims = String::from_utf8(claims).ok()?;
    let (_, ends) = claims.split_once("\"exp\":")?;
    let ends = ends.trim_start();
    let n_digits = ends.bytes().take_while(u8::is_ascii_digit).count();
    let seconds = ends[..n_digits].parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Of the alphabet for URLs, without padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for digit in chunk {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let missing = 4 - chunk.len();
        let [_, whole @ ..] = (bits << (6 * missing)).to_be_bytes();
        bytes.extend_from_slice(&whole[..3 - missing.min(3)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends() {
        // Of upstream's client, where it ends at 1569837434.
        let claims = "eyJzdWIiOiJzdWJqZWN0IiwiYXVkIjoic2VnbWVudHN0b3JlIiwi\
            aWF0IjoxNTY5ODM3Mzg0LCJleHAiOjE1Njk4Mzc0MzR9";
        let ends = ends(&format!("eyJhbGciOiJIUzI1NiJ9.{claims}.x")).expect("it says so");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(ends, at(1_569_837_434));
        let token = Token {
            text: DelegationToken::default(),
            ends: Some(ends),
        };
        assert!(!token.is_ending(at(1_569_837_428)));
        assert!(token.is_ending(at(1_569_837_429)));
    }

    #[test]
    fn what_says_nothing_lasts() {
        // The last two of those in base64 are {} and {"exp":x.
        for token in ["", "a", "a.b.c", "x.e30.y", "x.!!.y", "x.eyJleHAiOng.y"] {
            assert_eq!(ends(token), None, "{token}");
        }
        assert_eq!(from_base64("aGVsbG8_-w"), Some(b"hello?\xfb".to_vec()));
    }
}
