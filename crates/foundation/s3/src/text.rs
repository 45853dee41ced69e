//! Bytes as text: hexadecimal digits, base64, and the percent signs of URLs.

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |bits: u8| char::from(DIGITS[usize::from(bits)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for triple in bytes.chunks(3) {
        let mut four = [0; 4];
        four[1..=triple.len()].copy_from_slice(triple);
        let bits = u32::from_be_bytes(four);
        for place in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * place) & 63) as usize];
            let is_digit = place <= triple.len();
            text.push(if is_digit { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Exactly as [`base64`] writes it: one text for one value.
pub(crate) fn from_base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut places = bytes.iter_mut();
    for four in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in four {
            let value = match digit {
                b'=' => 0,
                _ => u32::try_from(BASE64.iter().position(|b| b == digit)?).ok()?,
            };
            bits = bits << 6 | value;
        }
        for (byte, place) in bits.to_be_bytes()[1..].iter().zip(&mut places) {
            *place = *byte;
        }
    }
    (base64(&bytes) == text).then_some(bytes)
}

/// As listings are encoded where keys hold what XML cannot: everything but letters, digits, `-_.*` and `/`.
pub(crate) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.*/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    encoded
}

/// `None` if it is not text. `+` is a blank, as in forms.
pub(crate) fn from_form(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(from_hex::<1>(pair)?[0]);
                rest = &rest[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, wanted) in [
            ("", ""),
            ("f", "Zg=="),
            ("hi", "aGk="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(text.as_bytes()), wanted);
        }
        assert_eq!(from_base64::<3>("Zm9v"), Some(*b"foo"));
        assert_eq!(from_base64::<2>("aGk="), Some(*b"hi"));
        for text in [
            "Zm9", "Zm9=", "Zm9v=", "Zm9vYg==", "Zn==", "", "Zm8", "Zm8=\n", "Z===", "====",
        ] {
            assert_eq!(from_base64::<2>(text), None, "{text}");
        }
        assert_eq!(hex(&[0, 0xff, 0x1a]), "00ff1a");
        assert_eq!(from_hex::<3>("00fF1a"), Some([0, 0xff, 0x1a]));
        for text in ["0", "00ff1", "00ff1g", "00ff1a00", "+0ff1a"] {
            assert_eq!(from_hex::<3>(text), None, "{text}");
        }
        assert_eq!(percent("a b+/é\n"), "a%20b%2B/%C3%A9%0A");
        assert_eq!(from_form("a%20b+c%2B").as_deref(), Some("a b c+"));
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(from_form(text), None, "{text}");
        }
    }
}
