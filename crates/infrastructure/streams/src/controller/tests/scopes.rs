//! Scopes and streams.

use streams_proto::controller as wire;
use tonic::Code;
use wire::create_scope_status::Status as ScopeCreated;
use wire::create_stream_status::Status as Created;
use wire::delete_scope_status::Status as ScopeDeleted;
use wire::delete_stream_status::Status as Deleted;
use wire::streams_in_scope_response::Status as Listed;
use wire::update_stream_status::Status as Updated;

use super::{World, config, fails, info, scope_info, told};

#[tokio::test]
async fn scopes_come_and_go() {
    let mut world = World::new().await;
    let client = &mut world.client;
    let create = [
        ("a", ScopeCreated::Success),
        ("b", ScopeCreated::Success),
        ("c.1-2", ScopeCreated::Success),
        ("a", ScopeCreated::ScopeExists),
        ("_system", ScopeCreated::ScopeExists),
        ("a/b", ScopeCreated::InvalidScopeName),
        ("", ScopeCreated::InvalidScopeName),
    ];
    for (scope, expected) in create {
        let created = told(client.create_scope(scope_info(scope)).await);
        assert_eq!(created.status(), expected, "{scope}");
    }
    assert_eq!(
        list_scopes(&mut world).await,
        ["a", "b", "c.1-2", "_system"]
    );
    let client = &mut world.client;
    assert!(told(client.check_scope_exists(scope_info("b")).await).exists);
    let created = told(client.create_stream(config("a", "s", 1)).await);
    assert_eq!(created.status(), Created::Success);
    let delete = [
        ("a", ScopeDeleted::ScopeNotEmpty),
        ("b", ScopeDeleted::Success),
        ("b", ScopeDeleted::ScopeNotFound),
        ("_system", ScopeDeleted::Failure),
    ];
    for (scope, expected) in delete {
        let deleted = told(client.delete_scope(scope_info(scope)).await);
        assert_eq!(deleted.status(), expected, "{scope}");
    }
    let deleted = told(client.delete_scope_recursive(scope_info("a")).await);
    assert_eq!(deleted.status(), ScopeDeleted::Success);
    assert!(!told(client.check_scope_exists(scope_info("b")).await).exists);
    assert_eq!(list_scopes(&mut world).await, ["c.1-2", "_system"]);
    assert_eq!(world.memory.n_segments(), 1, "the rows are left");
}

async fn list_scopes(world: &mut World) -> Vec<String> {
    let mut scopes = Vec::new();
    let mut continuation_token = None;
    loop {
        let request = wire::ScopesRequest { continuation_token };
        let page = told(world.client.list_scopes(request).await);
        if page.scopes.is_empty() {
            return scopes;
        }
        scopes.extend(page.scopes);
        continuation_token = Some(page.continuation_token.expect("it goes on there"));
    }
}

#[tokio::test]
async fn streams_come_and_go() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let client = &mut world.client;
    let create = [
        (config("lab", "video", 1), Created::StreamExists),
        (config("lab", "_RGteam", 1), Created::Success),
        (config("nowhere", "video", 1), Created::ScopeNotFound),
        (config("lab", "vi_deo", 1), Created::InvalidStreamName),
        (config("lab", "a/b", 1), Created::InvalidStreamName),
    ];
    for (config, expected) in create {
        let created = told(client.create_stream(config.clone()).await);
        assert_eq!(created.status(), expected, "{config:?}");
    }
    let nothing = client.create_stream(config("lab", "none", 0));
    assert_eq!(fails(nothing).await, Code::InvalidArgument);
    // What is there is the controller's own, and the store's.
    for stream in ["_control", "mine"] {
        let of_system = client.create_stream(config("_system", stream, 1));
        assert_eq!(fails(of_system).await, Code::InvalidArgument);
    }
    let expected = ["_MARKvideo", "_RGteam", "video"];
    assert_eq!(list_streams(&mut world, "lab", None).await, expected);

    let client = &mut world.client;
    let deleted = told(client.delete_stream(info("lab", "video")).await);
    assert_eq!(deleted.status(), Deleted::StreamNotSealed);
    for _ in 0..2 {
        let sealed = told(client.seal_stream(info("lab", "video")).await);
        assert_eq!(sealed.status(), Updated::Success);
    }
    let updated = told(client.update_stream(config("lab", "video", 1)).await);
    assert_eq!(updated.status(), Updated::StreamSealed);
    let current = told(client.get_current_segments(info("lab", "video")).await);
    assert_eq!(current.segment_ranges, []);
    for expected in [Deleted::Success, Deleted::StreamNotFound] {
        let deleted = told(client.delete_stream(info("lab", "video")).await);
        assert_eq!(deleted.status(), expected);
    }
    let sealed = told(client.seal_stream(info("lab", "video")).await);
    assert_eq!(sealed.status(), Updated::StreamNotFound);
    assert!(!told(client.check_stream_exists(info("lab", "video")).await).exists);
    assert!(told(client.check_stream_exists(info("lab", "_RGteam")).await).exists);
    assert_eq!(list_streams(&mut world, "lab", None).await, ["_RGteam"]);
    let segment = world.memory.find("lab/_RGteam/0.#epoch.0");
    assert!(segment.is_some());
    assert_eq!(world.memory.n_segments(), 2, "that one, and the rows");
}

