use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use meta::{Change, Condition, Entry, Memory, MetaStore, Revision, Write};
use nbi::{Client, Service as Wanted};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use workload::link::Sample;

use super::*;
use crate::{Config, Deps, Explainer, Role, Service, Unasked};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A controller without sites, and two organisations that speak to it.
struct World {
    runtime: Runtime,
    service: Service,
    authority: Vec<u8>,
    token: String,
    client: Client,
    stranger: Client,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    world_on(None)
}

fn world_on(store: Option<Arc<dyn MetaStore>>) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = Runtime::new().expect("a runtime");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let authority = auth::Authority::new().expect("an authority");
    let certificate = authority.certificate().to_vec();
    let config = Config {
        dir: dir.path().join("controller"),
        link: any_port,
        nbi: any_port,
    };
    let deps = Deps {
        authority,
        explainer: Some(Arc::new(Oracle)),
        metrics: telemetry::Metrics::new(),
        store,
    };
    let service = runtime
        .block_on(crate::start(config, deps))
        .expect("it starts");
    let url = format!("https://{}", service.nbi);
    let caller = |org: &str, role| {
        let token = auth::Secret::random();
        let org = org.parse().expect("a name");
        let hash = token.hash();
        let added = service.controller.add_token(&hash, &org, role);
        runtime.block_on(added).expect("a token");
        let client = Client::new(&url, token.as_str(), &certificate).expect("a client");
        (client, token.as_str().to_owned())
    };
    let (client, token) = caller("acme", Role::Operator);
    let (stranger, _) = caller("other", Role::User);
    World {
        runtime,
        authority: certificate,
        token,
        client,
        stranger,
        service,
        _dir: dir,
    }
}

/// A Learning Plane that says of requests what it was asked.
#[derive(Debug)]
struct Oracle;

impl Explainer for Oracle {
    fn decisions(&self, _: &ids::Name, _: &ids::Name, _: &ids::Name) -> Vec<nbi::Decision> {
        Vec::new()
    }

    fn check_policy(&self, _: &str) -> Result<(), (u32, u32, String)> {
        Ok(())
    }

    fn request(
        &self,
        org: &ids::Name,
        service: &ids::Name,
        block: &ids::Name,
        path: &str,
    ) -> Result<Vec<nbi::Decision>, Unasked> {
        match path {
            "/none" => Err(Unasked::NoSuchPath),
            "/unwatched" => Err(Unasked::NotWatched),
            _ => Ok(["first", "second"]
                .map(|id| decision(id, &format!("{org}/{service}/{block} {path}")))
                .into()),
        }
    }
}

fn decision(id: &str, action: &str) -> nbi::Decision {
    nbi::Decision {
        id: id.to_owned(),
        at_ms: 1,
        mode: nbi::PolicyMode::Shadow,
        inputs: std::collections::BTreeMap::new(),
        forecast: None,
        branch: "line 1".to_owned(),
        action: action.to_owned(),
        alternatives: Vec::new(),
        outcome: "done".to_owned(),
        times: 2,
        violated_at_ms: None,
    }
}

/// An answer as it came.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut named = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value)
    }
}

