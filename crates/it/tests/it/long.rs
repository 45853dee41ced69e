//! Objects that are longer than the memory of their node, as everybody writes and reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use it::{DEADLINE, Process};
use tempfile::TempDir;

use crate::geds::{Node, run};

/// Of memory, a node has 64 MiB here.
const OBJECT_BYTES: usize = (200 << 20) + 123_456;
/// What a node may take beside its arena for all that it is asked here.
const HEAP_BYTES: u64 = 80 << 20;

fn noise() -> Vec<u8> {
    let mut state = 7_u64;
    let mut bytes = Vec::with_capacity(OBJECT_BYTES + 8);
    while bytes.len() < OBJECT_BYTES {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        bytes.extend((state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(OBJECT_BYTES);
    bytes
}

/// The most memory that a process has ever had.
fn most_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("the kernel says it")?.parse::<u64>()? << 10)
}

fn start(dir: &Path, credentials: &str, disk: &str) -> Result<Node> {
    Node::start_with(dir, credentials, &format!("--disk {disk}"))
}

/// By the node protocol.
fn client(node: &Node, words: &str, file: &Path) -> Result<()> {
    let mut command = Command::new(it::cloudskin());
    command.arg("geds").args(words.split_whitespace());
    command.env("CLOUDSKIN_GEDS", &node.node);
    command.env("GEDS_ACCESS_KEY", node.client.access_key());
    command.env("GEDS_SECRET_KEY", node.client.secret());
    match words.starts_with("get") {
        true => command.arg(file),
        false => command.arg(file).arg("data/native"),
    };
    let ended = Process::start(&mut command)?.finish()?;
    ensure!(ended.code == Some(0), "geds {words}: {ended:?}");
    Ok(())
}

fn put_in_parts<'a>(
    node: &Node,
    target: &str,
    parts: impl Iterator<Item = &'a [u8]>,
) -> Result<()> {
    let client = &node.client;
    let begun = client.post(&format!("{target}?uploads="), b"")?;
    let begun = begun.expect(200)?.text();
    let id = between(&begun, "<UploadId>", "</UploadId>").context("an upload has an id")?;
    for (number, part) in (1..).zip(parts) {
        let put = client.put(&format!("{target}?partNumber={number}&uploadId={id}"), part);
        put?.expect(200)?;
    }
    let parts = client
        .get(&format!("{target}?uploadId={id}"))?
        .expect(200)?;
    let mut complete = "<CompleteMultipartUpload>".to_owned();
    for part in parts.text().split("<Part>").skip(1) {
        let number =
            between(part, "<PartNumber>", "</PartNumber>").context("a part has a number")?;
        let etag = between(part, "<ETag>", "</ETag>").context("a part has an etag")?;
        complete += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    complete += "</CompleteMultipartUpload>";
    let completed = client.post(&format!("{target}?uploadId={id}"), complete.as_bytes())?;
    let completed = completed.expect(200)?.text();
    ensure!(
        completed.contains("<CompleteMultipartUploadResult"),
        "{completed}"
    );
    Ok(())
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

/// Waits until the objects on the disk have so many bytes there, or more.
fn wait_for_disk(node: &Node, is_so: impl Fn(u64) -> bool) -> Result<()> {
    let end = rt::now() + DEADLINE;
    loop {
        let used = node.metric("geds__local_storage_used")?;
        if is_so(used) {
            return Ok(());
        }
        ensure!(rt::now() < end, "{used} bytes of the disk are used");
    }
}

#[test]
fn an_object_may_be_longer_than_memory_whoever_writes_it() -> Result<()> {
    let dir = TempDir::new()?;
    let [node_dir, file, copy] = ["node", "file", "copy"].map(|name| dir.path().join(name));
    let credentials = run(&node_dir, "user add acme")?;
    let bytes = noise();
    fs::write(&file, &bytes)?;
    let node = start(&node_dir, &credentials, "512Mi")?;
    let at_first = most_bytes(node.process.id())?;
    let expect = |node: &Node, key: &str| {
        let found = node.client.get(&format!("/data/{key}"))?.expect(200)?;
        ensure!(found.body == bytes, "{key} is another");
        Ok(())
    };
    node.client.put("/data", b"")?.expect(200)?;
    node.client.put("/data/whole", &bytes)?.expect(200)?;
    expect(&node, "whole")?;
    // There is no room for them once more.
    put_in_parts(&node, "/data/parts", bytes.chunks(8 << 20))?;
    expect(&node, "parts")?;
    client(&node, "get --range 150000000-150099999 data/parts", &copy)?;
    ensure!(
        fs::read(&copy)? == bytes[150_000_000..150_100_000],
        "a range is another"
    );
    node.client.delete("/data/whole")?.expect(204)?;
    client(&node, "put --class ephemeral", &file)?;
    client(&node, "get data/native", &copy)?;
    ensure!(fs::read(&copy)? == bytes, "what a client got is another");
    let grown = most_bytes(node.process.id())? - at_first;
    ensure!(grown < (64 << 20) + HEAP_BYTES, "{grown} bytes more");
    node.end("TERM")?;

    // Also what was to be ephemeral, and is more.
    let node = start(&node_dir, &credentials, "512Mi")?;
    for key in ["parts", "native"] {
        expect(&node, key)?;
        node.client.delete(&format!("/data/{key}"))?.expect(204)?;
    }
    // They end within blocks, and are copied.
    put_in_parts(&node, "/data/odd", bytes.chunks((9 << 20) + 1))?;
    expect(&node, "odd")?;
    node.client.delete("/data/odd")?.expect(204)?;
    wait_for_disk(&node, |used| used < 1 << 20)?;
    node.end("TERM")
}

#[test]
fn half_a_long_object_takes_no_room_when_its_writer_or_its_node_is_gone() -> Result<()> {
    let dir = TempDir::new()?;
    let dir = dir.path().join("node");
    let credentials = run(&dir, "user add acme")?;
    let bytes = noise();
    let mut node = start(&dir, &credentials, "1Gi")?;
    node.client.put("/data", b"")?.expect(200)?;
    node.client.put("/data/long", b"was short")?.expect(200)?;
    let before = node.metric("geds__local_storage_used")?;
    let half = node.client.put_half("/data/long", &bytes)?;
    wait_for_disk(&node, |used| used > 90 << 20)?;
    drop(half);
    wait_for_disk(&node, |used| used == before)?;

    let half = node.client.put_half("/data/long", &bytes)?;
    wait_for_disk(&node, |used| used > 90 << 20)?;
    node.process.kill()?;
    node.process.finish()?;
    drop(half);

    let node = start(&dir, &credentials, "1Gi")?;
    wait_for_disk(&node, |used| used == before)?;
    let found = node.client.get("/data/long")?.expect(200)?.body;
    ensure!(found == b"was short", "what was not sealed is seen");
    // More than there would be room for beside it.
    for key in ["a", "b", "c", "d"] {
        node.client
            .put(&format!("/data/{key}"), &bytes)?
            .expect(200)?;
    }
    node.end("TERM")
}
