use proptest::prelude::*;
use serde_json::json;

use super::*;

fn service() -> Value {
    json!({
        "apiVersion": "blocks/v1beta1", "kind": "Service", "metadata": {"name": "video", "labels": {}},
        "spec": {"blocks": [{
            "name": "decode", "kind": "CellDeployment", "module": format!("sha256:{}", "a".repeat(64)), "ranks": 4,
            "args": ["decode", "-n", "3"], "env": {"A": "b"}, "mounts": [{"path": "/in", "source": "file:///srv/in"}],
            "placement": {"siteSelector": {"matchLabels": {"tier": "edge"}}}, "checkpoints": {"every": "30s"},
            "limits": {"memory": "512Mi"}, "kpi": {"max": "200ms", "iteration": "MPI_Allreduce/0/7"},
            "policy": {"mode": "active"},
        }]},
    })
}

#[test]
fn a_service_is_read_and_written_as_one_object_a_block() {
    let read: Service = parse(service().to_string().as_bytes()).expect("it is right");
    let BlockKind::CellDeployment(cell) = &read.spec.blocks[0].kind;
    assert_eq!((cell.ranks, read.spec.blocks[0].replicas), (4, 1));
    let written = serde_json::to_value(&read).expect("it is JSON");
    assert_eq!(written["spec"]["blocks"][0]["kind"], "CellDeployment");
    assert_eq!(written["spec"]["blocks"][0]["ranks"], 4);
    let again: Service = serde_json::from_value(written).expect("it reads its own");
    assert_eq!(again, read);
}

#[test]
fn what_is_not_the_users_to_say_is_forgotten() {
    let mut text = service();
    text["spec"]["blocks"][0]["ranks"] = json!(4.0);
    text["metadata"]["resourceVersion"] = json!("7");
    text["status"] =
        json!({"observedGeneration": 1, "phase": "InSync", "conditions": [], "units": []});
    let read: Service = parse(text.to_string().as_bytes()).expect("it is right");
    assert_eq!((read.status, read.metadata.resource_version), (None, None));
}

/// Puts `value` (JSON) at `at` in a good service, and looks at what is said of it.
fn check_wrong(at: &str, value: &str, status: u16, detail: &str) {
    let mut text = service();
    let value = serde_json::from_str(value).expect(value);
    let (parent, field) = at.rsplit_once('/').expect("a pointer");
    match text.pointer_mut(parent).expect(parent) {
        Value::Array(items) => items[field.parse::<usize>().expect("an index")] = value,
        object => object[&field.replace("~1", "/")] = value,
    }
    let problem = parse::<Service>(text.to_string().as_bytes()).expect_err(at);
    let seen = (problem.status, problem.pointer.as_deref());
    assert_eq!(seen, (status, Some(at)), "{problem:?}");
    assert!(problem.detail.contains(detail), "{at}: {}", problem.detail);
}

