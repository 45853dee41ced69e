//! Texts in the modified UTF-8 of Java (`java.io.DataInput`): a zero is two bytes, and a character beyond the first plane is two surrogates of
//! three bytes each. All other texts are as in UTF-8.

use crate::Flaw;

/// How many bytes it has in this form.
pub(crate) fn bytes_of(text: &str) -> usize {
    text.chars().map(char_bytes).sum()
}

fn char_bytes(char: char) -> usize {
    match char {
        '\0' => 2,
        _ if char.len_utf8() == 4 => 6,
        _ => char.len_utf8(),
    }
}

pub(crate) fn encode(text: &str, mut put: impl FnMut(&[u8])) {
    let is_special = |char: char| char_bytes(char) != char.len_utf8();
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        let (plain, others) = rest.split_at(at);
        put(plain.as_bytes());
        let mut chars = others.chars();
        let char = chars.next().expect("it was found there");
        rest = chars.as_str();
        if char == '\0' {
            put(&[0xC0, 0x80]);
            continue;
        }
        for &mut unit in char.encode_utf16(&mut [0; 2]) {
            let [high, low] = unit.to_be_bytes();
            put(&[
                0xE0 | (high >> 4),
                0x80 | ((high & 0x0F) << 2) | (low >> 6),
                0x80 | (low & 0x3F),
            ]);
        }
    }
    put(rest.as_bytes());
}

/// Half of a pair of surrogates is refused, and so is a character that is longer than it has to be: there is no other such text in Rust.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, Flaw> {
    // In UTF-8 these begin the characters of four bytes, which do not exist in this form.
    if bytes.iter().all(|&byte| byte < 0xF0)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return Ok(text.to_owned());
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((unit, others)) = unit(rest) {
        units.push(unit);
        rest = others;
    }
    if !rest.is_empty() {
        return Err(Flaw::Text);
    }
    String::from_utf16(&units).map_err(|_| Flaw::Text)
}

/// The first unit of UTF-16, and what follows it.
fn unit(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let tail = |byte: u8| (byte & 0xC0 == 0x80).then_some(u16::from(byte & 0x3F));
    match *bytes {
        [first @ 0..=0x7F, ref rest @ ..] => Some((first.into(), rest)),
        [first @ 0xC0..=0xDF, second, ref rest @ ..] => {
            let unit = u16::from(first & 0x1F) << 6 | tail(second)?;
            (unit == 0 || unit >= 0x80).then_some((unit, rest))
        }
        [first @ 0xE0..=0xEF, second, third, ref rest @ ..] => {
            let unit = u16::from(first & 0x0F) << 12 | tail(second)? << 6 | tail(third)?;
            (unit >= 0x800).then_some((unit, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, bytes: &[u8]) {
        let mut encoded = Vec::new();
        encode(text, |piece| encoded.extend_from_slice(piece));
        assert_eq!(encoded, bytes, "{text:?}");
        assert_eq!(bytes_of(text), bytes.len(), "{text:?}");
        assert_eq!(decode(bytes).as_deref(), Ok(text));
    }

    #[test]
    fn texts_are_as_java_writes_them() {
        check("", b"");
        check("scope/stream/0.#epoch.0", b"scope/stream/0.#epoch.0");
        check("a\0b", b"a\xC0\x80b");
        check(
            "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}",
            b"\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF",
        );
        check("x\u{1F600}y", b"x\xED\xA0\xBD\xED\xB8\x80y");
        check(
            "\u{10000}\u{10FFFF}",
            b"\xED\xA0\x80\xED\xB0\x80\xED\xAF\xBF\xED\xBF\xBF",
        );
    }

    #[test]
    fn a_zero_may_also_come_as_a_zero() {
        assert_eq!(decode(b"a\0").as_deref(), Ok("a\0"));
        assert_eq!(decode(b"\0\xC0\x80").as_deref(), Ok("\0\0"));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bytes in [
            &b"\x80"[..],
            b"\xC3",
            b"\xC3\x28",
            b"\xE0\xA0",
            b"\xE0\xA0\x28",
            // Longer than they have to be.
            b"\xC1\x81",
            b"\xE0\x81\x81",
            // Halves of pairs, and pairs the wrong way round.
            b"\xED\xA0\xBD",
            b"\xED\xB8\x80",
            b"\xED\xB8\x80\xED\xA0\xBD",
            b"\xED\xA0\xBDx",
            // As UTF-8 has it.
            "\u{1F600}".as_bytes(),
            b"\xFF",
        ] {
            assert_eq!(decode(bytes), Err(Flaw::Text), "{bytes:x?}");
        }
    }
}