impl World {
    fn tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from(self.authority.clone());
        roots.add(authority).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let socket = TcpStream::connect(self.service.nbi).expect("it listens");
        StreamOwned::new(session, socket)
    }

    /// One request on a connection of its own.
    fn raw(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Raw {
        let mut text = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut stream = self.tls();
        stream
            .write_all(format!("{text}\r\n{body}").as_bytes())
            .expect("it reads to the end");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Raw {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The same, with a token and JSON.
    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Raw {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", bearer.as_str())];
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            all.push(("Content-Type", "application/json"));
        }
        all.extend_from_slice(headers);
        self.raw(line, &all, body)
    }

    fn module(&self) -> String {
        self.client.put_module(MODULE).expect("it is taken")
    }
}

fn service(name: &str, module: &str) -> Value {
    json!({
        "apiVersion": "blocks/v1beta1", "kind": "Service", "metadata": {"name": name},
        "spec": {"blocks": [{"name": "main", "kind": "CellDeployment", "module": module, "ranks": 2}]},
    })
}

fn wanted(name: &str, module: &str) -> Wanted {
    serde_json::from_value(service(name, module)).expect("a service")
}

#[test]
fn nothing_is_shown_without_a_token() {
    let world = world();
    for endpoint in endpoints::all() {
        let method = endpoint.method.to_ascii_uppercase();
        let path = endpoint.path.replace("{name}", "x").replace("{id}", "x");
        let path = path.replace("{digest}", &format!("sha256:{}", "0".repeat(64)));
        let line = format!("{method} {path}");
        for headers in [
            &[][..],
            &[("Authorization", "Bearer abc")],
            &[("Authorization", "Basic eDp5")],
        ] {
            let raw = world.raw(&line, headers, "");
            let expected = if endpoint.is_open { 200 } else { 401 };
            assert_eq!(raw.status, expected, "{line} {raw:?}");
            assert_eq!(
                raw.header("WWW-Authenticate").is_some(),
                !endpoint.is_open,
                "{line}"
            );
        }
    }
}

impl World {
    /// Asks, and looks at the problem that is answered.
    fn refused(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
        status: u16,
        pointer: &str,
    ) {
        let raw = self.ask(line, headers, body);
        assert_eq!(raw.status, status, "{line} {headers:?} {raw:?}");
        let problem: nbi::Problem = serde_json::from_str(&raw.body).expect(line);
        let pointed = problem.pointer.unwrap_or_default();
        assert_eq!(
            (problem.status, pointed.as_str()),
            (status, pointer),
            "{line}"
        );
        let kind = raw.header("Content-Type");
        assert_eq!(kind, Some("application/problem+json"), "{line}");
    }
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let world = world();
    for (line, status, pointer) in [
        ("GET /v2", 404, ""),
        ("GET /v1/services/Video", 404, ""),
        ("GET /v1/services/%ff", 404, ""),
        ("GET /v1/services/none", 404, ""),
        ("GET /v1/services/none/logs", 404, ""),
        ("GET /v1/services?limit=0", 400, "?limit"),
        ("GET /v1/services?limit=x", 400, "?limit"),
        ("GET /v1/services?page=2", 400, "?page"),
        ("GET /v1/operations/1?wait=soon", 400, "?wait"),
        ("DELETE /v1/sites", 405, ""),
    ] {
        world.refused(line, &[], "", status, pointer);
    }
    world.refused("GET /v1/services", &[("Accept", "text/html")], "", 406, "");
    let unknown = world.ask("GET /v1/watch?since=nonsense", &[], "");
    assert_eq!(unknown.status, 422);
    assert_eq!(world.ask("HEAD /v1/modules/sha256:0", &[], "").status, 404);
    let not_allowed = world.ask("PATCH /v1/services", &[], "{}");
    assert_eq!(not_allowed.status, 405);
    assert_eq!(not_allowed.header("Allow"), Some("GET,HEAD,POST"));
}

#[test]
fn bodies_and_conditions_are_read_before_anything_is_done() {
    let world = world();
    let body = service("video", &world.module()).to_string();
    let other = service("other", &world.module()).to_string();
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(2 << 20));
    let (create, apply) = ("POST /v1/services", "PUT /v1/services/video");
    world.refused(create, &[("Content-Type", "text/plain")], &body, 415, "");
    world.refused(create, &[], "{", 400, "");
    world.refused(create, &[], &long, 413, "");
    world.refused(create, &[("Idempotency-Key", "a b")], &body, 400, "");
    world.refused(apply, &[], &other, 422, "/metadata/name");
    world.refused(apply, &[("If-Match", "1")], &body, 400, "");
    world.refused(apply, &[("If-Match", "*")], &body, 412, "");
    world.refused(apply, &[("If-Match", "")], &body, 412, "");
    let nowhere = r#"{"service":"none","to":{"site":"x"}}"#;
    world.refused("POST /v1/migrations", &[], nowhere, 404, "/service");
    let nothing = r#"{"block":"a","replicas":1}"#;
    world.refused("POST /v1/services/none/scale", &[], nothing, 404, "");
    assert_eq!(world.client.services().expect("all"), []);
}

