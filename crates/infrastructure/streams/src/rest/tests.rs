//! Through a real connection, over a controller whose store is in memory.

use std::sync::Arc;

use serde_json::{Value, json};
use streams_proto::controller as wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use wire::controller_service_server::ControllerService as _;

use super::{Door, routes};
use crate::controller::tests::{Memory, open, scale};
use crate::controller::{Anyone, Authority, Config, Controller, Permission, Service};

struct World {
    /// It works as long as it is there.
    _controller: Controller,
    service: Service,
    door: Door,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Arc::new(Anyone)).await
    }

    async fn with(authority: Arc<dyn Authority>) -> Self {
        let memory = Arc::new(Memory::new());
        let controller = open(&memory, &Config::default(), authority).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let service = controller.service();
        let door = Door::open(listener, None, 10, routes(service.clone()));
        Self {
            _controller: controller,
            service,
            door: door.expect("it has an address"),
        }
    }

    async fn send(&self, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.door.addr)
            .await
            .expect("it listens");
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers = headers.replace('\n', "\r\n");
        let request =
            format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answered");
        let answer = String::from_utf8(answer).expect("text");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Answer {
            status: status.expect("a status"),
            head: head.to_ascii_lowercase(),
            text: text.to_owned(),
        }
    }

    /// Without a body.
    async fn ask(&self, line: &str) -> Answer {
        self.send(line, "").await
    }

    async fn bring(&self, line: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let n_bytes = body.len();
        let head = format!("{line}\nContent-Type: application/json\nContent-Length: {n_bytes}\n");
        self.send(&head, &body).await
    }

    async fn status(&self, line: &str, body: &Value) -> u16 {
        self.bring(line, body).await.status
    }

    async fn with_stream(&self) {
        let scope = json!({"scopeName": "lab"});
        assert_eq!(self.status("POST /v1/scopes", &scope).await, 201);
        let created = self.bring("POST /v1/scopes/lab/streams", &video()).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
}

fn video() -> Value {
    json!({
        "streamName": "video",
        "scalingPolicy": {"type": "FIXED_NUM_SEGMENTS", "minSegments": 2},
        "retentionPolicy": {"type": "LIMITED_DAYS", "value": 0,
            "timeBasedRetention": {"days": 1, "hours": 2, "minutes": 3}},
        "streamTags": ["camera"], "timestampAggregationTimeout": 7, "rolloverSizeBytes": 1048576,
    })
}

fn video_property() -> Value {
    json!({
        "scopeName": "lab", "streamName": "video",
        "scalingPolicy": {"type": "FIXED_NUM_SEGMENTS", "targetRate": null, "scaleFactor": null,
            "minSegments": 2},
        "retentionPolicy": {"type": "LIMITED_DAYS", "value": 0,
            "timeBasedRetention": {"days": 1, "hours": 2, "minutes": 3}},
        "tags": ["camera"], "timestampAggregationTimeout": 7, "rolloverSizeBytes": 1048576,
    })
}

#[tokio::test]
async fn scopes_are_made_listed_and_deleted() {
    let world = World::new().await;
    for scope in ["a", "b", "c", "d"] {
        let created = world
            .bring("POST /v1/scopes", &json!({"scopeName": scope}))
            .await;
        assert_eq!(created.status, 201);
        assert_eq!(created.json(), json!({"scopeName": scope}));
    }
    let again = json!({"scopeName": "a"});
    assert_eq!(world.status("POST /v1/scopes", &again).await, 409);
    // There are three in a page.
    let listed = world.ask("GET /v1/scopes").await.json();
    let listed = listed["scopes"].as_array().expect("a list").iter();
    let listed: Vec<_> = listed.map(|it| it["scopeName"].clone()).collect();
    assert_eq!(listed, ["a", "b", "c", "d", "_system"]);
    let found = world.ask("GET /v1/scopes/a").await;
    assert_eq!((found.status, found.json()), (200, again));
    assert_eq!(world.ask("GET /v1/scopes/z").await.status, 404);
    assert_eq!(world.ask("DELETE /v1/scopes/a").await.status, 204);
    assert_eq!(world.ask("DELETE /v1/scopes/a").await.status, 404);
}

