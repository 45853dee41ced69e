//! The commands, against a node in this process.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use geds::client::{Client, Credentials};
use geds::front::node::{Counters, Limits, Service, Setup, serve};
use geds::index::{Class, Item, NodeId};
use geds::store::{self, Disks, Store};
use geds::tier1::Drive;
use s3::users::{Secret, User, Users};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::*;
use crate::config;

#[test]
fn names_are_read_as_users_write_them() {
    for (text, bucket, key) in [
        ("data/a", "data", "a"),
        ("geds://data/a//b/", "data", "a//b/"),
        ("data//a", "data", "/a"),
    ] {
        let name = name(text).expect("a name");
        assert_eq!((name.bucket.as_str(), name.key.as_str()), (bucket, key));
    }
    for text in ["data", "data/", "/a", "Data/a", ""] {
        name(text).expect_err(text);
    }
    for (text, bucket, prefix) in [("data", "data", ""), ("data/a/", "data", "a/")] {
        let folder = folder(text).expect("a folder");
        let found = (folder.bucket.as_str(), folder.prefix.as_str());
        assert_eq!(found, (bucket, prefix));
    }
    bucket("data/").expect("a bucket");
    bucket("data/a").expect_err("it is an object");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    geds: Geds,
}

/// A node with one user, and a directory for files.
struct World {
    dir: TempDir,
    config: Config,
    service: Service,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let runtime = Runtime::new().expect("a runtime");
        let users = Users::new([User {
            access_key: "AK".to_owned(),
            secret: Secret::new("hunter2".to_owned()),
            tenant: geds::front::s3::tenant("acme").expect("a tenant"),
        }]);
        let [log, objects] = ["log", "objects"].map(|name| dir.path().join(name));
        for dir in [&log, &objects] {
            fs::create_dir(dir).expect("a directory");
        }
        let disks = Disks {
            log: Arc::new(wal::Directory::open(&log).expect("it opens")),
            objects: Arc::new(Drive::open(&objects).expect("it opens")),
        };
        let config = store::Config::default();
        let setup = Setup {
            limits: Limits::default(),
            users,
            peers: Users::default(),
            store: Store::open(&config, NodeId(1), disks).expect("it opens"),
            shared: geds::front::node::Shared::default(),
            local: None,
            tls: None,
            counters: Counters::new(&telemetry::Metrics::new()),
        };
        let serving = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            serve(listener.expect("a port"), setup).expect("it serves")
        };
        let service = runtime.block_on(serving);
        let config = Config {
            path: OsString::new(),
            cache_dir: PathBuf::new(),
            data_dir: PathBuf::new(),
            state_dir: PathBuf::new(),
            geds: config::Geds {
                node: Some(service.addr.to_string()),
                access_key: Some("AK".to_owned()),
                secret_key: Some("hunter2".to_owned()),
            },
        };
        Self {
            dir,
            config,
            service,
            runtime,
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        path.to_str().expect("it is text").to_owned()
    }

    fn run(&self, line: &[&str]) -> anyhow::Result<()> {
        let line = std::iter::once("geds").chain(line.iter().copied());
        let line = Line::try_parse_from(line)?;
        line.geds.run(&self.config).map(drop)
    }

    fn copies(&self, text: &str) -> Vec<String> {
        let asking = async {
            let credentials = Credentials::new("AK".to_owned(), "hunter2".to_owned());
            let client = Client::connect(self.service.addr, &credentials, None).await?;
            client.status(&name(text).expect("a name")).await
        };
        let status = self.runtime.block_on(asking).expect("it is there");
        show::placement(&status.placement, &name(text).expect("a name"))
    }

    fn keys(&self) -> Vec<String> {
        let listing = async {
            let credentials = Credentials::new("AK".to_owned(), "hunter2".to_owned());
            let client = Client::connect(self.service.addr, &credentials, None).await?;
            let folder = folder("data").expect("a folder");
            client.list(&folder, "", 1000, None).await
        };
        let (page, _) = self.runtime.block_on(listing).expect("a page");
        let item = |item| match item {
            Item::Object(key, entry) => {
                let class = match entry.sealed.class {
                    Class::Durable => "",
                    Class::Ephemeral => " ephemeral",
                };
                format!("{key}{class}")
            }
            Item::Folder(prefix) => prefix.to_string(),
        };
        page.items.into_iter().map(item).collect()
    }
}

#[test]
fn files_go_there_and_back() {
    let world = World::new();
    let (file, again) = (world.path("file"), world.path("again"));
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&file, &content).expect("it is written");
    world.run(&["mb", "data"]).expect("a bucket");
    world.run(&["put", &file, "data/a/"]).expect("it is put");
    world
        .run(&["put", &file, "data/b", "--class", "ephemeral", "--json"])
        .expect("it is put");
    let twice = world.run(&["put", &file, "data/b", "--if-absent"]);
    let twice = twice.expect_err("it is there");
    assert!(format!("{twice:#}").contains("precondition"), "{twice:#}");
    assert_eq!(world.keys(), ["a/file", "b ephemeral"]);

    world
        .run(&["get", "data/a/file", &again])
        .expect("it is there");
    assert!(fs::read(&again).expect("it is there") == content);
    world
        .run(&["get", "data/b", &again, "--range", "5-9"])
        .expect("it is there");
    assert_eq!(fs::read(&again).expect("it is there"), content[5..10]);
    world
        .run(&["get", "data/b", &again, "--range", "-3"])
        .expect("it is there");
    assert_eq!(
        fs::read(&again).expect("it is there"),
        content[content.len() - 3..]
    );
    world
        .run(&["get", "data/none", &again])
        .expect_err("it is not there");
    assert_eq!(fs::read(&again).expect("it is kept").len(), 3);
}