#[test]
fn a_service_is_created_changed_and_deleted() {
    let world = world();
    let (client, module) = (&world.client, world.module());
    let operation = client
        .create(&wanted("video", &module))
        .expect("it is taken on");
    assert_eq!(
        (operation.kind.as_str(), operation.target.as_str()),
        ("apply", "/v1/services/video")
    );
    let again = client.operation(&operation.id).expect("it is there");
    assert_eq!(again.id, operation.id);
    let taken = client
        .create(&wanted("video", &module))
        .expect_err("it is there");
    assert_eq!(taken.status(), Some(409));

    let raw = world.ask("GET /v1/services/video", &[], "");
    let version = raw.json()["metadata"]["resourceVersion"]
        .as_str()
        .map(str::to_owned);
    let version = version.expect("a version");
    assert_eq!(raw.header("ETag"), Some(format!("\"{version}\"").as_str()));
    let mut changed = wanted("video", &module);
    changed.spec.blocks[0].replicas = 2;
    client
        .replace(&changed, &version)
        .expect("it has this version");
    let stale = client
        .replace(&changed, &version)
        .expect_err("it had this version");
    assert_eq!(stale.status(), Some(412));

    let nbi::BlockKind::CellDeployment(cell) = &mut changed.spec.blocks[0].kind;
    cell.ranks = 3;
    let fixed = client.apply(&changed).expect_err("ranks cannot change");
    assert!(matches!(&fixed, nbi::Error::Problem(problem)
        if problem.status == 409 && problem.pointer.as_deref() == Some("/spec/blocks/0/ranks")));
    client.scale("video", "main", 0).expect("it can be scaled");
    client.delete("video").expect("it can be deleted");
}