#[tokio::test]
async fn a_stream_lives_and_ends() {
    let world = World::new().await;
    world.with_stream().await;
    let address = "/v1/scopes/lab/streams/video";
    let found = world.ask(&format!("GET {address}")).await;
    assert_eq!((found.status, found.json()), (200, video_property()));
    let again = world.status("POST /v1/scopes/lab/streams", &video()).await;
    assert_eq!(again, 409);
    assert_eq!(
        world.status("POST /v1/scopes/z/streams", &video()).await,
        404
    );
    assert_eq!(world.ask("DELETE /v1/scopes/lab").await.status, 412);

    let update = json!({
        "scalingPolicy": {"type": "BY_RATE_IN_EVENTS_PER_SEC", "targetRate": 100,
            "scaleFactor": 2, "minSegments": 1},
        "retentionPolicy": {"type": "LIMITED_SIZE_MB", "value": 5, "maxValue": 9},
    });
    let updated = world.bring(&format!("PUT {address}"), &update).await;
    assert_eq!(updated.status, 200, "{updated:?}");
    let found = world.ask(&format!("GET {address}")).await.json();
    assert_eq!(found["scalingPolicy"], update["scalingPolicy"]);
    assert_eq!(found["retentionPolicy"]["maxValue"], 9);
    assert_eq!(found, updated.json());
    let missing = world.status("PUT /v1/scopes/lab/streams/z", &update).await;
    assert_eq!(missing, 404);

    assert_eq!(world.ask(&format!("DELETE {address}")).await.status, 412);
    let sealed = json!({"streamState": "SEALED"});
    let line = format!("PUT {address}/state");
    let told = world.bring(&line, &sealed).await;
    assert_eq!((told.status, told.json()), (200, sealed.clone()));
    let other = json!({"streamState": "ACTIVE"});
    assert_eq!(world.status(&line, &other).await, 400);
    let missing = world.status("PUT /v1/scopes/lab/streams/z/state", &sealed);
    assert_eq!(missing.await, 404);
    assert_eq!(world.ask(&format!("DELETE {address}")).await.status, 204);
    assert_eq!(world.ask(&format!("GET {address}")).await.status, 404);
    assert_eq!(world.ask(&format!("DELETE {address}")).await.status, 404);
}

