//! The rules of STYLE.md that a look at the text can decide.
//!
//! Needles that this file itself would trip over are written in two halves.

use super::{Complaints, File};
use crate::rules::Rules;

/// Words that mark work left undone.
const MARKERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "prelude", "util", "utils"];

pub(super) fn check(files: &[File], rules: &Rules) -> Complaints {
    let mut complaints = Complaints::new();
    for file in files {
        // None is written by hand.
        let is_given = file.path == "Cargo.lock" || file.path == "LICENSE";
        if is_given || rules.generated.contains(&file.path) {
            continue;
        }
        let mut found = every_text(file);
        if file.path.ends_with(".rs") {
            found.extend(rust(file));
            found.extend(crate_root(file, rules));
        }
        if file.path.ends_with("Cargo.toml") {
            found.extend(manifest(file));
        }
        if file.path.ends_with(".md") {
            found.extend(links(file, files));
        }
        complaints.extend(found);
    }
    complaints
}

/// The lines of a Rust file that are not tests: all before its first test module, none of a file of tests.
pub(super) fn product_lines(path: &str, text: &str) -> usize {
    if is_test_file(path) {
        return 0;
    }
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count()
}

fn is_test_file(path: &str) -> bool {
    let in_folder = |name: &str| path.split('/').any(|folder| folder == name);
    path.ends_with("/tests.rs") || in_folder("tests") || in_folder("benches") || in_folder("it")
}

fn complaint(file: &File, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, line + 1)
}

fn every_text(file: &File) -> Complaints {
    let mut complaints = Complaints::new();
    let tabs_belong = file.path.ends_with("Makefile") || file.path.ends_with(".mk");
    for (number, line) in file.text.split('\n').enumerate() {
        let mut complain = |what: &str| complaints.push(complaint(file, number, what));
        if line.ends_with([' ', '\t', '\r']) {
            complain("white space at the end of the line");
        }
        if line.contains('\t') && !tabs_belong {
            complain("a tab");
        }
        for marker in MARKERS {
            if words(line).any(|word| word == marker) {
                complain("unfinished work is not marked in the code: finish it or leave it out");
            }
        }
    }
    if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        complaints.push(format!(
            "{}: ends with one line feed, no more, no less",
            file.path
        ));
    }
    complaints
}

fn rust(file: &File) -> Complaints {
    let mut complaints = Complaints::new();
    let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
    if stem.split('/').any(|name| EMPTY_NAMES.contains(&name)) {
        complaints.push(format!("{}: name it after what it holds", file.path));
    }
    let tests_start = product_lines(&file.path, &file.text);
    for (number, line) in file.text.lines().enumerate() {
        let mut complain = |what: &str| complaints.push(complaint(file, number, what));
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if code.starts_with("#[ignore") {
            complain("a test that does not run is no test");
        }
        if code.starts_with("#[should_panic") {
            complain("assert what is returned, or catch the panic and look at it");
        }
        if number < tests_start {
            continue;
        }
        if code.contains(concat!("sle", "ep(")) {
            complain("tests wait for what they wait for, they do not sleep");
        }
        if has_fixed_port(code) {
            complain("tests listen on port 0 and ask which one they got");
        }
    }
    complaints
}

fn has_fixed_port(code: &str) -> bool {
    ["127.0.0.1:", "localhost:", "0.0.0.0:", "[::1]:"]
        .iter()
        .any(|host| {
            code.split(host)
                .skip(1)
                .any(|rest| rest.starts_with(|c: char| ('1'..='9').contains(&c)))
        })
}

/// Every crate but a named few is free of `unsafe`, and the compiler knows it.
fn crate_root(file: &File, rules: &Rules) -> Option<String> {
    let (folder, root) = file.path.rsplit_once("/src/")?;
    if root != "lib.rs" && root != "main.rs" {
        return None;
    }
    let name = folder.rsplit('/').next()?;
    let may = rules.unsafe_crates.iter().any(|allowed| allowed == name);
    if may
        || file
            .text
            .lines()
            .any(|line| line == "#![forbid(unsafe_code)]")
    {
        return None;
    }
    Some(format!("{}: has no `#![forbid(unsafe_code)]`", file.path))
}

/// Manifests name dependencies, the workspace table gives versions and features.
fn manifest(file: &File) -> Complaints {
    let mut complaints = Complaints::new();
    let mut table = "";
    let mut lints = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']);
        }
        lints |= table == "lints" && line == "workspace = true";
        let names_dependency = line.contains('=') && table.ends_with("dependencies");
        if !names_dependency || line.starts_with('#') {
            continue;
        }
        let mut complain = |what: &str| complaints.push(complaint(file, number, what));
        if table == "workspace.dependencies" {
            if !line.contains("path =") && !line.contains("default-features = false") {
                complain("default features are off, and those wanted are listed");
            }
        } else if !line.ends_with(".workspace = true") {
            complain("write `name.workspace = true`; the version stands in the root manifest");
        }
    }
    if file.path != "Cargo.toml" && !lints {
        complaints.push(format!(
            "{}: does not take the lints of the workspace",
            file.path
        ));
    }
    complaints
}

