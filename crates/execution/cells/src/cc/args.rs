//! The command line: gcc's, as far as it makes sense for a cell.
//!
//! Flags that a C compiler understands go to clang as they are. This module knows those that take
//! the next word as their argument, those that concern the link step, and those that a cell cannot
//! have.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Compile the sources and link.
    Link,
    /// Clang does all that is asked for: `-c`, `-S`, `-E`, `-M`, `-fsyntax-only`.
    Compile,
    /// No file is touched: `--version` and the like.
    Query,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Source {
        path: OsString,
        language: Option<OsString>,
    },
    /// An object or archive.
    Object(OsString),
    /// `-l…`; its place among the objects matters.
    Library(OsString),
}

#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) mode: Mode,
    pub(super) items: Vec<Item>,
    pub(super) output: Option<OsString>,
    pub(super) compile_flags: Vec<OsString>,
    pub(super) link_flags: Vec<OsString>,
    /// Why a program cannot be linked with these flags.
    pub(super) refused_at_link: Option<String>,
    /// Dependencies are wanted, in a file that has no name on the command line.
    pub(super) dependency_file_by_name: bool,
    /// Cleared by `--no-instrument`: the plain module, to measure what instrumentation costs.
    pub(super) instrument: bool,
    pub(super) warnings: Vec<String>,
}

/// Flags whose argument is the next word if it is not in the same one.
const WITH_ARGUMENT: [&str; 20] = [
    "-I",
    "-D",
    "-U",
    "-include",
    "-imacros",
    "-isystem",
    "-iquote",
    "-idirafter",
    "-iprefix",
    "-iwithprefix",
    "-MF",
    "-MT",
    "-MQ",
    "-Xclang",
    "-Xpreprocessor",
    "-Xassembler",
    "-mllvm",
    "--param",
    "-dumpbase",
    "-iwithprefixbefore",
];

/// Flags about the shape of a host's executable, which a module does not have.
const SHAPE: [&str; 16] = [
    "-static",
    "-static-libgcc",
    "-static-pie",
    "-pie",
    "-no-pie",
    "-fPIC",
    "-fpic",
    "-fPIE",
    "-fpie",
    "-fno-pie",
    "-fno-PIE",
    "-fno-pic",
    "-fno-PIC",
    "-rdynamic",
    "-pipe",
    "-fno-plt",
];

/// Flags for the linker that wasm-ld has, too, and that leave the module a cell.
const LINKER: [&str; 8] = [
    "--gc-sections",
    "--no-gc-sections",
    "-s",
    "--strip-all",
    "-S",
    "--strip-debug",
    "--whole-archive",
    "--no-whole-archive",
];

/// Wasm features that a program may switch on or off, without `-m` and `-mno-`.
const FEATURES: [&str; 5] = [
    "simd128",
    "bulk-memory",
    "sign-ext",
    "nontrapping-fptoint",
    "mutable-globals",
];

pub(super) fn parse(args: &[OsString]) -> Result<Invocation, Error> {
    let mut parser = Parser {
        args: args.iter(),
        language: None,
        query: false,
        compile_only: false,
        dependencies: false,
        dependency_file: false,
        invocation: Invocation {
            mode: Mode::Link,
            items: Vec::new(),
            output: None,
            compile_flags: Vec::new(),
            link_flags: Vec::new(),
            refused_at_link: None,
            dependency_file_by_name: false,
            instrument: true,
            warnings: Vec::new(),
        },
    };
    while let Some(arg) = parser.args.next() {
        parser.argument(arg)?;
    }
    parser.finish()
}

struct Parser<'a> {
    args: std::slice::Iter<'a, OsString>,
    /// Of the sources from here on, by `-x`.
    language: Option<OsString>,
    query: bool,
    compile_only: bool,
    dependencies: bool,
    dependency_file: bool,
    invocation: Invocation,
}

