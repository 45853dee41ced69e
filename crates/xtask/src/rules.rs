//! `layers.toml`, read into types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

type Lists = BTreeMap<String, Vec<String>>;

/// What `layers.toml` says; its comments explain each table.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) floors: BTreeMap<String, u64>,
    pub(crate) outside: Lists,
    pub(crate) owners: Lists,
    pub(crate) banned: Vec<String>,
    pub(crate) licences: Vec<String>,
    pub(crate) unsafe_crates: Vec<String>,
    pub(crate) generated: Vec<String>,
    pub(crate) budgets: Budgets,
}

#[derive(Debug, Default)]
pub(crate) struct Budgets {
    pub(crate) import_chain: u64,
    pub(crate) linked_crates: u64,
    pub(crate) lock_entries: u64,
    pub(crate) file_lines: u64,
    pub(crate) crate_lines: u64,
    pub(crate) architecture_lines: u64,
}

impl Rules {
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = root.join("layers.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).context("understand layers.toml")
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        for entry in entries(text)? {
            let Entry { table, key, value } = entry;
            match (table, key, value) {
                ("floors", key, Value::Number(n)) => drop(rules.floors.insert(key.into(), n)),
                ("outside", key, Value::List(l)) => drop(rules.outside.insert(key.into(), l)),
                ("owners", key, Value::List(l)) => drop(rules.owners.insert(key.into(), l)),
                ("banned", "crates", Value::List(l)) => rules.banned = l,
                ("licences", "allowed", Value::List(l)) => rules.licences = l,
                ("unsafe", "crates", Value::List(l)) => rules.unsafe_crates = l,
                ("generated", "files", Value::List(l)) => rules.generated = l,
                ("budgets", key, Value::Number(n)) => *rules.budgets.field(key)? = n,
                _ => bail!("unexpected `{key}` in [{table}]"),
            }
        }
        Ok(rules)
    }
}

impl Budgets {
    fn field(&mut self, key: &str) -> Result<&mut u64> {
        Ok(match key {
            "import_chain" => &mut self.import_chain,
            "linked_crates" => &mut self.linked_crates,
            "lock_entries" => &mut self.lock_entries,
            "file_lines" => &mut self.file_lines,
            "crate_lines" => &mut self.crate_lines,
            "architecture_lines" => &mut self.architecture_lines,
            _ => bail!("there is no budget `{key}`"),
        })
    }
}

struct Entry<'a> {
    table: &'a str,
    key: &'a str,
    value: Value,
}

enum Value {
    Number(u64),
    List(Vec<String>),
}

/// The entries of the small kind of TOML that `layers.toml` is written in: numbers and lists of plain strings.
fn entries(text: &str) -> Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut table = "";
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            table = name;
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .with_context(|| format!("`{line}` has no `=`"))?;
        let mut value = value.trim().to_owned();
        while value.starts_with('[') && !value.ends_with(']') {
            value.push_str(
                lines
                    .next()
                    .with_context(|| format!("`{line}` never ends"))?,
            );
        }
        entries.push(Entry {
            table,
            key: key.trim(),
            value: parse_value(&value)?,
        });
    }
    Ok(entries)
}

fn parse_value(value: &str) -> Result<Value> {
    let Some(list) = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    else {
        return Ok(Value::Number(
            value.parse().with_context(|| format!("`{value}`"))?,
        ));
    };
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            item.strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .map(str::to_owned)
                .with_context(|| format!("`{item}` is not a string"))
        })
        .collect::<Result<_>>()
        .map(Value::List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_repository_is_understood() {
        let rules = Rules::parse(include_str!("../../../layers.toml")).expect("it parses");
        assert_eq!(rules.floors["cloudskin"], 4);
        assert!(rules.owners["wasmtime"].contains(&"cells".to_owned()));
        assert!(
            rules.licences.contains(&"Zlib".to_owned()),
            "lists may span lines"
        );
        assert!(rules.outside["xtask"].is_empty());
        assert!(rules.budgets.linked_crates > 0);
        assert!(rules.generated.iter().all(|file| file.ends_with(".rs")));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "[floor]\nfoundation = 0",
            "[floors]\nfoundation = [\"a\"]",
            "[floors]\nfoundation",
            "[budgets]\nlines = 3",
            "[banned]\ncrates = [openssl]",
            "[banned]\ncrates = [\n\"openssl\",",
        ] {
            assert!(Rules::parse(text).is_err(), "{text}");
        }
    }
}
