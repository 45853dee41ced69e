//! Random histories, and fixed ones that are broken off at each point.

use proptest::prelude::*;
use streams_control::{Group, Range, Request, Segment, StreamName};

use crate::world::{Fault, World, by_size, config, group, scope, stream};

/// What happens next. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Event {
    Create(u8, u8),
    Update(u8),
    Split(u8, u8),
    Join(u8, u8),
    Truncate(u8, u8),
    Seal(u8),
    Delete(u8),
    DeleteScope(bool),
    Group(u8),
    Begin(u8),
    Ping(u8),
    Commit(u8),
    Abort(u8),
    Append(u8),
    Wait(u16),
    Act(u8, u8),
    Fail(u8, u16),
    Refuse(u8, u16),
    Kill(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0..3_u8, 1..4_u8).prop_map(|(s, n)| Event::Create(s, n)),
        1 => (0..3_u8).prop_map(Event::Update),
        4 => (0..3_u8, any::<u8>()).prop_map(|(s, n)| Event::Split(s, n)),
        3 => (0..3_u8, any::<u8>()).prop_map(|(s, n)| Event::Join(s, n)),
        3 => (0..3_u8, 0..3_u8).prop_map(|(s, n)| Event::Truncate(s, n)),
        1 => (0..3_u8).prop_map(Event::Seal),
        1 => (0..3_u8).prop_map(Event::Delete),
        1 => (0..20_u8).prop_map(|n| Event::DeleteScope(n == 0)),
        2 => (0..3_u8).prop_map(Event::Group),
        6 => (0..3_u8).prop_map(Event::Begin),
        2 => any::<u8>().prop_map(Event::Ping),
        6 => any::<u8>().prop_map(Event::Commit),
        2 => any::<u8>().prop_map(Event::Abort),
        3 => (0..3_u8).prop_map(Event::Append),
        2 => (0..700_u16).prop_map(Event::Wait),
        40 => (any::<u8>(), 1..3_u8).prop_map(|(n, times)| Event::Act(n, times)),
        4 => any::<(u8, u16)>().prop_map(|(n, bits)| Event::Fail(n, bits)),
        2 => any::<(u8, u16)>().prop_map(|(n, bits)| Event::Refuse(n, bits)),
        4 => any::<u16>().prop_map(Event::Kill),
    ];
    prop::collection::vec(event, 1..120)
}

fn pick<T: Clone>(items: &[T], n: u8) -> Option<T> {
    (!items.is_empty()).then(|| items[usize::from(n) % items.len()].clone())
}

/// Of what is written now.
fn scale(world: &World, stream: &StreamName, n: u8, is_split: bool) -> Option<Request> {
    let mut segments = world.control.current_segments(stream).ok()?.to_vec();
    segments.sort_by(|a, b| a.range.low().total_cmp(&b.range.low()));
    let first = usize::from(n) % segments.len().max(1);
    let old: Vec<Segment> = segments.into_iter().skip(first).take(2).collect();
    let (sealed, ranges) = match old[..] {
        [one, ..] if is_split => (vec![one.id], one.range.split(2).ok()?),
        [one, other] => {
            let range = Range::new(one.range.low(), other.range.high()).ok()?;
            (vec![other.id, one.id], vec![range])
        }
        _ => return None,
    };
    Some(Request::Scale {
        stream: stream.clone(),
        sealed,
        ranges,
    })
}

fn group_request(n: u8) -> Request {
    let name = Group::stream("lab", "team").expect("a name");
    match n {
        0 => Request::CreateGroup(name, Box::new(group())),
        1 => Request::UpdateGroup(name, Box::new(group())),
        _ => Request::DeleteGroup(name, group().id),
    }
}

fn happen(world: &mut World, event: &Event) {
    let request = match *event {
        Event::Create(s, 3) => Some(Request::CreateStream(stream(s), by_size(20))),
        Event::Create(s, n) => Some(Request::CreateStream(stream(s), config(u32::from(n)))),
        Event::Update(s) => Some(Request::UpdateStream(stream(s), config(1))),
        Event::Split(s, n) => scale(world, &stream(s), n, true),
        Event::Join(s, n) => scale(world, &stream(s), n, false),
        Event::Truncate(s, halves) => {
            let cut = world.tail(&stream(s), halves.into());
            Some(Request::TruncateStream(stream(s), cut))
        }
        Event::Seal(s) => Some(Request::SealStream(stream(s))),
        Event::Delete(s) => Some(Request::DeleteStream(stream(s))),
        Event::DeleteScope(true) => Some(Request::DeleteScopeRecursive(scope())),
        Event::DeleteScope(false) => Some(Request::CreateScope(scope())),
        Event::Group(n) => Some(group_request(n)),
        Event::Begin(s) => Some(Request::CreateTxn {
            stream: stream(s),
            lease_ms: 1_000,
            unique: world.unique(),
        }),
        Event::Ping(n) => pick(&world.txns, n).map(|txn| Request::PingTxn {
            stream: txn.stream,
            txn: txn.id,
            lease_ms: 2_000,
        }),
        Event::Commit(n) => pick(&world.txns, n).map(|txn| Request::CommitTxn {
            stream: txn.stream,
            txn: txn.id,
            writer: "w".to_owned(),
            timestamp: Some(1),
        }),
        Event::Abort(n) => pick(&world.txns, n).map(|txn| Request::AbortTxn(txn.stream, txn.id)),
        _ => None,
    };
    if let Some(request) = request {
        world.request(request);
    }
    match *event {
        Event::Append(s) => {
            world.append(&stream(s), 10);
            if let Some(txn) = pick(&world.txns, s) {
                world.append_in(&txn, 3);
            }
        }
        Event::Wait(ms) => {
            world.now_ms += u64::from(ms);
            world.tick();
        }
        Event::Act(n, times) if !world.plans.is_empty() => {
            world.act(usize::from(n) % world.plans.len(), times);
        }
        Event::Fail(n, bits) if !world.plans.is_empty() => {
            world.fail(usize::from(n) % world.plans.len(), bits);
        }
        Event::Refuse(n, bits) if !world.plans.is_empty() => {
            world.refuse(usize::from(n) % world.plans.len(), bits);
        }
        Event::Kill(bits) => world.kill(bits),
        _ => {}
    }
}

