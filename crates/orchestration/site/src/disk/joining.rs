//! The key with which a site asks to join, until it has joined.
//!
//! A token works once, but the controller answers the same key again: so a site whose answer was lost asks again with the key that it asked
//! with before. The file has a private key in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use auth::KeyRequest;
use serde::{Deserialize, Serialize};

use super::{read, replace};
use crate::error::{Error, Kind};

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    key: Vec<u8>,
}

/// The key that an earlier attempt made, or a new one. When it returns, the key is durable.
pub(crate) fn key(folder: &Path) -> Result<KeyRequest, Error> {
    let path = path(folder);
    let found = read(&path, BYTES_MAX)
        .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
    if let Some(bytes) = found {
        return parse(&bytes).map_err(|why| {
            let path = path.display();
            let advice = "remove it and join with a new token";
            Error::new(Kind::Corrupt, format!("{path}: {why}; {advice}"))
        });
    }
    let key = KeyRequest::new().map_err(|error| Error::io("make a key", error))?;
    let body = Body {
        version: VERSION,
        key: key.key(),
    };
    let bytes = serde_json::to_vec(&body).expect("numbers are numbers");
    replace(&path, &bytes)
        .map_err(|error| Error::io(format!("write {}", path.display()), error))?;
    Ok(key)
}

/// The site has joined, and its key is where its identity is.
pub(crate) fn forget(folder: &Path) {
    let path = path(folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // It does no harm: whoever may read it may read the identity.
            tracing::warn!(path = %path.display(), %error, "a key that is not needed any more is not removed");
        }
        _ => {}
    }
}

fn parse(bytes: &[u8]) -> Result<KeyRequest, String> {
    let body: Body = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if body.version != VERSION {
        return Err(format!("version {} is not known", body.version));
    }
    KeyRequest::from_key(&body.key).map_err(|error| error.to_string())
}

fn path(folder: &Path) -> PathBuf {
    folder.join("joining.json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_stays_the_same_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let public_key = || key(dir.path()).expect("a key").public_key();
        let first = public_key();
        assert_eq!(public_key(), first);
        let meta = fs::metadata(path(dir.path())).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        forget(dir.path());
        forget(dir.path());
        assert_ne!(public_key(), first);
    }

    #[test]
    fn what_is_damaged_is_said_and_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        key(dir.path()).expect("a key");
        let path = path(dir.path());
        let whole = fs::read(&path).expect("readable");
        let later = String::from_utf8(whole.clone()).expect("text");
        let later = later.replacen("\"version\":1", "\"version\":2", 1);
        let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
        for bad in cuts.chain([later.into_bytes()]) {
            fs::write(&path, &bad).expect("room");
            let error = key(dir.path()).expect_err("it is damaged");
            assert_eq!(error.kind(), Kind::Corrupt);
            assert_eq!(fs::read(&path).expect("readable"), bad);
        }
    }
}
