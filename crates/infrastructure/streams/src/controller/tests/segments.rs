//! Segments, where they are, and what takes their place.

use std::collections::BTreeMap;

use streams_proto::controller as wire;
use tonic::Code;
use wire::scale_response::ScaleStreamStatus;
use wire::scale_status_response::ScaleStatus;
use wire::update_stream_status::Status as Updated;

use super::{World, cut, fails, id, ids, info, scale, segment, told};

#[tokio::test]
async fn every_segment_is_somewhere() {
    let mut world = World::new().await;
    let client = &mut world.client;
    // Also those that no stream has, and of a name that no stream can have.
    for stream in ["video", "group_kvtable", "_RGteam"] {
        let found = told(client.get_uri(segment("lab", stream, 0)).await);
        assert_eq!((found.endpoint.as_str(), found.port), ("store", 12345));
    }
    let list = told(
        client
            .get_controller_server_list(wire::ServerRequest {})
            .await,
    );
    let ports: Vec<_> = list.node_uri.iter().map(|node| node.port).collect();
    assert_eq!(ports, [9090]);
    let token = told(client.get_delegation_token(info("lab", "video")).await);
    assert_eq!(token.delegation_token, "");
    let nameless = client.get_uri(wire::SegmentId::default());
    assert_eq!(fails(nameless).await, Code::InvalidArgument);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let client = &mut world.client;
    let none = || info("lab", "radio");
    assert_eq!(
        fails(client.get_current_segments(none())).await,
        Code::NotFound
    );
    let head = wire::GetSegmentsRequest {
        stream_info: Some(none()),
        timestamp: 0,
    };
    assert_eq!(fails(client.get_segments(head)).await, Code::NotFound);
    let epoch = |info, epoch| wire::GetEpochSegmentsRequest {
        stream_info: Some(info),
        epoch,
    };
    let asked = client.get_epoch_segments(epoch(none(), 0));
    assert_eq!(fails(asked).await, Code::NotFound);
    let asked = client.get_epoch_segments(epoch(info("lab", "video"), 1));
    assert_eq!(fails(asked).await, Code::NotFound);
    for (stream, id) in [("radio", 0), ("video", id(0, 2)), ("video", -1)] {
        let asked = client.get_segments_immediately_following(segment("lab", stream, id));
        assert_eq!(fails(asked).await, Code::NotFound, "{stream} {id}");
    }
    let asked = client.is_segment_valid(segment("lab", "radio", 0));
    assert_eq!(fails(asked).await, Code::NotFound);
    let asked = client.is_stream_cut_valid(cut("lab", "radio", &[]));
    assert_eq!(fails(asked).await, Code::NotFound);
    let range = wire::StreamCutRange {
        stream_info: Some(none()),
        ..wire::StreamCutRange::default()
    };
    assert_eq!(
        fails(client.get_segments_between(range)).await,
        Code::NotFound
    );
}

#[tokio::test]
async fn a_scale_replaces_segments() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let expected = [(id(0, 0), 0.0), (id(0, 1), 0.5)];
    assert_eq!(world.current("lab", "video").await, expected);
    let check = |epoch| wire::ScaleStatusRequest {
        stream_info: Some(info("lab", "video")),
        epoch,
    };
    let request = scale("lab", "video", vec![id(0, 0)], &[0.0, 0.2]);
    let wrong = told(world.client.scale(request).await);
    assert_eq!(wrong.status(), ScaleStreamStatus::PreconditionFailed);
    let request = scale("lab", "radio", vec![id(0, 0)], &[0.0, 0.2]);
    let unknown = told(world.client.scale(request).await);
    assert_eq!(unknown.status(), ScaleStreamStatus::Failure);

    let begun = world.scale("lab", "video", &[0.0, 0.2, 0.7]).await;
    assert_eq!(begun.epoch, 0);
    let new = [(id(1, 2), 0.0), (id(1, 3), 0.2), (id(1, 4), 0.7)];
    assert_eq!(ids(&begun.segments), new);
    world.settle("lab", "video").await;
    assert_eq!(world.current("lab", "video").await, new);
    for (epoch, expected) in [
        (0, ScaleStatus::Success),
        (1, ScaleStatus::InProgress),
        (2, ScaleStatus::InvalidInput),
        (-1, ScaleStatus::InvalidInput),
    ] {
        let found = told(world.client.check_scale(check(epoch)).await);
        assert_eq!(found.status(), expected, "{epoch}");
    }
    let is_sealed = |name| world.memory.find(name).expect("it is there").is_sealed;
    assert!(is_sealed("lab/video/0.#epoch.0") && is_sealed("lab/video/1.#epoch.0"));
    assert!(!is_sealed("lab/video/2.#epoch.1") && !is_sealed("lab/video/4.#epoch.1"));

    let mut world = world.restarted().await;
    assert_eq!(world.current("lab", "video").await, new);
    let epoch = wire::GetEpochSegmentsRequest {
        stream_info: Some(info("lab", "video")),
        epoch: 0,
    };
    let before = told(world.client.get_epoch_segments(epoch).await);
    assert_eq!(ids(&before.segment_ranges), expected);
    check_successors(&mut world).await;
}

