//! A node of the object store from outside: `geds serve` and `geds user` as an operator calls them, and S3 as its clients speak it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use it::{DEADLINE, Ended, Process};
use serde_json::Value;
use tempfile::TempDir;

use crate::s3::{Client, Response, fetch};

fn geds(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(it::cloudskin());
    command.arg("geds").args(words.split_whitespace());
    command.arg("--dir").arg(dir);
    command
}

/// What a command says that ends well.
pub(crate) fn run(dir: &Path, words: &str) -> Result<String> {
    let ended = Process::start(&mut geds(dir, words))?.finish()?;
    ensure!(ended.code == Some(0), "geds {words}: {ended:?}");
    Ok(ended.stdout)
}

/// A running node, and a client of the tenant `acme`.
pub(crate) struct Node {
    pub process: Process,
    pub client: Client,
    s3: String,
    pub node: String,
    pub metrics: String,
}

impl Node {
    pub(crate) fn start(dir: &Path, credentials: &str) -> Result<Self> {
        Self::start_with(dir, credentials, "")
    }

    pub(crate) fn start_with(dir: &Path, credentials: &str, more: &str) -> Result<Self> {
        let words = format!("serve --json --memory 64Mi {more}");
        let process = Process::start(&mut geds(dir, &words))?;
        let said = process.wait_until("the node", |output| output.stdout.ends_with('\n'))?;
        let ready: Value = serde_json::from_str(&said.stdout)?;
        let address = |of: &str| ready[of].as_str().with_context(|| said.stdout.clone());
        Ok(Self {
            client: Client::new(&format!("http://{}", address("s3")?), credentials)?,
            s3: address("s3")?.to_owned(),
            node: address("node")?.to_owned(),
            metrics: address("metrics")?.to_owned(),
            process,
        })
    }

    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let page = fetch(&self.metrics, "/metrics")?.expect(200)?.text();
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("no {name} in {page}"))?
            .parse()?)
    }

    fn wait_until_in_cloud(&self) -> Result<()> {
        let end = rt::now() + DEADLINE;
        while self.metric("geds_s3_waiting_objects")? > 0 {
            ensure!(rt::now() < end, "not all came to the cloud");
        }
        Ok(())
    }

    pub(crate) fn end(self, signal: &str) -> Result<()> {
        it::signal(u64::from(self.process.id()), signal)?;
        let ended = self.process.finish()?;
        let Ended { stdout, stderr, .. } = &ended;
        let is_calm = !stderr.contains("WARN") && !stderr.contains("ERROR");
        ensure!(ended.code == Some(0) && is_calm, "{ended:?}");
        let secret = self.client.secret();
        ensure!(
            !stdout.contains(secret) && !stderr.contains(secret),
            "a secret is shown"
        );
        Ok(())
    }
}

#[test]
fn a_node_that_is_killed_keeps_what_is_durable_and_says_what_is_lost() -> Result<()> {
    let dir = TempDir::new()?;
    let dir = dir.path().join("node");
    let credentials = run(&dir, "user add acme")?;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let durable = [("small", b"small".as_slice()), ("large", &large)];
    let mut node = Node::start(&dir, &credentials)?;
    ensure!(
        fetch(&node.metrics, "/readyz")?.status == 200,
        "it is ready"
    );
    let client = &node.client;
    client.put("/data", b"")?.expect(200)?;
    for (name, content) in durable {
        client.put(&format!("/data/{name}"), content)?.expect(200)?;
    }
    client.put_ephemeral("/data/brief", b"brief")?.expect(200)?;
    let content = client.get("/data/brief")?.expect(200)?.body;
    ensure!(content == b"brief", "what was put is got");
    ensure!(node.metric("geds__files_created")? >= 3, "three were made");
    ensure!(node.metric("geds_names")? >= 3, "they have names");
    ensure!(
        node.metric("geds__local_memory_allocated")? == 64 << 20,
        "the limit"
    );
    node.process.kill()?;
    node.process.finish()?;

    let node = Node::start(&dir, &credentials)?;
    let client = &node.client;
    let list = client.get("/data?list-type=2")?.expect(200)?.text();
    for name in ["brief", "large", "small"] {
        ensure!(list.contains(&format!("<Key>{name}</Key>")), "{list}");
    }
    for (name, content) in durable {
        let found = client.get(&format!("/data/{name}"))?.expect(200)?.body;
        ensure!(found == content, "{name} is another");
    }
    let lost = client.get("/data/brief")?.expect(410)?.text();
    ensure!(lost.contains("<Code>ObjectLost</Code>"), "{lost}");
    client.put("/data/brief", b"again")?.expect(200)?;
    node.end("TERM")?;

    let node = Node::start(&dir, &credentials)?;
    let content = node.client.get("/data/brief")?.expect(200)?.body;
    ensure!(content == b"again", "it was made anew");
    node.end("INT")
}

