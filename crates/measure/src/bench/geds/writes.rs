//! Writing in the process of the node.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;
use geds::index::Class;
use geds::store::Terms;

use super::data::{self, KIB, MIB};
use super::node::{self, Node};
use super::{Measured, Setting, Side};

const PAGE: usize = 4 * KIB;

/// Seals objects that the end of the node loses. The peer does what no writer with checksums can do without.
pub(super) fn seal_4k_ephemeral(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, PAGE));
    let n_objects = bytes.len() / PAGE;
    let node = Node::start(&setting.dir.join("node"), (4 * bytes.len()).max(64 * MIB))?;
    let names = node::names(n_objects)?;
    let mut memory = vec![1; bytes.len()];
    let batch = n_objects.min(256);
    let n_rounds = if setting.is_quick { 1 } else { 3 };
    let (mut ours, mut peer) = (Side::default(), Side::default());
    // From the second round on, names have other data before.
    for first in (0..n_rounds).flat_map(|_| (0..n_objects).step_by(batch)) {
        let n_times = batch.min(n_objects - first);
        ours.turn_with(None, n_times, |n| {
            let page = &bytes[(first + n) * PAGE..][..PAGE];
            node.put(&names[first + n], page)
        })?;
        peer.turn(n_times, |n| {
            let place = (first + n) * PAGE..(first + n + 1) * PAGE;
            data::copy_and_crc(&bytes[place.clone()], &mut memory[place]);
            Ok(())
        })?;
    }
    node.stop()?;
    Ok(vec![ours.against(&peer)])
}

/// Seals durable objects one at a time, and waits for each. The peer writes as much to a file in the same directory whose room is allocated and was
/// written before, as a log has it, and waits for that.
pub(super) fn seal_4k_durable(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    /// What the log says of an object and of its name, beside its bytes.
    const RECORDS_BYTES: usize = 152;
    let n_times = if setting.is_quick { 5 } else { 1_000 };
    let node = Node::start(&setting.dir.join("node"), 256 * MIB)?;
    let names = node::names(n_times)?;
    let bytes = data::random_bytes(64 * PAGE);
    let page = |n: usize| &bytes[n % 64 * PAGE..][..PAGE];
    let file = File::create(setting.dir.join("peer")).context("make a file")?;
    let written = [page(0), &[0; RECORDS_BYTES]].concat();
    for n in 0..n_times {
        file.write_all_at(&written, (n * written.len()) as u64)?;
    }
    file.sync_all()?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for (n, name) in names.iter().enumerate() {
        ours.turn_with(None, 1, |_| {
            let mut writer = node.store().writer(&node.tenant)?;
            writer.append(page(n))?;
            let written = (Class::Durable, writer);
            let (_, ack) = node
                .store()
                .seal(&node.tenant, name, written, Terms::default())?;
            Ok(ack.wait()?)
        })?;
        peer.turn(1, |_| {
            let written = [page(n), &[0; RECORDS_BYTES]].concat();
            file.write_all_at(&written, (n * written.len()) as u64)?;
            Ok(file.sync_data()?)
        })?;
    }
    node.stop()?;
    Ok(vec![ours.against(&peer)])
}

/// Writes objects of 1 MiB over ones of the same name.
pub(super) fn write_1m(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, MIB));
    let n_objects = bytes.len() / MIB;
    let node = Node::start(&setting.dir.join("node"), (4 * bytes.len()).max(64 * MIB))?;
    let names = node::names(n_objects)?;
    let mut memory = vec![1; bytes.len()];
    let n_rounds = if setting.is_quick { 1 } else { 10 };
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for round in 0..=n_rounds {
        for (n, name) in names.iter().enumerate() {
            let place = n * MIB..(n + 1) * MIB;
            let put = |ours: &mut Side| {
                ours.turn_with(None, 1, |_| node.put(name, &bytes[place.clone()]))
            };
            // What comes first finds the source in no cache: both do in turn.
            if n % 2 == 0 {
                put(&mut ours)?;
            }
            peer.turn(1, |_| {
                data::copy_and_crc(&bytes[place.clone()], &mut memory[place.clone()]);
                Ok(())
            })?;
            if n % 2 == 1 {
                put(&mut ours)?;
            }
        }
        if round == 0 {
            // Memory is warm from now on.
            (ours, peer) = (Side::default(), Side::default());
        }
    }
    node.stop()?;
    Ok(vec![ours.rate_against(&peer, MIB)])
}
