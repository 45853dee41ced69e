//! What never succeeds as it is, and what fails once.

use streams_control::{
    Cut, Epoch, Group, Refusal, Request, Response, ScaleStatus, StreamName, TxnStatus,
};

use crate::tables::{current, id, scale, world};
use crate::world::{World, config, group, scope, stream};

fn refused(why: &str) -> Result<Response, Refusal> {
    Err(Refusal::Refused(why.to_owned()))
}

fn team() -> StreamName {
    Group::stream("lab", "team").expect("a name")
}

fn rival() -> StreamName {
    Group::stream("lab", "rival").expect("a name")
}

#[test]
fn a_full_store_refuses_and_nothing_is_left() {
    let mut world = world(2);
    world.is_full = true;
    let full = refused("the store is full");
    let create = Request::CreateStream(stream(1), config(20));
    assert_eq!(world.ask(create.clone()), full);
    assert!(!world.control.has_stream(&stream(1)));
    let split = scale(&[id(0, 0)], &[(0.0, 0.1), (0.1, 0.5)]);
    assert_eq!(world.ask(split.clone()), full);
    assert_eq!(current(&world), [id(0, 0), id(0, 1)]);
    let begin = Request::CreateTxn {
        stream: stream(0),
        lease_ms: 1_000,
        unique: world.unique(),
    };
    assert_eq!(world.ask(begin), full);
    let create_group = Request::CreateGroup(team(), Box::new(group()));
    assert_eq!(world.ask(create_group.clone()), full);
    assert!(!world.control.has_stream(&team()));
    world.check().expect("it is whole");
    // And all of it goes on.
    world.is_full = false;
    world.ask(create).expect("there is room");
    world.ask(create_group).expect("there is room");
    assert_eq!(world.control.group(&team()), Ok(&group()));
    world.ask(split).expect("there is room");
    let status = world.control.scale_status(&stream(0), Epoch(0));
    assert_eq!(status, Ok(ScaleStatus::Success));
    let txn = world.begin(&stream(0));
    world.commit(&txn);
    world.drain();
    world.check().expect("it is whole");
}

#[test]
fn what_was_begun_by_an_earlier_owner_is_undone_too() {
    let mut world = world(2);
    world.request(Request::CreateStream(stream(1), config(3)));
    world.request(scale(&[id(0, 0)], &[(0.0, 0.1), (0.1, 0.5)]));
    // The intents are written, and some is created.
    world.act(0, 1);
    world.act(0, 1);
    world.kill(1);
    world.is_full = true;
    world.drain();
    assert!(!world.control.has_stream(&stream(1)));
    assert_eq!(current(&world), [id(0, 0), id(0, 1)]);
    world.check().expect("it is whole");
}

#[test]
fn a_transaction_whose_segment_was_deleted_goes_to_others() {
    let mut world = world(2);
    let (txn, late) = (world.begin(&stream(0)), world.begin(&stream(0)));
    world.append_in(&txn, 5);
    world.rob("lab/s0/0.#epoch.0");
    world.commit(&txn);
    world.drain();
    let status = world.control.txn_status(&stream(0), txn.id);
    assert_eq!(status, Ok(TxnStatus::Committed));
    assert_eq!(current(&world), [id(2, 0), id(2, 1)]);
    assert_eq!(world.length("lab/s0/0.#epoch.1"), Some(5));
    // The other half was merged where it was.
    assert_eq!(world.length("lab/s0/1.#epoch.0"), Some(5));
    world.commit(&late);
    world.drain();
    let end = [
        Request::SealStream(stream(0)),
        Request::DeleteStream(stream(0)),
        Request::DeleteScope(scope()),
    ];
    for request in end {
        world.ask(request).expect("nothing stops it");
    }
}

#[test]
fn a_scale_does_not_wait_for_a_deleted_segment() {
    let mut world = world(1);
    world.append(&stream(0), 7);
    world.rob("lab/s0/0.#epoch.0");
    world
        .ask(scale(&[id(0, 0)], &[(0.0, 1.0)]))
        .expect("it scales");
    assert_eq!(current(&world), [id(1, 1)]);
    world.ask(Request::SealStream(stream(0))).expect("it ends");
}

#[test]
fn what_was_promised_is_tried_again_ever_more_rarely() {
    let mut world = world(1);
    world.ask(Request::SealStream(stream(0))).expect("it ends");
    let delete = world.request(Request::DeleteStream(stream(0)));
    world.act(0, 1);
    let mut waits = Vec::new();
    for _ in 0..12 {
        world.refuse(0, 0);
        let since = world.now_ms;
        while world.plans.is_empty() {
            world.tick();
            world.now_ms += u64::from(world.plans.is_empty()) * 50;
        }
        waits.push(world.now_ms - since);
    }
    assert_eq!(waits[..6], [0, 100, 200, 400, 800, 1_600]);
    assert_eq!(waits[6..], [3_200, 5_000, 5_000, 5_000, 5_000, 5_000]);
    assert_eq!(world.answers.get(&delete), None);
    world.drain();
    assert_eq!(world.answers[&delete], Ok(Response::Done));
    world.check().expect("it is whole");
}

/// Each request, with each of its plans failing once: it is refused and was not done, or it is done and says so.
#[test]
fn an_answer_says_what_happens() {
    let requests = |world: &mut World| {
        let cut: Cut = [(id(0, 0), 10), (id(0, 1), 10)].into();
        let txn = world.begin(&stream(0));
        [
            Request::CreateStream(stream(1), config(1)),
            Request::UpdateStream(stream(0), config(1)),
            Request::TruncateStream(stream(0), cut),
            scale(&[id(0, 0)], &[(0.0, 0.5)]),
            Request::AbortTxn(stream(0), txn.id),
            Request::SealStream(stream(0)),
            Request::CreateScope(streams_control::Name::new("other").expect("a name")),
            Request::CreateGroup(team(), Box::new(group())),
            Request::UpdateGroup(rival(), Box::new(group())),
            Request::DeleteGroup(rival(), group().id),
        ]
    };
    for idx in 0..10 {
        for n_before in 0..12 {
            let mut world = world(2);
            world.append(&stream(0), 20);
            let create = Request::CreateGroup(rival(), Box::new(group()));
            world.ask(create).expect("a group");
            let request = requests(&mut world)[idx].clone();
            let before = world.rows();
            let ticket = world.request(request.clone());
            for _ in 0..n_before {
                if !world.plans.is_empty() {
                    world.act(0, 1);
                }
            }
            if world.plans.is_empty() {
                break;
            }
            world.fail(0, 0x5555);
            world.drain();
            match &world.answers[&ticket] {
                Ok(_) => assert_ne!(world.rows(), before, "{request:?}, {n_before}"),
                Err(Refusal::Unavailable) => {
                    assert_eq!(world.rows(), before, "{request:?}, {n_before}");
                }
                other => panic!("{request:?}, {n_before}: {other:?}"),
            }
        }
    }
}
