//! Reading beside what others are used for.

use std::fs;
use std::io::{Read, Write};

use anyhow::{Context as _, ensure};
use geds::index::Name;

use super::data::{self, KIB, MIB};
use super::network::{self, n_rounds, object_bytes};
use super::node::{self, BUCKET, Node, Served};
use super::peers::{Plasma, Redis, RedisClient, S3sFs};
use super::s3;
use super::{Measured, Setting, Side};

/// Objects in the process of the node, and what they have to be.
struct Stage {
    node: Node,
    names: Vec<Name>,
    contents: Vec<u8>,
    bytes: usize,
}

impl Stage {
    fn new(setting: &Setting<'_>, bytes: usize) -> anyhow::Result<Self> {
        let contents = data::random_bytes(data::working_set(setting, bytes));
        let node = Node::start(
            &setting.dir.join("node"),
            (4 * contents.len()).max(64 * MIB),
        )?;
        let names = node::names(contents.len() / bytes)?;
        for (name, content) in names.iter().zip(contents.chunks_exact(bytes)) {
            node.put(name, content)?;
        }
        let stage = Self {
            node,
            names,
            contents,
            bytes,
        };
        // The first opening of a name is a figure of its own.
        for n in 0..stage.names.len() {
            stage.view(n)?;
        }
        Ok(stage)
    }

    /// Opens an object by name, and sums it where it lies.
    fn view(&self, n: usize) -> anyhow::Result<u64> {
        let reader = self
            .node
            .store()
            .open_object(&self.node.tenant, &self.names[n])?;
        let view = reader.view().context("it is in memory, in one piece")?;
        Ok(data::sum(view))
    }

    /// Opens an object by name, and sums a copy.
    fn copy(&self, n: usize, into: &mut [u8]) -> anyhow::Result<u64> {
        let reader = self
            .node
            .store()
            .open_object(&self.node.tenant, &self.names[n])?;
        let len = reader.read_at(0, into)?;
        Ok(data::sum(&into[..len]))
    }
}

/// 4 KiB where they lie.
pub(super) fn read_4k_redis(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let stage = Stage::new(setting, 4 * KIB)?;
    let batch = if setting.is_quick { 10 } else { 500 };
    let (ours, peer) = redis(setting, &stage, batch, |n, _| stage.view(n))?;
    stage.node.stop()?;
    Ok(vec![ours.per_second_against(&peer)])
}

/// 1 MiB as a copy.
pub(super) fn read_1m_redis(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let stage = Stage::new(setting, MIB)?;
    let batch = if setting.is_quick { 2 } else { 20 };
    let (ours, peer) = redis(setting, &stage, batch, |n, into| stage.copy(n, into))?;
    stage.node.stop()?;
    Ok(vec![ours.rate_against(&peer, MIB)])
}

/// Redis by the faster of its two ways.
fn redis(
    setting: &Setting<'_>,
    stage: &Stage,
    batch: usize,
    mut read: impl FnMut(usize, &mut [u8]) -> anyhow::Result<u64>,
) -> anyhow::Result<(Side, Side)> {
    let mut redis = Redis::start(setting)?;
    let keys: Vec<_> = (0..stage.names.len()).map(|n| n.to_string()).collect();
    for (key, content) in keys.iter().zip(stage.contents.chunks_exact(stage.bytes)) {
        redis.unix.set(key, content)?;
    }
    let pid = redis.pid();
    let (mut ours, mut unix, mut tcp) = (Side::default(), Side::default(), Side::default());
    let mut into = vec![0; stage.bytes];
    for round in 0..n_rounds(setting) {
        let picked = |n| data::pick(round * batch + n, keys.len());
        let (mut found, mut others) = (0_u64, [0_u64; 2]);
        ours.turn(batch, |n| {
            found = found.wrapping_add(read(picked(n), &mut into)?);
            Ok(())
        })?;
        unix.turn_with(Some(pid), batch, |n| {
            let sum = get(&mut redis.unix, &keys[picked(n)], stage.bytes)?;
            others[0] = others[0].wrapping_add(sum);
            Ok(())
        })?;
        tcp.turn_with(Some(pid), batch, |n| {
            let sum = get(&mut redis.tcp, &keys[picked(n)], stage.bytes)?;
            others[1] = others[1].wrapping_add(sum);
            Ok(())
        })?;
        ensure!(others == [found; 2], "both are to read the same");
    }
    let is_unix_faster = unix.middle() < tcp.middle();
    Ok((ours, if is_unix_faster { unix } else { tcp }))
}

fn get<S: Read + Write>(
    client: &mut RedisClient<S>,
    key: &str,
    bytes: usize,
) -> anyhow::Result<u64> {
    Ok(data::sum(client.get(key, bytes)?))
}

/// 1 MiB where it lies, in Ray's object store, too.
pub(super) fn read_1m_plasma(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    const BATCH: usize = 50;
    let stage = Stage::new(setting, MIB)?;
    let mut plasma = Plasma::start(setting, &stage.contents, MIB)?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for round in 0..n_rounds(setting) {
        let picked = (0..BATCH).map(|n| data::pick(round * BATCH + n, stage.names.len()));
        let picked: Vec<_> = picked.collect();
        let mut found = 0_u64;
        ours.turn(BATCH, |n| {
            found = found.wrapping_add(stage.view(picked[n])?);
            Ok(())
        })?;
        let expected = plasma.read(&mut peer, &picked)?;
        ensure!(found == expected, "both are to read the same");
    }
    plasma.end()?;
    stage.node.stop()?;
    Ok(vec![ours.rate_against(&peer, MIB)])
}

/// 64 MiB over S3.
pub(super) fn s3_get_64m(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = object_bytes(setting, 64 * MIB);
    let contents = data::random_bytes(data::working_set(setting, bytes));
    let root = setting.dir.join("s3s-fs");
    fs::create_dir_all(root.join(BUCKET))?;
    for (n, content) in contents.chunks_exact(bytes).enumerate() {
        fs::write(root.join(BUCKET).join(n.to_string()), content)?;
    }
    let peer_server = S3sFs::start(setting, &root)?;
    let served = Served::with_room(&setting.dir.join("node"), contents.len())?;
    let runtime = rt::runtime()?;
    let client = runtime.block_on(served.first_client())?;
    for (n, content) in contents.chunks_exact(bytes).enumerate() {
        runtime.block_on(network::put(&client, &node::name(&n.to_string())?, content))?;
    }
    let keys = s3::keys(&served.credentials)?;
    let mut s3 = s3::Client::connect(served.ready.s3, Some(keys))?;
    let mut peer_s3 = s3::Client::connect(peer_server.addr, None)?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for round in 0..n_rounds(setting) {
        let n = round % (contents.len() / bytes);
        let expected = data::sum(&contents[n * bytes..][..bytes]);
        let path = format!("/{BUCKET}/{n}");
        ours.turn_with(Some(served.pid()), 1, |_| {
            ensure!(s3.sum(&path)? == expected, "another object was read");
            Ok(())
        })?;
        peer.turn_with(Some(peer_server.pid()), 1, |_| {
            ensure!(peer_s3.sum(&path)? == expected, "another object was read");
            Ok(())
        })?;
    }
    Ok(vec![ours.rate_against(&peer, bytes)])
}
