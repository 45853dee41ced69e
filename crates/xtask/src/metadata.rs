//! What `cargo metadata` says about the workspace, cut down to what the checks ask.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::setup;
use crate::shell::Cmd;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// The folder of its manifest, absolute.
    pub(crate) folder: PathBuf,
    pub(crate) imports: Vec<Import>,
}

/// An edge that a manifest declares, whether or not some platform or feature uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    /// Only tests, examples and benches see it.
    pub(crate) dev: bool,
    /// It lies in this repository.
    pub(crate) ours: bool,
}

/// The crates of the workspace. Nothing is resolved: this also works on a tree whose lock file is behind.
pub(crate) fn members(root: &Path) -> Result<Vec<Package>> {
    parse(&read(root, &["--no-deps", "--offline"])?)
}

/// The crates of the workspace and everything that they build with on this platform.
pub(crate) fn everything(root: &Path) -> Result<Vec<Package>> {
    let host = setup::host_triple(root)?;
    parse(&read(root, &["--locked", "--filter-platform", &host])?)
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> Result<PathBuf> {
    let metadata = read(root, &["--no-deps", "--offline"])?;
    text(&metadata, "target_directory").map(PathBuf::from)
}

fn read(root: &Path, options: &[&str]) -> Result<Value> {
    let json = Cmd::new("cargo", root)
        .args(["metadata", "--format-version", "1"])
        .args(options)
        .read()?;
    serde_json::from_str(&json).context("parse what `cargo metadata` says")
}

fn parse(metadata: &Value) -> Result<Vec<Package>> {
    array(metadata, "packages")?.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let manifest = Path::new(text(value, "manifest_path")?);
    Ok(Package {
        name: text(value, "name")?.to_owned(),
        version: text(value, "version")?.to_owned(),
        licence: value["license"].as_str().map(str::to_owned),
        folder: manifest
            .parent()
            .context("a manifest lies in a folder")?
            .to_owned(),
        imports: array(value, "dependencies")?
            .iter()
            .map(import)
            .collect::<Result<_>>()?,
    })
}

fn import(value: &Value) -> Result<Import> {
    Ok(Import {
        name: text(value, "name")?.to_owned(),
        dev: value["kind"].as_str() == Some("dev"),
        ours: value["path"].is_string(),
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("cargo metadata has no `{key}`"))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key]
        .as_array()
        .with_context(|| format!("cargo metadata has no `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_cut_down() {
        let metadata = serde_json::json!({"packages": [{
            "name": "cells", "version": "0.1.0", "license": "Apache-2.0",
            "manifest_path": "/r/crates/execution/cells/Cargo.toml",
            "dependencies": [
                {"name": "rt", "kind": null, "path": "/r/crates/foundation/rt"},
                {"name": "wat", "kind": "dev", "source": "registry"},
            ],
        }]});
        let packages = parse(&metadata).expect("it is well-formed");
        assert_eq!(
            packages,
            [Package {
                name: "cells".into(),
                version: "0.1.0".into(),
                licence: Some("Apache-2.0".into()),
                folder: "/r/crates/execution/cells".into(),
                imports: vec![
                    Import {
                        name: "rt".into(),
                        dev: false,
                        ours: true
                    },
                    Import {
                        name: "wat".into(),
                        dev: true,
                        ours: false
                    },
                ],
            }]
        );
    }

    #[test]
    fn metadata_of_another_shape_is_refused() {
        assert!(parse(&serde_json::json!({"packages": [{"name": "cells"}]})).is_err());
        assert!(parse(&serde_json::json!([])).is_err());
    }
}
