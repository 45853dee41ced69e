//! Several nodes with one namespace, from outside: processes that are killed, stopped and started again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use it::DEADLINE;
use tempfile::TempDir;

use crate::geds::{Node, run};
use crate::s3::fetch;

struct Site {
    dir: TempDir,
    credentials: String,
    /// Where the owner of the names speaks to the others.
    index: String,
}

impl Site {
    fn new() -> Result<(Self, Node)> {
        let dir = TempDir::new()?;
        let mut site = Self {
            credentials: String::new(),
            index: String::new(),
            dir,
        };
        let owner = site.dir(1);
        site.credentials = run(&owner, "user add acme")?;
        let peer = site.dir.path().join("peer.ini");
        run(
            &owner,
            &format!("user add --peer --credentials {}", peer.display()),
        )?;
        let owner = Node::start(&owner, &site.credentials)?;
        site.index.clone_from(&owner.node);
        Ok((site, owner))
    }

    fn dir(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("node-{number}"))
    }

    fn member(&self, number: u32) -> Result<Node> {
        let settings = self.dir.path().join(format!("node-{number}.json"));
        let site = serde_json::json!({
            "index": self.index,
            "node": number,
            "credentials": self.dir.path().join("peer.ini"),
        });
        let users = self.dir(1).join("users");
        let text = serde_json::json!({ "site": site, "users": users });
        fs::write(&settings, text.to_string())?;
        let more = format!("--config {}", settings.display());
        let node = Node::start_with(&self.dir(number), &self.credentials, &more)?;
        until_ready(&node)?;
        Ok(node)
    }

    fn owner_again(&self) -> Result<Node> {
        let more = format!("--node {}", self.index);
        Node::start_with(&self.dir(1), &self.credentials, &more)
    }
}

fn until_ready(node: &Node) -> Result<()> {
    until("a node is ready", || {
        Ok(fetch(&node.metrics, "/readyz")?.status == 200)
    })
}

/// Asks again and again.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = rt::now() + DEADLINE;
    while !is_so()? {
        ensure!(rt::now() < end, "it does not come to that: {what}");
    }
    Ok(())
}

fn expect(node: &Node, key: &str, content: &str) -> Result<()> {
    let found = node.client.get(&format!("/data/{key}"))?.expect(200)?.body;
    ensure!(
        found == content.as_bytes(),
        "{key} is {}, and not {content}",
        String::from_utf8_lossy(&found)
    );
    Ok(())
}

fn status(node: &Node, key: &str) -> Result<u16> {
    Ok(node.client.get(&format!("/data/{key}"))?.status)
}

fn put(node: &Node, key: &str, content: &str) -> Result<()> {
    let path = format!("/data/{key}");
    node.client.put(&path, content.as_bytes())?.expect(200)?;
    Ok(())
}

#[test]
fn what_is_written_at_one_node_is_read_at_all() -> Result<()> {
    let (site, a) = Site::new()?;
    let (b, c) = (site.member(2)?, site.member(3)?);
    a.client.put("/data", b"")?.expect(200)?;
    let nodes = [&a, &b, &c];
    for n in 0..30 {
        let content = format!("content {n}");
        put(nodes[n % 3], "same", &content)?;
        for node in nodes {
            expect(node, "same", &content)?;
        }
    }
    let large = "0123456789".repeat(700_000);
    put(&b, "large", &large)?;
    for node in nodes {
        expect(node, "large", &large)?;
    }
    ensure!(
        c.metric("geds_site_received_bytes_total")? >= 7_000_000,
        "it came from another node"
    );
    ensure!(a.metric("geds_site_members")? == 2, "two members");
    b.client.delete("/data/large")?.expect(204)?;
    for node in nodes {
        ensure!(status(node, "large")? == 404, "it is deleted");
    }
    for node in [c, b, a] {
        node.end("TERM")?;
    }
    Ok(())
}

#[test]
fn a_member_that_is_killed_is_missed_and_comes_back() -> Result<()> {
    let (site, a) = Site::new()?;
    let (mut b, c) = (site.member(2)?, site.member(3)?);
    a.client.put("/data", b"")?.expect(200)?;
    b.client
        .put_ephemeral("/data/brief", b"brief")?
        .expect(200)?;
    put(&b, "lasting", "lasting")?;
    put(&c, "other", "other")?;
    b.process.kill()?;
    b.process.finish()?;
    for node in [&a, &c] {
        for key in ["brief", "lasting"] {
            until("it is lost", || Ok(status(node, key)? == 410))?;
        }
        expect(node, "other", "other")?;
    }
    // Nobody waits for it any more.
    put(&c, "other", "another")?;
    expect(&a, "other", "another")?;
    let b = site.member(2)?;
    for node in [&a, &b, &c] {
        expect(node, "lasting", "lasting")?;
        ensure!(status(node, "brief")? == 410, "it is lost");
        expect(node, "other", "another")?;
    }
    for node in [c, b] {
        node.end("TERM")?;
    }
    Ok(())
}

#[test]
fn a_member_that_was_stopped_for_long_answers_nothing_old() -> Result<()> {
    let (site, a) = Site::new()?;
    let b = site.member(2)?;
    a.client.put("/data", b"")?.expect(200)?;
    put(&b, "same", "old")?;
    let b_pid = u64::from(b.process.id());
    it::signal(b_pid, "STOP")?;
    // It waits for the lease to be over.
    let begun = rt::now();
    put(&a, "same", "new")?;
    ensure!(
        begun.elapsed().as_secs() >= 3,
        "it was answered too early: a member might have said what is not so any more"
    );
    it::signal(b_pid, "CONT")?;
    until("it answers again", || {
        let answer = b.client.get("/data/same")?;
        ensure!(
            answer.status == 503 || answer.body == b"new",
            "{}: {}",
            answer.status,
            answer.text()
        );
        Ok(answer.status == 200)
    })?;
    put(&b, "same", "newer")?;
    expect(&a, "same", "newer")?;
    Ok(())
}

#[test]
fn an_owner_that_is_killed_and_started_again_has_its_members_back() -> Result<()> {
    let (site, mut a) = Site::new()?;
    let (b, c) = (site.member(2)?, site.member(3)?);
    a.client.put("/data", b"")?.expect(200)?;
    put(&a, "of-a", "of-a")?;
    put(&b, "of-b", "of-b")?;
    c.client.put_ephemeral("/data/of-c", b"of-c")?.expect(200)?;
    a.process.kill()?;
    a.process.finish()?;
    for node in [&b, &c] {
        until("it has lost touch", || {
            let answer = node.client.get("/data/of-b")?;
            let is_right = answer.status == 503 || answer.body == b"of-b";
            ensure!(is_right, "{}: {}", answer.status, answer.text());
            Ok(answer.status == 503)
        })?;
        let put = node.client.put("/data/of-b", b"lost")?;
        ensure!(put.status == 503, "nobody can decide it: {}", put.status);
    }
    let a = site.owner_again()?;
    for node in [&b, &c] {
        until("it is back", || Ok(status(node, "of-a")? == 200))?;
    }
    for node in [&a, &b, &c] {
        for key in ["of-a", "of-b", "of-c"] {
            expect(node, key, key)?;
        }
    }
    put(&c, "of-b", "new")?;
    for node in [&a, &b, &c] {
        expect(node, "of-b", "new")?;
    }
    Ok(())
}
