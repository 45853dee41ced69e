//! All that can be asked.

use serde_json::{Value, json};

use super::answer::JSON;
use super::doc::{Content, Endpoint, Parameter, delete, get, head, post, put, reference};
use super::{changes, logs, metrics, modules, reads, stream};

/// In the order of the document.
pub(super) fn all() -> Vec<Endpoint> {
    let mut all = sites();
    all.extend(services());
    all.extend(parts_of_services());
    all.extend(migrations());
    all.extend(operations());
    all.extend(series());
    all.extend(files());
    all.extend(open());
    all
}

fn path(name: &'static str, schema: Value, summary: &'static str) -> Parameter {
    Parameter {
        name,
        place: "path",
        is_required: true,
        schema,
        summary,
    }
}

fn query(name: &'static str, schema: Value, summary: &'static str) -> Parameter {
    Parameter {
        name,
        place: "query",
        is_required: false,
        schema,
        summary,
    }
}

fn required(parameter: Parameter) -> Parameter {
    Parameter {
        is_required: true,
        ..parameter
    }
}

fn header(name: &'static str, pattern: &str, summary: &'static str) -> Parameter {
    Parameter {
        name,
        place: "header",
        is_required: false,
        schema: json!({"type": "string", "pattern": pattern}),
        summary,
    }
}

fn name(summary: &'static str) -> Parameter {
    path("name", reference("Name"), summary)
}

fn id(summary: &'static str) -> Parameter {
    path(
        "id",
        json!({"type": "string", "minLength": 1, "maxLength": 64}),
        summary,
    )
}

fn window() -> [Parameter; 2] {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 500, "default": 100});
    [
        query(
            "cursor",
            json!({"type": "string"}),
            "Where the page begins: `nextCursor` of the one before.",
        ),
        query("limit", limit, "How many items a page has at most."),
    ]
}

fn timeout() -> Parameter {
    let summary = "When the stream is to end, at the latest; it ends after a minute anyway.";
    query("timeout", reference("Duration"), summary)
}

/// `*`, or ETags.
const TAGS: &str = r#"^(\*|((W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)?)$"#;

fn if_match() -> Parameter {
    let summary = "Only if it has one of these ETags, as GET shows them; `*`: only if it exists.";
    header("If-Match", TAGS, summary)
}

fn if_none_match() -> Parameter {
    let summary = "Only if it has none of these ETags; `*`: only if it does not exist.";
    header("If-None-Match", TAGS, summary)
}

fn idempotency_key() -> Parameter {
    header(
        "Idempotency-Key",
        "^[!-~]{1,128}$",
        "The same request with the same key is done once, and answered with the same operation.",
    )
}

const PAGE_PROBLEM: (u16, &str) = (422, "The cursor is not one.");
const BODY_PROBLEMS: [(u16, &str); 3] = [
    (408, "The body stopped coming."),
    (413, "The body is too large."),
    (415, "The body is not JSON."),
];
const NO_SERVICE: (u16, &str) = (404, "There is no such service.");

/// What all changes have in common.
fn change(endpoint: Endpoint) -> Endpoint {
    let content = Content {
        kind: JSON,
        schema: reference("Operation"),
    };
    let wrong = [
        (
            409,
            "It contradicts what is there: an immutable field, for instance.",
        ),
        (412, "It is not as If-Match or If-None-Match say."),
        (
            422,
            "It is well formed and cannot be done, or the Idempotency-Key was used for another request.",
        ),
    ];
    let endpoint = endpoint
        .takes(&[idempotency_key()])
        .answers(202, "It was taken on, durably.", Some(content))
        .with(
            "Location",
            json!({"type": "string"}),
            "Where the operation is.",
        )
        .problems(&wrong);
    if endpoint.body.is_some() {
        endpoint.problems(&BODY_PROBLEMS)
    } else {
        endpoint
    }
}