/// Links of a page to files of the repository lead somewhere.
fn links(file: &File, files: &[File]) -> Complaints {
    let mut complaints = Complaints::new();
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (number, line) in file.text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let Some((link, _)) = rest.split_once(')') else {
                continue;
            };
            let link = link.split('#').next().unwrap_or(link);
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = resolve(folder, link);
            let inside = format!("{target}/");
            if !files
                .iter()
                .any(|file| file.path == target || file.path.starts_with(&inside))
            {
                complaints.push(complaint(file, number, &format!("`{link}` leads nowhere")));
            }
        }
    }
    complaints
}

/// The path that `link` means on a page in `folder`.
fn resolve(folder: &str, link: &str) -> String {
    let mut names: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in link.trim_end_matches('/').split('/') {
        match name {
            "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Checks one file of a repository in which only `wasm` may be unsafe.
    fn complaints(path: &str, text: &str) -> Complaints {
        let rules = Rules::parse("[unsafe]\ncrates = [\"wasm\"]").expect("well-formed");
        check(&[file(path, text)], &rules)
    }

    #[test]
    fn what_is_generated_is_not_tidied() {
        let rules = Rules::parse("[generated]\nfiles = [\"a/made.rs\"]").expect("well-formed");
        let untidy = |path| [file(path, "x \n")];
        assert_eq!(check(&untidy("a/made.rs"), &rules), Complaints::new());
        assert_eq!(check(&untidy("b/made.rs"), &rules).len(), 1);
    }

    #[test]
    fn each_rule_of_the_text_is_applied() {
        let unfinished = concat!("// TO", "DO: more\n");
        let nap = concat!("#[cfg(test)]\nmod tests { fn f() { sle", "ep(1) } }\n");
        let port = concat!("#[cfg(test)]\nconst A: &str = \"127.0.0.1", ":8080\";\n");
        let cases = [
            ("a.md", "x \n", "a.md:1: white space"),
            ("a.md", "x\r\n", "a.md:1: white space"),
            ("a.rs", "fn f() {\n\treturn\n}\n", "a.rs:2: a tab"),
            ("a.md", "x", "one line feed"),
            ("a.md", "x\n\n", "one line feed"),
            ("a.c", unfinished, "a.c:1: unfinished"),
            ("a/utils.rs", "\n", "name it after"),
            ("a/prelude/mod.rs", "\n", "name it after"),
            ("a.rs", "    #[ignore = \"slow\"]\n", "no test"),
            ("a.rs", "    #[should_panic]\n", "assert"),
            ("a.rs", nap, "a.rs:2: tests wait"),
            (
                "a/tests/b.rs",
                concat!("tokio::time::sle", "ep(d).await\n"),
                "tests wait",
            ),
            ("a.rs", port, "a.rs:2: tests listen"),
            ("crates/it/src/lib.rs", "#![deny(unsafe_code)]\n", "forbid"),
            ("a/Cargo.toml", "[package]\nname = \"a\"\n", "lints"),
            (
                "Cargo.toml",
                "[workspace.dependencies]\nserde = \"1\"\n",
                "default features",
            ),
            ("a.md", "see [b](b.md)\n", "a.md:1: `b.md` leads nowhere"),
        ];
        for (path, text, expected) in cases {
            let found = complaints(path, text);
            assert_eq!(found.len(), 1, "{path}: {text:?} gives {found:?}");
            assert!(
                found[0].contains(expected),
                "{found:?} should say {expected}"
            );
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        let product_nap = concat!("fn f() {\n    sle", "ep(1);\n}\n");
        let any_port = concat!("#[cfg(test)]\nconst A: &str = \"127.0.0.1", ":0\";\n");
        for (path, text) in [
            ("Makefile", "all:\n\tcc\n"),
            ("a.rs", product_nap),
            ("a.rs", any_port),
            ("a.rs", "// #[ignore] is not used here\n"),
            ("a.md", concat!("A TO", "DOs is another word.\n")),
            (
                "a.md",
                "[here](#below), [there](https://example.org/x), [self](./a.md#top)\n",
            ),
            ("crates/foundation/wasm/src/lib.rs", "\n"),
            ("crates/rt/src/lib.rs", "#![forbid(unsafe_code)]\n"),
            ("Cargo.lock", "x"),
        ] {
            assert_eq!(
                complaints(path, text),
                Complaints::new(),
                "{path}: {text:?}"
            );
        }
    }

    #[test]
    fn manifests_leave_versions_to_the_workspace() {
        let text = "[lints]\nworkspace = true\n[dependencies]\n# why\nserde.workspace = true\n\
                    [dev-dependencies]\nwat = \"1\"\n";
        let found = complaints("a/Cargo.toml", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("a/Cargo.toml:7: write"), "{found:?}");
    }

    #[test]
    fn links_are_followed_from_their_page() {
        let pages = [
            file(
                "docs/a.md",
                "[up](../README.md) [code](../crates/rt/) [b](b.md)\n",
            ),
            file("docs/b.md", "[gone](README.md)\n"),
            file("README.md", "[a](docs/a.md)\n"),
            file("crates/rt/Cargo.toml", "[lints]\nworkspace = true\n"),
        ];
        let found = check(&pages, &Rules::default());
        assert_eq!(found, ["docs/b.md:1: `README.md` leads nowhere"]);
    }

    #[test]
    fn tests_are_no_product_lines() {
        let text = "a\nb\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(product_lines("crates/rt/src/lib.rs", text), 2);
        assert_eq!(product_lines("crates/rt/src/tests.rs", text), 0);
        assert_eq!(product_lines("crates/it/src/lib.rs", text), 0);
    }
}