#[test]
fn names_are_given_and_taken() {
    let world = World::new();
    let file = world.path("file");
    fs::write(&file, b"x").expect("it is written");
    for line in [
        &["mb", "data"][..],
        &[
            "put",
            &file,
            "data/a/1",
            "--metadata",
            "mine",
            "--ttl",
            "60",
        ],
        &["cp", "data/a/1", "data/a/2"],
        &["mv", "data/a/2", "data/a/3", "--if-absent"],
        &["mv", "-r", "data/a/", "data/b/"],
        &["ls"],
        &["ls", "data", "--json"],
        &["ls", "-r", "data/b/"],
        &["stat", "data/b/1"],
        &["stat", "data/b/1", "--json"],
        &["watch", "data", "--since", "2", "--no-wait", "--json"],
        &["top", "--once"],
        &["top", "--once", "--json"],
        &["rm", "-f", "data/none"],
    ] {
        world
            .run(line)
            .unwrap_or_else(|error| panic!("{line:?}: {error:#}"));
    }
    assert_eq!(world.keys(), ["b/1", "b/3"]);
    for (line, why) in [
        (&["rm", "data/none"][..], "no object"),
        (&["rm", "-r", "data"], "say -f"),
        (&["rb", "data"], "not empty"),
        (
            &["mv", "data/b/1", "data/b/3", "--if-absent"],
            "precondition",
        ),
        (&["watch", "data", "--since", "999999"], "list again"),
        (&["stat", "data"], "BUCKET/KEY"),
    ] {
        let error = world.run(line).expect_err(why);
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
    world.run(&["rm", "data/b/1"]).expect("deleted");
    world.run(&["rm", "-rf", "data"]).expect("deleted");
    assert_eq!(world.keys(), [""; 0]);
    world.run(&["rb", "data"]).expect("removed");
}

#[test]
fn objects_are_brought_to_where_they_last() {
    let world = World::new();
    let file = world.path("file");
    fs::write(&file, b"x").expect("it is written");
    world.run(&["mb", "data"]).expect("a bucket");
    for name in ["data/a", "data/b"] {
        let put = world.run(&["put", &file, name, "--class", "ephemeral"]);
        put.expect("it is put");
        assert_eq!(world.copies(name), ["memory of node 1"]);
    }
    let relocated = world.run(&["relocate", "data/a", "geds://data/b"]);
    relocated.expect("there is room");
    for name in ["data/a", "data/b"] {
        assert_eq!(world.copies(name), ["disk of node 1"]);
        world.run(&["scrub", name]).expect("it is whole");
    }
    for (line, why) in [
        (
            &["relocate", "data/a", "data/none"][..],
            "relocate data/none: ",
        ),
        (&["relocate", "data"], "BUCKET/KEY"),
        (&["relocate"], "NAMES"),
        (&["persist", "data/a"], "persist data/a: "),
        (
            &["persist", "data/a"],
            "name it under tier2.buckets in the node's settings (docs/geds.md)",
        ),
        (&["persist"], "NAMES"),
        (&["scrub", "data/none"], "scrub data/none: "),
        (&["scrub"], "NAMES"),
    ] {
        let error = world.run(line).expect_err(why);
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}

#[test]
fn who_asks_is_said_or_found_and_never_shown() {
    let mut world = World::new();
    let addr = world.service.addr.to_string();
    let [good, bad] = [("good", "AK hunter2"), ("bad", "AK hunter3")].map(|(name, text)| {
        let path = world.path(name);
        fs::write(&path, text).expect("it is written");
        path
    });
    world.config.geds = config::Geds {
        node: None,
        access_key: None,
        secret_key: None,
    };
    let error = world.run(&["ls"]).expect_err("where?");
    assert!(format!("{error:#}").contains("CLOUDSKIN_GEDS"), "{error:#}");
    let error = world.run(&["ls", "--node", &addr]).expect_err("who?");
    assert!(
        format!("{error:#}").contains("GEDS_ACCESS_KEY"),
        "{error:#}"
    );
    world
        .run(&["ls", "--node", &addr, "--credentials", &good])
        .expect("it is let in");
    let error = world.run(&["ls", "--node", &addr, "--credentials", &bad]);
    let error = format!("{:#}", error.expect_err("it is not let in"));
    assert!(
        error.contains("secret") && !error.contains("hunter"),
        "{error}"
    );
    world.config.geds.secret_key = Some("hunter2".to_owned());
    assert!(!format!("{:?}", world.config).contains("hunter"));
}