#[test]
fn what_is_wrong_is_pointed_at() {
    let long = format!("\"{}\"", "x".repeat(200));
    check_wrong("/metadata/labels/a", &long, 400, "200 characters");
    for (at, value, detail) in [
        ("/apiVersion", "\"v2\"", "blocks/v1beta1"),
        ("/kind", "\"Site\"", "Service"),
        ("/metadata/name", "\"Bad Name\"", "`Bad Name` is not a name"),
        ("/metadata/nonsense", "1", "unknown field `nonsense`"),
        ("/spec/blocks", "[]", "at least one block"),
    ] {
        check_wrong(at, value, 400, detail);
    }
    check_wrong(
        "/spec/blocks/0/mounts/0/source",
        "\"file:///a/../b\"",
        422,
        "..",
    );
    for (field, value, detail) in [
        ("ranks", "\"four\"", "a whole number"),
        ("ranks", "0", "1 to 256"),
        ("ranks", "-1", "a whole number"),
        ("ranks", "1.5", "a whole number"),
        ("raks", "4", "unknown field `raks`"),
        ("kind", "\"Chart\"", "unknown variant"),
        ("module", "\"photo.wasm\"", "sha256:"),
        ("args/1", r#""a\u0000b""#, "NUL"),
        ("env/a~1b", r#""\u0000""#, "NUL"),
        ("replicas", "1000", "256 replicas"),
        ("limits/memory", "\"lots\"", "bytes"),
        ("limits/cpu", "\"1\"", "unknown field `cpu`"),
        ("checkpoints/every", "\"now\"", "duration"),
        ("kpi/max", "\"0s\"", "duration"),
        ("kpi/iteration", "\"Allreduce\"", "MPI_Allreduce"),
        ("policy/mode", "\"on\"", "unknown variant"),
        ("mounts/0/source", "\"http://x\"", "file:///"),
    ] {
        check_wrong(&format!("/spec/blocks/0/{field}"), value, 400, detail);
    }
}

#[test]
fn what_is_missing_or_double_is_refused() {
    let mut text = service();
    text["spec"]["blocks"][0]
        .as_object_mut()
        .expect("a block")
        .remove("module");
    let problem = parse::<Service>(text.to_string().as_bytes()).expect_err("no module");
    assert!(problem.detail.starts_with("missing field `module`"));
    assert_eq!(problem.pointer.as_deref(), Some("/spec/blocks/0"));

    let mut text = service();
    let first = text["spec"]["blocks"][0].clone();
    text["spec"]["blocks"]
        .as_array_mut()
        .expect("blocks")
        .push(first);
    let problem = parse::<Service>(text.to_string().as_bytes()).expect_err("two of a name");
    assert_eq!(problem.pointer.as_deref(), Some("/spec/blocks/1/name"));
    assert_eq!(problem.status, 422);

    for bad in ["", "{", "[]", "null", "{} {}", "\u{1}"] {
        assert_eq!(parse::<Scale>(bad.as_bytes()).expect_err(bad).status, 400);
    }
    let twice = br#"{"block":"a","block":"b","replicas":1}"#;
    let problem = parse::<Scale>(twice).expect_err("a field twice");
    assert!(problem.detail.contains("duplicate"), "{}", problem.detail);
    let deep = "[".repeat(100_000);
    parse::<Scale>(deep.as_bytes()).expect_err("nested too deep");
}

#[test]
fn an_array_is_no_object_and_an_object_no_word() {
    for (at, value, detail) in [
        ("/metadata", r#"["video"]"#, "not an array"),
        ("/spec/blocks/0/placement", "[]", "not an array"),
        (
            "/spec/blocks/0/placement/siteSelector",
            "[]",
            "not an array",
        ),
        ("/spec/blocks/0/limits", r#"["512Mi"]"#, "not an array"),
        ("/spec/blocks/0/kpi", r#"[null,"200ms"]"#, "not an array"),
        (
            "/spec/blocks/0/mounts/0",
            r#"["/in","file:///srv/in"]"#,
            "not an array",
        ),
        (
            "/spec/blocks/0/kind",
            r#"{"CellDeployment":null}"#,
            "not an object",
        ),
        (
            "/spec/blocks/0/policy/mode",
            r#"{"active":null}"#,
            "not an object",
        ),
    ] {
        check_wrong(at, value, 400, detail);
    }
    let problem = parse::<Scale>(br#"["a",1]"#).expect_err("an array");
    assert_eq!(problem.status, 400);
    for bad in ["[]", "[null,null]"] {
        let problem = parse::<NewJoinToken>(bad.as_bytes()).expect_err(bad);
        assert_eq!(problem.status, 400);
    }
}

#[test]
fn several_errors_are_told_at_once() {
    let text = br#"{"block":"a","replicas":1,"x":1,"y":2}"#;
    let problem = parse::<Scale>(text).expect_err("two unknown fields");
    let pointers: Vec<_> = problem.errors.iter().map(|e| e.pointer.as_str()).collect();
    assert_eq!(pointers, ["/x", "/y"]);
}

#[test]
fn migrations() {
    let check = |text: &str, expected: Option<(u16, &str)>| {
        let problem = parse::<MigrationSpec>(text.as_bytes()).err();
        let seen = problem
            .as_ref()
            .map(|p| (p.status, p.pointer.as_deref().unwrap_or("")));
        assert_eq!(seen, expected, "{text}: {problem:?}");
    };
    check(r#"{"service":"a","to":{"site":"cloud"}}"#, None);
    check(
        r#"{"service":"a","to":{"siteSelector":{"matchLabels":{"t":"c"}}},"deadline":"5s"}"#,
        None,
    );
    check(
        r#"{"service":"a","to":{"site":"Cloud"}}"#,
        Some((400, "/to/site")),
    );
    check(
        r#"{"service":"a","to":{"planet":"mars"}}"#,
        Some((400, "/to")),
    );
    check(
        r#"{"service":"a","to":{"site":"a"},"ranks":[]}"#,
        Some((400, "/ranks")),
    );
    check(
        r#"{"service":"a","to":{"site":"a"},"ranks":[1,1]}"#,
        Some((422, "/ranks")),
    );
    check(
        r#"{"service":"a","to":{"site":"a"},"deadline":"soon"}"#,
        Some((400, "/deadline")),
    );
    check(r#"{"service":"a"}"#, Some((400, "")));
}

#[test]
fn what_users_read_may_have_more_than_this_client_knows() {
    let text = r#"{"id":"1","kind":"apply","target":"/x","phase":"Running","progress":{"step":1,"goal":2,"unit":"x"},
        "createdAtMs":1,"later":true}"#;
    serde_json::from_str::<crate::Operation>(text).expect("unknown fields are skipped");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in r#"[\[\]{}":,a-z0-9 ]{0,80}"#) {
        parse::<Service>(text.as_bytes()).ok();
        parse::<MigrationSpec>(text.as_bytes()).ok();
    }

    #[test]
    fn iterations_are_what_their_pattern_says(text in "MPI_[A-Za-z_]{1,5}(/[A-Za-z0-9_.-]{1,4}){0,2}") {
        prop_assert!(is_iteration(&text));
        let slash = format!("{text}/");
        prop_assert!(!is_iteration(&slash));
    }
}