fn sites() -> Vec<Endpoint> {
    let all = Endpoint::new(
        "get",
        "/v1/sites",
        "listSites",
        "The sites.",
        get(reads::sites),
    );
    let one = Endpoint::new(
        "get",
        "/v1/sites/{name}",
        "getSite",
        "One site.",
        get(reads::site),
    );
    let path = "/v1/sites/{name}/adoption";
    let summary = "Overrule what a site has, which waits for that because this controller does not know it (condition NeedsOperator).";
    let adopted = Endpoint::new("post", path, "adoptSite", summary, post(changes::adopt));
    let summary = "Forget a site that does not come back. Its certificate counts no more.";
    let forgotten = Endpoint::new(
        "delete",
        "/v1/sites/{name}",
        "forgetSite",
        summary,
        delete(changes::forget),
    );
    let summary = "A new token with which one site may join.";
    let issued = Endpoint::new(
        "post",
        "/v1/join-tokens",
        "issueJoinToken",
        summary,
        post(changes::issue_join_token),
    );
    let token = Content {
        kind: JSON,
        schema: reference("JoinToken"),
    };
    vec![
        all.takes(&window())
            .shows_json("SitePage", "A page of them.")
            .problems(&[PAGE_PROBLEM]),
        one.takes(&[name("The site.")])
            .shows_json("Site", "It, as it has reported.")
            .problems(&[(404, "There is no such site.")]),
        forgotten
            .takes(&[name("The site.")])
            .for_operators()
            .answers(204, "It is forgotten.", None)
            .problems(&[
                (404, "There is no such site, and there was none."),
                (409, "It is connected, or something is wanted there."),
            ]),
        change(adopted.takes(&[name("The site.")]))
            .for_operators()
            .problems(&[(404, "There is no such site.")]),
        issued
            .for_operators()
            .body(JSON, reference("NewJoinToken"))
            .answers(201, "A token; it is not shown again.", Some(token))
            .problems(&BODY_PROBLEMS)
            .problems(&[(422, "It would last for too long.")]),
    ]
}

fn services() -> Vec<Endpoint> {
    let (all, one) = ("/v1/services", "/v1/services/{name}");
    let listed = Endpoint::new(
        "get",
        all,
        "listServices",
        "The services.",
        get(reads::services),
    );
    let created = Endpoint::new(
        "post",
        all,
        "createService",
        "Create one.",
        post(changes::create),
    );
    let shown = Endpoint::new(
        "get",
        one,
        "getService",
        "One service.",
        get(reads::service),
    );
    let summary = "Create it, or change it to this.";
    let applied = Endpoint::new("put", one, "applyService", summary, put(changes::apply));
    let summary = "End its units and forget it.";
    let deleted = Endpoint::new(
        "delete",
        one,
        "deleteService",
        summary,
        delete(changes::delete),
    );
    let the_service = [name("The service.")];
    vec![
        listed
            .takes(&window())
            .shows_json("ServicePage", "A page of them, in the order of names.")
            .problems(&[PAGE_PROBLEM]),
        change(created.body(JSON, reference("Service"))),
        shown
            .takes(&the_service)
            .shows_json("Service", "It, with its status.")
            .with("ETag", json!({"type": "string"}), "For If-Match.")
            .problems(&[NO_SERVICE]),
        change(
            applied
                .takes(&the_service)
                .takes(&[if_match(), if_none_match()])
                .body(JSON, reference("Service")),
        )
        .problems(&[NO_SERVICE]),
        change(deleted.takes(&the_service).takes(&[if_match()])).problems(&[NO_SERVICE]),
    ]
}

fn parts_of_services() -> Vec<Endpoint> {
    let the_service = [name("The service.")];
    let path = "/v1/services/{name}/units";
    let units = Endpoint::new("get", path, "listUnits", "Its units.", get(reads::units));
    let path = "/v1/services/{name}/explain";
    let summary = "Why its blocks are where they are, and what the Learning Plane thinks of them.";
    let explain = Endpoint::new("get", path, "explainService", summary, get(reads::explain));
    let path = "/v1/services/{name}/scale";
    let summary = "Change how many units of a block run.";
    let scale = Endpoint::new("post", path, "scaleService", summary, post(changes::scale));
    let path = "/v1/services/{name}/requests";
    let summary = "Run the rules of a block's policy that wait for a request, now.";
    let asked = Endpoint::new(
        "post",
        path,
        "requestPolicy",
        summary,
        post(changes::request),
    );
    vec![
        units
            .takes(&the_service)
            .shows_json("Units", "All of them, as their sites have reported.")
            .problems(&[NO_SERVICE]),
        explain
            .takes(&the_service)
            .shows_json("Explanation", "Reasons and decisions.")
            .problems(&[NO_SERVICE]),
        change(
            scale
                .takes(&the_service)
                .takes(&[if_match()])
                .body(JSON, reference("Scale")),
        )
        .problems(&[(404, "There is no such service or block.")]),
        asked
            .takes(&the_service)
            .body(JSON, reference("PolicyRequest"))
            .shows_json(
                "Decisions",
                "What was decided, in the order of the rules. A move is under way then, and `explain` shows what becomes of it.",
            )
            .problems(&BODY_PROBLEMS)
            .problems(&[
                NO_SERVICE,
                (409, "The service is being deleted."),
                (422, "There is no such block, it promises nothing, or its policy has no such rule."),
            ]),
        log().takes(&the_service),
    ]
}