#[test]
fn a_policy_is_asked_by_the_path_of_its_rule() {
    let world = world();
    let (client, module) = (&world.client, world.module());
    let mut promised = service("video", &module);
    promised["spec"]["blocks"][0]["kpi"] = json!({"max": "200ms"});
    let promised = serde_json::from_value(promised).expect("a service");
    client.create(&promised).expect("taken on");
    client.create(&wanted("plain", &module)).expect("taken on");
    let decided = client.request("video", "main", "/now").expect("two rules");
    let told: Vec<_> = decided
        .iter()
        .map(|decision| (decision.id.as_str(), decision.action.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("first", "acme/video/main /now"),
            ("second", "acme/video/main /now")
        ]
    );
    for (service, body, status, pointer) in [
        ("none", r#"{"block":"main","path":"/now"}"#, 404, ""),
        ("video", r#"{"block":"none","path":"/now"}"#, 422, "/block"),
        ("video", r#"{"block":"main","path":"/none"}"#, 422, "/path"),
        ("video", r#"{"block":"main","path":"now"}"#, 400, "/path"),
        ("video", r#"{"block":"Main","path":"/now"}"#, 400, "/block"),
        ("video", r#"{"block":"main"}"#, 400, ""),
        (
            "video",
            r#"{"block":"main","path":"/now","x":1}"#,
            400,
            "/x",
        ),
        ("video", r#"{"block":"main","path":"/unwatched"}"#, 503, ""),
        (
            "plain",
            r#"{"block":"main","path":"/unwatched"}"#,
            422,
            "/block",
        ),
    ] {
        let line = format!("POST /v1/services/{service}/requests");
        world.refused(&line, &[], body, status, pointer);
    }
    let long = json!({"block": "main", "path": format!("/{}", "x".repeat(200))}).to_string();
    world.refused("POST /v1/services/video/requests", &[], &long, 400, "/path");
    let theirs = world.stranger.request("video", "main", "/now");
    assert_eq!(theirs.expect_err("not theirs").status(), Some(404));
    client.scale("video", "main", 0).expect("taken on");
    let deleted = client.delete("video").expect("taken on");
    let body = r#"{"block":"main","path":"/now"}"#;
    let asked = world.ask("POST /v1/services/video/requests", &[], body);
    assert!(matches!(asked.status, 404 | 409), "{asked:?}");
    let patience = Duration::from_secs(30);
    let deleted = client.wait_operation(&deleted.id, patience);
    assert_eq!(deleted.expect("it is there").phase, "Succeeded");
}

#[test]
fn a_key_makes_a_request_once() {
    let world = world();
    let body = service("video", &world.module()).to_string();
    let key = [("Idempotency-Key", "k1")];
    let first = world.ask("PUT /v1/services/video", &key, &body);
    assert_eq!(first.status, 202, "{first:?}");
    let location = first.header("Location").expect("a location").to_owned();
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, format!("/v1/operations/{id}"));
    let second = world.ask("PUT /v1/services/video", &key, &body);
    assert_eq!(
        (second.status, second.json()["id"].as_str()),
        (202, Some(id.as_str()))
    );
    let other = body.replace("\"ranks\":2", "\"ranks\":1");
    assert_eq!(
        world.ask("PUT /v1/services/video", &key, &other).status,
        422
    );
}

#[test]
fn a_deletion_is_answered_again_when_it_is_done() {
    let world = world();
    for if_match in ["*", "version"] {
        let body = service("video", &world.module()).to_string();
        let created = world.ask("POST /v1/services", &[], &body);
        assert_eq!(created.status, 202, "{created:?}");
        let shown = world.ask("GET /v1/services/video", &[], "");
        let version = shown.header("ETag").expect("a version").to_owned();
        let tag = if if_match == "*" { "*" } else { &version };
        let key = format!("delete-{if_match}");
        let terms = [("If-Match", tag), ("Idempotency-Key", &*key)];
        let first = world.ask("DELETE /v1/services/video", &terms, "");
        assert_eq!(first.status, 202, "{first:?}");
        let id = first.json()["id"].as_str().expect("an id").to_owned();
        let patience = Duration::from_secs(30);
        let done = world.client.wait_operation(&id, patience);
        assert_eq!(done.expect("it is there").phase, "Succeeded");
        let again = world.ask("DELETE /v1/services/video", &terms, "");
        assert_eq!(
            (again.status, again.json()["id"].as_str()),
            (202, Some(&*id))
        );
        // Without the key it is another request, for something that is not there.
        let other = world.ask("DELETE /v1/services/video", &terms[..1], "");
        assert!(matches!(other.status, 404 | 412), "{other:?}");
    }
}

#[test]
fn lists_have_pages() {
    let world = world();
    let module = world.module();
    for name in ["a", "b", "c"] {
        world.client.create(&wanted(name, &module)).expect(name);
    }
    let page = world.ask("GET /v1/services?limit=2", &[], "").json();
    let cursor = page["nextCursor"].as_str().expect("there is more");
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(names(&page), ["a", "b"]);
    let rest = world
        .ask(
            &format!("GET /v1/services?limit=2&cursor={cursor}"),
            &[],
            "",
        )
        .json();
    assert_eq!(
        (names(&rest), rest.get("nextCursor")),
        (vec!["c".to_owned()], None)
    );
    assert_eq!(world.client.services().expect("all").len(), 3);
}

#[test]
fn an_organisation_sees_nothing_of_another() {
    let world = world();
    let operation = world
        .client
        .create(&wanted("video", &world.module()))
        .expect("taken on");
    let stranger = &world.stranger;
    assert_eq!(stranger.services().expect("none"), []);
    assert_eq!(stranger.operations().expect("none"), []);
    let refused = [
        stranger.service("video").err(),
        stranger.units("video").err(),
        stranger.explain("video").err(),
        stranger.operation(&operation.id).err(),
        stranger.delete("video").err(),
        stranger.scale("video", "main", 3).err(),
    ];
    for error in refused {
        assert_eq!(error.and_then(|error| error.status()), Some(404));
    }
    // Not even whether it has a module, nor can that be run.
    let module = world.module();
    assert!(!stranger.has_module(&module).expect("an answer"));
    let error = stranger.create(&wanted("video", &module));
    assert!(matches!(error, Err(nbi::Error::Problem(problem))
        if problem.status == 422 && problem.pointer.as_deref() == Some("/spec/blocks/0/module")));
    let deleted = stranger.delete_module(&module).expect_err("not theirs");
    assert_eq!(deleted.status(), Some(404));
    let again = stranger.put_module(MODULE).expect("it is theirs too");
    assert_eq!(again, module);
    stranger
        .create(&wanted("video", &module))
        .expect("names are an organisation's own");
}

#[test]
fn what_is_about_sites_is_for_operators() {
    let world = world();
    let forbidden = |error: Option<nbi::Error>| match error {
        Some(nbi::Error::Problem(problem)) => {
            assert_eq!(problem.status, 403, "{problem:?}");
            assert!(problem.detail.contains("operator"), "{problem:?}");
        }
        other => panic!("{other:?}"),
    };
    let wish = nbi::NewJoinToken::default();
    forbidden(world.stranger.issue_join_token(&wish).err());
    // Not even whether there is such a site.
    forbidden(world.stranger.adopt_site("mars").err());
    assert_eq!(world.stranger.sites().expect("all see them"), []);
    world.client.issue_join_token(&wish).expect("an operator");
    let unknown = world.client.adopt_site("mars").expect_err("no such site");
    assert_eq!(unknown.status(), Some(404));
}

#[test]
fn a_token_keeps_its_role() {
    let world = world();
    let token: auth::Secret = world.token.parse().expect("a token");
    let add = |org: &str, role| {
        let (hash, org) = (token.hash(), org.parse().expect("a name"));
        let added = world.service.controller.add_token(&hash, &org, role);
        world.runtime.block_on(added).map_err(|error| error.kind)
    };
    assert_eq!(add("acme", Role::Operator), Ok(()));
    assert_eq!(add("acme", Role::User), Err(crate::ErrorKind::Conflict));
    assert_eq!(
        add("other", Role::Operator),
        Err(crate::ErrorKind::Conflict)
    );
}

#[test]
fn a_module_goes_when_no_service_uses_it() {
    let world = world();
    let (client, module) = (&world.client, world.module());
    client.create(&wanted("video", &module)).expect("taken on");
    let used = client.delete_module(&module).expect_err("it is used");
    assert_eq!(used.status(), Some(409));
    let deleted = client.delete("video").expect("it is there");
    let patience = Duration::from_secs(30);
    let deleted = client.wait_operation(&deleted.id, patience);
    assert_eq!(deleted.expect("it is there").phase, "Succeeded");
    world.stranger.put_module(MODULE).expect("theirs");
    client.delete_module(&module).expect("nobody uses it");
    assert!(!client.has_module(&module).expect("an answer"));
    assert!(world.stranger.has_module(&module).expect("an answer"));
    let gone = client.delete_module(&module).expect_err("it is gone");
    assert_eq!(gone.status(), Some(404));
}

#[test]
fn a_module_is_what_its_digest_says() {
    let world = world();
    let digest = world
        .client
        .put_module(b"\0asm\x01\0\0\0")
        .expect("it is taken");
    assert!(world.client.has_module(&digest).expect("an answer"));
    let wasm = [("Content-Type", "application/wasm")];
    let again = world.ask(&format!("PUT /v1/modules/{digest}"), &wasm, "anything");
    assert!(matches!(again.status, 204 | 422), "{again:?}");
    let zeros = format!("sha256:{}", "0".repeat(64));
    let wrong = world.ask(&format!("PUT /v1/modules/{zeros}"), &wasm, "anything");
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(!world.client.has_module(&zeros).expect("an answer"));
}

#[test]
fn what_changes_is_watched_and_a_watch_goes_on_where_it_was() {
    let world = world();
    let since = world.service.controller.revision();
    world
        .client
        .create(&wanted("video", &world.module()))
        .expect("taken on");
    let mut watching = world.client.watch(Some(&since));
    let is_ours = |event: &nbi::WatchEvent| event.kind == "Service" && event.name == "video";
    let first = watching
        .by_ref()
        .map(|event| event.expect("an event"))
        .find(is_ours);
    let first = first.expect("it was created");
    assert_eq!(
        first.object.expect("it is there")["metadata"]["name"],
        "video"
    );
    world.client.scale("video", "main", 3).expect("taken on");
    let resumed = world.client.watch(Some(&first.revision));
    let next = resumed.map(|event| event.expect("an event")).find(is_ours);
    assert_ne!(next.expect("it was scaled").revision, first.revision);

    let raw = world.ask(&format!("GET /v1/watch?timeout=1ms&since={since}"), &[], "");
    assert_eq!(raw.header("Content-Type"), Some("text/event-stream"));
    assert!(raw.body.contains(&format!("id: {since}\n\n")), "{raw:?}");
}

#[test]
fn series_are_served_as_prometheus_does() {
    let world = world();
    let now = metrics_now();
    let sample = |org: Option<&str>, at_ms, value| Sample {
        name: "up".to_owned(),
        labels: org
            .map(|org| ("org".to_owned(), org.to_owned()))
            .into_iter()
            .collect(),
        at_ms,
        value,
    };
    world.service.series.append(&[
        sample(None, now - 2_000, 1.0),
        sample(None, now - 1_000, 0.5),
        sample(Some("other"), now, 7.0),
    ]);
    let found = world.client.query("up", None).expect("a selector");
    assert_eq!(found.len(), 1, "of another organisation nothing is seen");
    assert_eq!(found[0].points[0].1, 0.5);
    let at_every_second = |lookback| nbi::Range {
        start_ms: now - 2_000,
        end_ms: now + 1_000,
        step: Duration::from_secs(1),
        lookback: Duration::from_secs(lookback),
    };
    for (lookback, n_points) in [(1, 2), (300, 4)] {
        let found = world.client.query_range("up", at_every_second(lookback));
        let points = &found.expect("a range")[0].points;
        assert_eq!(points[..2], [(now - 2_000, 1.0), (now - 1_000, 0.5)]);
        assert_eq!(points.len(), n_points, "{lookback} s");
    }
    for (query, status) in [
        ("query?query=rate(up%5B5m%5D)", 400),
        ("query?query=up&time=x", 400),
        ("query", 400),
        ("query_range?query=up&start=0&end=1", 400),
        ("query_range?query=up&start=2&end=1&step=1", 422),
        ("query_range?query=up&start=0&end=100000&step=1", 422),
    ] {
        let raw = world.ask(&format!("GET /v1/metrics/{query}"), &[], "");
        assert_eq!(
            (raw.status, &raw.json()["status"]),
            (status, &json!("error")),
            "{query}"
        );
    }
}

fn metrics_now() -> u64 {
    let since = rt::wall().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("before the year 500 million")
}

#[test]
fn a_caller_that_says_nothing_loses_its_place() {
    let world = world();
    let listener = world
        .runtime
        .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let limits = Limits {
        connections: 1,
        patience: Duration::from_millis(20),
        ..Limits::default()
    };
    let authority = auth::Authority::new().expect("an authority");
    let identity = authority.identity("localhost").expect("an identity");
    let tls = auth::Tls::new(&identity).expect("an identity");
    let (controller, series) = (
        world.service.controller.clone(),
        Arc::clone(&world.service.series),
    );
    let entered = world.runtime.enter();
    let tls = tls.server_config_admitting_anonymous();
    let metrics = telemetry::Metrics::new();
    let front = Front::new(limits, controller, series, Counters::new(&metrics));
    let _front = front.serve(listener, tls);
    drop(entered);
    // One that does not even shake hands, then one that waits for its place.
    for _ in 0..2 {
        let mut silent = TcpStream::connect(address).expect("it listens");
        silent.read_to_end(&mut Vec::new()).ok();
    }
    let text = metrics.render();
    assert!(
        !text.contains("nbi_connections_delayed_total 0\n"),
        "{text}"
    );
}

/// A store that fails for good, or panics, when it is told to.
#[derive(Debug, Default)]
struct Fragile {
    store: Memory,
    has_failed: AtomicBool,
    panics: AtomicBool,
}

impl MetaStore for Fragile {
    fn get(&self, key: &str) -> Result<Option<Entry>, meta::Error> {
        self.store.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, n: usize) -> Result<Vec<Entry>, meta::Error> {
        self.store.list(prefix, after, n)
    }

    fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Revision, meta::Error> {
        assert!(!self.panics.load(Ordering::Relaxed), "as it was told");
        if self.has_failed() {
            return Err(meta::Error::Failed {
                context: "commit to a broken store",
                source: None,
            });
        }
        self.store.commit(conditions, writes)
    }

    fn changes(&self, prefix: &str, after: Revision, n: usize) -> Result<Vec<Change>, meta::Error> {
        self.store.changes(prefix, after, n)
    }

    fn revision(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.store.revision()
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

#[test]
fn a_controller_that_cannot_go_on_says_so() {
    let check = |break_it: &dyn Fn(&Fragile), expected: &str| {
        let store = Arc::new(Fragile::default());
        let world = world_on(Some(Arc::clone(&store) as Arc<dyn MetaStore>));
        let module = world.module();
        assert_eq!(world.raw("GET /readyz", &[], "").status, 200);
        assert_eq!(world.service.failure(), None);
        break_it(&store);
        let body = service("video", &module).to_string();
        let refused = world.ask("POST /v1/services", &[], &body);
        assert!(refused.status >= 500, "{refused:?}");
        let failed = world.runtime.block_on(world.service.failed());
        assert!(failed.contains(expected), "{failed}");
        let raw = world.raw("GET /readyz", &[], "");
        assert_eq!(raw.status, 503, "{raw:?}");
        assert_eq!(world.raw("GET /healthz", &[], "").status, 200);
    };
    check(
        &|store| store.has_failed.store(true, Ordering::Relaxed),
        "the metadata store",
    );
    check(
        &|store| store.panics.store(true, Ordering::Relaxed),
        "meta-commits has panicked",
    );
}

#[test]
fn a_task_that_panics_is_a_failure() {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let failure = crate::controller::failure::Failure::new();
        let fine = rt::spawn("fine", failure.guarded("fine", async {}));
        fine.ended().await;
        assert_eq!(failure.get(), None);
        let wrong = async { panic!("as it was told") };
        let _wrong = rt::spawn("wrong", failure.guarded("wrong", wrong));
        assert!(failure.wait().await.contains("wrong has panicked"));
    });
}

#[test]
fn every_endpoint_is_described_once() {
    let document = openapi();
    let paths = document["paths"].as_object().expect("paths");
    let n_described: usize = paths
        .values()
        .map(|path| path.as_object().map_or(0, |p| p.len()))
        .sum();
    assert_eq!(n_described, endpoints::all().len());
    let text = document.to_string();
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name} is not described");
    }
}
