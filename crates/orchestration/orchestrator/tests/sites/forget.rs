//! Sites that never come back.

use std::sync::Arc;
use std::time::Duration;

use auth::{Authority, Identity, KeyRequest, Secret};
use ids::{Generation, Name};
use meta::{Memory, MetaStore, Write};
use orchestrator::{Controller, Error, ErrorKind, Role, Selector, Terms};
use workload::link::{Down, Sample};

use super::north::{blocking, client};
use super::site::{Site, name, try_join};
use super::{
    World, apply, controller, done, needs_operator, org, quiet_site, ready, site_phase, unit,
    until, video,
};

const TTL: Duration = Duration::from_secs(600);

async fn forget(controller: &Controller, site: &str) -> Result<(), Error> {
    controller.forget_site(&org(), &name(site)).await
}

fn is_known(controller: &Controller, site: &str) -> bool {
    controller.site(&org(), &name(site)).is_ok()
}

/// It is not connected any more when this returns.
async fn away(controller: &Controller, site: &str) {
    until(controller, "it is away", |controller| {
        site_phase(controller, site) == "Unknown"
    })
    .await;
}

/// Dials, and is told that it was forgotten.
async fn is_refused(site: &mut Site, world: &World) {
    site.state().refused = None;
    site.dial(world.service.link);
    site.until("it is refused", |state| {
        let reason = state.refused.as_ref();
        reason.is_some_and(|reason| reason.contains("was forgotten"))
    })
    .await;
}

fn n_series(world: &World, site: &str) -> usize {
    let selector = Selector::parse(&format!("up{{site=\"{site}\"}}")).expect("a selector");
    let found = world.service.series.last_seen(&selector, None);
    found.expect("few").len()
}

fn measure(world: &World, site: &str) {
    let now = rt::wall().duration_since(std::time::UNIX_EPOCH);
    let sample = Sample {
        name: "up".to_owned(),
        labels: [("site".to_owned(), site.to_owned())].into(),
        at_ms: u64::try_from(now.expect("after 1970").as_millis()).expect("fits"),
        value: 1.0,
    };
    world.service.series.append(&[sample]);
    world.service.series.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_never_comes_back_is_forgotten() {
    let (world, mut edge) = World::with_edge().await;
    let controller = world.controller();
    apply(controller, &video("va", "edge", 1)).await;
    let mut other = world.site("edge-2", "edge", 9.0);
    ready(controller, "edge-2").await;
    measure(&world, "edge");
    measure(&world, "edge-2");
    let refused = async |site: &str| {
        let error = forget(controller, site).await.expect_err("refused");
        (error.kind, error.message)
    };
    let (kind, message) = refused("edge").await;
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("is connected"), "{message}");
    assert_eq!(refused("mars").await.0, ErrorKind::NotFound);
    edge.stop();
    away(controller, "edge").await;
    let (kind, message) = refused("edge").await;
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains(unit("va").as_str()), "{message}");
    let stranger = controller.forget_site(&name("other"), &name("edge")).await;
    let message = stranger.expect_err("wanted").message;
    assert!(message.contains("1 of other organisations"), "{message}");

    // Its name is kept for as long as the site may still run it.
    let deleted = controller
        .delete_service(&org(), &name("va"), &Terms::default())
        .await;
    let deleted = deleted.expect("it is there");
    until(controller, "it is not planned any more", |controller| {
        let units = controller.units(&org(), &name("va"));
        units.is_ok_and(|units| units.is_empty())
    })
    .await;
    forget(controller, "edge").await.expect("nothing is wanted");
    assert_eq!(done(controller, deleted).await.phase, "Succeeded");
    apply(controller, &video("va", "edge", 1)).await;
    assert_eq!(other.state().units.len(), 1);
    forget(controller, "edge").await.expect("it is so already");
    assert!(!is_known(controller, "edge"));
    assert_eq!(
        (n_series(&world, "edge"), n_series(&world, "edge-2")),
        (0, 1)
    );
    is_refused(&mut edge, &world).await;
    assert!(!is_known(controller, "edge"));

    other.stop();
    let world = world.restart().await;
    assert_eq!(
        (n_series(&world, "edge"), n_series(&world, "edge-2")),
        (0, 1)
    );
    other.dial(world.service.link);
    ready(world.controller(), "edge-2").await;
    is_refused(&mut edge, &world).await;
    let sites = world.controller().sites(&org(), None, 9).expect("a page");
    assert_eq!(sites.items.len(), 1, "{:?}", sites.items);
    forget(world.controller(), "edge").await.expect("as before");
}