async fn list_streams(world: &mut World, scope: &str, tag: Option<&str>) -> Vec<String> {
    let mut streams = Vec::new();
    let mut continuation_token = None;
    loop {
        let scope = Some(scope_info(scope));
        let page = match tag {
            None => {
                let request = wire::StreamsInScopeRequest {
                    scope,
                    continuation_token,
                };
                world.client.list_streams_in_scope(request).await
            }
            Some(tag) => {
                let request = wire::StreamsInScopeWithTagRequest {
                    scope,
                    tag: tag.to_owned(),
                    continuation_token,
                };
                world.client.list_streams_in_scope_for_tag(request).await
            }
        };
        let page = told(page);
        assert_eq!(page.status(), Listed::Success);
        if page.streams.is_empty() {
            return streams;
        }
        streams.extend(page.streams.into_iter().map(|info| info.stream));
        continuation_token = Some(page.continuation_token.expect("it goes on there"));
    }
}

#[tokio::test]
async fn a_configuration_is_told_as_it_was_given() {
    let mut world = World::with_streams("lab", &["plain"]).await;
    let client = &mut world.client;
    let plain = told(client.get_stream_configuration(info("lab", "plain")).await);
    let no_tags = wire::Tags::default();
    assert_eq!(plain.tags, Some(no_tags), "they are there, and empty");
    assert_eq!(plain.retention_policy, None);
    let mut rich = wire::StreamConfig {
        scaling_policy: Some(wire::ScalingPolicy {
            scale_type: wire::scaling_policy::ScalingPolicyType::ByRateInEventsPerSec.into(),
            target_rate: 100,
            scale_factor: 2,
            min_num_segments: 3,
        }),
        retention_policy: Some(wire::RetentionPolicy {
            retention_type: wire::retention_policy::RetentionPolicyType::Size.into(),
            retention_param: 7,
            retention_max: i64::MAX,
        }),
        tags: Some(wire::Tags {
            tag: vec!["blue".to_owned(), "red".to_owned()],
        }),
        timestamp_aggregation_timeout: 5,
        rollover_size_bytes: 1 << 20,
        ..config("lab", "rich", 3)
    };
    assert_eq!(told(client.create_stream(rich.clone()).await).status, 0);
    let found = told(client.get_stream_configuration(info("lab", "rich")).await);
    assert_eq!(found, rich);
    assert_eq!(list_streams(&mut world, "lab", Some("red")).await, ["rich"]);

    let client = &mut world.client;
    rich.tags = Some(wire::Tags {
        tag: vec!["blue".to_owned()],
    });
    rich.retention_policy = None;
    assert_eq!(told(client.update_stream(rich.clone()).await).status, 0);
    let found = told(client.get_stream_configuration(info("lab", "rich")).await);
    assert_eq!(found, rich);
    let nothing: [&str; 0] = [];
    assert_eq!(list_streams(&mut world, "lab", Some("red")).await, nothing);

    let mut world = world.restarted().await;
    let client = &mut world.client;
    let found = told(client.get_stream_configuration(info("lab", "rich")).await);
    assert_eq!(found, rich);
    rich.rollover_size_bytes = -1;
    assert_eq!(
        fails(client.update_stream(rich)).await,
        Code::InvalidArgument
    );
    let unknown = client.get_stream_configuration(info("lab", "poor"));
    assert_eq!(fails(unknown).await, Code::NotFound);
}

#[tokio::test]
async fn a_list_of_nothing_says_so() {
    let mut world = World::new().await;
    let request = wire::StreamsInScopeRequest {
        scope: Some(scope_info("nowhere")),
        continuation_token: None,
    };
    let listed = told(world.client.list_streams_in_scope(request).await);
    assert_eq!(listed.status(), Listed::ScopeNotFound);
    let nothing = wire::StreamsInScopeRequest::default();
    let listed = world.client.list_streams_in_scope(nothing);
    assert_eq!(fails(listed).await, Code::InvalidArgument);
}
