//! Who may do what, how much of it, and what is not done.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use streams_control::Change;
use streams_core::SegmentName;
use streams_core::table::{Bounds, Page};
use streams_proto::controller as wire;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::memory::Memory;
use super::{World, config, cut, fails, info, open, scope_info, segment, told};
use crate::controller::rows::Rows;
use crate::controller::segments::Segments as _;
use crate::controller::{Anyone, Authority, Config, Permission};

/// Lets nobody do anything but read what is not secret, and remembers what they wanted.
#[derive(Debug, Default)]
struct Strict {
    asked: Mutex<Vec<(String, Permission)>>,
}

impl Strict {
    fn asked(&self) -> Vec<(String, Permission)> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *asked)
    }
}

impl Authority for Strict {
    fn check(
        &self,
        sender: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<(), Status> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((resource.to_owned(), permission));
        let is_harmless = permission == Permission::Read && !resource.contains("secret");
        if is_harmless || sender.contains_key("authorization") {
            Ok(())
        } else {
            Err(Status::permission_denied("no"))
        }
    }

    fn token(&self, _: &MetadataMap, resource: &str, _: Permission) -> Result<String, Status> {
        Ok(format!("for {resource}"))
    }
}

#[tokio::test]
async fn nobody_does_what_they_may_not() {
    let strict = Arc::new(Strict::default());
    let authority = Arc::clone(&strict) as _;
    let memory = Arc::new(Memory::new());
    let mut world = World::with(memory, Config::default(), authority).await;
    let client = &mut world.client;
    for scope in ["open", "secret"] {
        assert_eq!(
            fails(client.create_scope(scope_info(scope))).await,
            Code::PermissionDenied
        );
        let mut allowed = tonic::Request::new(scope_info(scope));
        let metadata = allowed.metadata_mut();
        metadata.insert(
            "authorization",
            "Basic Zm9vOmJhcg==".parse().expect("ASCII"),
        );
        assert_eq!(told(client.create_scope(allowed).await).status, 0);
    }
    strict.asked();
    let listed = told(client.list_scopes(wire::ScopesRequest::default()).await);
    assert_eq!(listed.scopes, ["open", "_system"], "others are not told of");
    assert_eq!(strict.asked()[0], ("prn::/".to_owned(), Permission::Read));

    let denied = [
        fails(client.create_stream(config("open", "s", 1))).await,
        fails(client.seal_stream(info("open", "s"))).await,
        fails(client.truncate_stream(cut("open", "s", &[]))).await,
        fails(client.get_current_segments(info("open", "s"))).await,
        fails(client.get_uri(segment("open", "secret", 0))).await,
        fails(client.get_delegation_token(info("open", "s"))).await,
    ];
    assert_eq!(denied, [Code::PermissionDenied; 6]);
    let asked = strict.asked();
    assert_eq!(
        asked[0],
        ("prn::/scope:open".to_owned(), Permission::ReadUpdate)
    );
    let stream = (
        "prn::/scope:open/stream:s".to_owned(),
        Permission::ReadUpdate,
    );
    assert_eq!(asked[1], stream);
    assert_eq!(asked[5], stream);

    let group = wire::StreamInfo {
        access_operation: wire::stream_info::AccessOperation::ReadWrite.into(),
        ..info("open", "_RGteam")
    };
    let token = told(client.get_delegation_token(group).await);
    assert_eq!(
        token.delegation_token,
        "for prn::/scope:open/stream:_RGteam"
    );
    let group = "prn::/scope:open/reader-group:team".to_owned();
    assert_eq!(strict.asked(), [(group, Permission::Read)]);
}

#[tokio::test]
async fn what_is_not_served_yet_is_unimplemented() {
    let mut world = World::new().await;
    let client = &mut world.client;
    let answers = [
        fails(client.list_subscribers(info("a", "b"))).await,
        fails(client.create_key_value_table(wire::KeyValueTableConfig::default())).await,
        fails(client.note_timestamp_from_writer(wire::TimestampFromWriter::default())).await,
    ];
    assert_eq!(answers, [Code::Unimplemented; 3]);
}

