//! How large things may grow, and what may not be linked at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::{Complaints, File, tidy};
use crate::rules::Rules;
use crate::shell::Cmd;

pub(super) fn check(root: &Path, files: &[File], rules: &Rules) -> Result<Complaints> {
    let tree = Cmd::new("cargo", root)
        .args([
            "tree",
            "--locked",
            "--package",
            "cloudskin",
            "--edges",
            "normal",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .read()?;
    let mut complaints = linked(&tree, rules);
    complaints.extend(sizes(files, rules));
    Ok(complaints)
}

/// Complaints about the tree of crates that are linked into the binary.
fn linked(tree: &str, rules: &Rules) -> Complaints {
    // `name v1.2.3 (proc-macro) (*)`: two versions of a crate are two crates, a repetition is not.
    let crates: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .collect();
    let mut complaints = Complaints::new();
    println!("{} crates linked into cloudskin", crates.len());
    limit(
        "crates linked into cloudskin",
        crates.len(),
        rules.budgets.linked_crates,
        &mut complaints,
    );
    for (name, version) in crates {
        if rules.banned.iter().any(|banned| banned == name) {
            complaints.push(format!(
                "{name} {version} is banned, and linked into cloudskin"
            ));
        }
    }
    complaints
}

/// Complaints about long files, large crates and a long lock file.
fn sizes(files: &[File], rules: &Rules) -> Complaints {
    let budgets = &rules.budgets;
    let mut complaints = Complaints::new();
    let mut crates: BTreeMap<&str, usize> = BTreeMap::new();
    for File { path, text } in files {
        // It is as long as what it is made from wants it to be.
        if rules.generated.contains(path) {
            continue;
        }
        if path == "Cargo.lock" {
            let entries = text.lines().filter(|line| *line == "[[package]]").count();
            limit(
                "entries of Cargo.lock",
                entries,
                budgets.lock_entries,
                &mut complaints,
            );
        }
        if path == "ARCHITECTURE.md" {
            limit(
                path,
                text.lines().count(),
                budgets.architecture_lines,
                &mut complaints,
            );
        }
        let is_source = [".rs", ".c", ".h", ".py"]
            .iter()
            .any(|ending| path.ends_with(ending));
        if is_source && !path.ends_with("/tests.rs") {
            limit(
                path,
                text.lines().count(),
                budgets.file_lines,
                &mut complaints,
            );
        }
        if let Some((name, _)) = path.split_once("/src/")
            && path.ends_with(".rs")
        {
            *crates.entry(name).or_default() += tidy::product_lines(path, text);
        }
    }
    for (name, lines) in crates {
        limit(name, lines, budgets.crate_lines, &mut complaints);
    }
    complaints
}

fn limit(what: &str, count: usize, most: u64, complaints: &mut Complaints) {
    if u64::try_from(count).is_ok_and(|count| count <= most) {
        return;
    }
    complaints.push(format!("{what}: {count}, more than {most}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::parse(
            "[banned]\ncrates = [\"openssl\"]\n[budgets]\nlinked_crates = 3\nlock_entries = 1\n\
             file_lines = 3\ncrate_lines = 4\narchitecture_lines = 2\n\
             [generated]\nfiles = [\"crates/a/src/made.rs\"]",
        )
        .expect("the rules are well-formed")
    }

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn linked_crates_are_counted_once() {
        let tree = "cloudskin v0.1.0 (/r)\nserde v1.0.0\nserde v1.0.0 (*)\nserde v2.0.0\n";
        assert_eq!(linked(tree, &rules()), Complaints::new());
        let more = format!("{tree}rt v0.1.0 (/r/rt)\n");
        assert_eq!(
            linked(&more, &rules()),
            ["crates linked into cloudskin: 4, more than 3"]
        );
    }

    #[test]
    fn a_banned_crate_is_found() {
        let complaints = linked("openssl v0.10.0\nopenssl-probe v1.0.0\n", &rules());
        assert_eq!(
            complaints,
            ["openssl v0.10.0 is banned, and linked into cloudskin"]
        );
    }

    #[test]
    fn sizes_are_limited() {
        let fits = [
            file("crates/a/src/lib.rs", "1\n2\n3\n"),
            file("crates/a/src/tests.rs", "1\n2\n3\n4\n"),
            file("crates/a/src/b.rs", "1\n#[cfg(test)]\nmod tests {}\n"),
            file("crates/a/src/made.rs", "1\n2\n3\n4\n"),
            file("Cargo.lock", "[[package]]\n1\n2\n3\n"),
        ];
        assert_eq!(sizes(&fits, &rules()), Complaints::new());
        let too_large = [
            file("crates/a/src/lib.rs", "1\n2\n3\n4\n"),
            file("crates/a/src/b.rs", "1\n"),
            file("Cargo.lock", "[[package]]\n[[package]]\n"),
            file("ARCHITECTURE.md", "1\n2\n3\n"),
        ];
        assert_eq!(
            sizes(&too_large, &rules()),
            [
                "crates/a/src/lib.rs: 4, more than 3",
                "entries of Cargo.lock: 2, more than 1",
                "ARCHITECTURE.md: 3, more than 2",
                "crates/a: 5, more than 4",
            ]
        );
    }
}
