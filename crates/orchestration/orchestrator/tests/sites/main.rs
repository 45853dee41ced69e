//! A controller with simulated sites over real sockets.

mod forget;
mod north;
mod site;
mod stutter;

use std::sync::Arc;
use std::time::Duration;

use auth::{Authority, KeyRequest, Secret};
use bytes::Bytes;
use ids::{Generation, Name, UnitId};
use meta::{Memory, MetaStore};
use nbi::{MigrationSpec, Operation};
use orchestrator::{Config, Controller, Deps, Error, ErrorKind, Role, Service, Terms, start};
use serde_json::json;
use sha2::Digest as _;
use tempfile::TempDir;
use workload::Phase;
use workload::link::{CONTROLLER_NAME, Down, Up, VERSION, site_certificate_name};

use site::{LOG, Site, ask, hexadecimal, name, try_join};

const PATIENCE: Duration = Duration::from_secs(30);
const MODULE: &[u8] = b"a program";

struct World {
    dir: TempDir,
    authority: Authority,
    service: Service,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new().expect("an authority");
        let dir = tempfile::tempdir().expect("a directory");
        let service = controller(&dir, &authority, None).await;
        Self {
            dir,
            authority,
            service,
        }
    }

    /// With one site, which is ready.
    async fn with_edge() -> (Self, Site) {
        let world = Self::new().await;
        let edge = world.site("edge", "edge", 1.0);
        ready(world.controller(), "edge").await;
        (world, edge)
    }

    /// With two.
    async fn with_both() -> (Self, Site, Site) {
        let (world, edge) = Self::with_edge().await;
        let cloud = world.site("cloud", "cloud", 1.0);
        ready(world.controller(), "cloud").await;
        (world, edge, cloud)
    }

    fn controller(&self) -> &Controller {
        &self.service.controller
    }

    fn site(&self, site: &str, tier: &str, cpu_share: f64) -> Site {
        let mut site = quiet_site(&self.authority, site, tier, cpu_share);
        site.dial(self.service.link);
        site
    }

    /// Ends the controller, and starts it again at another address.
    async fn restart(self) -> Self {
        let Self {
            dir,
            authority,
            service,
        } = self;
        service.stop().await;
        let service = controller(&dir, &authority, None).await;
        Self {
            dir,
            authority,
            service,
        }
    }
}

fn quiet_site(authority: &Authority, site: &str, tier: &str, cpu_share: f64) -> Site {
    let certificate = site_certificate_name(&name(site));
    let identity = authority.identity(&certificate).expect("an identity");
    Site::new(site, tier, cpu_share, identity)
}

async fn controller(
    dir: &TempDir,
    authority: &Authority,
    store: Option<Arc<dyn MetaStore>>,
) -> Service {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let config = Config {
        dir: dir.path().to_owned(),
        link: loopback,
        nbi: loopback,
    };
    let deps = Deps {
        authority: Authority::from_key(&authority.key()).expect("its key"),
        explainer: None,
        metrics: telemetry::Metrics::new(),
        store,
    };
    let service = start(config, deps).await.expect("starts");
    let digest = module().parse().expect("a digest");
    let mut upload = service
        .controller
        .put_module(&org(), &digest)
        .await
        .expect("room");
    upload
        .write(Bytes::from_static(MODULE))
        .await
        .expect("written");
    upload.finish().await.expect("it is that module");
    service
}

fn module() -> String {
    hexadecimal(&sha2::Sha256::digest(MODULE))
}

fn org() -> Name {
    name("acme")
}

/// A service of one block of two ranks.
fn video(service: &str, tier: &str, replicas: u32) -> nbi::Service {
    let service = json!({
        "apiVersion": "blocks/v1beta1",
        "kind": "Service",
        "metadata": {"name": service},
        "spec": {"blocks": [{
            "name": "decode",
            "kind": "CellDeployment",
            "module": format!("sha256:{}", module()),
            "ranks": 2,
            "replicas": replicas,
            "placement": {"siteSelector": {"matchLabels": {"tier": tier}}},
        }]},
    });
    serde_json::from_value(service).expect("a service")
}

fn unit(service: &str) -> UnitId {
    UnitId::new(&org(), &name(service), &name("decode"), 0)
}