/// Joins; `None`: refused, because the site was forgotten.
fn joined(world: &World, token: &Secret, key: &KeyRequest) -> Option<Vec<u8>> {
    let authority = world.authority.fingerprint();
    let answer = try_join(world.service.link, &authority, "edge", token.as_str(), key);
    match answer.expect("an answer") {
        Down::Joined { certificate, .. } => {
            let byte = |idx| u8::from_str_radix(&certificate[idx..idx + 2], 16);
            let bytes = (0..certificate.len()).step_by(2).map(byte);
            Some(bytes.collect::<Result<_, _>>().expect("hexadecimal"))
        }
        Down::Refused { reason } => {
            assert!(reason.contains("was forgotten"), "{reason}");
            None
        }
        other => panic!("{other:?}"),
    }
}

fn site(world: &World, key: KeyRequest, certificate: Vec<u8>) -> Site {
    let authority = world.authority.certificate().to_vec();
    let identity: Identity = key.into_identity(authority, certificate);
    let mut site = Site::new("edge", "edge", 1.0, identity);
    site.dial(world.service.link);
    site
}

async fn token(world: &World, site: Option<&Name>) -> Secret {
    let token = Secret::random();
    let hash = token.hash();
    let added = world.controller().add_join_token(&hash, site, TTL);
    added.await.expect("room");
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_forgotten_joins_anew_or_not_at_all() {
    let world = World::new().await;
    let edge = name("edge");
    let key = || KeyRequest::new().expect("a key");
    let first = key();
    let kept = first.key();
    let any = token(&world, None).await;
    let certificate = joined(&world, &any, &first).expect("it is new");
    let mut old = site(&world, first, certificate);
    ready(world.controller(), "edge").await;
    let unused = token(&world, Some(&edge)).await;
    old.stop();
    away(world.controller(), "edge").await;
    forget(world.controller(), "edge")
        .await
        .expect("it is away");

    // Neither what it has joined with, nor what was given out for it, is good for anything.
    let first = KeyRequest::from_key(&kept).expect("its key");
    assert_eq!(joined(&world, &any, &first), None);
    assert_eq!(joined(&world, &unused, &first), None);
    let given_again = world.controller();
    for (hash, site) in [(any.hash(), None), (unused.hash(), Some(&edge))] {
        let added = given_again.add_join_token(&hash, site, TTL);
        added.await.expect("nothing new");
    }
    assert_eq!(joined(&world, &unused, &key()), None);
    is_refused(&mut old, &world).await;

    let (anew, second) = (token(&world, Some(&edge)).await, key());
    let certificate = joined(&world, &anew, &second).expect("it is new again");
    let mut new = site(&world, second, certificate);
    ready(world.controller(), "edge").await;
    is_refused(&mut old, &world).await;
    let conflict = forget(world.controller(), "edge").await;
    assert_eq!(conflict.expect_err("connected").kind, ErrorKind::Conflict);

    new.stop();
    let world = world.restart().await;
    is_refused(&mut old, &world).await;
    new.dial(world.service.link);
    ready(world.controller(), "edge").await;
    apply(world.controller(), &video("va", "edge", 1)).await;
    assert_eq!(new.state().units.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_site_that_is_forgotten_has_failed() {
    let world = World::new().await;
    let controller = world.controller();
    let mut edge = quiet_site(&world.authority, "edge", "edge", 1.0);
    edge.change(|state| state.config.generation = Generation(99));
    edge.dial(world.service.link);
    until(controller, "it is held", needs_operator).await;
    edge.stop();
    away(controller, "edge").await;
    let adopted = controller
        .adopt_site(&org(), &name("edge"), &Terms::default())
        .await;
    let adopted = adopted.expect("it waits for that");
    forget(controller, "edge").await.expect("it is away");
    let adopted = done(controller, adopted).await;
    assert_eq!(adopted.phase, "Failed");
    assert_eq!(adopted.error.as_deref(), Some("the site was forgotten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_another_controller_has_forgotten_is_left() {
    let authority = Authority::new().expect("an authority");
    let store: Arc<dyn MetaStore> = Arc::new(Memory::new());
    let dirs = [tempfile::tempdir(), tempfile::tempdir()].map(|dir| dir.expect("a directory"));
    let first = controller(&dirs[0], &authority, Some(Arc::clone(&store))).await;
    let second = controller(&dirs[1], &authority, Some(store)).await;
    let mut edge = quiet_site(&authority, "edge", "edge", 1.0);
    edge.dial(second.link);
    ready(&second.controller, "edge").await;
    until(&first.controller, "it is known", |c| is_known(c, "edge")).await;
    // The first controller hears nothing of it.
    forget(&first.controller, "edge").await.expect("unheard");
    edge.until("it is left", |state| state.n_ended == 1).await;
    let gone = |c: &Controller| !is_known(c, "edge");
    until(&second.controller, "it is gone", gone).await;
    edge.dial(second.link);
    edge.until("it is refused", |state| state.refused.is_some())
        .await;
    assert!(!is_known(&second.controller, "edge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_names_are_remembered() {
    const NAMES_MAX: usize = 10_000;
    let authority = Authority::new().expect("an authority");
    let store = Memory::new();
    // All but one of what is remembered.
    let records: Vec<_> = (1..NAMES_MAX)
        .map(|n| {
            Write::put(
                format!("forgotten/site-{n}"),
                br#"{"at_ms":1,"admits":null}"#.to_vec(),
            )
        })
        .collect();
    store.commit(&[], &records).expect("it is taken");
    let dir = tempfile::tempdir().expect("a directory");
    let service = controller(&dir, &authority, Some(Arc::new(store))).await;
    let controller = &service.controller;
    for site in ["edge", "edge-2"] {
        let mut edge = quiet_site(&authority, site, "edge", 1.0);
        edge.dial(service.link);
        ready(controller, site).await;
        edge.stop();
        away(controller, site).await;
    }
    forget(controller, "edge").await.expect("there is room");
    let error = forget(controller, "edge-2")
        .await
        .expect_err("there is none");
    assert_eq!(error.kind, ErrorKind::Exhausted);
    assert!(is_known(controller, "edge-2"));
    forget(controller, "edge")
        .await
        .expect("it is forgotten already");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_forget_sites_through_the_interface() {
    let (world, mut edge) = World::with_edge().await;
    let operator = client(&world, Role::Operator).await;
    let user = client(&world, Role::User).await;
    let asked = async |client: &nbi::Client, site: &'static str| {
        let client = client.clone();
        let asked = blocking(move || client.forget_site(site)).await;
        asked.map_err(|error| error.status().expect("a status"))
    };
    assert_eq!(asked(&user, "edge").await, Err(403));
    assert_eq!(asked(&operator, "edge").await, Err(409));
    assert_eq!(asked(&operator, "mars").await, Err(404));
    edge.stop();
    away(world.controller(), "edge").await;
    assert_eq!(asked(&user, "edge").await, Err(403));
    assert_eq!(asked(&operator, "edge").await, Ok(()));
    assert_eq!(asked(&operator, "edge").await, Ok(()));
    assert!(!is_known(world.controller(), "edge"));
}
