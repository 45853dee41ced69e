//! The tools below the driver, and where they are.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Config, Error};

/// Packages and a file of each; the tools and their versions are named nowhere else.
const PACKAGES: &str = include_str!("../../../../../guests/toolchain.txt");

/// The triple for which Debian's wasi-libc is built.
const TARGET: &str = "wasm32-wasi";

/// Features that every engine for cells has. Programs may switch them off, not others on.
const FEATURES: [&str; 2] = ["-msimd128", "-mbulk-memory"];

/// Parts of wasi-libc that programs have to ask for: they emulate what WASI lacks. A program that
/// was written for another system does not know, so all are on.
const EMULATED: [(&str, &str); 4] = [
    ("-D_WASI_EMULATED_SIGNAL", "-lwasi-emulated-signal"),
    ("-D_WASI_EMULATED_MMAN", "-lwasi-emulated-mman"),
    (
        "-D_WASI_EMULATED_PROCESS_CLOCKS",
        "-lwasi-emulated-process-clocks",
    ),
    ("-D_WASI_EMULATED_GETPID", "-lwasi-emulated-getpid"),
];

pub(super) struct Toolchain {
    clang: PathBuf,
    linker: PathBuf,
    startup: PathBuf,
    builtins: PathBuf,
    /// The C library's headers and archives.
    headers: PathBuf,
    archives: PathBuf,
    /// The unpacked packages' shared libraries, if they are not installed.
    library_path: Option<std::ffi::OsString>,
}

impl Toolchain {
    pub(super) fn find(config: &Config) -> Result<Self, Error> {
        let clang = find(config, "clang-19")?;
        let linker = find(config, "lld-19")?;
        let startup = find(config, "wasi-libc")?;
        let builtins = find(config, "libclang-rt-19-dev-wasm32")?;
        let archives = startup.parent().unwrap_or(Path::new("/")).to_path_buf();
        // `<prefix>/lib/<target>` and `<prefix>/include/<target>` belong together.
        let prefix = archives.ancestors().nth(2).unwrap_or(Path::new("/"));
        let headers = prefix.join("include").join(TARGET);
        let library_path = config.root.as_ref().map(|root| {
            let dirs = [
                "usr/lib/llvm-19/lib",
                "usr/lib/x86_64-linux-gnu",
                "usr/lib/aarch64-linux-gnu",
            ];
            env::join_paths(dirs.map(|dir| root.join(dir))).unwrap_or_default()
        });
        Ok(Self {
            clang,
            linker,
            startup,
            builtins,
            headers,
            archives,
            library_path,
        })
    }

    /// Clang with everything that each call of it has.
    pub(super) fn clang(&self) -> Command {
        let mut command = self.command(&self.clang);
        // Not the host's headers, whose declarations are of another system. No warnings about flags
        // without an effect: gcc has none either, and makefiles hand out flags generously.
        command
            .arg(format!("--target={TARGET}"))
            .args(["-nostdlibinc", "-Qunused-arguments"]);
        command
            .args(FEATURES)
            .args(EMULATED.map(|(define, _)| define));
        command
    }

    pub(super) fn add_headers(&self, clang: &mut Command) {
        clang.arg("-isystem").arg(&self.headers);
    }

    /// The linker with the start of a program.
    pub(super) fn linker(&self) -> Command {
        let mut command = self.command(&self.linker);
        // A stack overflow traps when the stack comes first, instead of overwriting data.
        command.args(["--stack-first", "-z", "stack-size=8388608"]);
        // All undefined functions are reported at once.
        command.args(["--error-limit=0", "--color-diagnostics=never"]);
        // First, so that `-lm` is never a host's.
        command.arg("-L").arg(&self.archives).arg(&self.startup);
        command
    }

    /// What every program is linked with, after its own objects.
    pub(super) fn add_libraries(&self, linker: &mut Command) {
        // Before libc, whose printf refuses long doubles.
        linker
            .arg("-lc-printscan-long-double")
            .args(EMULATED.map(|(_, library)| library));
        linker.arg("-lc").arg(&self.builtins);
    }

    /// Changes when the compiler does.
    pub(super) fn fingerprint(&self) -> Result<String, Error> {
        let clang = fs::metadata(&self.clang)
            .map_err(Error::io(format!("look at {}", self.clang.display())))?;
        Ok(format!(
            "{} {} {}",
            self.clang.display(),
            clang.len(),
            clang.mtime()
        ))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(library_path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", library_path);
        }
        command
    }
}

/// The file that stands for a package: below the root, or else, if it is a program, on the path.
fn find(config: &Config, package: &str) -> Result<PathBuf, Error> {
    let file = packages()
        .find_map(|(name, file)| (name == package).then_some(file))
        .expect("toolchain.txt names every package that is looked for");
    let root = config.root.as_deref().unwrap_or(Path::new("/"));
    let installed = root.join(file.trim_start_matches('/'));
    if installed.exists() {
        return Ok(installed);
    }
    if let Some(program) = file.strip_prefix("/usr/bin/")
        && let Some(found) = find_on_path(&config.path, program)
    {
        return Ok(found);
    }
    let packages: Vec<&str> = packages().map(|(name, _)| name).collect();
    Err(Error::MissingTool {
        file: installed.display().to_string(),
        packages: packages.join(" "),
    })
}

fn find_on_path(path: &OsStr, program: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn packages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PACKAGES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
}