/// Waits until something holds; it is looked at whenever something changes.
async fn until(controller: &Controller, what: &str, holds: impl Fn(&Controller) -> bool) {
    let mut watch = controller.watch(&org(), None).expect("from now on");
    let wait = async {
        while !holds(controller) {
            watch.next().await.expect("not that many events");
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(
        waited.is_ok(),
        "{what}: {:#?}",
        controller.services(&org(), None, 9)
    );
}

async fn done(controller: &Controller, operation: Operation) -> Operation {
    let waited = controller
        .wait_operation(&org(), &operation.id, PATIENCE)
        .await;
    let operation = waited.expect("it is there");
    assert!(operation.done_at_ms.is_some(), "{operation:?}");
    operation
}

fn keyed(key: &str) -> Terms {
    Terms {
        idempotency_key: Some(key.to_owned()),
        ..Terms::default()
    }
}

async fn try_apply(
    controller: &Controller,
    service: &nbi::Service,
    terms: &Terms,
) -> Result<Operation, Error> {
    controller.apply_service(&org(), service, terms).await
}

async fn try_migrate(
    controller: &Controller,
    service: &str,
    to: &str,
    deadline: &str,
) -> Result<Operation, Error> {
    let spec = json!({"service": service, "to": {"site": to}, "deadline": deadline});
    let spec: MigrationSpec = serde_json::from_value(spec).expect("a migration");
    controller.migrate(&org(), &spec, &Terms::default()).await
}

fn refusal(result: Result<Operation, Error>) -> ErrorKind {
    result.expect_err("refused").kind
}

/// Applies a service, and waits for the end of the operation.
async fn apply(controller: &Controller, service: &nbi::Service) -> Operation {
    let operation = controller
        .apply_service(&org(), service, &Terms::default())
        .await;
    done(controller, operation.expect("valid")).await
}

async fn ready(controller: &Controller, site: &str) {
    until(controller, "the site is ready", |controller| {
        site_phase(controller, site) == "Ready"
    })
    .await;
}

fn site_phase(controller: &Controller, site: &str) -> String {
    let site = controller.site(&org(), &name(site));
    site.map_or_else(|_| String::new(), |site| site.status.phase)
}

fn phase(controller: &Controller, service: &str) -> String {
    let service = controller
        .service(&org(), &name(service))
        .expect("it is there");
    service.status.expect("has one").phase
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_joins_once_and_only_as_itself() {
    let world = World::new().await;
    let (controller, link) = (world.controller(), world.service.link);
    let authority = world.authority.fingerprint();
    let (secret, request) = (Secret::random(), KeyRequest::new().expect("a key"));
    let ttl = Duration::from_secs(600);
    let edge = name("edge");
    controller
        .add_join_token(&secret.hash(), Some(&edge), ttl)
        .await
        .expect("added");

    let refused = |answer: Down| match answer {
        Down::Refused { reason } => reason,
        other => panic!("{other:?}"),
    };
    let join = |site: &str, token: &Secret, request: &KeyRequest| {
        try_join(link, &authority, site, token.as_str(), request).expect("an answer")
    };
    let reason = refused(join("edge", &Secret::random(), &request));
    assert!(reason.contains("not known"), "{reason}");
    let reason = refused(join("cloud", &secret, &request));
    assert!(reason.contains("another site"), "{reason}");
    let Down::Joined { certificate, .. } = join("edge", &secret, &request) else {
        panic!("refused");
    };
    // The same party may ask again; nobody else may, even after the token was given again.
    assert!(matches!(
        join("edge", &secret, &request),
        Down::Joined { .. }
    ));
    controller
        .add_join_token(&secret.hash(), Some(&edge), ttl)
        .await
        .expect("nothing new");
    let other = KeyRequest::new().expect("a key");
    let reason = refused(join("edge", &secret, &other));
    assert!(reason.contains("used before"), "{reason}");
    // A token for any site is none for one that exists.
    let any = Secret::random();
    controller
        .add_join_token(&any.hash(), None, ttl)
        .await
        .expect("added");
    let reason = refused(join("edge", &any, &other));
    assert!(reason.contains("of this name"), "{reason}");
    let old = Secret::random();
    controller
        .add_join_token(&old.hash(), None, Duration::ZERO)
        .await
        .expect("added");

    let bytes = |text: &str| -> Vec<u8> {
        let byte = |idx| u8::from_str_radix(&text[idx..idx + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let authority = world.authority.certificate().to_vec();
    let identity = request.into_identity(authority, bytes(&certificate));
    let tls = auth::Tls::new(&identity).expect("a certificate");
    let mut stream = tls.connect(link, CONTROLLER_NAME).expect("it is taken");
    let hello = Up::Hello {
        version: VERSION,
        site: name("cloud"),
        labels: ids::Labels::new(),
        generation: Generation(0),
        cpu_share: 1.0,
        cpu_share_by: "none".to_owned(),
    };
    let reason = refused(ask(&mut stream, &hello).expect("an answer"));
    assert!(reason.contains("certificate"), "{reason}");
    let mut site = Site::new("edge", "edge", 1.0, identity);
    site.dial(link);
    ready(controller, "edge").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_runs_where_its_labels_are_and_says_why() {
    let (world, edge, cloud) = World::with_both().await;
    let controller = world.controller();

    let operation = apply(controller, &video("va", "edge", 1)).await;
    assert_eq!(
        (operation.phase.as_str(), operation.error),
        ("Succeeded", None)
    );
    assert_eq!(operation.target, "/v1/services/va");
    assert_eq!(phase(controller, "va"), "InSync");
    let units = controller.units(&org(), &name("va")).expect("it is there");
    let shown: Vec<_> = units
        .iter()
        .map(|unit| (unit.id.as_str(), unit.site.as_str()))
        .collect();
    assert_eq!(shown, [("acme/va/decode/0", "edge")]);
    assert!(cloud.state().units.is_empty());
    edge.until("it has the module", |state| {
        state.modules.values().any(|bytes| bytes == MODULE)
    })
    .await;

    let explanation = controller
        .explain(&org(), &name("va"))
        .expect("it is there");
    let reasons = &explanation.blocks[0].placement;
    assert!(reasons[0].starts_with("edge: chosen"), "{reasons:?}");
    assert_eq!(reasons[1], "cloud: it does not have the label tier=edge");

    let piece = controller
        .read_log(&org(), &unit("va"), 10, 100, Duration::ZERO)
        .await;
    let piece = piece.expect("the site answers");
    assert_eq!(
        (piece.offset, piece.bytes.as_slice(), piece.is_end),
        (10, &LOG[10..], false)
    );
    let other = controller
        .read_log(&name("evil"), &unit("va"), 0, 100, Duration::ZERO)
        .await;
    assert_eq!(other.expect_err("not theirs").kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_has_ended_is_not_started_again() {
    let (world, edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    edge.change(|state| {
        for unit in state.units.values_mut() {
            unit.phase = Phase::Succeeded;
            unit.exit_code = Some(0);
        }
    });
    until(controller, "it has succeeded", |controller| {
        phase(controller, "va") == "Succeeded"
    })
    .await;
    let n_configured = edge.state().n_configured;
    apply(controller, &video("va", "edge", 1)).await;
    assert_eq!(edge.state().n_configured, n_configured);
    let end = controller
        .read_log(&org(), &unit("va"), 24, 100, PATIENCE)
        .await;
    assert!(end.expect("answered at once").is_end);

    let operation = controller
        .delete_service(&org(), &name("va"), &Terms::default())
        .await;
    assert_eq!(
        done(controller, operation.expect("it is there"))
            .await
            .phase,
        "Succeeded"
    );
    edge.until("it is gone", |state| state.units.is_empty())
        .await;
    controller
        .service(&org(), &name("va"))
        .expect_err("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_is_done_once_and_preconditions_hold() {
    let (world, _edge) = World::with_edge().await;
    let controller = world.controller();
    let once = keyed("once");
    let first = try_apply(controller, &video("va", "edge", 1), &once)
        .await
        .expect("valid");
    let again = try_apply(controller, &video("va", "edge", 1), &once).await;
    assert_eq!(again.expect("the same").id, first.id);
    let other = try_apply(controller, &video("va", "edge", 2), &once).await;
    assert_eq!(refusal(other), ErrorKind::KeyReused);
    done(controller, first).await;

    let absent = Terms {
        if_absent: true,
        ..Terms::default()
    };
    let matching = |version: &str| Terms {
        if_match: Some(version.to_owned()),
        ..Terms::default()
    };
    let service = video("va", "edge", 3);
    let found = controller
        .service(&org(), &name("va"))
        .expect("it is there");
    let current = matching(&found.metadata.resource_version.expect("has one"));
    for terms in [absent, matching("0")] {
        assert_eq!(
            refusal(try_apply(controller, &service, &terms).await),
            ErrorKind::Precondition
        );
    }
    let operation = try_apply(controller, &service, &current)
        .await
        .expect("as read");
    assert_eq!(done(controller, operation).await.progress.goal, 3);
    assert_eq!(
        refusal(try_apply(controller, &service, &current).await),
        ErrorKind::Precondition
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_pointed_at() {
    let (world, _edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    let terms = Terms::default();
    let mut changed = video("va", "edge", 3);
    let nbi::BlockKind::CellDeployment(cell) = &mut changed.spec.blocks[0].kind;
    cell.ranks = 4;
    let error = try_apply(controller, &changed, &terms)
        .await
        .expect_err("immutable");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(error.pointer.as_deref(), Some("/spec/blocks/0/ranks"));
    let nbi::BlockKind::CellDeployment(cell) = &mut changed.spec.blocks[0].kind;
    cell.module = format!("sha256:{}", "0".repeat(64));
    changed.metadata.name = name("vb");
    let error = try_apply(controller, &changed, &terms)
        .await
        .expect_err("no such module");
    assert_eq!(error.pointer.as_deref(), Some("/spec/blocks/0/module"));

    let digest = "1".repeat(64).parse().expect("a digest");
    let mut wrong = controller.put_module(&org(), &digest).await.expect("room");
    wrong
        .write(Bytes::from_static(MODULE))
        .await
        .expect("written");
    assert_eq!(
        wrong.finish().await.expect_err("another digest").kind,
        ErrorKind::Invalid
    );
    assert!(!controller.has_module(&org(), &digest));
    let modules = std::fs::read_dir(world.dir.path().join("modules")).expect("a directory");
    assert_eq!(modules.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_changes_the_number_of_units() {
    let (world, edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 3)).await;
    let epoch = edge.state().units[&unit("va")].epoch;
    let (va, decode, terms) = (name("va"), name("decode"), Terms::default());
    for replicas in [1, 4, 2] {
        let operation = controller
            .scale(&org(), &va, &decode, replicas, &terms)
            .await;
        let operation = done(controller, operation.expect("valid")).await;
        assert_eq!(
            (operation.phase.as_str(), operation.kind.as_str()),
            ("Succeeded", "scale")
        );
        let units = controller.units(&org(), &va).expect("it is there");
        assert_eq!(
            (units.len(), edge.state().units.len()),
            (replicas as usize, replicas as usize)
        );
    }
    assert_eq!(
        edge.state().units[&unit("va")].epoch,
        epoch,
        "what runs goes on"
    );
    let scale = async |org, service, block, replicas| {
        refusal(
            controller
                .scale(&name(org), &name(service), &name(block), replicas, &terms)
                .await,
        )
    };
    assert_eq!(scale("acme", "va", "x", 1).await, ErrorKind::Invalid);
    assert_eq!(
        scale("acme", "va", "decode", 5000).await,
        ErrorKind::Invalid
    );
    assert_eq!(scale("acme", "x", "decode", 1).await, ErrorKind::NotFound);
    assert_eq!(scale("evil", "va", "decode", 1).await, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_excludes_what_runs_is_refused() {
    let (world, edge, _cloud) = World::with_both().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    let terms = Terms::default();
    let error = try_apply(controller, &video("va", "cloud", 1), &terms).await;
    let error = error.expect_err("it runs at the other site");
    assert_eq!(error.kind, ErrorKind::Conflict);
    let pointer = "/spec/blocks/0/placement/siteSelector";
    assert_eq!(error.pointer.as_deref(), Some(pointer));
    assert!(error.message.contains("migration"), "{error}");

    // One that does not exclude it is taken, and one where it is moved first.
    let mut anywhere = video("va", "edge", 1);
    let placement = &mut anywhere.spec.blocks[0].placement;
    placement.site_selector = ids::Selector::default();
    assert_eq!(apply(controller, &anywhere).await.phase, "Succeeded");
    let moved = try_migrate(controller, "va", "cloud", "60s").await;
    done(controller, moved.expect("valid")).await;
    let operation = apply(controller, &video("va", "cloud", 1)).await;
    assert_eq!(operation.phase, "Succeeded");
    // What has ended is nowhere.
    edge.change(|state| {
        for unit in state.units.values_mut() {
            unit.phase = Phase::Succeeded;
        }
    });
    until(controller, "it has succeeded", |controller| {
        phase(controller, "va") == "Succeeded"
    })
    .await;
    apply(controller, &video("va", "edge", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_converges() {
    let (world, edge, cloud) = World::with_both().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    let operation = try_migrate(controller, "va", "cloud", "60s")
        .await
        .expect("valid");
    let id = operation
        .target
        .strip_prefix("/v1/migrations/")
        .expect("a migration")
        .to_owned();
    let operation = done(controller, operation).await;
    assert_eq!(
        (operation.phase.as_str(), operation.error),
        ("Succeeded", None)
    );
    let status = controller
        .migration(&org(), &id)
        .expect("it is there")
        .status;
    assert_eq!(
        (status.phase.as_str(), status.moved, status.ranks),
        ("Succeeded", 2, 2)
    );
    assert!(
        (status.pause_ms_max - 1.5).abs() < 1e-9,
        "{}",
        status.pause_ms_max
    );
    let units = controller.units(&org(), &name("va")).expect("it is there");
    assert_eq!(
        (units[0].home.as_str(), units[0].site.as_str()),
        ("edge", "cloud")
    );
    // The parts have been told of each other, and of nobody else.
    let offer = |state: &site::State, from: &str| {
        let offers = state.offers.get(&unit("va"));
        offers.is_some_and(|offers| offers.keys().eq([&name(from)]))
    };
    cloud
        .until("the home's offer", |state| offer(state, "edge"))
        .await;
    edge.until("the other part's offer", |state| offer(state, "cloud"))
        .await;

    assert_eq!(
        refusal(try_migrate(controller, "va", "mars", "1s").await),
        ErrorKind::Invalid
    );
    assert_eq!(
        refusal(try_migrate(controller, "vx", "edge", "1s").await),
        ErrorKind::NotFound
    );
    assert_eq!(
        refusal(try_migrate(controller, "va", "edge", "1").await),
        ErrorKind::Invalid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_rolled_back_by_its_deadline() {
    let (world, edge, _cloud) = World::with_both().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    edge.change(|state| state.is_stubborn = true);
    for _ in 0..10 {
        // Whatever is planned in between: in the end, it is as it was.
        let operation = try_migrate(controller, "va", "cloud", "1us")
            .await
            .expect("valid");
        let operation = done(controller, operation).await;
        assert_eq!(operation.phase, "Failed");
        let error = operation.error.expect("why");
        assert!(error.contains("0 of 2 ranks"), "{error}");
        let units = controller.units(&org(), &name("va")).expect("it is there");
        assert_eq!(units[0].site.as_str(), "edge");
    }
    let migrations = controller
        .migrations(&org(), None, 99)
        .expect("a page")
        .items;
    assert!(
        migrations
            .iter()
            .all(|migration| migration.status.phase == "RolledBack")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_moved_by_one_migration_at_a_time() {
    let (world, edge, _cloud) = World::with_both().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    edge.change(|state| state.is_stubborn = true);
    let operation = try_migrate(controller, "va", "cloud", "1h")
        .await
        .expect("valid");
    let second = try_migrate(controller, "va", "edge", "1h").await;
    let error = second.expect_err("the first is under way");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains(&operation.id), "{error}");
    // The units go: so does the migration.
    let deleted = controller
        .delete_service(&org(), &name("va"), &Terms::default())
        .await;
    done(controller, deleted.expect("it is there")).await;
    let operation = done(controller, operation).await;
    assert_eq!(operation.error.as_deref(), Some("its units were deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_site_is_unknown_and_nothing_of_it_is_replaced() {
    let (world, edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    let other = world.site("edge-2", "edge", 9.0);
    ready(controller, "edge-2").await;
    edge.change(|state| state.is_silent = true);
    until(controller, "it is unknown", |controller| {
        phase(controller, "va") == "Unknown"
    })
    .await;
    assert_eq!(site_phase(controller, "edge"), "Unknown");
    // What is new goes elsewhere, what runs stays.
    apply(controller, &video("vb", "edge", 1)).await;
    let site = |service| {
        controller
            .units(&org(), &name(service))
            .expect("it is there")[0]
            .site
            .clone()
    };
    assert_eq!(
        (site("va").as_str(), site("vb").as_str()),
        ("edge", "edge-2")
    );
    edge.change(|state| state.is_silent = false);
    until(controller, "it is back", |controller| {
        phase(controller, "va") == "InSync"
    })
    .await;
    assert_eq!(edge.state().n_configured, 1);
    assert_eq!(other.state().units.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_starts_again_knows_what_it_knew() {
    let (world, mut edge) = World::with_edge().await;
    let terms = keyed("once");
    let service = video("va", "edge", 1);
    let operation = world
        .controller()
        .apply_service(&org(), &service, &terms)
        .await
        .expect("valid");
    let operation = done(world.controller(), operation).await;
    let token = Secret::random();
    world
        .controller()
        .add_token(&token.hash(), &org(), Role::Operator)
        .await
        .expect("new");
    let revision = world.controller().revision();
    edge.stop();

    let world = world.restart().await;
    let controller = world.controller();
    let caller = Some((org(), Role::Operator));
    assert_eq!(controller.authenticate(token.as_str()), caller);
    assert_eq!(controller.authenticate(Secret::random().as_str()), None);
    // Nothing is known of what the site does until it says so.
    assert_eq!(phase(controller, "va"), "Unknown");
    let error = controller
        .watch(&org(), Some(&revision))
        .expect_err("of another run");
    assert_eq!(error.kind, ErrorKind::Gone);
    edge.dial(world.service.link);
    until(controller, "the site is back", |controller| {
        phase(controller, "va") == "InSync"
    })
    .await;
    // It has what it was sent before.
    assert_eq!(edge.state().n_configured, 1);
    let again = controller
        .apply_service(&org(), &service, &terms)
        .await
        .expect("the same");
    assert_eq!(again, operation);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_on_one_store_agree() {
    const EACH: usize = 12;
    let authority = Authority::new().expect("an authority");
    let store: Arc<dyn MetaStore> = Arc::new(Memory::new());
    let dirs = [tempfile::tempdir(), tempfile::tempdir()].map(|dir| dir.expect("a directory"));
    let first = controller(&dirs[0], &authority, Some(Arc::clone(&store))).await;
    let second = controller(&dirs[1], &authority, Some(store)).await;
    let mut edge = quiet_site(&authority, "edge", "edge", 1.0);
    let mut cloud = quiet_site(&authority, "cloud", "cloud", 1.0);
    edge.dial(first.link);
    cloud.dial(second.link);
    ready(&first.controller, "edge").await;
    ready(&second.controller, "cloud").await;
    // Each controller can place only where it hears somebody; the other's units wait for it.
    let requests = async |controller: &Controller, prefix: &str, tier: &str| {
        for idx in 0..EACH {
            apply(controller, &video(&format!("{prefix}-{idx}"), tier, 2)).await;
        }
    };
    tokio::join!(
        requests(&first.controller, "a", "edge"),
        requests(&second.controller, "b", "cloud"),
    );
    for controller in [&first.controller, &second.controller] {
        let services = controller
            .services(&org(), None, 500)
            .expect("a page")
            .items;
        assert_eq!(services.len(), 2 * EACH);
        let n_units = services
            .iter()
            .filter_map(|s| s.status.as_ref())
            .map(|s| s.units.len());
        assert_eq!(n_units.sum::<usize>(), 4 * EACH);
    }
    for site in [&edge, &cloud] {
        let state = site.state();
        assert_eq!(state.units.len(), 2 * EACH);
        assert!(state.generations.is_sorted(), "{:?}", state.generations);
    }
    // A site may be with either.
    edge.dial(second.link);
    until(&second.controller, "all is heard of", |controller| {
        let services = controller
            .services(&org(), None, 500)
            .expect("a page")
            .items;
        services.iter().all(|service| {
            let status = service.status.as_ref();
            status.is_some_and(|status| status.phase == "InSync")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_site_is_the_site() {
    let (world, old) = World::with_edge().await;
    let controller = world.controller();
    let new = world.site("edge", "edge", 2.0);
    until(controller, "the new one is heard", |controller| {
        controller
            .site(&org(), &name("edge"))
            .is_ok_and(|site| site.spec.cpu_share > 1.5)
    })
    .await;
    apply(controller, &video("va", "edge", 1)).await;
    assert_eq!((old.state().n_configured, new.state().n_configured), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_knows_more_than_the_store_waits_for_an_operator() {
    let world = World::new().await;
    let controller = world.controller();
    let mut edge = quiet_site(&world.authority, "edge", "edge", 1.0);
    edge.change(|state| state.config.generation = Generation(99));
    edge.dial(world.service.link);
    until(controller, "it is held", needs_operator).await;
    let operation = controller
        .apply_service(&org(), &video("va", "edge", 1), &Terms::default())
        .await;
    let operation = operation.expect("valid");
    until(controller, "it is not placed there", |controller| {
        phase(controller, "va") == "Pending"
    })
    .await;
    assert_eq!(edge.state().n_configured, 0);

    let (org, edge_name) = (org(), name("edge"));
    let terms = keyed("adopt");
    let adopt = || controller.adopt_site(&org, &edge_name, &terms);
    let adopted = adopt().await.expect("it waits for that");
    assert_eq!(
        (adopted.kind.as_str(), adopted.target.as_str()),
        ("adopt", "/v1/sites/edge")
    );
    let adopted = done(controller, adopted).await;
    assert_eq!(adopted.phase, "Succeeded");
    assert_eq!(adopt().await.expect("it was asked for once"), adopted);
    assert_eq!(done(controller, operation).await.phase, "Succeeded");
    assert!(!needs_operator(controller));
    assert!(
        edge.state()
            .generations
            .iter()
            .all(|generation| *generation > Generation(99))
    );
    let again = controller
        .adopt_site(&org, &edge_name, &Terms::default())
        .await;
    assert_eq!(refusal(again), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_from_a_backup_does_not_overrule_a_site_when_numbers_meet() {
    let (world, mut edge) = World::with_edge().await;
    apply(world.controller(), &video("va", "edge", 1)).await;
    let World {
        dir,
        authority,
        service,
    } = world;
    let (store, backup) = (dir.path().join("meta.redb"), dir.path().join("backup"));
    service.stop().await;
    std::fs::copy(&store, &backup).expect("a backup");
    let service = controller(&dir, &authority, None).await;
    edge.dial(service.link);
    ready(&service.controller, "edge").await;
    apply(&service.controller, &video("vb", "edge", 1)).await;
    edge.stop();
    service.stop().await;
    std::fs::copy(&backup, &store).expect("it is restored");

    // It makes another configuration of the same number, for a site that it does not hear.
    let service = controller(&dir, &authority, None).await;
    let controller = &service.controller;
    let operation = controller
        .delete_service(&org(), &name("va"), &Terms::default())
        .await;
    let operation = operation.expect("it is there");
    until(controller, "it is not planned any more", |controller| {
        let units = controller.units(&org(), &name("va"));
        units.is_ok_and(|units| units.is_empty())
    })
    .await;
    let n_configured = edge.state().n_configured;
    edge.dial(service.link);
    until(controller, "it is held", needs_operator).await;
    assert_eq!(edge.state().n_configured, n_configured);
    assert_eq!(edge.state().units.len(), 2);
    let adopted = controller
        .adopt_site(&org(), &name("edge"), &Terms::default())
        .await;
    adopted.expect("it waits for that");
    assert_eq!(done(controller, operation).await.phase, "Succeeded");
    assert!(edge.state().units.is_empty());
    // What was made then is known from now on.
    edge.dial(service.link);
    apply(controller, &video("vd", "edge", 1)).await;
    assert!(!needs_operator(controller));
}

fn needs_operator(controller: &Controller) -> bool {
    let site = controller.site(&org(), &name("edge"));
    let conditions = site.map(|site| site.status.conditions).unwrap_or_default();
    let mut kinds = conditions.iter().map(|condition| &condition.kind);
    kinds.any(|kind| kind == "NeedsOperator")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_a_site_was_away_goes_when_it_returns() {
    let (world, mut edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    apply(controller, &video("vb", "edge", 1)).await;
    let epoch = edge.state().units[&unit("vb")].epoch;
    edge.stop();
    until(controller, "it is away", |controller| {
        site_phase(controller, "edge") == "Unknown"
    })
    .await;
    let mut operations = Vec::new();
    for service in ["va", "vb"] {
        let operation = controller
            .delete_service(&org(), &name(service), &Terms::default())
            .await;
        operations.push(operation.expect("it is there"));
    }
    // Nobody has seen the end of them: that is no success, and no place for another of the name, though there is room elsewhere.
    let other = world.site("edge-2", "edge", 9.0);
    ready(controller, "edge-2").await;
    let again = try_apply(controller, &video("vb", "edge", 1), &Terms::default()).await;
    assert_eq!(refusal(again), ErrorKind::Conflict);
    apply(controller, &video("vc", "edge", 1)).await;
    for operation in &operations {
        let operation = controller.operation(&org(), &operation.id);
        assert_eq!(operation.expect("it is there").done_at_ms, None);
    }
    assert_eq!(
        (edge.state().units.len(), other.state().units.len()),
        (2, 1)
    );
    edge.dial(world.service.link);
    for operation in operations {
        assert_eq!(done(controller, operation).await.phase, "Succeeded");
    }
    assert!(edge.state().units.is_empty());
    apply(controller, &video("vb", "edge", 1)).await;
    let state = other.state();
    assert!(state.units[&unit("vb")].epoch > epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_scaled_down_at_a_site_that_is_away_is_not_begun_elsewhere() {
    let (world, mut edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    edge.stop();
    until(controller, "it is away", |controller| {
        site_phase(controller, "edge") == "Unknown"
    })
    .await;
    let other = world.site("edge-2", "edge", 9.0);
    ready(controller, "edge-2").await;
    let scale = async |replicas| {
        let (org, va, decode, terms) = (org(), name("va"), name("decode"), Terms::default());
        let scaled = controller.scale(&org, &va, &decode, replicas, &terms);
        scaled.await.expect("valid")
    };
    let down = scale(0).await;
    until(controller, "it is not planned any more", |controller| {
        let units = controller.units(&org(), &name("va"));
        units.is_ok_and(|units| units.is_empty())
    })
    .await;
    let up = scale(1).await;
    until(controller, "it waits", |controller| {
        phase(controller, "va") == "Pending"
    })
    .await;
    let explained = controller.explain(&org(), &name("va"));
    let reasons = explained.expect("it is there").blocks.remove(0).placement;
    assert!(reasons[0].contains("may still run at edge"), "{reasons:?}");
    assert!(other.state().units.is_empty());
    edge.dial(world.service.link);
    for operation in [down, up] {
        assert_eq!(done(controller, operation).await.phase, "Succeeded");
    }
    assert_eq!(
        (edge.state().units.len(), other.state().units.len()),
        (0, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_outlives_its_controller() {
    let (world, mut edge, mut cloud) = World::with_both().await;
    apply(world.controller(), &video("va", "edge", 1)).await;
    edge.change(|state| state.is_stubborn = true);
    let operation = try_migrate(world.controller(), "va", "cloud", "1h")
        .await
        .expect("valid");
    cloud
        .until("it has its part", |state| !state.units.is_empty())
        .await;
    edge.stop();
    cloud.stop();
    let world = world.restart().await;
    edge.state().is_stubborn = false;
    edge.dial(world.service.link);
    cloud.dial(world.service.link);
    // What was sent before is not sent again: the sites have it.
    edge.change(|state| state.obey());
    assert_eq!(done(world.controller(), operation).await.phase, "Succeeded");
    assert_eq!(edge.state().n_configured, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_done_once_over_a_store_that_stutters() {
    let authority = Authority::new().expect("an authority");
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(stutter::Stutter::default());
    let service = controller(
        &dir,
        &authority,
        Some(Arc::clone(&store) as Arc<dyn MetaStore>),
    )
    .await;
    let mut edge = quiet_site(&authority, "edge", "edge", 1.0);
    edge.dial(service.link);
    let controller = &service.controller;
    ready(controller, "edge").await;
    store.begin();
    for round in 0..8 {
        let terms = keyed(&format!("round-{round}"));
        let operation = loop {
            let applied = controller
                .apply_service(&org(), &video("va", "edge", 1 + round % 3), &terms)
                .await;
            match applied {
                Ok(operation) => break operation,
                Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable, "{error}"),
            }
        };
        assert_eq!(done(controller, operation).await.phase, "Succeeded");
    }
    assert!(store.n_failed() > 8);
    let operations = controller
        .operations(&org(), None, 500)
        .expect("a page")
        .items;
    assert_eq!(operations.len(), 8);
    assert_eq!(edge.state().units.len(), 2);
    assert!(edge.state().generations.is_sorted());
}
