//! `cloudskin cc`: a C compiler driver with gcc's command line, whose output runs as a cell.
//!
//! It compiles with clang for `wasm32-wasi`, links with wasm-ld, and instruments the module so that
//! it can travel ([`instrument`]). The MPI library is part of this program: its C sources
//! are compiled once, into a cache. Only `clang -c` is used, never clang's own link step: that one
//! runs whatever `wasm-opt` it finds.
//!
//! Not here: a C compiler, C++ or Fortran, threads (`-fopenmp` and `-pthread` compile, and are
//! refused at the link).
//!
//! Reading order: `args` (what was asked), `toolchain` (what it is done with), `library` (libmpi),
//! `link`.

mod args;
mod library;
mod link;
mod toolchain;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{fmt, fs};

use args::{Invocation, Item, Mode};
use library::Library;
use toolchain::Toolchain;

/// What the driver takes from its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds the compiled MPI library and, while the driver runs, temporary files. Created when
    /// missing; may be shared by any number of drivers, and deleted while none runs.
    pub cache_dir: PathBuf,
    /// Where to look for the tools that are not where Debian installs them: a value of `PATH`.
    pub path: OsString,
    /// A directory into which the toolchain's packages were unpacked, if they are not installed.
    pub root: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// The command line asks for something that cells cannot do.
    #[error("not yet: {0}")]
    NotYet(String),
    #[error("{file} is missing; install the toolchain: apt-get install {packages}")]
    MissingTool { file: String, packages: String },
    #[error("compile the MPI library:\n{0}")]
    Library(String),
    #[error("{context}")]
    Io { context: String, source: io::Error },
    #[error("instrument the module")]
    Instrument(#[source] instrument::Error),
}

impl Error {
    fn io(context: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            context: context.to_string(),
            source,
        }
    }
}

/// Compiles and links as the arguments say, and returns the exit code: that of the first tool that
/// failed, or 0.
///
/// Diagnostics of the tools and warnings go to the standard error.
///
/// # Errors
/// When the arguments cannot be followed, a tool is missing, or a file cannot be read or written.
pub fn run(args: &[OsString], config: &Config) -> Result<u8, Error> {
    let invocation = args::parse(args)?;
    for warning in &invocation.warnings {
        say(&format!("warning: {warning}"))?;
    }
    if invocation.mode == Mode::Link
        && let Some(reason) = &invocation.refused_at_link
    {
        return Err(Error::NotYet(reason.clone()));
    }
    let toolchain = Toolchain::find(config)?;
    if invocation.mode == Mode::Query {
        let mut clang = toolchain.clang();
        clang.args(&invocation.compile_flags);
        return run_tool(&mut clang).map(exit_code);
    }
    let library = Library::get(&toolchain, &config.cache_dir)?;
    let compiler = Compiler {
        toolchain: &toolchain,
        library: &library,
        invocation: &invocation,
    };
    if invocation.mode == Mode::Link {
        compiler.compile_and_link(config)
    } else {
        compiler.compile_only()
    }
}

struct Compiler<'a> {
    toolchain: &'a Toolchain,
    library: &'a Library,
    invocation: &'a Invocation,
}

impl Compiler<'_> {
    /// `-c`, `-S`, `-E`: clang knows what to call the output.
    fn compile_only(&self) -> Result<u8, Error> {
        for item in &self.invocation.items {
            let Item::Source { path, language } = item else {
                continue;
            };
            let mut clang = self.clang(path, language.as_deref());
            if let Some(output) = &self.invocation.output {
                clang.arg("-o").arg(output);
            }
            let status = run_tool(&mut clang)?;
            if !status.success() {
                return Ok(exit_code(status));
            }
        }
        Ok(0)
    }

    fn compile_and_link(&self, config: &Config) -> Result<u8, Error> {
        let scratch = Scratch::new(&config.cache_dir)?;
        let mut link_items = Vec::new();
        for (number, item) in self.invocation.items.iter().enumerate() {
            let (path, language) = match item {
                Item::Source { path, language } => (path, language.as_deref()),
                Item::Object(word) | Item::Library(word) => {
                    link_items.push(link::Item::Given(word.clone()));
                    continue;
                }
            };
            let object = scratch.path.join(format!("{number}.o"));
            let mut clang = self.clang(path, language);
            clang.arg("-c").arg("-o").arg(&object);
            if self.invocation.dependency_file_by_name {
                // Else clang would name it after the object, which nobody gets to see.
                clang.arg("-MF").arg(file_stem(path).with_extension("d"));
            }
            let status = run_tool(&mut clang)?;
            if !status.success() {
                return Ok(exit_code(status));
            }
            link_items.push(link::Item::Compiled {
                object,
                source: path.clone(),
            });
        }
        let link = link::Link {
            toolchain: self.toolchain,
            library: self.library,
            flags: &self.invocation.link_flags,
            items: &link_items,
        };
        let Some(module) = link.run(&scratch.path)? else {
            return Ok(1);
        };
        let output = self
            .invocation
            .output
            .as_deref()
            .unwrap_or(OsStr::new("a.wasm"));
        write_module(&module, Path::new(output), self.invocation.instrument)?;
        Ok(0)
    }

    /// Clang for one source, up to the name of the output.
    fn clang(&self, source: &OsStr, language: Option<&OsStr>) -> Command {
        let mut clang = self.toolchain.clang();
        clang.args(&self.invocation.compile_flags);
        // After the program's own directories, as a system's headers are.
        clang.arg("-isystem").arg(self.library.include());
        self.toolchain.add_headers(&mut clang);
        if let Some(language) = language {
            clang.arg("-x").arg(language);
        }
        clang.arg(source);
        clang
    }
}

fn write_module(module: &[u8], output: &Path, instrument: bool) -> Result<(), Error> {
    let instrumented;
    let mut bytes = module;
    if instrument {
        match instrument::instrument(module) {
            Ok(module) => {
                instrumented = module;
                bytes = &instrumented;
            }
            Err(instrument::Error::CannotMove(reason)) => {
                let output = output.display();
                say(&format!(
                    "warning: {output} cannot move between hosts: {reason}"
                ))?;
            }
            Err(error) => return Err(Error::Instrument(error)),
        }
    }
    write_executable(output, bytes).map_err(Error::io(format!("write {}", output.display())))
}

/// A new file gets the mode that a linker gives; an existing one, which may be a device, keeps its
/// own.
fn write_executable(output: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o777);
    options.open(output)?.write_all(bytes)
}

fn file_stem(path: &OsStr) -> PathBuf {
    Path::new(path).file_stem().unwrap_or(path).into()
}

/// A directory for temporary files, removed when it is dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(cache_dir: &Path) -> Result<Self, Error> {
        let path = cache_dir.join(format!("tmp-{:016x}", rt::random_u64()));
        fs::create_dir_all(cache_dir)
            .and_then(|()| fs::create_dir(&path))
            .map_err(Error::io(format!("create {}", path.display())))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind costs room in a cache; the output that the user asked for is complete.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn run_tool(command: &mut Command) -> Result<ExitStatus, Error> {
    command.status().map_err(Error::io(format!(
        "run {}",
        command.get_program().display()
    )))
}

/// A tool that a signal ended has failed, too.
fn exit_code(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}

fn say(message: &str) -> Result<(), Error> {
    writeln!(io::stderr().lock(), "cloudskin cc: {message}")
        .map_err(Error::io("write to standard error"))
}

#[cfg(test)]
mod tests;