fn log() -> Endpoint {
    let summary = "What a unit has written, in order wherever its ranks are. A stream ends after a while: ask again for the rest.";
    let bytes = json!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64});
    let flag = json!({"type": "string", "enum": ["true", "false"]});
    let replica = json!({"type": "integer", "minimum": 0, "maximum": 255});
    let offset = "Where the body begins in all that the unit has written: later than asked for if that is not kept any more.";
    let path = "/v1/services/{name}/logs";
    Endpoint::new("get", path, "readLog", summary, get(logs::read))
        .takes(&[
            query(
                "block",
                reference("Name"),
                "The unit's block, if the service has several.",
            ),
            query(
                "replica",
                replica,
                "The unit's number, if the block has several.",
            ),
            query(
                "offset",
                bytes.clone(),
                "Where to begin; 0: at the beginning.",
            ),
            timeout(),
            query(
                "follow",
                flag,
                "Whether to go on with what is yet to be written.",
            ),
        ])
        .shows("text/plain", json!({"type": "string"}), "The bytes.")
        .with("X-Log-Offset", bytes, offset)
        .with(
            "X-Log-End",
            json!({"type": "string", "enum": ["true", "false"]}),
            "Whether the unit has ended and all is read.",
        )
        .problems(&[
            (404, "There is no such service or unit."),
            (422, "The service has several units: say which."),
        ])
}

fn migrations() -> Vec<Endpoint> {
    let (all, one) = ("/v1/migrations", "/v1/migrations/{id}");
    let summary = "Move running blocks to another site.";
    let begun = Endpoint::new("post", all, "migrate", summary, post(changes::migrate));
    let summary = "Past and present migrations.";
    let listed = Endpoint::new(
        "get",
        all,
        "listMigrations",
        summary,
        get(reads::migrations),
    );
    let shown = Endpoint::new(
        "get",
        one,
        "getMigration",
        "One of them.",
        get(reads::migration),
    );
    vec![
        change(begun.body(JSON, reference("MigrationSpec")))
            .problems(&[(404, "There is no such service, block or site.")]),
        listed
            .takes(&window())
            .shows_json("MigrationPage", "A page of them, oldest first.")
            .problems(&[PAGE_PROBLEM]),
        shown
            .takes(&[id("The migration.")])
            .shows_json("Migration", "It, with what has moved so far.")
            .problems(&[(404, "There is no such migration.")]),
    ]
}

fn operations() -> Vec<Endpoint> {
    let (all, one) = ("/v1/operations", "/v1/operations/{id}");
    let summary = "What became of changes.";
    let listed = Endpoint::new(
        "get",
        all,
        "listOperations",
        summary,
        get(reads::operations),
    );
    let shown = Endpoint::new(
        "get",
        one,
        "getOperation",
        "One of them.",
        get(reads::operation),
    );
    let wait = "Answer when it is done, or after this time (at most 60s).";
    let since = "Go on after this event.";
    let path = "/v1/watch";
    let summary = "What changes, as server-sent events. A stream ends after a while: ask again with the last id.";
    let watch = Endpoint::new("get", path, "watch", summary, get(stream::watch));
    vec![
        listed
            .takes(&window())
            .shows_json("OperationPage", "A page of them, oldest first.")
            .problems(&[PAGE_PROBLEM]),
        shown
            .takes(&[id("The operation."), query("wait", reference("Duration"), wait)])
            .shows_json("Operation", "It, as it is now.")
            .problems(&[(404, "There is no such operation, or it is long past.")]),
        watch
            .takes(&[
                timeout(),
                query("since", json!({"type": "string", "maxLength": 128}), since),
                header("Last-Event-ID", "^[!-~]{1,128}$", since),
            ])
            .shows(
                "text/event-stream",
                json!({"type": "string"}),
                "Events; their data is `{revision, kind, name, object}`, the object as GET shows it, absent when it is gone.",
            )
            .problems(&[
                (410, "That is too long ago: list everything and watch anew."),
                (422, "This is no event's id."),
            ]),
    ]
}

