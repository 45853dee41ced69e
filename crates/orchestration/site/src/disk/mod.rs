//! What a site keeps: one file per kind of record.

pub(crate) mod identity;
pub(crate) mod joining;
pub(crate) mod ledger;
pub(crate) mod modules;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Puts `bytes` at `path`, whole and durable, or leaves what was there. Only the owner may read it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = durable::create_private(&partial)?;
    file.write_all(bytes)?;
    durable::publish(&file, &partial, path)
}

/// The whole file, if there is one and it has at most `len_max` bytes.
fn read(path: &Path, len_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(io::Error::other(format!(
            "it is longer than {len_max} bytes"
        )));
    }
    Ok(Some(bytes))
}
