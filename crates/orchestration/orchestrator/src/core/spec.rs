//! From what a user writes to what is planned.

use std::collections::BTreeSet;

use ids::{Digest, Name, Selector};
use nbi::{BlockKind, CellDeployment, ServiceSpec, parse_bytes, parse_duration};
use workload::{CellSpec, Kind, Limits, Mount};

use crate::{Error, ErrorKind};

/// What one service wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServicePolicy {
    pub org: Name,
    pub name: Name,
    pub blocks: Vec<BlockPolicy>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockPolicy {
    pub name: Name,
    pub replicas: u32,
    pub selector: Selector,
    /// `None`: it may be moved anywhere.
    pub migrate_to: Option<Selector>,
    pub kind: Kind,
}

impl ServicePolicy {
    /// The modules of its blocks.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &Digest> {
        self.blocks.iter().map(|block| {
            let Kind::Cell(cell) = &block.kind;
            &cell.module
        })
    }
}

impl BlockPolicy {
    pub(crate) fn ranks(&self) -> u32 {
        let Kind::Cell(cell) = &self.kind;
        cell.ranks
    }
}

const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
const LOG_BYTES_DEFAULT: u64 = 64 << 20;
/// So that a whole service, with all that is planned for it, stays within one commit and one message.
const UNITS_MAX: u32 = 1024;
const SERVICE_BYTES_MAX: usize = 768 << 10;
/// Of all its units.
const PLANNED_BYTES_MAX: usize = 4 << 20;
/// Of one: half of what the store takes, for there are reasons and sites beside it.
const UNIT_BYTES_MAX: usize = 512 << 10;

/// The front has checked sizes and counts of what came over the network; here is what needs to be understood.
pub(crate) fn parse(org: &Name, name: &Name, spec: &ServiceSpec) -> Result<ServicePolicy, Error> {
    let mut names = BTreeSet::new();
    let mut blocks = Vec::new();
    for (idx, block) in spec.blocks.iter().enumerate() {
        let at = format!("/spec/blocks/{idx}");
        if !names.insert(&block.name) {
            let message = format!("another block is called `{}` already", block.name);
            return Err(Error::invalid(format!("{at}/name"), message));
        }
        let BlockKind::CellDeployment(cell) = &block.kind;
        let iteration = block.kpi.as_ref().and_then(|kpi| kpi.iteration.clone());
        blocks.push(BlockPolicy {
            name: block.name.clone(),
            replicas: block.replicas,
            selector: block.placement.site_selector.clone(),
            migrate_to: block.placement.migrate_to.clone(),
            kind: Kind::Cell(cell_spec(&at, cell, iteration)?),
        });
    }
    let n_units: u32 = blocks
        .iter()
        .map(|block| block.replicas.min(UNITS_MAX + 1))
        .sum();
    if n_units > UNITS_MAX {
        let message = format!("a service has at most {UNITS_MAX} units: take fewer replicas");
        return Err(Error::invalid("/spec/blocks", message));
    }
    Ok(ServicePolicy {
        org: org.clone(),
        name: name.clone(),
        blocks,
    })
}

fn cell_spec(
    at: &str,
    cell: &CellDeployment,
    iteration: Option<String>,
) -> Result<CellSpec, Error> {
    let module = cell.module.strip_prefix("sha256:").unwrap_or_default();
    let module = module.parse().map_err(|_| {
        let message = "a module is `sha256:` and 64 hexadecimal digits";
        Error::invalid(format!("{at}/module"), message)
    })?;
    if cell.ranks == 0 {
        return Err(Error::invalid(format!("{at}/ranks"), "at least 1 rank"));
    }
    let bytes = |text: &Option<String>, default, field: &str| match text {
        None => Ok(default),
        Some(text) => parse_bytes(text)
            .map_err(|e| Error::invalid(format!("{at}/limits/{field}"), e.to_string())),
    };
    let checkpoint_every_ms = match &cell.checkpoints {
        None => None,
        Some(checkpoints) => {
            let every = parse_duration(&checkpoints.every)
                .map_err(|e| Error::invalid(format!("{at}/checkpoints/every"), e.to_string()))?;
            Some(u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1))
        }
    };
    let mount = |mount: &nbi::Mount| Mount {
        path: mount.path.clone(),
        source: mount.source.clone(),
    };
    Ok(CellSpec {
        module,
        ranks: cell.ranks,
        args: cell.args.clone(),
        env: cell.env.clone(),
        mounts: cell.mounts.iter().map(mount).collect(),
        iteration,
        checkpoint_every_ms,
        limits: Limits {
            memory_bytes_max: bytes(&cell.limits.memory, MEMORY_BYTES_DEFAULT, "memory")?,
            log_bytes_max: bytes(&cell.limits.log, LOG_BYTES_DEFAULT, "log")?,
        },
    })
}

/// So that it fits into the store and the messages, with all its units.
pub(crate) fn check_size(spec: &ServiceSpec, policy: &ServicePolicy) -> Result<(), Error> {
    let size = |record: serde_json::Result<Vec<u8>>| record.map_or(usize::MAX, |text| text.len());
    if size(serde_json::to_vec(spec)) > SERVICE_BYTES_MAX {
        let message = format!("a service has at most {SERVICE_BYTES_MAX} bytes");
        return Err(Error::invalid("/spec", message));
    }
    let mut n_planned_bytes: usize = 0;
    for (idx, block) in policy.blocks.iter().enumerate() {
        let n_bytes = size(serde_json::to_vec(&block.kind));
        let n_block_bytes = n_bytes.saturating_mul(block.replicas as usize);
        n_planned_bytes = n_planned_bytes.saturating_add(n_block_bytes);
        if n_bytes > UNIT_BYTES_MAX || n_planned_bytes > PLANNED_BYTES_MAX {
            let message = "its arguments and variables are too long for so many replicas";
            return Err(Error::invalid(format!("/spec/blocks/{idx}"), message));
        }
    }
    Ok(())
}