fn series() -> Vec<Endpoint> {
    let time = json!({"type": "number", "minimum": 0, "maximum": 253_402_300_799_i64});
    let selector = json!({"type": "string", "minLength": 1, "maxLength": 1024, "example": "site_cpu_used{site=\"edge\"}"});
    let selector = || {
        let summary = "A selector of PromQL: `name{label=\"value\",other=~\"a|b\"}`. Nothing else of PromQL is served.";
        required(query("query", selector.clone(), summary))
    };
    let step = json!({
        "type": "string",
        "pattern": r"^([1-9][0-9]{0,8}(us|ms|s|m|h)?|[0-9]{1,9}\.[0-9]{0,2}[1-9])$",
    });
    let lookback = || {
        let summary = "For how long a point counts as the newest: seconds, or a duration; five minutes, if it is not given.";
        query("lookback_delta", step.clone(), summary)
    };
    let error = |summary| {
        let content = Content {
            kind: JSON,
            schema: reference("MetricsError"),
        };
        (summary, Some(content))
    };
    let refused = |endpoint: Endpoint| {
        let (summary, content) = error(
            "The selector or a parameter is not one, or one that is not described was given.",
        );
        let endpoint = endpoint.answers(400, summary, content);
        let (summary, content) = error("That would be too much, or the range is empty.");
        endpoint.answers(422, summary, content)
    };
    let path = "/v1/metrics/query";
    let summary = "The newest point of every series at a time, no older than `lookback_delta`.";
    let instant = Endpoint::new("get", path, "queryMetrics", summary, get(metrics::query));
    let path = "/v1/metrics/query_range";
    let summary = "The same at every step.";
    let range = Endpoint::new(
        "get",
        path,
        "queryMetricsRange",
        summary,
        get(metrics::query_range),
    );
    let at = "Seconds since 1970; now, if it is not given.";
    let bound = "Seconds since 1970.";
    vec![
        refused(
            instant
                .takes(&[selector(), query("time", time.clone(), at), lookback()])
                .shows_json("MetricsVector", "As Prometheus answers."),
        ),
        refused(
            range
                .takes(&[
                    selector(),
                    required(query("start", time.clone(), bound)),
                    required(query("end", time, bound)),
                    required(query("step", step.clone(), "Seconds, or a duration.")),
                    lookback(),
                ])
                .shows_json("MetricsMatrix", "As Prometheus answers."),
        ),
    ]
}

fn files() -> Vec<Endpoint> {
    let the_digest = path(
        "digest",
        reference("ModuleDigest"),
        "The SHA-256 of its bytes.",
    );
    let wasm = json!({"type": "string", "format": "binary"});
    let location = "/v1/modules/{digest}";
    let summary = "Upload a WebAssembly module, for services to name.";
    let put = Endpoint::new("put", location, "putModule", summary, put(modules::put));
    let head = Endpoint::new(
        "head",
        location,
        "hasModule",
        "Whether your organisation has uploaded it.",
        head(modules::head),
    );
    let summary = "Forget a module that no service uses.";
    let deleted = Endpoint::new(
        "delete",
        location,
        "deleteModule",
        summary,
        delete(modules::delete),
    );
    vec![
        put.takes(std::slice::from_ref(&the_digest))
            .body("application/wasm", wasm)
            .answers(201, "It is stored, durably.", None)
            .answers(204, "It was there already.", None)
            .problems(&[
                (404, "This is no digest."),
                (408, "The body stopped coming."),
                (413, "It is larger than 64 MiB."),
                (415, "The body is not application/wasm."),
                (422, "The bytes are not those of the digest."),
            ]),
        deleted
            .takes(std::slice::from_ref(&the_digest))
            .answers(204, "It is forgotten.", None)
            .problems(&[
                (404, "There is no such module."),
                (409, "A service uses it."),
            ]),
        head.takes(&[the_digest])
            .answers(200, "It is.", None)
            .answers(404, "It is not.", None),
    ]
}

fn open() -> Vec<Endpoint> {
    let summary = "This document.";
    let document = Endpoint::new(
        "get",
        "/v1/openapi.json",
        "openapi",
        summary,
        get(reads::document),
    );
    let summary = "Whether the process answers.";
    let health = Endpoint::new("get", "/healthz", "health", summary, get(reads::health));
    let summary = "Whether it serves: it does not listen before it has read its store.";
    let ready = Endpoint::new("get", "/readyz", "ready", summary, get(reads::ready));
    let text = || json!({"type": "string"});
    vec![
        document
            .open()
            .shows(JSON, json!({"type": "object"}), "OpenAPI 3.1."),
        health.open().shows("text/plain", text(), "It does."),
        ready
            .open()
            .shows("text/plain", text(), "It does.")
            .problems(&[(503, "It cannot go on, and is to be started again.")]),
    ]
}
