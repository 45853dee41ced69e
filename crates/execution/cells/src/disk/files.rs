//! Small files that outlive the process that has written them, and the directories that they are in.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};

use crate::wire::invalid;

/// A longer file is none of ours.
const BYTES_MAX: u64 = 64 << 20;

/// Of all versions of any file.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads a file of JSON whose `version` is this one. `None`: there is no such file.
///
/// # Errors
/// When the file is of another version, which says nothing about the meaning of its fields.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, version: u32) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let name = path.display();
    if bytes.len() as u64 > BYTES_MAX {
        return Err(invalid(format!("{name} is too long to be what it should")));
    }
    let damaged = |error| invalid(format!("{name} is damaged: {error}"));
    let found: Versioned = serde_json::from_slice(&bytes).map_err(damaged)?;
    if found.version > version {
        let problem = format!(
            "{name} has version {}, and this program reads version {version}: a later cloudskin has written it, so start \
             that one or one that is later still",
            found.version
        );
        // The file may be good: whoever reads it must not give up what it is about.
        return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
    }
    if found.version < version {
        let problem = format!("{name} has version {}, which never was", found.version);
        return Err(invalid(problem));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a file as a whole: whoever reads it, after whatever crash, finds the earlier or this content.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    durable::publish(&file, &partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sample {
        what: String,
    }

    fn read(text: &str) -> io::Result<Option<Sample>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sample.json");
        std::fs::write(&path, text).expect("written");
        read_json(&path, 2)
    }

    #[test]
    fn a_file_of_another_version_is_refused_whatever_else_it_says() {
        let what = || Sample { what: "a".into() };
        let read_well = read("{\"version\":2,\"what\":\"a\",\"more\":1}").expect("this version");
        assert_eq!(read_well, Some(what()));
        for (text, problem) in [
            (
                "{\"version\":3,\"what\":\"a\"}",
                "a later cloudskin has written it",
            ),
            (
                "{\"version\":3,\"other\":[]}",
                "a later cloudskin has written it",
            ),
            (
                "{\"version\":1,\"what\":\"a\"}",
                "version 1, which never was",
            ),
            ("{\"what\":\"a\"}", "is damaged: missing field `version`"),
            ("{\"version\":-2,\"what\":\"a\"}", "is damaged"),
            ("{\"version\":2}", "is damaged: missing field `what`"),
            ("{\"version\":2,\"what\":\"a", "is damaged"),
            ("", "is damaged"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(
                error.contains(problem) && error.contains("sample.json"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = read_json::<Sample>(&dir.path().join("sample.json"), 2);
        assert_eq!(read.expect("no error"), None);
    }
}
