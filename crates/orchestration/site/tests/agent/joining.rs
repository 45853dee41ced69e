//! Joining, and who is let in where.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use auth::{JoinToken, Secret};
use ids::Labels;
use site::{Kind, StopMode};

use super::{World, name, start};

#[test]
fn a_site_joins_once_and_keeps_its_identity_private() {
    let world = World::new();
    assert_eq!(world.controller.heard().n_joins, 1);
    let path = world.dir().join("identity.json");
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(path.clone()), 0o600);
    assert_eq!(mode(world.dir()), 0o700);
    let before = fs::read(&path).expect("readable");
    world.join().expect("it has joined already");
    assert_eq!(world.controller.heard().n_joins, 1, "no token is used up");
    assert_eq!(fs::read(&path).expect("readable"), before);
}

/// Between the controller's decision and the file that says so here anything may break: the token is used up, but not lost.
#[test]
fn a_token_whose_answer_was_lost_works_again_at_the_same_site() {
    let world = World::strange();
    world.controller.heard().loses_answers = true;
    for _ in 0..2 {
        let error = world.join().expect_err("no answer");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
    let key = world.dir().join("joining.json");
    assert!(key.exists(), "it is kept");
    world.controller.heard().loses_answers = false;
    let elsewhere = World {
        dir: tempfile::tempdir().expect("a folder"),
        ..world
    };
    let error = elsewhere.join().expect_err("another key");
    assert_eq!(error.kind(), Kind::Unavailable);
    let world = World {
        dir: world.dir,
        ..elsewhere
    };
    world.join().expect("the same key");
    assert!(!key.exists(), "the identity has it");
    drop(world.start());
}

#[test]
fn what_is_wrong_with_joining_is_said() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let check = |site: &str, address: &str, token: &str, kind: Kind| {
        let folder = if site == "edge" {
            dir.path().join("new")
        } else {
            world.dir()
        };
        let error = site::join(&folder, address, token, &name(site), &Labels::new());
        assert_eq!(
            error.expect_err("it is wrong").kind(),
            kind,
            "{site} {address}"
        );
    };
    let (address, token) = (
        world.controller.address.to_string(),
        &world.controller.token,
    );
    let unknown = JoinToken {
        secret: Secret::random(),
        ..token.clone()
    };
    let other = auth::Authority::new().expect("an authority");
    let elsewhere = JoinToken::new(other.certificate(), token.secret.clone()).expect("a token");
    check("edge", "nowhere", &token.to_string(), Kind::Invalid);
    check("edge", &address, "abc", Kind::Invalid);
    check("edge", &address, &unknown.to_string(), Kind::Unavailable);
    check("edge", &address, &elsewhere.to_string(), Kind::Unavailable);
    check("cloud", &address, &token.to_string(), Kind::Conflict);
    assert!(!dir.path().join("new/identity.json").exists());
    assert_eq!(
        world.controller.heard().n_joins,
        2,
        "the secret goes to its authority only"
    );
}

#[test]
fn one_agent_lives_in_a_directory_that_has_joined() {
    let world = World::new();
    let site = world.start();
    let metrics = telemetry::Metrics::new();
    let second = start(&world.dir(), Vec::new(), &metrics).expect_err("one is enough");
    assert_eq!(second.kind(), Kind::Conflict);
    assert_eq!(world.join().expect_err("it runs").kind(), Kind::Conflict);
    site.stop(StopMode::LeaveUnits).expect("it ends");
    let dir = tempfile::tempdir().expect("a folder");
    let stranger = start(dir.path(), Vec::new(), &metrics).expect_err("it has not joined");
    assert_eq!(stranger.kind(), Kind::NotFound);
}
