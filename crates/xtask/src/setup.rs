//! Which tools are needed for what, whether they are here, and how they get here.
//!
//! Everything is looked for before anything is fetched, so that a second run needs no network. What a package manager
//! would start as a daemon is unpacked below `target/tools` instead of installed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::shell::Cmd;

/// The programs' C toolchain; `cloudskin cc` reads the same file.
const TOOLCHAIN: &str = include_str!("../../../guests/toolchain.txt");

const TYPOS_VERSION: &str = "1.52.0";
const S3S_FS_VERSION: &str = "0.14.1";

/// What the tests in Python import.
const PYTHON_PACKAGES: &str = include_str!("../../../sdk/python/tests/requirements.txt");

/// What the tools are wanted for. Each of the first three needs what the one before it needs, and something more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    Test,
    Check,
    Bench,
}

/// A Debian package, and a file that is there when it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    file: &'a str,
}

/// Makes sure that everything is here that `purpose` needs.
pub(crate) fn prepare(root: &Path, purpose: Purpose) -> Result<()> {
    let mut packages = parse_packages(TOOLCHAIN)?;
    let more: &[(&str, &str)] = match purpose {
        Purpose::Run => &[],
        // Tests build programs by their own Makefiles.
        Purpose::Test | Purpose::Check => &[("make", "/usr/bin/make")],
        Purpose::Bench => &[
            ("libopenmpi-dev", "/usr/bin/mpicc"),
            ("openmpi-bin", "/usr/bin/mpirun"),
            // It has the server under another name, and does not start it as its package would.
            ("redis-tools", "/usr/bin/redis-check-rdb"),
            ("python3-venv", "/usr/share/doc/python3-venv/copyright"),
        ],
    };
    packages.extend(more.iter().map(|&(name, file)| Package { name, file }));
    install(root, &packages)?;
    if matches!(purpose, Purpose::Test | Purpose::Check) {
        promtool(root)?;
    }
    if purpose == Purpose::Check {
        typos(root)?;
        python(root)?;
        rust_components(root)?;
    }
    if purpose == Purpose::Bench {
        // Whoever measures without one is told by the benchmark that wants it.
        for (peer, installed) in [("Ray", ray(root)), ("s3s-fs", s3s_fs(root))] {
            if let Err(error) = installed {
                eprintln!("x: {peer} could not be installed: {error:#}");
            }
        }
    }
    fetch_crates(root)
}

/// Where the spelling checker is once [`prepare`] was called with [`Purpose::Check`].
pub(crate) fn typos_path(root: &Path) -> PathBuf {
    // The version is part of the path: a new version in this file is a missing tool.
    tools(root).join(format!("typos-{TYPOS_VERSION}/bin/typos"))
}

fn parse_packages(list: &str) -> Result<Vec<Package<'_>>> {
    let mut packages = Vec::new();
    for line in list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, file] if file.starts_with('/') => packages.push(Package { name, file }),
            _ => bail!("toolchain.txt: `{line}` is not `package /file`"),
        }
    }
    Ok(packages)
}

fn install(root: &Path, packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !Path::new(package.file).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let command = format!(
        "apt-get install -y --no-install-recommends {}",
        names.join(" ")
    );
    let first_try = as_root(root, &command)?;
    eprintln!("x: {command}");
    // The package lists may be stale or absent; refreshing them is slow, so it is the second try.
    if first_try.run_aside().is_err() {
        as_root(root, "apt-get update")?.run_aside()?;
        as_root(root, &command)?.run_aside().with_context(|| {
            format!(
                "these packages are needed and tested on Debian 12: {}",
                names.join(" ")
            )
        })?;
    }
    for package in missing {
        if !Path::new(package.file).exists() {
            bail!(
                "package {} is installed but brought no {}",
                package.name,
                package.file
            );
        }
    }
    Ok(())
}

/// The command with the rights to change the system, or an error that says what to type.
fn as_root(root: &Path, command: &str) -> Result<Cmd> {
    if !Cmd::new("apt-get", root).args(["--version"]).succeeds() {
        bail!("there is no apt-get here: install what `{command}` installs on Debian 12");
    }
    let mut words = Vec::new();
    let is_root = fs::metadata("/proc/self")
        .context("read the user of this process")?
        .uid()
        == 0;
    if !is_root {
        if !Cmd::new("sudo", root).args(["-n", "true"]).succeeds() {
            bail!("run this first: sudo {command}");
        }
        words.extend(["sudo", "-n"]);
    }
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive"]);
    words.extend(command.split(' '));
    Ok(Cmd::new(words[0], root).args(&words[1..]))
}

