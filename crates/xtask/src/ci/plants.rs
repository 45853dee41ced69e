//! Canaries: faults planted into a copy of the repository, each of which a check must find. A check that lets its
//! plant through is broken, whatever it says about the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Complaints, File, clippy_command, layers};
use crate::metadata;
use crate::rules::Rules;

/// Faults in code are planted into a crate of their own: it has no dependencies, so that checking it takes a second.
const PACKAGE: &str = "[package]\nname = \"planted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                       [lints]\nworkspace = true\n";

const IMPORT_OF_CELLS: &str = "\n[target.'cfg(all())'.dependencies]\ncells.workspace = true\n";

pub(super) fn check(root: &Path, files: &[File]) -> Result<()> {
    let plot = Plot {
        root: metadata::target_directory(root)?.join("plants"),
    };
    let mut missed = Vec::new();
    for (name, found) in [
        ("an upward import", upward_import(&plot, files)?),
        ("a sideways import", sideways_import(&plot, files)?),
        ("a function of 71 lines", long_function(&plot, files)?),
        ("a wall-clock call", wall_clock(&plot, files)?),
    ] {
        println!("{name}: {}", if found { "found" } else { "MISSED" });
        if !found {
            missed.push(name);
        }
    }
    if !missed.is_empty() {
        bail!("the checks missed {}", missed.join(", "));
    }
    Ok(())
}

fn upward_import(plot: &Plot, files: &[File]) -> Result<bool> {
    plot.lay_out(files)?;
    let before = plot.layers()?;
    let manifest = "crates/foundation/rt/Cargo.toml";
    plot.write(
        manifest,
        &format!("{}{IMPORT_OF_CELLS}", plot.read(manifest)?),
    )?;
    Ok(before.is_empty() && finds(&plot.layers()?, "rt may not import cells: upward"))
}

fn sideways_import(plot: &Plot, files: &[File]) -> Result<bool> {
    plot.lay_out(files)?;
    plot.add_crate("crates/orchestration/planted", "")?;
    let before = plot.layers()?;
    plot.write(
        "crates/orchestration/planted/Cargo.toml",
        &format!("{PACKAGE}{IMPORT_OF_CELLS}"),
    )?;
    Ok(before.is_empty() && finds(&plot.layers()?, "planted may not import cells: sideways"))
}

fn long_function(plot: &Plot, files: &[File]) -> Result<bool> {
    let function = |lines: usize| {
        let body = "    n = n.wrapping_mul(3);\n".repeat(lines - 1);
        format!("/// Planted.\npub fn planted(mut n: u64) -> u64 {{\n{body}    n\n}}\n")
    };
    plot.clippy_finds(files, &function(70), &function(71), "too_many_lines")
}

fn wall_clock(plot: &Plot, files: &[File]) -> Result<bool> {
    let function = |body: &str| {
        format!("/// Planted.\npub fn planted() -> std::time::SystemTime {{\n    {body}\n}}\n")
    };
    let harmless = function("std::time::SystemTime::UNIX_EPOCH");
    plot.clippy_finds(
        files,
        &harmless,
        &function("std::time::SystemTime::now()"),
        "disallowed_methods",
    )
}

fn finds(complaints: &Complaints, expected: &str) -> bool {
    complaints
        .iter()
        .any(|complaint| complaint.contains(expected))
}

/// A copy of the repository to plant in.
struct Plot {
    root: PathBuf,
}

impl Plot {
    /// Makes a fresh copy, so that one plant does not hide another.
    fn lay_out(&self, files: &[File]) -> Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root).context("remove the last copy")?;
        }
        files
            .iter()
            .try_for_each(|file| self.write(&file.path, &file.text))
    }

    fn layers(&self) -> Result<Complaints> {
        let rules = Rules::load(&self.root)?;
        Ok(layers::check(
            &self.root,
            &metadata::members(&self.root)?,
            &rules,
        ))
    }

    /// Whether clippy is content with the code `good`, and refuses `bad` by the name of `lint`.
    fn clippy_finds(&self, files: &[File], good: &str, bad: &str, lint: &str) -> Result<bool> {
        self.lay_out(files)?;
        let clippy = |code| {
            self.add_crate("crates/foundation/planted", code)?;
            // The lock file does not know the new crate.
            clippy_command(&self.root, &["--offline", "--package", "planted"]).listen()
        };
        let on_good = clippy(good)?;
        self.lay_out(files)?;
        let on_bad = clippy(bad)?;
        if !on_good.success {
            println!("{}", on_good.text);
        }
        let named = on_bad.text.contains(&lint.replace('_', "-")) || on_bad.text.contains(lint);
        Ok(on_good.success && !on_bad.success && named)
    }

    /// Adds a crate in `folder` with this code to the workspace.
    fn add_crate(&self, folder: &str, code: &str) -> Result<()> {
        self.write(&format!("{folder}/Cargo.toml"), PACKAGE)?;
        self.write(&format!("{folder}/src/lib.rs"), code)?;
        let members = format!("members = [\"{folder}\", ");
        self.write(
            "Cargo.toml",
            &self.read("Cargo.toml")?.replace("members = [", &members),
        )
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("read the copy of {path}"))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        let folder = path.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}