impl Parser<'_> {
    fn argument(&mut self, arg: &OsString) -> Result<(), Error> {
        // A flag is ASCII in all parts that matter here; what follows it may be any path.
        let text = arg.to_string_lossy().into_owned();
        if text == "-" || !text.starts_with('-') {
            return self.input(arg, &text);
        }
        if self.driver_flag(arg, &text)?
            || self.link_flag(arg, &text)?
            || self.machine_flag(&text)?
        {
            return Ok(());
        }
        self.dependencies |= text == "-MD" || text == "-MMD";
        self.dependency_file |= text.starts_with("-MF");
        self.invocation.compile_flags.push(arg.clone());
        if WITH_ARGUMENT.contains(&text.as_str()) {
            let value = self.value(&text)?;
            self.invocation.compile_flags.push(value);
        }
        Ok(())
    }

    fn input(&mut self, arg: &OsString, text: &str) -> Result<(), Error> {
        if text.starts_with('@') {
            return Err(Error::NotYet(format!("files with arguments ({text})")));
        }
        let extension = Path::new(arg)
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        let is_source = matches!(extension, "c" | "i" | "s" | "S" | "sx" | "h");
        if is_source || self.language.is_some() || text == "-" {
            let language = self.language.clone();
            self.invocation.items.push(Item::Source {
                path: arg.clone(),
                language,
            });
            return Ok(());
        }
        match extension {
            "cc" | "cp" | "cpp" | "cxx" | "c++" | "C" | "ii" | "hpp" => {
                Err(Error::NotYet(format!("C++ ({text})")))
            }
            "f" | "F" | "for" | "f77" | "f90" | "F90" | "f95" | "f03" | "f08" => {
                Err(Error::NotYet(format!("Fortran ({text})")))
            }
            "so" => Err(Error::NotYet(format!("shared libraries ({text})"))),
            _ => {
                self.invocation.items.push(Item::Object(arg.clone()));
                Ok(())
            }
        }
    }

    /// Flags that say what the driver is to do.
    fn driver_flag(&mut self, arg: &OsString, text: &str) -> Result<bool, Error> {
        match text {
            "-c" | "-S" | "-E" | "-M" | "-MM" | "-fsyntax-only" => {
                self.compile_only = true;
                self.invocation.compile_flags.push(arg.clone());
            }
            "-o" => self.invocation.output = Some(self.value(text)?),
            "-x" => {
                let language = self.value(text)?;
                self.set_language(&language)?;
            }
            "--no-instrument" => self.invocation.instrument = false,
            "--version" | "--help" | "-###" | "-dumpversion" | "-dumpmachine" => {
                self.query = true;
                self.invocation.compile_flags.push(arg.clone());
            }
            _ if text.starts_with("-print-") || text.starts_with("--print-") => {
                self.query = true;
                self.invocation.compile_flags.push(arg.clone());
            }
            _ if text.starts_with("-o") => self.invocation.output = Some(rest(arg, 2)),
            _ if text.starts_with("-x") => self.set_language(&rest(arg, 2))?,
            _ if ["--target", "-target", "--sysroot", "-isysroot"]
                .iter()
                .any(|flag| text.starts_with(flag)) =>
            {
                return Err(Error::Usage(format!(
                    "{text}: the target of a cell is given"
                )));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn link_flag(&mut self, arg: &OsString, text: &str) -> Result<bool, Error> {
        match text {
            "-shared" => return Err(Error::NotYet("shared libraries (-shared)".to_owned())),
            "-s" => self.invocation.link_flags.push(arg.clone()),
            "-Xlinker" => {
                let value = self.value(text)?;
                self.linker_words(&value.to_string_lossy());
            }
            "-T" | "-u" | "-e" | "-z" | "-B" => {
                let value = self.value(text)?;
                self.ignore(
                    &format!("{text} {}", value.display()),
                    "it is for another linker",
                );
            }
            "-nostdlib" | "-nodefaultlibs" | "-nostartfiles" => {
                self.ignore(text, "a cell has the C library");
            }
            "-fopenmp" | "-pthread" | "-fopenacc" => self.refuse(text),
            "-lmpi" => {}
            "-lgomp" | "-lomp" | "-liomp5" => self.refuse(text),
            "-l" | "-L" => {
                let value = self.value(text)?;
                let mut joined = arg.clone();
                joined.push(value);
                return self.link_flag(&joined.clone(), &joined.to_string_lossy());
            }
            _ if SHAPE.contains(&text) => {}
            _ if text.starts_with("-fopenmp=") => self.refuse(text),
            _ if text.starts_with("-fuse-ld=") => {
                self.ignore(text, "the linker of cells is wasm-ld")
            }
            _ if text.starts_with("-Wl,") => self.linker_words(&text[4..]),
            _ if text.starts_with("-l") => self.invocation.items.push(Item::Library(arg.clone())),
            _ if text.starts_with("-L") => self.invocation.link_flags.push(arg.clone()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `-m…`: what concerns a processor is dropped, since a cell runs on any.
    fn machine_flag(&mut self, text: &str) -> Result<bool, Error> {
        if !text.starts_with("-m") || text == "-mllvm" {
            return Ok(false);
        }
        let feature = &text[2..];
        if FEATURES.contains(&feature.strip_prefix("no-").unwrap_or(feature)) {
            return Ok(false);
        }
        self.ignore(text, "a cell runs on any processor");
        Ok(true)
    }

    fn linker_words(&mut self, words: &str) {
        for word in words.split(',') {
            if LINKER.contains(&word) || word.starts_with("--wrap=") {
                self.invocation.link_flags.push(word.into());
            } else {
                self.ignore(&format!("-Wl,{word}"), "it is for another linker");
            }
        }
    }

    fn set_language(&mut self, language: &OsStr) -> Result<(), Error> {
        self.language = match language.to_str().unwrap_or_default() {
            "none" => None,
            "c" | "cpp-output" | "c-header" | "assembler" | "assembler-with-cpp" => {
                Some(language.into())
            }
            _ => {
                return Err(Error::NotYet(format!(
                    "the language {}",
                    language.display()
                )));
            }
        };
        Ok(())
    }

    fn value(&mut self, flag: &str) -> Result<OsString, Error> {
        self.args
            .next()
            .cloned()
            .ok_or_else(|| Error::Usage(format!("argument to {flag} is missing")))
    }

    fn ignore(&mut self, flag: &str, reason: &str) {
        self.invocation
            .warnings
            .push(format!("ignored {flag}: {reason}"));
    }

    fn refuse(&mut self, flag: &str) {
        self.invocation.refused_at_link = Some(format!("{flag}: a cell has one thread"));
    }

    fn finish(self) -> Result<Invocation, Error> {
        let mut invocation = self.invocation;
        let n_sources = invocation
            .items
            .iter()
            .filter(|item| matches!(item, Item::Source { .. }))
            .count();
        let verbose = invocation.compile_flags.iter().any(|flag| flag == "-v");
        invocation.mode = if self.query || (verbose && invocation.items.is_empty()) {
            Mode::Query
        } else if self.compile_only {
            Mode::Compile
        } else {
            Mode::Link
        };
        settle_standard_input(&mut invocation)?;
        let n_files = invocation
            .items
            .iter()
            .filter(|item| !matches!(item, Item::Library(_)))
            .count();
        match invocation.mode {
            Mode::Link if n_files == 0 => return Err(Error::Usage("no input files".to_owned())),
            Mode::Compile if n_sources == 0 => {
                return Err(Error::Usage("no input files".to_owned()));
            }
            Mode::Compile if n_sources > 1 && invocation.output.is_some() => {
                return Err(Error::Usage(
                    "-o with -c, -S or -E needs a single source".to_owned(),
                ));
            }
            Mode::Link | Mode::Compile | Mode::Query => {}
        }
        invocation.dependency_file_by_name = self.dependencies && !self.dependency_file;
        Ok(invocation)
    }
}

/// Standard input has no name that tells its language; only the preprocessor does without.
fn settle_standard_input(invocation: &mut Invocation) -> Result<(), Error> {
    let preprocess = invocation.compile_flags.iter().any(|flag| flag == "-E");
    for item in &mut invocation.items {
        if let Item::Source {
            path,
            language: language @ None,
        } = item
            && path == "-"
        {
            if !preprocess {
                return Err(Error::Usage(
                    "-E or -x is required when the input is -".to_owned(),
                ));
            }
            *language = Some("c".into());
        }
    }
    Ok(())
}

/// What follows the first `n` bytes of a flag.
fn rest(arg: &OsStr, n: usize) -> OsString {
    use std::os::unix::ffi::OsStrExt as _;
    OsStr::from_bytes(&arg.as_bytes()[n..]).to_owned()
}