/// Prometheus' own checker of metric texts. Its package would start a server, so it is only unpacked.
fn promtool(root: &Path) -> Result<()> {
    let wanted = tools(root).join("promtool");
    if wanted.exists() {
        return Ok(());
    }
    eprintln!("x: unpack promtool into {}", wanted.display());
    let scratch = empty_directory(&tools(root).join("promtool.part"))?;
    let download = || {
        Cmd::new("apt-get", &scratch)
            .args(["download", "prometheus"])
            .run_aside()
    };
    if download().is_err() {
        as_root(root, "apt-get update")?.run_aside()?;
        download()?;
    }
    let archive = fs::read_dir(&scratch)
        .with_context(|| format!("list {}", scratch.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("`apt-get download prometheus` left no package")?;
    Cmd::new("dpkg", &scratch)
        .arg("-x")
        .arg(&archive)
        .arg("unpacked")
        .run_aside()?;
    rename(&scratch.join("unpacked/usr/bin/promtool"), &wanted)?;
    remove(&scratch)
}

/// The spelling checker, from its Python package, which carries a binary.
fn typos(root: &Path) -> Result<()> {
    if typos_path(root).exists() {
        return Ok(());
    }
    eprintln!(
        "x: install typos {TYPOS_VERSION} into {}",
        tools(root).display()
    );
    let scratch = empty_directory(&tools(root).join("typos.part"))?;
    pip(root, &[&format!("typos=={TYPOS_VERSION}")], &scratch)?;
    rename(
        &scratch,
        &tools(root).join(format!("typos-{TYPOS_VERSION}")),
    )
}

/// Where what the tests in Python import is once [`prepare`] was called with [`Purpose::Check`].
pub(crate) fn python_packages(root: &Path) -> PathBuf {
    tools(root).join("python")
}

/// What is there says of what it was made.
fn python(root: &Path) -> Result<()> {
    let wanted = python_packages(root);
    let made_of = wanted.join("requirements.txt");
    if fs::read_to_string(&made_of).is_ok_and(|text| text == PYTHON_PACKAGES) {
        return Ok(());
    }
    eprintln!("x: install packages for Python into {}", wanted.display());
    let scratch = empty_directory(&tools(root).join("python.part"))?;
    let packages: Vec<&str> = PYTHON_PACKAGES.lines().collect();
    pip(root, &packages, &scratch)?;
    let list = scratch.join("requirements.txt");
    fs::write(&list, PYTHON_PACKAGES).with_context(|| format!("write {}", list.display()))?;
    if wanted.exists() {
        remove(&wanted)?;
    }
    rename(&scratch, &wanted)
}

/// Installs those packages, and not what they say that they need.
fn pip(root: &Path, packages: &[&str], into: &Path) -> Result<()> {
    if !Cmd::new("python3", root)
        .args(["-m", "pip", "--version"])
        .succeeds()
    {
        install(
            root,
            &[Package {
                name: "python3-pip",
                file: "/usr/bin/pip3",
            }],
        )?;
    }
    Cmd::new("python3", root)
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .args(["--only-binary", ":all:"])
        .args(packages)
        .arg("--target")
        .arg(into)
        .run_aside()
}

/// Python's Ray, which a benchmark compares with, in an environment of its own.
fn ray(root: &Path) -> Result<()> {
    let wanted = tools(root).join("ray");
    // Of what was interrupted, half is there.
    let whole = wanted.join("whole");
    if whole.exists() {
        return Ok(());
    }
    eprintln!("x: install Ray into {}", wanted.display());
    Cmd::new("python3", root)
        .args(["-m", "venv"])
        .arg(&wanted)
        .run_aside()?;
    Cmd::new(wanted.join("bin/python"), root)
        .args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "ray", "numpy"])
        .run_aside()?;
    fs::write(&whole, "").with_context(|| format!("write {}", whole.display()))
}

/// A server of S3 over a directory, which a benchmark compares with.
fn s3s_fs(root: &Path) -> Result<()> {
    let wanted = tools(root).join("bin/s3s-fs");
    if wanted.exists() {
        return Ok(());
    }
    eprintln!(
        "x: install s3s-fs {S3S_FS_VERSION} into {}",
        wanted.display()
    );
    Cmd::new("cargo", root)
        .args(["install", "--quiet", "--locked", "--features", "binary"])
        .args(["--version", S3S_FS_VERSION, "s3s-fs", "--root"])
        .arg(tools(root))
        .run_aside()
}

fn rust_components(root: &Path) -> Result<()> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !Cmd::new("cargo", root)
            .args([command, "--version"])
            .succeeds()
        {
            Cmd::new("rustup", root)
                .args(["component", "add", component])
                .run_aside()
                .with_context(|| format!("cargo has no `{command}`"))?;
        }
    }
    Ok(())
}

/// Brings the sources of all crates that this machine builds.
fn fetch_crates(root: &Path) -> Result<()> {
    let host = host_triple(root)?;
    let fetch =
        || Cmd::new("cargo", root).args(["fetch", "--quiet", "--locked", "--target", &host]);
    if fetch().arg("--offline").succeeds() {
        return Ok(());
    }
    fetch().run_aside()
}

/// The name of this machine's platform, as cargo spells it.
pub(crate) fn host_triple(root: &Path) -> Result<String> {
    Cmd::new("rustc", root)
        .args(["-vV"])
        .read()?
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc does not tell its host")
}

fn tools(root: &Path) -> PathBuf {
    root.join("target/tools")
}

fn empty_directory(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        remove(path)?;
    }
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    Ok(path.to_owned())
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolchain_file_is_understood() {
        let packages = parse_packages(TOOLCHAIN).expect("toolchain.txt is well-formed");
        assert!(packages.contains(&Package {
            name: "clang-19",
            file: "/usr/bin/clang-19"
        }));
    }

    #[test]
    fn a_malformed_line_is_refused() {
        for line in ["clang-19", "clang-19 usr/bin/clang", "a /b c"] {
            assert!(parse_packages(line).is_err(), "{line}");
        }
    }
}
