//! Whether every crate that we build with is under a licence that we may use.

use anyhow::{Context as _, Result, bail};

use super::Complaints;
use crate::metadata::Package;
use crate::rules::Rules;

pub(super) fn check(packages: &[Package], rules: &Rules) -> Result<Complaints> {
    let mut complaints = Complaints::new();
    for package in packages {
        let Package { name, version, .. } = package;
        match &package.licence {
            None => complaints.push(format!("{name} {version} names no licence")),
            Some(licence) => {
                let allowed = allows(licence, &rules.licences)
                    .with_context(|| format!("understand the licence of {name}: {licence}"))?;
                if !allowed {
                    complaints.push(format!("{name} {version} is under {licence}"));
                }
            }
        }
    }
    Ok(complaints)
}

/// Whether the SPDX expression can be met with licences of the list alone.
fn allows(expression: &str, allowed: &[String]) -> Result<bool> {
    // `/` is how crates wrote OR before they wrote SPDX.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        allowed,
    };
    let verdict = parser.any()?;
    if let Some(word) = parser.words.first() {
        bail!("`{word}` is not expected there");
    }
    Ok(verdict)
}

/// Recursive descent over the words that are left; OR binds weaker than AND.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool> {
        let mut verdict = self.all()?;
        while self.take("OR") {
            verdict |= self.all()?;
        }
        Ok(verdict)
    }

    fn all(&mut self) -> Result<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let verdict = self.any()?;
            if !self.take(")") {
                bail!("a `)` is missing");
            }
            return Ok(verdict);
        }
        let mut licence = self.name()?.to_owned();
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.name()?);
        }
        Ok(self.allowed.contains(&licence))
    }

    fn name(&mut self) -> Result<&str> {
        let (&name, rest) = self.words.split_first().context("it ends too early")?;
        if ["OR", "AND", "WITH", "(", ")"].contains(&name) {
            bail!("`{name}` is not expected there");
        }
        self.words = rest;
        Ok(name)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<String> {
        ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn expressions_are_weighed() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("MIT WITH LLVM-exception", false),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("MIT OR GPL-3.0 AND LGPL-3.0", true),
            ("(MIT OR GPL-3.0) AND LGPL-3.0", false),
        ] {
            let verdict = allows(expression, &list()).expect("it is an expression");
            assert_eq!(verdict, expected, "{expression}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for expression in [
            "", "MIT OR", "MIT MIT", "(MIT", "AND MIT", "MIT)", "MIT WITH",
        ] {
            assert!(allows(expression, &list()).is_err(), "{expression}");
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_found() {
        let package = Package {
            name: "a".into(),
            version: "1.0.0".into(),
            licence: None,
            folder: "/a".into(),
            imports: Vec::new(),
        };
        let complaints = check(&[package], &Rules::default()).expect("nothing to parse");
        assert_eq!(complaints, ["a 1.0.0 names no licence"]);
    }
}
