//! The link step, and its errors in the words of the program's author.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::library::{Library, is_mpi_function};
use super::toolchain::Toolchain;
use super::{Error, say};

/// What goes into the program, in the order of the command line.
pub(super) enum Item {
    /// A temporary object; messages name its source instead.
    Compiled { object: PathBuf, source: OsString },
    /// An object, an archive or `-l…`, as the user named it.
    Given(OsString),
}

pub(super) struct Link<'a> {
    pub(super) toolchain: &'a Toolchain,
    pub(super) library: &'a Library,
    pub(super) flags: &'a [OsString],
    pub(super) items: &'a [Item],
}

impl Link<'_> {
    /// The linked module; `None` if the linker has said why there is none.
    pub(super) fn run(&self, scratch: &Path) -> Result<Option<Vec<u8>>, Error> {
        let linked = scratch.join("linked.wasm");
        let mut linker = self.toolchain.linker();
        linker.args(self.flags);
        for item in self.items {
            match item {
                Item::Compiled { object, .. } => linker.arg(object),
                Item::Given(word) => linker.arg(word),
            };
        }
        // Objects between these two are linked only when something needs them, as from an archive.
        linker
            .arg("--start-lib")
            .args(self.library.objects())
            .arg("--end-lib");
        self.toolchain.add_libraries(&mut linker);
        linker.arg("-o").arg(&linked);
        let output = linker.output().map_err(Error::io("run wasm-ld"))?;
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            say(&self.explain(line))?;
        }
        if !output.status.success() {
            return Ok(None);
        }
        fs::read(&linked)
            .map(Some)
            .map_err(Error::io("read the linked module"))
    }

    /// Says what a line of the linker means.
    fn explain(&self, line: &str) -> String {
        let Some(line) = line.split_once(": error: ").map(|(_, message)| message) else {
            return self.name_sources(line);
        };
        let Some((object, symbol)) = line.split_once(": undefined symbol: ") else {
            return format!("error: {}", self.name_sources(line));
        };
        let user = self.name_sources(object);
        let real = symbol
            .strip_prefix('P')
            .filter(|name| name.starts_with("MPI_"));
        if is_mpi_function(symbol) {
            format!("error: {symbol} is not implemented yet (called in {user})")
        } else if real.is_some_and(is_mpi_function) {
            format!(
                "error: {symbol}: the profiling interface is not implemented yet (called in {user})"
            )
        } else {
            format!("error: {user}: undefined reference to `{symbol}`")
        }
    }

    /// Puts sources in the place of the temporary objects made from them.
    fn name_sources(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for item in self.items {
            if let Item::Compiled { object, source } = item {
                text = text.replace(&*object.to_string_lossy(), &OsStr::to_string_lossy(source));
            }
        }
        text
    }
}
