//! The MPI library: its sources are in this program, its objects in the cache.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::toolchain::Toolchain;
use super::{Error, Scratch};

macro_rules! sources {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../../guests/libmpi/", $path)))),*]
    };
}

/// Path below `guests/libmpi`, and text.
pub(super) const SOURCES: &[(&str, &str)] = sources![
    "include/mpi.h",
    "include/mpi_bindings.h",
    "src/allgather.c",
    "src/collective.c",
    "src/comm.c",
    "src/datatype.c",
    "src/error.c",
    "src/group.c",
    "src/host.h",
    "src/internal.h",
    "src/op.c",
    "src/p2p.c",
    "src/reduce.c",
    "src/request.c",
    "src/world.c",
];

/// The functions of the standard, one a line.
const FUNCTIONS: &str = include_str!("../../../../../guests/libmpi/functions.txt");

/// Whether this is a function of the MPI standard, implemented or not.
pub(super) fn is_mpi_function(name: &str) -> bool {
    FUNCTIONS.lines().any(|function| function == name)
}

/// The compiled library, in the cache.
pub(super) struct Library {
    dir: PathBuf,
}

impl Library {
    /// Compiles the library if the cache does not have it.
    ///
    /// Drivers that run at the same time may each compile it. The first to finish moves the whole
    /// directory to its name, so that nobody sees a part of it.
    pub(super) fn get(toolchain: &Toolchain, cache_dir: &Path) -> Result<Self, Error> {
        let dir = cache_dir.join(format!("libmpi-{}", key(&toolchain.fingerprint()?)));
        if !dir.exists() {
            let scratch = Scratch::new(cache_dir)?;
            let built = scratch.path.join("libmpi");
            compile(toolchain, &built)?;
            publish(&built, &dir).map_err(Error::io(format!("create {}", dir.display())))?;
        }
        Ok(Self { dir })
    }

    pub(super) fn include(&self) -> PathBuf {
        self.dir.join("include")
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = PathBuf> {
        c_files().map(|path| object(&self.dir, path))
    }
}

fn key(fingerprint: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    // Lengths, so that no two lists of texts run together to the same bytes.
    for text in SOURCES
        .iter()
        .flat_map(|(path, text)| [*path, *text])
        .chain([fingerprint])
    {
        hasher.update(&text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn c_files() -> impl Iterator<Item = &'static str> {
    SOURCES
        .iter()
        .map(|(path, _)| *path)
        .filter(|path| Path::new(path).extension().is_some_and(|ext| ext == "c"))
}

fn object(dir: &Path, source: &str) -> PathBuf {
    dir.join(source).with_extension("o")
}

fn compile(toolchain: &Toolchain, dir: &Path) -> Result<(), Error> {
    for (path, text) in SOURCES {
        let path = dir.join(path);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(Error::io(format!("write {}", path.display())))?;
    }
    for source in c_files() {
        let mut clang = toolchain.clang();
        toolchain.add_headers(&mut clang);
        clang.args([
            "-std=gnu17",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-c",
            "-o",
        ]);
        clang
            .arg(object(dir, source))
            .arg("-I")
            .arg(dir.join("include"))
            .arg(dir.join(source));
        let output = clang.output().map_err(Error::io("run clang"))?;
        if !output.status.success() {
            return Err(Error::Library(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
    }
    Ok(())
}

fn publish(built: &Path, dir: &Path) -> io::Result<()> {
    match fs::rename(built, dir) {
        // Another driver was faster; its library is as good.
        Err(_) if dir.exists() => Ok(()),
        result => result,
    }
}