async fn check_successors(world: &mut World) {
    let client = &mut world.client;
    for _ in 0..2 {
        let asked = segment("lab", "video", id(0, 0));
        let by_both_names = [
            client
                .get_segments_immediately_following(asked.clone())
                .await,
            client.get_segments_immediatly_following(asked).await,
        ];
        for found in by_both_names {
            let found = told(found).segments.into_iter().map(|entry| {
                let range = entry.segment.expect("a segment");
                (ids(&[range])[0].0, entry.value)
            });
            let found: BTreeMap<_, _> = found.collect();
            let expected = [
                (id(1, 2), vec![id(0, 0)]),
                (id(1, 3), vec![id(0, 0), id(0, 1)]),
            ];
            assert_eq!(found, expected.into());
        }
    }
    for (id, is_written) in [(id(0, 0), false), (id(1, 3), true), (-7, false)] {
        let valid = told(client.is_segment_valid(segment("lab", "video", id)).await);
        assert_eq!(valid.response, is_written, "{id}");
    }
    let range = wire::StreamCutRange {
        stream_info: Some(info("lab", "video")),
        from: [(id(0, 0), 0), (id(0, 1), 0)].into(),
        to: [(id(1, 2), 0), (id(0, 1), 0)].into(),
    };
    // Half of what follows the first segment is missing.
    let torn = client.get_segments_between(range.clone());
    assert_eq!(fails(torn).await, Code::InvalidArgument);
    let whole = wire::StreamCutRange {
        to: [(id(1, 2), 0), (id(1, 3), 0), (id(1, 4), 0)].into(),
        ..range
    };
    let between = told(client.get_segments_between(whole).await);
    assert_eq!(between.segments.len(), 5);
}

#[tokio::test]
async fn the_head_is_where_a_stream_was_cut() {
    let mut world = World::with_streams("lab", &["video"]).await;
    world.memory.append("lab/video/0.#epoch.0", "0123456789");
    let truncate = |offsets: &[(i64, i64)]| cut("lab", "video", offsets);
    let head = wire::GetSegmentsRequest {
        stream_info: Some(info("lab", "video")),
        timestamp: 0,
    };
    for (offsets, expected) in [
        ([(id(0, 0), 4), (id(0, 1), 0)], Updated::Success),
        ([(id(0, 0), 3), (id(0, 1), 0)], Updated::Failure),
        ([(id(0, 0), 11), (id(0, 1), 0)], Updated::Failure),
        ([(id(0, 0), 4), (id(0, 7), 0)], Updated::Failure),
        ([(id(0, 0), 4), (-1, 0)], Updated::Failure),
    ] {
        let valid = told(world.client.truncate_stream(truncate(&offsets)).await);
        assert_eq!(valid.status(), expected, "{offsets:?}");
    }
    let valid = truncate(&[(id(0, 0), 4), (id(0, 1), 0)]);
    assert!(told(world.client.is_stream_cut_valid(valid).await).response);
    let invalid = truncate(&[(id(0, 0), 4)]);
    assert!(!told(world.client.is_stream_cut_valid(invalid).await).response);
    let first = world.memory.find("lab/video/0.#epoch.0");
    assert_eq!(first.expect("it is there").start_offset, 4);

    world.scale("lab", "video", &[0.0, 0.3]).await;
    world.settle("lab", "video").await;
    let mut world = world.restarted().await;
    let found = told(world.client.get_segments(head.clone()).await).segments;
    let found = found.into_iter().map(|it| {
        let id = it.segment_id.expect("a segment").segment_id;
        (id, it.offset)
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found, [(id(0, 0), 4), (id(0, 1), 0)]);

    let cut = truncate(&[(id(1, 2), 0), (id(1, 3), 0)]);
    let truncated = told(world.client.truncate_stream(cut).await);
    assert_eq!(truncated.status(), Updated::Success);
    let found = told(world.client.get_segments(head).await).segments;
    assert_eq!(found.len(), 2);
    assert!(world.memory.find("lab/video/0.#epoch.0").is_none());
}