#[tokio::test]
async fn too_many_requests_are_turned_away() {
    let config = Config {
        requests_max: 0,
        ..Config::default()
    };
    let memory = Arc::new(Memory::new());
    let mut world = World::with(memory, config, Arc::new(Anyone)).await;
    let created = world.client.create_scope(scope_info("lab"));
    assert_eq!(fails(created).await, Code::ResourceExhausted);
    assert!(told(world.client.check_scope_exists(scope_info("_system")).await).exists);
}

#[tokio::test]
async fn who_has_lost_the_rows_says_so() {
    let memory = Arc::new(Memory::new());
    let mut old = World::over(Arc::clone(&memory)).await;
    let mut new = World::over(Arc::clone(&memory)).await;
    assert_eq!(
        told(new.client.create_scope(scope_info("lab")).await).status,
        0
    );
    let created = old.client.create_scope(scope_info("lab"));
    assert_eq!(fails(created).await, Code::Unavailable);
    let asked = old.client.check_scope_exists(scope_info("_system"));
    assert_eq!(fails(asked).await, Code::Unavailable);
    let asked = old.client.get_uri(segment("lab", "video", 0));
    assert_eq!(fails(asked).await, Code::Unavailable);
    let controller = open(&memory, &Config::default(), Arc::new(Anyone)).await;
    assert!(controller.is_healthy());
    assert!(told(new.client.check_scope_exists(scope_info("lab")).await).exists);
}

fn change(key: &str, expected: Option<i64>, value: Option<&str>) -> Change {
    Change {
        key: key.into(),
        expected,
        value: value.map(Into::into),
    }
}

async fn n_entries(memory: &Memory) -> usize {
    let table = SegmentName::new("_system/_control/0.#epoch.0").expect("a name");
    let mut bounds = Bounds::default();
    let mut n_entries = 0;
    loop {
        let page = Page {
            items_max: 10,
            bytes_max: 1_000,
        };
        let pages = memory.entries(&table, &bounds, page).await;
        let pages = pages.expect("the table is there");
        if pages.token.is_empty() {
            return n_entries;
        }
        n_entries += pages.entries.len();
        bounds.token = Bytes::clone(&pages.token);
    }
}

#[tokio::test]
async fn rows_go_and_come_back() {
    let memory = Arc::new(Memory::new());
    let rows = Rows::new(Arc::clone(&memory) as _);
    rows.load().await.expect("there is a table now");
    let changes: Vec<_> = (0..5)
        .map(|idx| change(&idx.to_string(), None, Some("x")))
        .collect();
    let versions = rows.write(changes).await.expect("they are new");
    let changes = vec![
        change("0", Some(versions[0]), None),
        change("1", Some(versions[1]), None),
        change("2", Some(versions[2]), Some("y")),
    ];
    rows.write(changes).await.expect("they are as expected");
    // One comes back before it is swept away, one afterwards, and one when it was loaded in between.
    rows.write(vec![change("0", None, Some("z"))])
        .await
        .expect("it went");
    assert_eq!(n_entries(&memory).await, 5);
    let rows = Rows::new(Arc::clone(&memory) as _);
    let loaded = rows.load().await.expect("there is a table");
    let keys: Vec<_> = loaded.iter().map(|(key, ..)| key.as_slice()).collect();
    assert_eq!(keys, [b"0", b"2", b"3", b"4"]);
    rows.write(vec![change("1", None, Some("z"))])
        .await
        .expect("it went");
    let (_, _, version) = loaded[1];
    rows.write(vec![change("2", Some(version), None)])
        .await
        .expect("as expected");
    rows.sweep().await.expect("nobody else writes");
    assert_eq!(n_entries(&memory).await, 4);
    rows.write(vec![change("2", None, Some("z"))])
        .await
        .expect("it went");
    rows.write(vec![change("2", None, None)])
        .await
        .expect_err("it is there");
    rows.write(vec![change("3", Some(7), None)])
        .await
        .expect_err("it has another version");
}
