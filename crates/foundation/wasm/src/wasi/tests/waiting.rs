//! The control points.

use super::super::*;
use super::guest::*;

const OUT: u32 = 40 << 10;

/// A subscription to a clock.
fn clock(userdata: u64, id: u32, timeout_ns: u64, absolute: bool) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&userdata.to_le_bytes());
    bytes[16..20].copy_from_slice(&id.to_le_bytes());
    bytes[24..32].copy_from_slice(&timeout_ns.to_le_bytes());
    bytes[40] = u8::from(absolute);
    bytes
}

/// A subscription to a descriptor, to read or to write.
fn ready(userdata: u64, kind: u8, fd: u32) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&userdata.to_le_bytes());
    bytes[8] = kind;
    bytes[16..20].copy_from_slice(&fd.to_le_bytes());
    bytes
}

/// An event: userdata, error, kind, bytes and flags.
type Seen = (u64, u16, u8, u64, u8);

fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Result<Vec<Seen>, u32> {
    guest.put(BUFFER, &subscriptions.concat());
    guest.put(16, &[0xee; 4]);
    let count = u64::try_from(subscriptions.len()).expect("few");
    guest.call("poll_oneoff", &[BUFFER.into(), OUT.into(), count, 16])?;
    let count = guest.u32_at(16);
    if count == 0xeeee_eeee {
        return Ok(Vec::new());
    }
    let events = guest.bytes(OUT, count * 32);
    let events = events.as_chunks::<32>().0.iter().map(|event| {
        let number =
            |at: usize| u64::from_le_bytes(event[at..at + 8].try_into().expect("eight bytes"));
        (
            number(0),
            u16::from_le_bytes([event[8], event[9]]),
            event[10],
            number(16),
            event[24],
        )
    });
    Ok(events.collect())
}

#[test]
fn the_earliest_deadline_wakes() {
    let mut guest = Program::new().guest(Wasi::new(Vec::new(), Vec::new(), Vec::new()));
    guest.host().now_ns = 1000;
    let subscriptions = [
        clock(1, 1, 500, false),
        clock(2, 0, 300, false),
        clock(3, 1, 1300, true),
    ];
    assert_eq!(
        poll(&mut guest, &subscriptions),
        Ok(vec![(2, 0, 0, 0, 0), (3, 0, 0, 0, 0)])
    );
    assert_eq!(guest.host().sleeps, [1300]);
    let wall = [clock(4, 0, REALTIME_NS + 2000, true)];
    assert_eq!(poll(&mut guest, &wall), Ok(vec![(4, 0, 0, 0, 0)]));
    assert_eq!(guest.host().sleeps, [1300, 2000]);
    let past = [clock(5, 0, 1, true)];
    assert_eq!(poll(&mut guest, &past), Ok(vec![(5, 0, 0, 0, 0)]));
    assert_eq!(
        guest.host().sleeps,
        [1300, 2000, 2000],
        "a deadline that has passed is due at once"
    );
    let forever = [clock(6, 1, u64::MAX, false)];
    assert_eq!(poll(&mut guest, &forever), Ok(vec![(6, 0, 0, 0, 0)]));
}

#[test]
fn descriptors_are_ready_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest.open("f", CREATE, READ | WRITE).expect("a file");
    guest.write(fd, &[b"12345"]).expect("written");
    guest.seek(fd, 2, 0).expect("inside");
    let bad = Errno::Badf.code();
    let events = poll(
        &mut guest,
        &[
            clock(1, 1, 100, false),
            ready(2, 1, fd),
            ready(3, 2, fd),
            ready(4, 1, 0),
            ready(5, 2, 1),
            ready(6, 1, 99),
            ready(7, 1, ROOT),
            clock(8, 3, 0, false),
        ],
    );
    let expected = vec![
        (2, 0, 1, 3, 0),
        (3, 0, 2, 64 << 10, 0),
        (4, 0, 1, 0, 1),
        (5, 0, 2, 64 << 10, 0),
        (6, bad, 1, 0, 0),
        (7, bad, 1, 0, 0),
        (8, Errno::Inval.code(), 0, 0, 0),
    ];
    assert_eq!(events, Ok(expected));
    assert_eq!(guest.host().sleeps, [], "nobody waits");
    assert_eq!(guest.host().wasi().pending, None);
}

#[test]
fn a_wait_that_unwinds_goes_on_for_the_rest_of_its_time() {
    let program = Program::new();
    let mut guest = program.guest(Wasi::new(Vec::new(), Vec::new(), Vec::new()));
    let wait = [clock(1, 1, 500, false)];
    guest.host().now_ns = 1000;
    guest.host().steps = vec![Step::Unwind];
    assert_eq!(poll(&mut guest, &wait), Ok(Vec::new()));
    assert_eq!(guest.host().sleeps, [], "it has not begun");

    // Much later, because the guest that unwinds at the door has not begun to wait.
    guest.host().now_ns = 2000;
    guest.host().steps = vec![Step::Proceed, Step::Unwind];
    assert_eq!(poll(&mut guest, &wait), Ok(Vec::new()));
    assert_eq!(guest.host().sleeps, [2500]);

    let state = guest.host().wasi().save().expect("no files");
    let mut guest = program.guest(Wasi::restore(state, &[]).expect("no files"));
    guest.host().now_ns = 2400;
    guest.host().steps = vec![Step::Unwind];
    assert_eq!(poll(&mut guest, &wait), Ok(Vec::new()));
    assert_eq!(poll(&mut guest, &wait), Ok(vec![(1, 0, 0, 0, 0)]));
    assert_eq!(
        guest.host().sleeps,
        [2500],
        "the deadline of the first time"
    );
    assert_eq!(poll(&mut guest, &wait), Ok(vec![(1, 0, 0, 0, 0)]));
    assert_eq!(
        guest.host().sleeps,
        [2500, 3000],
        "the next wait has its own"
    );
}

#[test]
fn bad_waits_are_refused_and_leave_nothing_behind() {
    let mut guest = Program::new().guest(Wasi::new(Vec::new(), Vec::new(), Vec::new()));
    assert_eq!(poll(&mut guest, &[]), Err(is(Errno::Inval)));
    assert_eq!(
        poll(&mut guest, &[clock(1, 1, 5, false), ready(1, 3, 0)]),
        Err(is(Errno::Inval))
    );
    assert_eq!(
        guest.call("poll_oneoff", &[0, 0, 1025, 16]),
        Err(is(Errno::Inval))
    );
    let end = u64::from(MEMORY_BYTES);
    for (input, output, result) in [(end - 47, 0, 16), (0, end - 31, 16), (0, 0, end - 3)] {
        assert_eq!(
            guest.call("poll_oneoff", &[input, output, 1, result]),
            Err(is(Errno::Fault))
        );
    }
    assert_eq!(guest.host().sleeps, []);
    assert_eq!(guest.host().wasi().pending, None);
}

#[test]
fn yielding_is_a_control_point() {
    let mut guest = Program::new().guest(Wasi::new(Vec::new(), Vec::new(), Vec::new()));
    guest.host().steps = vec![Step::Unwind];
    assert_eq!(guest.call("sched_yield", &[]), Ok(()));
    assert_eq!(guest.host().steps, []);
}
