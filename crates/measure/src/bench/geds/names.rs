//! Listing a million names.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::ensure;
use geds::index::{BucketName, Folder, Precondition, Prefix, Query};

use super::data::{KIB, MIB};
use super::node::{self, BUCKET, Node};
use super::{Measured, Setting, Side};

/// An object may have so many names, and these make the set in less memory than as many objects.
const NAMES_EACH: usize = 100;
const PAGE_ITEMS: usize = 1_000;

/// All names of a bucket, in pages. The peer copies as many keys out of an ordered map.
pub(super) fn list_1e6(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let (n_names, n_rounds) = if setting.is_quick {
        (10_000, 1)
    } else {
        (1_000_000, 5)
    };
    let n_objects = n_names / NAMES_EACH;
    let memory_bytes = (n_objects * 16 * KIB).max(64 * MIB);
    let node = Node::start(&setting.dir.join("node"), memory_bytes)?;
    let key = |n: usize| format!("table/part-{:05}/{n:07}.parquet", n % 997);
    let mut keys = BTreeMap::new();
    for object in 0..n_objects {
        let first = node::name(&key(object))?;
        node.put(&first, b"content")?;
        for n in 1..NAMES_EACH {
            let name = node::name(&key(object + n * n_objects))?;
            let store = node.store();
            // Nobody waits for the disk.
            drop(store.copy(&node.tenant, [&first, &name], None, Precondition::None)?);
        }
    }
    for n in 0..n_names {
        keys.insert(key(n), n);
    }
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for _ in 0..n_rounds {
        ours.turn(1, |_| {
            let n_listed = list(&node)?;
            ensure!(n_listed == n_names, "{n_listed} of {n_names} names");
            Ok(())
        })?;
        peer.turn(1, |_| {
            let copies: Vec<_> = keys.iter().map(|(key, n)| (key.clone(), *n)).collect();
            black_box(copies);
            Ok(())
        })?;
    }
    node.stop()?;
    Ok(vec![ours.seconds_against(&peer)])
}

fn list(node: &Node) -> anyhow::Result<usize> {
    let folder = Folder {
        bucket: BucketName::new(BUCKET)?,
        prefix: Prefix::new("")?,
    };
    let query = Query {
        folder: &folder,
        delimiter: "",
        items_max: PAGE_ITEMS,
    };
    let (mut n_listed, mut from) = (0, None);
    loop {
        let page = node.store().list(&node.tenant, &query, from.as_ref())?;
        n_listed += black_box(&page.items).len();
        from = page.next;
        if from.is_none() {
            return Ok(n_listed);
        }
    }
}
