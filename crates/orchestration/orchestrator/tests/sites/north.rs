//! The same sites, seen through HTTPS.

use std::io::Read as _;
use std::time::Duration;

use auth::Secret;
use nbi::{Client, MigrationSpec, NewJoinToken, Target};
use orchestrator::Role;
use workload::Phase;
use workload::link::Down;

use super::site::{LOG, name, try_join};
use super::{PATIENCE, World, org, video};

/// Does blocking work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    let thread = rt::thread("client".into(), 1 << 20, move || done.send(work()).is_ok());
    thread.expect("a thread");
    result.await.expect("it does not panic")
}

pub(crate) async fn client(world: &World, role: Role) -> Client {
    let token = Secret::random();
    let hash = token.hash();
    let added = world.controller().add_token(&hash, &org(), role).await;
    added.expect("a token");
    let url = format!("https://{}", world.service.nbi);
    Client::new(&url, token.as_str(), world.authority.certificate()).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_run_moved_and_read_by_a_client() {
    let (world, edge, _cloud) = World::with_both().await;
    let client = client(&world, Role::Operator).await;
    let log = {
        let client = client.clone();
        blocking(move || {
            let applied = client.apply(&video("va", "edge", 1)).expect("taken on");
            let applied = client
                .wait_operation(&applied.id, PATIENCE)
                .expect("an answer");
            assert_eq!(applied.phase, "Succeeded", "{applied:?}");
            let spec = MigrationSpec {
                service: name("va"),
                block: None,
                to: Target::Site(name("cloud")),
                ranks: Some(vec![1]),
                deadline: None,
                reason: None,
            };
            let moved = client.migrate(&spec).expect("taken on");
            let moved = client
                .wait_operation(&moved.id, PATIENCE)
                .expect("an answer");
            assert_eq!(moved.phase, "Succeeded", "{moved:?}");
            let units = client.units("va").expect("it runs");
            let sites: Vec<_> = units[0].ranks.iter().map(|at| at.site.as_str()).collect();
            assert_eq!(sites, ["edge", "cloud"]);
            let id = moved.target.rsplit('/').next().expect("a path");
            let migration = client.migration(id).expect("it is there");
            assert_eq!((migration.status.moved, migration.status.ranks), (1, 1));

            let mut log = Vec::new();
            let mut reader = client.logs("va", None, 0, false);
            reader.read_to_end(&mut log).expect("it ends");
            assert_eq!(log, LOG);
            assert_eq!(reader.offset(), LOG.len() as u64);
            client.logs("va", Some(("decode", 0)), 10, true)
        })
        .await
    };
    // Whoever follows is told what there is, waits, and is told of the end.
    let following = blocking(move || {
        let mut log = log;
        let mut text = Vec::new();
        log.read_to_end(&mut text).map(|_| text)
    });
    edge.change(|state| {
        for unit in state.units.values_mut() {
            unit.phase = Phase::Succeeded;
            unit.exit_code = Some(0);
        }
    });
    let text = tokio::time::timeout(PATIENCE, following).await;
    let text = text.expect("it ends").expect("no error");
    assert_eq!(text, &LOG[10..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_joins_with_a_token_that_is_asked_for() {
    let world = World::new().await;
    let client = client(&world, Role::Operator).await;
    let issue = async |ttl: &str| {
        let wish = NewJoinToken {
            site: Some(name("attic")),
            ttl: Some(ttl.to_owned()),
        };
        let client = client.clone();
        blocking(move || client.issue_join_token(&wish)).await
    };
    let issued = issue("1h").await.expect("there is room");
    assert!(!format!("{issued:?}").contains(&issued.token));
    let token: auth::JoinToken = issued.token.parse().expect("a token");
    assert_eq!(token.authority, world.authority.fingerprint());
    let request = auth::KeyRequest::new().expect("a key");
    let join = |site: &str, secret: &str| {
        let link = world.service.link;
        try_join(link, &token.authority, site, secret, &request).expect("an answer")
    };
    let refused = join("cellar", token.secret.as_str());
    assert!(matches!(refused, Down::Refused { .. }), "{refused:?}");
    let joined = join("attic", token.secret.as_str());
    assert!(matches!(joined, Down::Joined { .. }), "{joined:?}");

    assert_eq!(
        issue("25h").await.expect_err("too long").status(),
        Some(422)
    );
    assert_eq!(issue("1").await.expect_err("no unit").status(), Some(400));
    let adopting = client.clone();
    let conflict = blocking(move || adopting.adopt_site("attic")).await;
    assert_eq!(conflict.expect_err("it does not wait").status(), Some(409));
    let unknown = blocking(move || client.adopt_site("mars")).await;
    assert_eq!(unknown.expect_err("no such site").status(), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_starts_again_is_asked_again() {
    let (world, _edge) = World::with_edge().await;
    let client = client(&world, Role::Operator).await;
    let before = client.clone();
    let since = blocking(move || {
        before.apply(&video("va", "edge", 1)).expect("taken on");
        let mut watching = before.watch(None);
        before.scale("va", "decode", 2).expect("taken on");
        let event = watching.next().expect("no end");
        event.expect("an event").revision
    })
    .await;
    let world = world.restart().await;
    let url = format!("https://{}", world.service.nbi);
    let token = Secret::random();
    let hash = token.hash();
    let added = world
        .controller()
        .add_token(&hash, &org(), Role::Operator)
        .await;
    added.expect("a token");
    let after = Client::new(&url, token.as_str(), world.authority.certificate());
    let after = after.expect("a client");
    blocking(move || {
        assert_eq!(after.services().expect("all").len(), 1, "it was durable");
        // Events are not: what was missed is listed.
        let gone = after.watch(Some(&since)).next().expect("an answer");
        assert_eq!(gone.expect_err("too long ago").status(), Some(410));
        // The old address is dead: that is said, after some tries.
        let began = rt::now();
        client.services().expect_err("nobody is there");
        assert!(began.elapsed() < Duration::from_secs(30));
    })
    .await;
}
