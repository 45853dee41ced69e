//! Who may import whom: the floors and owners of `layers.toml`, checked on what the manifests declare.

use std::collections::BTreeMap;
use std::path::Path;

use super::Complaints;
use crate::metadata::{Import, Package};
use crate::rules::Rules;

/// Where a crate stands.
#[derive(Clone, Copy)]
enum Place<'a> {
    Layer {
        layer: &'a str,
        floor: u64,
        /// The crate that this one is named after; its own name if there is none.
        subsystem: &'a str,
    },
    /// Beside the product, with the crates of the workspace that it may import.
    Outside(&'a [String]),
}

pub(super) fn check(root: &Path, members: &[Package], rules: &Rules) -> Complaints {
    let mut complaints = Complaints::new();
    let mut places = BTreeMap::new();
    for package in members {
        match place(root, package, members, rules) {
            Some(place) => drop(places.insert(package.name.as_str(), place)),
            None => complaints.push(format!(
                "{} lies in {}, which is no layer of layers.toml",
                package.name,
                package.folder.display()
            )),
        }
    }
    for package in members {
        for import in &package.imports {
            let complaint = if import.ours {
                // Tests count as well: with them a subsystem could not be deleted without breaking another.
                match (places.get(&*package.name), places.get(&*import.name)) {
                    (Some(&from), Some(&to)) => forbidden(from, to, &import.name),
                    _ => Some("one of them has no layer".to_owned()),
                }
            } else {
                owned_by_others(package, import, rules)
            };
            if let Some(why) = complaint {
                complaints.push(format!(
                    "{} may not import {}: {why}",
                    package.name, import.name
                ));
            }
        }
    }
    let chain = longest_chain(members);
    if chain > rules.budgets.import_chain {
        let most = rules.budgets.import_chain;
        complaints.push(format!(
            "the longest chain of imports is {chain} crates, more than {most}"
        ));
    }
    complaints
}

fn place<'a>(
    root: &Path,
    package: &'a Package,
    members: &'a [Package],
    rules: &'a Rules,
) -> Option<Place<'a>> {
    if package.folder.starts_with(root.join("sdk")) {
        let may = rules.outside.get(&package.name)?;
        return Some(Place::Outside(may));
    }
    let inside = package.folder.strip_prefix(root.join("crates")).ok()?;
    let folders: Vec<&str> = inside.iter().filter_map(|name| name.to_str()).collect();
    match folders[..] {
        [name] if rules.outside.contains_key(name) => Some(Place::Outside(&rules.outside[name])),
        [layer] | [layer, _] => {
            let (layer, &floor) = rules.floors.get_key_value(layer)?;
            Some(Place::Layer {
                layer,
                floor,
                subsystem: subsystem(package, members),
            })
        }
        _ => None,
    }
}