/// A block that stays keeps what its units began with.
pub(crate) fn check_immutable(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Error> {
    for (idx, block) in new.blocks.iter().enumerate() {
        let Some(before) = old.blocks.iter().find(|other| other.name == block.name) else {
            continue;
        };
        let BlockKind::CellDeployment(before) = &before.kind;
        let BlockKind::CellDeployment(cell) = &block.kind;
        let changed = [
            ("module", before.module != cell.module),
            ("ranks", before.ranks != cell.ranks),
            ("args", before.args != cell.args),
            ("env", before.env != cell.env),
            ("mounts", before.mounts != cell.mounts),
            ("limits", before.limits != cell.limits),
        ];
        if let Some((field, _)) = changed.into_iter().find(|(_, is_changed)| *is_changed) {
            let message = format!(
                "`{field}` of block `{}` cannot change: give the changed block another name, or delete the service first",
                block.name
            );
            let pointer = format!("/spec/blocks/{idx}/{field}");
            return Err(Error::new(ErrorKind::Conflict, message).at(pointer));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(change: impl FnOnce(&mut Value)) -> ServiceSpec {
        let mut spec = json!({"blocks": [{
            "name": "decode",
            "kind": "CellDeployment",
            "module": format!("sha256:{}", "0".repeat(64)),
            "ranks": 2,
            "args": ["decode", "-v"],
            "kpi": {"iteration": "MPI_Allreduce", "max": "200ms"},
            "checkpoints": {"every": "30s"},
            "limits": {"memory": "64Mi"},
        }]});
        change(&mut spec);
        serde_json::from_value(spec).expect("a spec")
    }

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn a_block_is_understood() {
        let policy = parse(&name("acme"), &name("va"), &spec(|_| {})).expect("valid");
        let Kind::Cell(cell) = &policy.blocks[0].kind;
        assert_eq!((cell.ranks, policy.blocks[0].replicas), (2, 1));
        assert_eq!(cell.iteration.as_deref(), Some("MPI_Allreduce"));
        assert_eq!(cell.checkpoint_every_ms, Some(30_000));
        assert_eq!(cell.limits.memory_bytes_max, 64 << 20);
        assert_eq!(cell.limits.log_bytes_max, LOG_BYTES_DEFAULT);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let check = |pointer: &str, change: &dyn Fn(&mut Value)| {
            let spec = spec(change);
            let policy = parse(&name("acme"), &name("va"), &spec);
            let checked = policy.and_then(|policy| check_size(&spec, &policy));
            let error = checked.expect_err(pointer);
            let found = (error.kind, error.pointer.as_deref());
            assert_eq!(found, (ErrorKind::Invalid, Some(pointer)));
        };
        let at = "/spec/blocks/0";
        let long = || Value::from("x".repeat(5000));
        check(&format!("{at}/module"), &|s| {
            s["blocks"][0]["module"] = "sha256:0".into()
        });
        check(&format!("{at}/module"), &|s| {
            s["blocks"][0]["module"] = "0".repeat(64).into()
        });
        check(&format!("{at}/ranks"), &|s| {
            s["blocks"][0]["ranks"] = 0.into()
        });
        check(&format!("{at}/limits/memory"), &|s| {
            s["blocks"][0]["limits"]["memory"] = "1T".into()
        });
        check(&format!("{at}/checkpoints/every"), &|s| {
            s["blocks"][0]["checkpoints"]["every"] = "1".into()
        });
        check("/spec/blocks/1/name", &|s| {
            let block = s["blocks"][0].clone();
            s["blocks"].as_array_mut().expect("a list").push(block);
        });
        check("/spec/blocks", &|s| {
            s["blocks"][0]["replicas"] = 1025.into()
        });
        check("/spec", &|s| {
            s["blocks"][0]["args"] = vec![long(); 200].into()
        });
        check(at, &|s| s["blocks"][0]["args"] = vec![long(); 120].into());
        check(at, &|s| {
            s["blocks"][0]["args"] = vec![long(); 20].into();
            s["blocks"][0]["replicas"] = 100.into();
        });
    }

    #[test]
    fn what_units_began_with_stays() {
        let check = |field: Option<&str>, change: &dyn Fn(&mut Value)| {
            let changed = check_immutable(&spec(|_| {}), &spec(change));
            let pointer = changed.err().map(|error| {
                assert_eq!(error.kind, ErrorKind::Conflict);
                error.pointer.expect("a field")
            });
            assert_eq!(
                pointer,
                field.map(|field| format!("/spec/blocks/0/{field}"))
            );
        };
        check(None, &|_| {});
        check(None, &|s| {
            s["blocks"][0]["checkpoints"]["every"] = "1s".into()
        });
        check(None, &|s| s["blocks"][0]["replicas"] = 5.into());
        check(None, &|s| s["blocks"][0]["kpi"]["max"] = "1s".into());
        check(None, &|s| s["blocks"][0]["name"] = "other".into());
        check(None, &|s| {
            s["blocks"][0]["placement"] = json!({"siteSelector": {"matchLabels": {"a": "b"}}})
        });
        check(Some("ranks"), &|s| s["blocks"][0]["ranks"] = 3.into());
        check(Some("args"), &|s| {
            s["blocks"][0]["args"] = json!(["decode"])
        });
        check(Some("env"), &|s| s["blocks"][0]["env"] = json!({"A": "1"}));
        check(Some("limits"), &|s| {
            s["blocks"][0]["limits"]["memory"] = "65Mi".into()
        });
    }
}