/// An edge with little room, and a cloud that speaks S3 behind it.
#[test]
fn a_node_has_more_than_it_has_room_for_and_its_end_takes_nothing() -> Result<()> {
    let dir = TempDir::new()?;
    let [cloud_dir, edge_dir] = ["cloud", "edge"].map(|name| dir.path().join(name));
    let of_cloud = run(&cloud_dir, "user add cloud")?;
    let of_edge = run(&edge_dir, "user add acme")?;
    let cloud = Node::start(&cloud_dir, &of_cloud)?;
    cloud.client.put("/data", b"")?.expect(200)?;
    let secrets = dir.path().join("cloud.ini");
    std::fs::write(&secrets, &of_cloud)?;
    let settings = dir.path().join("edge.json");
    let tier2 = serde_json::json!({
        "endpoint": format!("http://{}", cloud.s3),
        "credentials": secrets,
        "buckets": { "data": "acme" },
    });
    let disk = serde_json::json!({ "limit": "16Mi", "segment": "4Mi" });
    let memory = serde_json::json!({ "room_wait": "2s" });
    let text = serde_json::json!({ "tier2": tier2, "disk": disk, "memory": memory });
    let text = text.to_string();
    std::fs::write(&settings, text)?;
    let more = format!("--config {}", settings.display());

    let mut edge = Node::start_with(&edge_dir, &of_edge, &more)?;
    edge.client.put("/data", b"")?.expect(200)?;
    let content = |n: u8| vec![n; 3 << 20];
    for n in 0..16 {
        let put = edge.client.put(&format!("/data/{n}"), &content(n))?;
        put.expect(200)?;
    }
    ensure!(
        edge.metric("geds_left_disk_objects_total")? > 8,
        "most are not here"
    );
    edge.wait_until_in_cloud()?;
    let seen = cloud.client.get("/data/15")?.expect(200)?.body;
    ensure!(seen == content(15), "others see what was put");
    edge.process.kill()?;
    edge.process.finish()?;

    let edge = Node::start_with(&edge_dir, &of_edge, &more)?;
    for n in 0..16 {
        let found = edge.client.get(&format!("/data/{n}"))?.expect(200)?.body;
        ensure!(found == content(n), "{n} is another");
    }
    // Without the cloud the edge takes what its disk takes: all else leaves it.
    let address = cloud.s3.clone();
    cloud.end("TERM")?;
    let piece = |n: usize| n.to_le_bytes().repeat((256 << 10) / size_of::<usize>());
    let name = |n: usize| format!("/data/piece-{n}");
    let mut n_taken = 0;
    while edge.client.put(&name(n_taken), &piece(n_taken))?.status == 200 {
        n_taken += 1;
    }
    ensure!(
        100 * n_taken >= 95 * 64,
        "{n_taken} pieces, and room for 64"
    );
    let cloud = Node::start_with(&cloud_dir, &of_cloud, &format!("--s3 {address}"))?;
    edge.wait_until_in_cloud()?;
    for n in 0..n_taken {
        for node in [&edge, &cloud] {
            let found = node.client.get(&name(n))?.expect(200)?.body;
            ensure!(found == piece(n), "{n} is another");
        }
    }
    // It has complained that the cloud was not there.
    it::signal(u64::from(edge.process.id()), "TERM")?;
    let ended = edge.process.finish()?;
    ensure!(ended.code == Some(0), "{ended:?}");
    cloud.end("TERM")
}

/// A node that reads what is in two buckets of a cloud: one is looked at each time, and one now and then.
fn start_with_data_set(dir: &Path, cloud: &str, of_cloud: &str, of_edge: &str) -> Result<Node> {
    let secrets = dir.join("cloud.ini");
    std::fs::write(&secrets, of_cloud)?;
    let settings = dir.join("edge.json");
    let terms = |revalidate: &str| serde_json::json!({ "tenant": "acme", "authority": "s3", "revalidate": revalidate });
    let tier2 = serde_json::json!({
        "endpoint": format!("http://{cloud}"),
        "credentials": secrets,
        "buckets": { "fresh": terms("0s"), "lately": terms("1h") },
        "block": "1Mi",
    });
    let text = serde_json::json!({ "tier2": tier2 }).to_string();
    std::fs::write(&settings, text)?;
    let more = format!("--config {}", settings.display());
    Node::start_with(&dir.join("edge"), of_edge, &more)
}

