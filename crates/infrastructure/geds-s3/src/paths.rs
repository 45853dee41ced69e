//! Keys as paths, for those who cannot have every key: a path has parts between slashes, none of which is empty, `.` or `..`, and no control
//! characters.
//!
//! A key that is a path is its own path. Any other is under [`RESERVED`], as one part in which `%`, `/`, control characters and a dot in front are
//! written as `%` and two digits; so are keys that begin with [`RESERVED`] themselves. No two keys have one path, and each path that is not
//! under [`RESERVED`] is a key.

use std::borrow::Cow;
use std::fmt::Write as _;

/// It comes before letters and digits in the order of paths: who lists from one of those on passes it over at once.
pub const RESERVED: &str = "!geds-key/";
/// The first path that is behind all of those.
pub const RESERVED_END: &str = "!geds-key0";

/// Whether it is a path, be it under [`RESERVED`] or not.
pub fn is_path(text: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    text.split('/').all(is_part) && !text.bytes().any(|b| b.is_ascii_control())
}

/// Whether a key is its own path.
pub fn is_own(key: &str) -> bool {
    !key.starts_with(RESERVED) && is_path(key)
}

pub fn path_of(key: &str) -> Cow<'_, str> {
    if is_own(key) {
        return Cow::Borrowed(key);
    }
    let mut path = String::with_capacity(RESERVED.len() + key.len() + 16);
    path.push_str(RESERVED);
    for (at, char) in key.char_indices() {
        let is_written_so =
            !matches!(char, '%' | '/') && !char.is_ascii_control() && (at, char) != (0, '.');
        if is_written_so {
            path.push(char);
        } else {
            write!(path, "%{:02X}", u32::from(char)).expect("memory takes all");
        }
    }
    Cow::Owned(path)
}

/// `None`: no key has this path. `path` is one.
pub fn key_of(path: &str) -> Option<Cow<'_, str>> {
    let Some(part) = path.strip_prefix(RESERVED) else {
        return Some(Cow::Borrowed(path));
    };
    let mut key = String::with_capacity(part.len());
    let mut pieces = part.split('%');
    key.push_str(pieces.next()?);
    for piece in pieces {
        let byte = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        key.push(char::from(byte));
        key.push_str(piece.get(2..)?);
    }
    // There are other ways to write it, and keys that need not be here.
    (path_of(&key) == path).then_some(Cow::Owned(key))
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_are_no_paths_are_under_a_prefix() {
        for (key, path) in [
            ("a", "a"),
            ("a/b", "a/b"),
            ("a%2Fb", "a%2Fb"),
            ("...", "..."),
            ("é/ü ", "é/ü "),
            ("!geds-key", "!geds-key"),
            ("/", "!geds-key/%2F"),
            ("a/", "!geds-key/a%2F"),
            ("/a", "!geds-key/%2Fa"),
            ("a//b", "!geds-key/a%2F%2Fb"),
            (".", "!geds-key/%2E"),
            ("..", "!geds-key/%2E."),
            ("a/../b%", "!geds-key/a%2F..%2Fb%25"),
            ("\0é\u{7f}", "!geds-key/%00é%7F"),
            ("!geds-key/", "!geds-key/!geds-key%2F"),
            ("!geds-key/a", "!geds-key/!geds-key%2Fa"),
        ] {
            assert_eq!(path_of(key), path);
            assert_eq!(key_of(path).as_deref(), Some(key));
        }
        for path in [
            "!geds-key/a",
            "!geds-key/%61%2F",
            "!geds-key/%2f",
            "!geds-key/%2",
            "!geds-key/%",
            "!geds-key/%+2%2F",
            "!geds-key/%zz",
            "!geds-key/%é%2F",
            "!geds-key/%80%2F",
            "!geds-key/a%2F/b",
            "!geds-key/.%2F",
        ] {
            assert_eq!(key_of(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_one_path(key in "([a./%!é]|[\\x00-\\x7f]|!geds-key/){1,6}") {
            let path = path_of(&key);
            let read = key_of(&path);
            prop_assert_eq!(read.as_deref(), Some(&*key));
            let parsed = Path::parse(&path).expect("a path");
            prop_assert_eq!(parsed.as_ref(), &*path);
            prop_assert_eq!(is_own(&key), *path == *key);
            let is_reserved = (RESERVED..RESERVED_END).contains(&&*path);
            prop_assert_eq!(is_own(&key), !is_reserved);
        }

        #[test]
        fn paths_are_what_others_take_for_paths(text in "([a./%é]|[\\x00-\\x7f]){1,6}") {
            let is_one = Path::parse(&text).is_ok_and(|path| path.as_ref() == text);
            prop_assert_eq!(is_path(&text), is_one);
        }
    }
}
