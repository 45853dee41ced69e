//! Reading in the process of the node.

use anyhow::{Context as _, ensure};
use geds::index::Name;

use super::data::{self, KIB, MIB};
use super::node::{self, Node};
use super::{Measured, Setting, Side};

const PAGE: usize = 4 * KIB;
/// So many times one side is measured before the other one is.
const BATCH: usize = 1_000;

/// Opens objects by name in no order, and sums the 4 KiB of each where they lie: again and again, and before that each for the first time.
pub(super) fn open_read_4k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, PAGE));
    let n_objects = bytes.len() / PAGE;
    let node = Node::start(&setting.dir.join("node"), (4 * bytes.len()).max(64 * MIB))?;
    let names = node::names(n_objects)?;
    for (name, bytes) in names.iter().zip(bytes.chunks_exact(PAGE)) {
        node.put(name, bytes)?;
    }
    let read = |name: &Name| {
        let reader = node.store().open_object(&node.tenant, name)?;
        let view = reader.view().context("it is in memory, in one piece")?;
        anyhow::Ok(data::sum(view))
    };
    let mut into = [0; PAGE];
    let mut copy = |n: usize| {
        into.copy_from_slice(&bytes[n * PAGE..][..PAGE]);
        data::sum(&into)
    };
    let (mut found, mut expected) = (0_u64, 0_u64);
    let mut turns = |first: usize, n_times: usize, ours: &mut Side, peer: &mut Side, of| {
        let of: fn(usize, usize) -> usize = of;
        let names = (0..n_times).map(|n| node::name(names[of(first + n, n_objects)].key.as_str()));
        // Whoever asks has just made the name, and not the node.
        let names = names.collect::<Result<Vec<_>, _>>()?;
        ours.turn(n_times, |n| {
            found = found.wrapping_add(read(&names[n])?);
            Ok(())
        })?;
        peer.turn(n_times, |n| {
            expected = expected.wrapping_add(copy(of(first + n, n_objects)));
            Ok(())
        })
    };
    let (mut firsts, mut firsts_peer) = (Side::default(), Side::default());
    // Each once, as long as their number is no multiple of that prime, and no two neighbours in memory.
    for first in (0..n_objects).step_by(BATCH) {
        let n_times = BATCH.min(n_objects - first);
        turns(first, n_times, &mut firsts, &mut firsts_peer, |n, len| {
            n * 7_919 % len
        })?;
    }
    let (mut ours, mut peer) = (Side::default(), Side::default());
    let n_rounds = if setting.is_quick { 1 } else { 200 };
    for round in 0..n_rounds {
        turns(round * BATCH, BATCH, &mut ours, &mut peer, data::pick)?;
    }
    ensure!(found == expected, "what was read is not what was written");
    node.stop()?;
    Ok(vec![ours.against(&peer), firsts.against(&firsts_peer)])
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
                found = found.wrapping_add(data::sum(view));
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