/// The crate that a crate is part of: the one of its layer after which it is named, with a dash, or itself.
fn subsystem<'a>(package: &'a Package, members: &'a [Package]) -> &'a str {
    let is_named_after = |name: &str| {
        let rest = package.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    members
        .iter()
        .filter(|other| other.folder.parent() == package.folder.parent())
        .map(|other| &*other.name)
        .filter(|name| is_named_after(name))
        .min_by_key(|name| name.len())
        .unwrap_or(&package.name)
}

/// Why a crate at `from` may not import the crate `name` at `to`, if it may not.
fn forbidden(from: Place, to: Place, name: &str) -> Option<String> {
    match (from, to) {
        (Place::Outside(allowed), _) if allowed.iter().any(|allowed| allowed == name) => None,
        (Place::Outside(_), _) => Some("layers.toml, [outside], does not list it".to_owned()),
        (_, Place::Outside(_)) => Some("it lies outside the product".to_owned()),
        (Place::Layer { floor: above, .. }, Place::Layer { floor, .. }) if above > floor => None,
        // Only the crates of the foundation may use each other, and those of one subsystem.
        (
            Place::Layer {
                floor: own_floor,
                layer: own,
                subsystem: whole,
            },
            Place::Layer {
                layer, subsystem, ..
            },
        ) if own == layer && (own_floor == 0 || whole == subsystem) => None,
        (
            Place::Layer {
                layer: own,
                floor: from,
                ..
            },
            Place::Layer { layer, floor, .. },
        ) => {
            let direction = if floor > from { "upward" } else { "sideways" };
            Some(format!("{direction} import, {own} -> {layer}"))
        }
    }
}

fn owned_by_others(package: &Package, import: &Import, rules: &Rules) -> Option<String> {
    let owners = rules.owners.get(&import.name)?;
    if import.dev || owners.contains(&package.name) {
        return None;
    }
    Some(format!("it belongs to {}", owners.join(", ")))
}

/// The number of crates on the longest path of imports; paths that tests need do not count.
fn longest_chain(members: &[Package]) -> u64 {
    // One round per crate settles every path, and a circle, which has no longest path, grows by a crate in each.
    let mut lengths: BTreeMap<&str, u64> = members.iter().map(|p| (p.name.as_str(), 1)).collect();
    for _ in members {
        for package in members {
            let below = package
                .imports
                .iter()
                .filter(|import| import.ours && !import.dev)
                .filter_map(|import| lengths.get(&*import.name))
                .max();
            let length = below.map_or(1, |below| below + 1);
            lengths.insert(&package.name, length);
        }
    }
    lengths.into_values().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
        [floors]
        foundation = 0
        execution = 1
        orchestration = 1
        cloudskin = 2
        [outside]
        it = [\"rt\"]
        python = [\"rt\"]
        [owners]
        wasmtime = [\"wasm\"]
        [budgets]
        import_chain = 3";

    /// A crate at `folder` below `crates/` that imports `ours`, and `foreign` from elsewhere.
    fn package(folder: &str, ours: &[&str], foreign: &[&str]) -> Package {
        let import = |name: &&str, ours| Import {
            name: (*name).to_owned(),
            dev: false,
            ours,
        };
        Package {
            name: folder
                .rsplit('/')
                .next()
                .expect("a path has an end")
                .to_owned(),
            version: "0.1.0".to_owned(),
            licence: None,
            folder: Path::new("/r/crates").join(folder),
            imports: ours
                .iter()
                .map(|name| import(name, true))
                .chain(foreign.iter().map(|name| import(name, false)))
                .collect(),
        }
    }

    fn complaints(members: &[Package]) -> Complaints {
        let rules = Rules::parse(RULES).expect("the rules are well-formed");
        check(Path::new("/r"), members, &rules)
    }

    #[test]
    fn the_planned_shape_is_fine() {
        let members = [
            package("foundation/rt", &[], &[]),
            package("foundation/wasm", &["rt"], &["wasmtime"]),
            package("execution/cells", &["rt"], &[]),
            package("orchestration/functions", &["rt"], &[]),
            package("cloudskin", &["cells", "functions", "rt"], &[]),
            package("it", &["rt"], &[]),
            package("/r/sdk/python", &["rt"], &[]),
        ];
        assert_eq!(complaints(&members), Complaints::new());
    }

    #[test]
    fn the_crates_of_one_subsystem_may_import_each_other() {
        let members = [
            package("execution/cells", &["cells-disk", "cells-core"], &[]),
            package("execution/cells-disk", &["cells-core"], &[]),
            package("execution/cells-core", &[], &[]),
        ];
        assert_eq!(complaints(&members), Complaints::new());
    }

    #[test]
    fn only_a_dash_and_the_same_layer_make_one_subsystem() {
        let others = [
            package("execution/cellular", &["cells"], &[]),
            package("execution/cells2", &["cells"], &[]),
            package("orchestration/cells-plan", &["cells"], &[]),
            // There is no crate that both are named after.
            package("execution/data-lake", &["data-plane"], &[]),
        ];
        for other in others {
            let name = other.name.clone();
            let cells = package("execution/cells", &[], &[]);
            let plane = package("execution/data-plane", &[], &[]);
            let found = complaints(&[other, cells, plane]);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert!(found[0].contains("sideways import"), "{name}: {found:?}");
        }
    }

    #[test]
    fn each_forbidden_import_is_found() {
        let rt = || package("foundation/rt", &[], &[]);
        let cells = || package("execution/cells", &[], &[]);
        let cases = [
            (
                vec![package("foundation/rt", &["cells"], &[]), cells()],
                "upward import",
            ),
            (
                vec![package("orchestration/functions", &["cells"], &[]), cells()],
                "sideways import",
            ),
            (
                vec![package("execution/shield", &["cells"], &[]), cells()],
                "sideways import",
            ),
            (
                vec![package("execution/cells", &[], &["wasmtime"])],
                "belongs to wasm",
            ),
            (
                vec![package("it", &["cells"], &[]), cells()],
                "does not list it",
            ),
            (
                vec![package("/r/sdk/python", &["cells"], &[]), cells()],
                "does not list it",
            ),
            (
                vec![package("cloudskin", &["it"], &[]), package("it", &[], &[])],
                "outside",
            ),
            (vec![package("utils/strings", &[], &[]), rt()], "no layer"),
            (vec![package("foundation/rt/deep", &[], &[])], "no layer"),
            (vec![package("/r/sdk/ruby", &[], &[])], "no layer"),
        ];
        for (members, expected) in cases {
            let found = complaints(&members);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains(expected),
                "{found:?} should say {expected}"
            );
        }
    }

    #[test]
    fn tests_may_use_what_others_own_but_no_other_subsystem() {
        let mut functions = package("orchestration/functions", &["cells"], &["wasmtime"]);
        functions
            .imports
            .iter_mut()
            .for_each(|import| import.dev = true);
        let found = complaints(&[functions, package("execution/cells", &[], &[])]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("sideways"), "{found:?}");
    }

    #[test]
    fn a_long_chain_is_found_and_a_circle_ends() {
        let chain = [
            package("foundation/a", &[], &[]),
            package("foundation/b", &["a"], &[]),
            package("foundation/c", &["b"], &[]),
            package("execution/d", &["c"], &[]),
        ];
        assert!(complaints(&chain)[0].contains("4 crates, more than 3"));
        assert_eq!(complaints(&chain[..3]), Complaints::new());
        let circle = [
            package("foundation/a", &["b"], &[]),
            package("foundation/b", &["a"], &[]),
        ];
        assert!(
            complaints(&circle)[0].contains("longest chain"),
            "a circle has no end"
        );
    }
}