fn run(events: &[Event], fault: Fault) -> Result<(), String> {
    let mut world = World::new(fault);
    world.request(Request::CreateScope(scope()));
    world.drain();
    for event in events {
        happen(&mut world, event);
    }
    world.drain();
    world.check()?;
    // And what is remembered is the same.
    let listed = world.streams();
    world.kill(0);
    world.drain();
    if listed != world.streams() {
        return Err(format!(
            "{listed:?} were listed, and now {:?}",
            world.streams()
        ));
    }
    world.check()
}

proptest! {
    #[test]
    fn all_that_was_begun_is_finished(events in events()) {
        run(&events, Fault::None).map_err(TestCaseError::fail)?;
    }
}

/// Something of everything, in which each step is made as soon as it can be.
fn story() -> Vec<Event> {
    let all = [
        Event::Create(0, 2),
        Event::Create(1, 1),
        Event::Append(0),
        Event::Begin(0),
        Event::Begin(0),
        Event::Begin(1),
        Event::Append(1),
        Event::Split(0, 0),
        Event::Commit(0),
        Event::Commit(1),
        Event::Append(0),
        Event::Begin(0),
        Event::Commit(3),
        Event::Truncate(0, 1),
        Event::Join(0, 1),
        Event::Update(0),
        Event::Commit(2),
        Event::Begin(0),
        Event::Abort(4),
        Event::Begin(0),
        Event::Wait(600),
        Event::Seal(0),
        Event::Delete(0),
        Event::Create(0, 3),
        Event::DeleteScope(true),
    ];
    let acts = |event| [vec![event], vec![Event::Act(0, 1); 16]].concat();
    all.into_iter().flat_map(acts).collect()
}

fn check_story(with: &[Event]) {
    let story = story();
    for at in 0..story.len() {
        let mut broken = story.clone();
        broken.splice(at..at, with.iter().cloned());
        if let Err(error) = run(&broken, Fault::None) {
            panic!("{with:?} before event {at}, {:?}: {error}", story[at]);
        }
    }
}

const BITS: [u16; 6] = [0, 1, 0xffff, 0x5555, 0x6666, 0x9999];

#[test]
fn a_history_can_be_broken_off_anywhere() {
    for bits in BITS {
        check_story(&[Event::Kill(bits)]);
    }
}

#[test]
fn what_fails_or_is_refused_can_do_so_anywhere() {
    for bits in BITS {
        check_story(&[Event::Fail(0, bits)]);
        check_story(&[Event::Refuse(0, bits)]);
        check_story(&[Event::Refuse(0, bits), Event::Fail(0, 0)]);
        check_story(&[Event::Refuse(0, bits), Event::Act(0, 1), Event::Kill(bits)]);
    }
}

/// Else the others would say nothing.
#[test]
fn a_broken_world_is_noticed() {
    run(&story(), Fault::None).expect("it is whole");
    for fault in [
        Fault::NoSuccessors,
        Fault::MergedStays,
        Fault::MergedInPart,
        Fault::TornBatch,
        Fault::NothingGoes,
    ] {
        // Somewhere behind a merge.
        let story = story();
        let commit = story.iter().position(|it| matches!(it, Event::Commit(1)));
        let commit = commit.expect("there is one");
        let is_noticed = |at| {
            let mut broken = story.clone();
            broken.insert(at, Event::Kill(0));
            run(&broken, fault).is_err()
        };
        assert!((commit..commit + 9).any(is_noticed), "{fault:?}");
    }
}

/// They are refused, or were not needed; nothing panics.
#[test]
fn rows_that_are_lost_are_noticed() {
    let story = story();
    for at in (0..story.len()).step_by(5) {
        for idx in 0.. {
            let mut world = World::new(Fault::None);
            world.request(Request::CreateScope(scope()));
            world.drain();
            for event in &story[..at] {
                happen(&mut world, event);
            }
            if !world.lose_row(idx) {
                break;
            }
            world.kill(0);
            world.drain();
        }
    }
}
