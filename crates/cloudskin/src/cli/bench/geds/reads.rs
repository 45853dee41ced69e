//! Reading in the process of the node.

use anyhow::{Context as _, ensure};

use super::data::{self, KIB, MIB};
use super::node::{self, Node};
use super::{Measured, Setting, Side};

const PAGE: usize = 4 * KIB;

/// Opens objects by name in no order, and sums the 4 KiB of each where they lie.
pub(super) fn open_read_4k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, PAGE));
    let n_objects = bytes.len() / PAGE;
    let node = Node::start(&setting.dir.join("node"), (4 * bytes.len()).max(64 * MIB))?;
    let names = node::names(n_objects)?;
    for (name, bytes) in names.iter().zip(bytes.chunks_exact(PAGE)) {
        node.put(name, bytes)?;
    }
    let (n_rounds, batch) = if setting.is_quick {
        (1, 100)
    } else {
        (200, 1_000)
    };
    let (mut ours, mut peer) = (Side::default(), Side::default());
    let (mut found, mut expected) = (0_u64, 0_u64);
    let mut into = [0; PAGE];
    for round in 0..n_rounds {
        let picked = |n| data::pick(round * batch + n, n_objects);
        ours.turn(batch, |n| {
            let reader = node.store().open_object(&node.tenant, &names[picked(n)])?;
            let view = reader.view().context("it is in memory, in one piece")?;
            found = found.wrapping_add(data::sum(&view));
            Ok(())
        })?;
        peer.turn(batch, |n| {
            into.copy_from_slice(&bytes[picked(n) * PAGE..][..PAGE]);
            expected = expected.wrapping_add(data::sum(&into));
            Ok(())
        })?;
    }
    ensure!(found == expected, "what was read is not what was written");
    node.stop()?;
    Ok(vec![ours.against(&peer)])
}

/// Opens objects of 1 MiB by name, one after the other, and sums them where they lie. The peer sums memory that the allocator has had mapped, as it
/// does with what is large.
pub(super) fn scan_view(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, MIB));
    let n_objects = bytes.len() / MIB;
    let node = Node::start(&setting.dir.join("node"), (4 * bytes.len()).max(64 * MIB))?;
    let names = node::names(n_objects)?;
    for (name, bytes) in names.iter().zip(bytes.chunks_exact(MIB)) {
        node.put(name, bytes)?;
    }
    let (mut ours, mut peer) = (Side::default(), Side::default());
    let (mut found, mut expected) = (0_u64, 0_u64);
    let n_rounds = if setting.is_quick { 1 } else { 20 };
    for round in 0..=n_rounds {
        for (name, bytes) in names.iter().zip(bytes.chunks_exact(MIB)) {
            ours.turn(1, |_| {
                let reader = node.store().open_object(&node.tenant, name)?;
                let view = reader.view().context("it is in memory, in one piece")?;
                found = found.wrapping_add(data::sum(&view));
                Ok(())
            })?;
            peer.turn(1, |_| {
                expected = expected.wrapping_add(data::sum(bytes));
                Ok(())
            })?;
        }
        if round == 0 {
            // Pages were mapped.
            (ours, peer) = (Side::default(), Side::default());
        }
    }
    ensure!(found == expected, "what was read is not what was written");
    node.stop()?;
    Ok(vec![ours.rate_against(&peer, MIB)])
}
