//! Reader groups.

use std::collections::HashMap;

use streams_proto::controller as wire;
use wire::create_reader_group_response::Status as Created;
use wire::delete_reader_group_status::Status as Deleted;
use wire::reader_group_config_response::Status as Found;
use wire::update_reader_group_response::Status as Updated;

use super::{World, info, scope_info, told};

const ID: &str = "0f0e0d0c-0b0a-0908-8706-050403020100";

fn group(scope: &str, name: &str) -> wire::ReaderGroupConfiguration {
    wire::ReaderGroupConfiguration {
        scope: scope.to_owned(),
        reader_group_name: name.to_owned(),
        group_refresh_time_millis: 3_000,
        automatic_checkpoint_interval_millis: -1,
        max_outstanding_checkpoint_request: 3,
        retention_type: 1,
        generation: 0,
        reader_group_id: ID.to_owned(),
        starting_stream_cuts: vec![wire::StreamCut {
            stream_info: Some(info(scope, "video")),
            cut: HashMap::from([(0, 7), (1, -1)]),
        }],
        // Java's `StreamCut.UNBOUNDED`.
        ending_stream_cuts: vec![wire::StreamCut {
            stream_info: Some(info(scope, "video")),
            cut: HashMap::new(),
        }],
        rollover_size_bytes: 0,
    }
}

fn named(name: &str, id: &str) -> wire::ReaderGroupInfo {
    wire::ReaderGroupInfo {
        scope: "lab".to_owned(),
        reader_group: name.to_owned(),
        reader_group_id: id.to_owned(),
        generation: 0,
    }
}

#[tokio::test]
async fn groups_come_with_their_streams_and_go_with_them() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let create = [
        (group("lab", "team"), Created::Success),
        (group("lab", "team"), Created::Success),
        (group("nowhere", "team"), Created::ScopeNotFound),
        (group("lab", "te_am"), Created::InvalidRgName),
        (group("lab", "_team"), Created::InvalidRgName),
    ];
    for (group, expected) in create {
        let created = told(world.client.create_reader_group(group.clone()).await);
        assert_eq!(created.status(), expected, "{group:?}");
        let is_told = created.config == Some(group);
        assert_eq!(is_told, expected == Created::Success);
    }
    // Who comes later is told what there is.
    let mut other = group("lab", "team");
    other.group_refresh_time_millis = 1;
    let created = told(world.client.create_reader_group(other.clone()).await);
    assert_eq!(created.config, Some(group("lab", "team")));

    for (id, expected) in [
        ("", Updated::InvalidConfig),
        (ID, Updated::Success),
        (ID, Updated::InvalidConfig),
    ] {
        other.reader_group_id = id.to_owned();
        let updated = told(world.client.update_reader_group(other.clone()).await);
        let generation = i64::from(expected == Updated::Success);
        assert_eq!(
            (updated.status(), updated.generation),
            (expected, generation)
        );
    }
    world = world.restarted().await;
    let client = &mut world.client;
    other.generation = 1;
    let found = told(client.get_reader_group_config(named("team", "")).await);
    assert_eq!(
        (found.status(), found.config),
        (Found::Success, Some(other.clone()))
    );
    assert!(told(client.check_stream_exists(info("lab", "_RGteam")).await).exists);

    for (name, id, expected) in [
        ("team", "", Deleted::RgNotFound),
        ("none", ID, Deleted::RgNotFound),
        ("team", ID, Deleted::Success),
        ("team", ID, Deleted::RgNotFound),
    ] {
        let deleted = told(client.delete_reader_group(named(name, id)).await);
        assert_eq!(deleted.status(), expected, "{name} {id}");
    }
    assert!(!told(client.check_stream_exists(info("lab", "_RGteam")).await).exists);
    let found = told(client.get_reader_group_config(named("team", "")).await);
    assert_eq!(found.status(), Found::RgNotFound);
    let updated = told(client.update_reader_group(other).await);
    assert_eq!(updated.status(), Updated::RgNotFound);
    // It begins anew, and goes with its scope.
    let created = told(client.create_reader_group(group("lab", "team")).await);
    assert_eq!(created.config, Some(group("lab", "team")));
    let deleted = told(client.delete_scope_recursive(scope_info("lab")).await);
    assert_eq!(deleted.status, 0);
    let mut world = world.restarted().await;
    let found = told(
        world
            .client
            .get_reader_group_config(named("team", ""))
            .await,
    );
    assert_eq!(found.status(), Found::RgNotFound);
    assert_eq!(world.memory.n_segments(), 1, "the rows are left");
}

/// Older clients make the stream of a group, and know nothing of the rest.
#[tokio::test]
async fn a_group_of_an_older_client_is_completed() {
    let mut world = World::with_streams("lab", &["_RGteam"]).await;
    let client = &mut world.client;
    let found = told(client.get_reader_group_config(named("team", "")).await);
    assert_eq!(found.status(), Found::RgNotFound);
    let mut asked = group("lab", "team");
    asked.reader_group_id = String::new();
    let created = told(client.create_reader_group(asked).await);
    let id = created.config.expect("it is told").reader_group_id;
    assert_ne!(id, "");
    let deleted = told(client.delete_reader_group(named("team", &id)).await);
    assert_eq!(deleted.status(), Deleted::Success);
}