#[tokio::test]
async fn streams_are_listed_by_kind_and_tag() {
    let world = World::new().await;
    world.with_stream().await;
    for stream in ["a", "b", "c", "d"] {
        let plain = json!({"streamName": stream,
            "scalingPolicy": {"type": "FIXED_NUM_SEGMENTS", "minSegments": 1}});
        let created = world.status("POST /v1/scopes/lab/streams", &plain).await;
        assert_eq!(created, 201);
    }
    let names = async |query: &str| {
        let listed = world
            .ask(&format!("GET /v1/scopes/lab/streams{query}"))
            .await;
        let listed = listed.json();
        let streams = listed["streams"].as_array().expect("a list").iter();
        let names = streams.map(|it| it["streamName"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["a", "b", "c", "d", "video"]);
    let internal = names("?filter_type=showInternalStreams").await;
    assert_eq!(internal.len(), 5);
    assert!(internal.iter().all(|name| name.starts_with("_MARK")));
    let tagged = names("?filter_type=tag&filter_value=%63%61%6d%65%72%61").await;
    assert_eq!(tagged, ["video"]);
    assert!(names("?filter_type=tag&filter_value=none").await.is_empty());
    for (query, status) in [
        ("lab/streams?filter_type=tag", 400),
        ("lab/streams?filter_type=other", 400),
        ("lab/streams?filter_type=%", 400),
        ("z/streams", 404),
        ("z/streams?filter_type=tag&filter_value=a", 404),
    ] {
        let line = format!("GET /v1/scopes/{query}");
        assert_eq!(world.ask(&line).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn scales_are_told_with_their_time() {
    let world = World::new().await;
    world.with_stream().await;
    let mut change = scale("lab", "video", vec![0], &[0.0, 0.25]);
    change.new_key_ranges[1].end = 0.5;
    let scaled = world.service.scale(Request::new(change)).await;
    scaled.expect("it is answered");
    let address = "/v1/scopes/lab/streams/video";
    // One thing at a time is done to a stream: so the scale is done.
    let policy = json!({"scalingPolicy": {"type": "FIXED_NUM_SEGMENTS", "minSegments": 2}});
    let settled = world.bring(&format!("PUT {address}"), &policy).await;
    assert_eq!(settled.status, 200);
    let all = format!("GET {address}/scaling-events?from=0&to=9000000000000");
    let all = world.ask(&all).await.json();
    let events = all.as_array().expect("a list");
    assert_eq!(events.len(), 2, "{all}");
    let counts = |event: &Value| {
        let n_segments = event["segments"].as_array().map_or(0, Vec::len);
        (n_segments, event["splits"].clone(), event["merges"].clone())
    };
    assert_eq!(counts(&events[0]), (2, json!(0), json!(0)));
    assert_eq!(counts(&events[1]), (3, json!(1), json!(0)));
    let began = events[1]["timestamp"].as_u64().expect("a time");
    assert!(began > 1_600_000_000_000, "{all}");
    let last = &events[1]["segments"][2];
    let expected =
        json!({"number": 3, "epoch": 1, "start": began, "keyStart": 0.25, "keyEnd": 0.5});
    assert_eq!(*last, expected);
    // The last one before is what the next would be compared with.
    let later = began + 1;
    let none = format!("GET {address}/scaling-events?from={later}&to={later}");
    let mut only = events[1].clone();
    only["splits"] = json!(0);
    assert_eq!(world.ask(&none).await.json(), json!([only]));
    for query in [
        "",
        "?from=1",
        "?from=-1&to=1",
        "?from=2&to=1",
        "?from=a&to=1",
    ] {
        let line = format!("GET {address}/scaling-events{query}");
        assert_eq!(world.ask(&line).await.status, 400, "{query}");
    }
    let missing = "GET /v1/scopes/lab/streams/z/scaling-events?from=0&to=1";
    assert_eq!(world.ask(missing).await.status, 404);
}

#[tokio::test]
async fn what_is_hostile_is_refused() {
    let world = World::new().await;
    world.with_stream().await;
    for name in ["", "_a", "a/b", "a b", "é", &"x".repeat(256)] {
        let scope = json!({"scopeName": name});
        assert_eq!(world.status("POST /v1/scopes", &scope).await, 400, "{name}");
        let mut stream = video();
        stream["streamName"] = json!(name);
        let line = "POST /v1/scopes/lab/streams";
        assert_eq!(world.status(line, &stream).await, 400, "{name}");
    }
    let changed = |field: &str, value: Value| {
        let mut stream = video();
        stream["streamName"] = json!("other");
        stream[field] = value;
        stream
    };
    for stream in [
        changed("unknown", json!(1)),
        changed("streamName", Value::Null),
        changed("scalingPolicy", Value::Null),
        changed("scalingPolicy", json!({"type": "OTHER", "minSegments": 1})),
        changed(
            "scalingPolicy",
            json!({"type": "FIXED_NUM_SEGMENTS", "minSegments": 0}),
        ),
        changed(
            "scalingPolicy",
            json!({"type": "FIXED_NUM_SEGMENTS", "minSegments": -1}),
        ),
        changed(
            "scalingPolicy",
            json!({"type": "FIXED_NUM_SEGMENTS", "minSegments": 1u64 << 40}),
        ),
        changed("retentionPolicy", json!({"type": "LIMITED_SIZE_MB"})),
        changed(
            "retentionPolicy",
            json!({"type": "LIMITED_SIZE_MB", "value": i64::MAX}),
        ),
        changed(
            "retentionPolicy",
            json!({"type": "LIMITED_DAYS", "value": -1}),
        ),
        changed(
            "retentionPolicy",
            json!({"type": "LIMITED_SIZE_MB", "value": 2, "maxValue": 1}),
        ),
        changed("rolloverSizeBytes", json!(-1)),
        changed("streamTags", json!("a")),
        json!([]),
        json!("text"),
    ] {
        let told = world.bring("POST /v1/scopes/lab/streams", &stream).await;
        assert_eq!(told.status, 400, "{stream}: {told:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let world = World::new().await;
    world.with_stream().await;
    let kind = "Content-Type: application/json";
    for (head, body, status) in [
        (
            format!("POST /v1/scopes\n{kind}\nContent-Length: 1\n"),
            "{",
            400,
        ),
        (
            format!("POST /v1/scopes\n{kind}\nContent-Length: 1073741824\n"),
            "",
            413,
        ),
        ("POST /v1/scopes\nContent-Length: 2\n".to_owned(), "{}", 415),
        ("PATCH /v1/scopes".to_owned(), "", 405),
        ("GET /v1/scopes/lab/streams/video/state".to_owned(), "", 405),
        ("GET /v1/nothing".to_owned(), "", 404),
        ("GET /v1/scopes/..%2f..%2fa".to_owned(), "", 400),
        ("GET /v1/scopes/lab/streams/%00".to_owned(), "", 400),
        ("GET /v1/scopes/%ff".to_owned(), "", 400),
        ("GET /v1/scopes/lab/readergroups".to_owned(), "", 501),
        ("GET /v1/scopes/lab/readergroups/a".to_owned(), "", 501),
    ] {
        let told = world.send(&head, body).await;
        assert_eq!(told.status, status, "{head}: {told:?}");
    }
    let chunk = "40001\r\n".to_owned() + &" ".repeat(0x40001) + "\r\n0\r\n\r\n";
    let head = format!("POST /v1/scopes\n{kind}\nTransfer-Encoding: chunked\n");
    assert_eq!(world.send(&head, &chunk).await.status, 413);
}

#[tokio::test]
async fn it_says_that_it_is_well() {
    let world = World::new().await;
    assert_eq!(world.ask("GET /ping").await.status, 200);
    let health = world.ask("GET /v1/health").await.json();
    assert_eq!(
        (&health["status"], &health["readiness"]),
        (&json!("UP"), &json!(true))
    );
    for (what, text) in [
        ("status", "\"UP\""),
        ("readiness", "true"),
        ("liveness", "true"),
        ("details", "{}"),
    ] {
        assert_eq!(
            world.ask(&format!("GET /v1/health/{what}")).await.text,
            text
        );
    }
    assert_eq!(world.ask("GET /v1/health/other").await.status, 404);
}

/// Lets one name in, and lets it do what it may.
#[derive(Debug)]
struct Doorkeeper;

impl Authority for Doorkeeper {
    fn check(
        &self,
        sender: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<(), Status> {
        match sender.get("authorization").and_then(|it| it.to_str().ok()) {
            Some("Basic YTph") if resource == "prn::/scope:b" => {
                Err(Status::permission_denied("not there"))
            }
            Some("Basic YTph") if permission == Permission::Read => Ok(()),
            Some("Basic YTph") => Err(Status::permission_denied("only to read")),
            _ => Err(Status::unauthenticated("who is it?")),
        }
    }

    fn token(&self, _: &MetadataMap, _: &str, _: Permission) -> Result<String, Status> {
        Ok(String::new())
    }
}

#[tokio::test]
async fn who_may_do_what_is_asked_each_time() {
    let world = World::with(Arc::new(Doorkeeper)).await;
    let nobody = world.ask("GET /v1/scopes").await;
    assert_eq!(nobody.status, 401);
    assert!(
        nobody.head.contains("www-authenticate: basic"),
        "{nobody:?}"
    );
    let known = "\nAuthorization: Basic YTph\n";
    let ask = async |line: &str| world.send(&format!("{line}{known}"), "").await.status;
    assert_eq!(ask("GET /v1/scopes").await, 200);
    assert_eq!(ask("GET /v1/scopes/b").await, 403);
    assert_eq!(ask("GET /v1/scopes/a").await, 404);
    for line in ["DELETE /v1/scopes/a", "DELETE /v1/scopes/a/streams/b"] {
        assert_eq!(ask(line).await, 403, "{line}");
        assert_eq!(world.ask(line).await.status, 401, "{line}");
    }
    for line in [
        "GET /v1/scopes/a/streams",
        "GET /v1/scopes/a/streams?filter_type=tag&filter_value=a",
        "GET /v1/scopes/a/streams/b",
        "GET /v1/scopes/a/streams/b/scaling-events?from=0&to=1",
    ] {
        assert_eq!(ask(line).await, 404, "{line}");
        assert_eq!(world.ask(line).await.status, 401, "{line}");
    }
    let kind = "Content-Type: application/json\nContent-Length: ";
    let sealed = "{\"streamState\":\"SEALED\"}";
    let line = format!("PUT /v1/scopes/a/streams/b/state\n{kind}{}\n", sealed.len());
    assert_eq!(world.send(&line, sealed).await.status, 401);
    let line = format!("{line}Authorization: Basic YTph\n");
    assert_eq!(world.send(&line, sealed).await.status, 403);
}