/// A data set that lies in a cloud, and two who read it through an edge while others write it.
#[test]
fn a_data_set_in_s3_is_read_through_a_node_and_never_old() -> Result<()> {
    let dir = TempDir::new()?;
    let [cloud_dir, edge_dir] = ["cloud", "edge"].map(|name| dir.path().join(name));
    let of_cloud = run(&cloud_dir, "user add cloud")?;
    let of_edge = run(&edge_dir, "user add acme")?;
    let mut cloud = Node::start(&cloud_dir, &of_cloud)?;
    for bucket in ["/fresh", "/lately"] {
        cloud.client.put(bucket, b"")?.expect(200)?;
    }
    let content = |n: u8| vec![n; 10 << 20];
    for object in ["/fresh/a", "/lately/a"] {
        cloud.client.put(object, &content(1))?.expect(200)?;
    }
    let edge = start_with_data_set(dir.path(), &cloud.s3, &of_cloud, &of_edge)?;
    let read = |target: &str| edge.client.get(target);

    // They are there, and come once.
    for _ in 0..3 {
        for object in ["/fresh/a", "/lately/a"] {
            ensure!(read(object)?.expect(200)?.body == content(1), "{object}");
        }
    }
    ensure!(
        edge.metric("geds_s3_blocks_fetched_total")? == 20,
        "each block once"
    );
    let asked = edge.metric("geds_s3_revalidations_total")?;
    ensure!(asked == 4, "three times, and once: {asked}");
    let list = read("/fresh?list-type=2")?.expect(200)?.text();
    ensure!(list.contains("<Key>a</Key>"), "{list}");
    // Somebody overwrites them.
    for object in ["/fresh/a", "/lately/a"] {
        cloud.client.put(object, &content(2))?.expect(200)?;
    }
    ensure!(
        read("/fresh/a")?.expect(200)?.body == content(2),
        "it is seen"
    );
    ensure!(
        read("/lately/a")?.expect(200)?.body == content(1),
        "as the policy says"
    );
    // What is put here is there.
    edge.client.put("/lately/a", &content(3))?.expect(200)?;
    ensure!(
        cloud.client.get("/lately/a")?.expect(200)?.body == content(3),
        "it is there"
    );
    ensure!(
        read("/lately/a")?.expect(200)?.body == content(3),
        "and here"
    );
    // The cloud is gone: what the policy allows goes on, and nothing else.
    let address = cloud.s3.clone();
    cloud.process.kill()?;
    cloud.process.finish()?;
    ensure!(
        read("/lately/a")?.expect(200)?.body == content(3),
        "it is in memory"
    );
    for answer in [
        read("/fresh/a")?,
        read("/lately/b")?,
        edge.client.put("/fresh/b", b"b")?,
    ] {
        let text = answer.expect(503)?.text();
        ensure!(text.contains("<Code>ServiceUnavailable</Code>"), "{text}");
    }
    let cloud = Node::start_with(&cloud_dir, &of_cloud, &format!("--s3 {address}"))?;
    ensure!(
        read("/fresh/a")?.expect(200)?.body == content(2),
        "it is back"
    );
    cloud.client.get("/fresh/b")?.expect(404)?;
    edge.end("TERM")?;
    cloud.end("TERM")
}

#[test]
fn one_node_lives_in_a_directory() -> Result<()> {
    let dir = TempDir::new()?;
    let credentials = run(dir.path(), "user add acme")?;
    let node = Node::start(dir.path(), &credentials)?;
    let second = Process::start(&mut geds(dir.path(), "serve --json"))?.finish()?;
    let is_clear = second.stderr.contains("runs in") && second.stderr.contains("already");
    ensure!(second.code == Some(1) && is_clear, "{second:?}");
    node.client.put("/data", b"")?.expect(200)?;
    node.end("TERM")
}

#[test]
fn users_are_let_in_and_out_while_a_node_runs() -> Result<()> {
    let dir = TempDir::new()?;
    let acme = run(dir.path(), "user add acme")?;
    let node = Node::start(dir.path(), &acme)?;
    node.client.put("/data", b"")?.expect(200)?;
    let other = run(dir.path(), "user add other")?;
    let url = format!("http://{}", node.client.addr());
    let [second, other] = [run(dir.path(), "user add acme")?, other]
        .map(|credentials| Client::new(&url, &credentials));
    let (second, other) = (second?, other?);
    wait_for(&second, "/data", 200)?;
    other.get("/data")?.expect(403)?;
    let users = run(dir.path(), "user ls")?;
    ensure!(
        users.lines().count() == 3 && !users.contains(second.secret()),
        "{users}"
    );
    run(dir.path(), &format!("user rm {}", second.access_key()))?;
    wait_for(&second, "/data", 403)?;
    node.client.get("/data")?.expect(200)?;
    node.end("TERM")
}

/// Asks until it is answered so.
fn wait_for(client: &Client, target: &str, status: u16) -> Result<Response> {
    let end = rt::now() + DEADLINE;
    loop {
        let response = client.get(target)?;
        if response.status == status {
            return Ok(response);
        }
        if rt::now() > end {
            bail!("never {status}: {} {}", response.status, response.text());
        }
    }
}
