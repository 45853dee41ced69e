//! The checks, each a step with a name, a time and a list of complaints. Cheap ones come first; all of them run, so
//! that one visit shows everything that is wrong.

mod budgets;
mod layers;
mod licences;
mod plants;
mod tidy;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::rules::Rules;
use crate::setup::{self, Purpose};
use crate::shell::Cmd;
use crate::{build, metadata, test};

/// What a check has against the repository; nothing when it is content.
type Complaints = Vec<String>;

/// Runs every check, or those in `only` if it names any; tells how each went, and fails if one did.
pub(crate) fn run(root: &Path, only: &[String]) -> Result<()> {
    let mut steps = Steps {
        only,
        done: Vec::new(),
    };
    steps.step("setup", || setup::prepare(root, Purpose::Check));
    let rules = Rules::load(root)?;
    let files = tracked_files(root)?;
    steps.step("format", || {
        Cmd::new("cargo", root)
            .args(["fmt", "--all", "--check"])
            .run()
    });
    steps.step("tidy", || none_of(tidy::check(&files, &rules)));
    steps.step("layers", || {
        none_of(layers::check(root, &metadata::members(root)?, &rules))
    });
    steps.step("licences", || {
        none_of(licences::check(&metadata::everything(root)?, &rules)?)
    });
    steps.step("budgets", || none_of(budgets::check(root, &files, &rules)?));
    steps.step("spelling", || spelling(root));
    steps.step("clippy", || {
        clippy_command(root, &["--locked", "--workspace"]).run()
    });
    steps.step("test", || test(root, &[]));
    steps.step("python", || python(root));
    steps.step("plants", || plants::check(root, &files));
    steps.finish()
}

/// A text file of the repository.
#[derive(Debug)]
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Every file that git tracks or would track and that is text.
fn tracked_files(root: &Path) -> Result<Vec<File>> {
    // A checkout may belong to another user than the one who checks it; only its file list is wanted.
    let names = Cmd::new("git", root)
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .read()?;
    let mut files = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // Tracked, but deleted or a link: not a file to read.
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("read {name}"))?;
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            files.push(File {
                path: name.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}

fn spelling(root: &Path) -> Result<()> {
    Cmd::new(setup::typos_path(root), root)
        .args(["--config", ".typos.toml"])
        .run()
}

/// The tests of the packages for Python, with the module that [`build`] makes, and those that fsspec has for file systems.
fn python(root: &Path) -> Result<()> {
    build(root)?;
    let packages = setup::python_packages(root);
    Cmd::new("env", root)
        .arg(format!("PYTHONPATH={}", packages.display()))
        .arg(root.join("sdk/python/tests/run.sh"))
        .arg(metadata::target_directory(root)?.join("debug"))
        .args(["sdk/python/tests", "conformance/fsspec"])
        .run()
}

/// The same command for the repository and for the plants.
fn clippy_command(root: &Path, what: &[&str]) -> Cmd {
    Cmd::new("cargo", root)
        .args(["clippy", "--all-targets"])
        .args(what)
        .args(["--", "-D", "warnings"])
}

fn none_of(complaints: Complaints) -> Result<()> {
    for complaint in &complaints {
        println!("{complaint}");
    }
    match complaints.len() {
        0 => Ok(()),
        n => bail!("{n} complaints"),
    }
}

/// What is to be done, what was, and how long it took.
struct Steps<'a> {
    only: &'a [String],
    done: Vec<Done>,
}

struct Done {
    name: &'static str,
    seconds: f64,
    failed: bool,
}

impl Steps<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the toolbox imports no crate of the workspace"
    )]
    fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) {
        // Whatever is asked for needs the tools.
        if name != "setup" && !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
            return;
        }
        println!("== {name}");
        let start = Instant::now();
        let outcome = body();
        let seconds = start.elapsed().as_secs_f64();
        match &outcome {
            Ok(()) => println!("== {name}: ok, {seconds:.1} s"),
            Err(error) => println!("== {name}: FAILED, {seconds:.1} s: {error:#}"),
        }
        self.done.push(Done {
            name,
            seconds,
            failed: outcome.is_err(),
        });
    }

    fn finish(self) -> Result<()> {
        if let Some(unknown) = self
            .only
            .iter()
            .find(|only| !self.done.iter().any(|done| done.name == **only))
        {
            bail!("there is no check `{unknown}`");
        }
        println!();
        for Done {
            name,
            seconds,
            failed,
        } in &self.done
        {
            println!(
                "{name:10} {seconds:7.1} s  {}",
                if *failed { "FAILED" } else { "ok" }
            );
        }
        let failed: Vec<&str> = self
            .done
            .iter()
            .filter(|done| done.failed)
            .map(|done| done.name)
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
