//! The link: cut, refused, and to somebody who speaks nonsense.

use ids::Generation;
use workload::Phase;
use workload::link::{Down, HEADER_BYTES_MAX};

use super::controller::frame;
use super::{World, config, has_condition, wait};

#[test]
fn a_link_that_is_cut_comes_back_and_restarts_nothing() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    for _ in 0..3 {
        let n_hellos = world.controller.heard().hellos.len();
        world.controller.cut();
        wait("it dials again", || {
            (world.controller.heard().hellos.len() > n_hellos).then_some(())
        });
        let inventory = world.controller.await_news();
        assert!(!has_condition(&inventory, "LinkLost"));
        assert_eq!(inventory.units[0].phase, Phase::Running);
    }
    let heard = world.controller.heard();
    let (first, later) = heard.hellos.split_first().expect("some");
    assert_eq!(*first, Generation(0));
    assert!(later.iter().all(|generation| *generation == Generation(1)));
    drop(heard);
    assert_eq!(world.driver.state().log.len(), 1, "one start");
    drop(site);
}

#[test]
fn samples_wait_for_the_link() {
    let mut world = World::new();
    let site = world.running(&[]);
    world.controller.be_deaf(true);
    wait("the link is lost", || {
        has_condition(&site.inventory(), "LinkLost").then_some(())
    });
    let n_before = world.controller.heard().samples.len();
    let refused = world.controller.heard().n_ended;
    // Some attempts are in vain; meanwhile samples are taken.
    wait("attempts", || {
        (world.controller.heard().n_ended >= refused + 4).then_some(())
    });
    world.controller.be_deaf(false);
    let times = wait("what was kept comes", || {
        let heard = world.controller.heard();
        let shares = heard.samples[n_before..]
            .iter()
            .filter(|s| s.name == "site_cpu_share");
        let times: Vec<_> = shares.map(|sample| sample.at_ms).collect();
        (times.len() >= 3).then_some(times)
    });
    assert!(times.is_sorted(), "in order: {times:?}");
    drop(site);
}

/// Says each of these to an agent, which leaves, and comes back.
fn check_that_it_is_left(nonsense: &[Vec<u8>]) {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    for bytes in nonsense {
        let (n_ended, n_hellos) = {
            let heard = world.controller.heard();
            (heard.n_ended, heard.hellos.len())
        };
        world.controller.say_bytes(bytes);
        wait("it hangs up", || {
            (world.controller.heard().n_ended > n_ended).then_some(())
        });
        wait("and dials again", || {
            (world.controller.heard().hellos.len() > n_hellos).then_some(())
        });
    }
    world.controller.configure(config(2, &[(0, 1), (1, 1)]));
    world
        .controller
        .await_phases(2, &[(0, 1), (1, 1)], Phase::Running);
    drop(site);
}

#[test]
fn who_sends_no_frames_is_left() {
    let too_long = u32::try_from(HEADER_BYTES_MAX + 1).expect("it fits");
    let too_long = [too_long.to_le_bytes(), [0; 4]].concat();
    check_that_it_is_left(&[vec![0xff; 64], too_long]);
}

#[test]
fn who_sends_no_messages_is_left() {
    let message = |json: &[u8]| {
        let mut bytes = u32::try_from(json.len())
            .expect("short")
            .to_le_bytes()
            .to_vec();
        bytes.extend([0; 4]);
        bytes.extend(json);
        bytes
    };
    let unheard_of = message(b"{\"type\":\"unheard_of\"}");
    check_that_it_is_left(&[message(b"{}"), unheard_of, message(b"\xff\xfe")]);
    let negative = message(br#"{"type":"configure","config":{"generation":-1,"units":[]}}"#);
    check_that_it_is_left(&[message(&[b'['; 4096]), negative]);
}

#[test]
fn who_answers_what_was_not_asked_or_refuses_is_left() {
    let joined = Down::Joined {
        authority: String::new(),
        certificate: String::new(),
    };
    let refused = Down::Refused {
        reason: "not today".into(),
    };
    check_that_it_is_left(&[frame(&joined, &[]), frame(&refused, &[])]);
}

#[test]
fn configurations_that_cannot_be_meant_are_refused_and_the_link_stays() {
    let mut world = World::new();
    let site = world.running(&[(0, 1)]);
    let n_hellos = world.controller.heard().hellos.len();
    let mut twice = config(2, &[(0, 1), (0, 1)]);
    world.controller.say(
        &Down::Configure {
            config: twice.clone(),
        },
        &[],
    );
    world
        .controller
        .await_inventory("it is refused", |inventory| {
            inventory
                .refused
                .as_ref()
                .is_some_and(|why| why.contains("twice"))
        });
    twice.units.truncate(1);
    twice.units[0].placement.clear();
    world
        .controller
        .say(&Down::Configure { config: twice }, &[]);
    world
        .controller
        .await_inventory("it is refused", |inventory| {
            inventory
                .refused
                .as_ref()
                .is_some_and(|why| why.contains("ranks"))
        });
    assert_eq!(world.controller.heard().hellos.len(), n_hellos);
    drop(site);
}
