//! The arena in one process, against a model that is a list of byte vectors.

use bytes::Bytes;
use geds_core::extents::PAGE_BYTES;
use proptest::prelude::*;

use super::memory::{self, Memory};
use super::{Arena, Config, Domain, Kind, Object, Opened, Writer};

const PAGE: usize = 4096;

/// Segments of 16 pages.
fn arena(n_segments: u64, spare_segments: usize) -> Arena {
    let segment_bytes = 16 * PAGE_BYTES;
    let config = Config {
        // The last pages are for what domains and objects take beside their pages.
        limit_bytes: n_segments * segment_bytes + 12 * PAGE_BYTES,
        segment_bytes,
        spare_segments,
    };
    Arena::start(&config).expect("it starts")
}

fn domain(arena: &Arena, limit_bytes: u64) -> Domain {
    arena.domain(limit_bytes).expect("there is memory")
}

fn put(domain: &Domain, bytes: &[u8]) -> super::Result<Object> {
    let mut writer = domain.writer();
    writer.append(bytes)?;
    domain.seal(writer)
}

fn content(opened: &Opened) -> Vec<u8> {
    opened.views().flat_map(|view| view.to_vec()).collect()
}

/// Bytes that tell where they belong.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let byte = |n: usize| ((seed * 131 + n) * 2_654_435_761).to_le_bytes()[1];
    (0..len).map(byte).collect()
}

#[test]
fn an_object_is_one_view_that_becomes_bytes_where_it_lies() {
    let arena = arena(2, 1);
    let domain = domain(&arena, u64::MAX);
    let written = pattern(1, 3 * PAGE + 17);
    let object = put(&domain, &written).expect("there is room");
    let view = object.open().expect("it is settled").view();
    let view = view.expect("it is in one piece");
    assert_eq!(*view, *written);
    let place = view.as_ptr();
    let part = Bytes::from(view.slice(PAGE..PAGE + 5));
    let bytes = Bytes::from(view);
    assert_eq!(bytes.as_ptr(), place, "nothing is copied");
    drop(object);
    assert_eq!(bytes, written, "the bytes keep the pages");
    assert_eq!(part, written[PAGE..PAGE + 5]);
}

#[test]
fn an_object_may_be_empty() {
    let arena = arena(1, 0);
    let domain = domain(&arena, u64::MAX);
    let object = put(&domain, &[]).expect("it needs no room");
    assert_eq!((object.len(), object.sums()), (0, &[][..]));
    let opened = object.open().expect("it is settled");
    assert_eq!(opened.view().as_deref(), Some(&[][..]));
    assert_eq!(opened.read_at(0, &mut [0; 4]), 0);
}

#[test]
fn pages_are_used_again_while_they_are_warm_and_zeroed_where_nobody_writes() {
    let arena = arena(1, 0);
    let domain = domain(&arena, u64::MAX);
    let first = put(&domain, &[0xff; 2 * PAGE]).expect("there is room");
    let view = |object: &Object| {
        object
            .open()
            .ok()
            .and_then(|opened| opened.view())
            .expect("one piece")
    };
    let place = view(&first).as_ptr();
    drop(first);
    let mut writer = domain.writer();
    writer.write_at(PAGE as u64, b"end").expect("there is room");
    let second = view(&domain.seal(writer).expect("there is room"));
    assert_eq!(second.as_ptr(), place);
    assert_eq!(second[..PAGE], [0; PAGE]);
    assert_eq!(&second[PAGE..], b"end");
}

#[test]
fn at_the_limit_objects_are_cut_to_pieces_and_then_refused() {
    let arena = arena(2, 2);
    let domain = domain(&arena, u64::MAX);
    // Every second page of all is free.
    let pages: Vec<Object> = (0..32)
        .map(|n| put(&domain, &[n; PAGE]).expect("there is room"))
        .collect();
    let kept: Vec<Object> = pages.into_iter().step_by(2).collect();
    let large = pattern(7, 16 * PAGE);
    let cut = put(&domain, &large).expect("there are as many pages");
    let opened = cut.open().expect("it is settled");
    assert_eq!(opened.view().map(|_| ()), None);
    assert_eq!(opened.views().count(), 16);
    assert_eq!(content(&opened), large);
    let mut some = [0; 2 * PAGE];
    assert_eq!(opened.read_at(5000, &mut some), some.len());
    assert_eq!(some, large[5000..5000 + some.len()]);
    let refused = put(&domain, b"more").map_err(|error| error.kind);
    assert_eq!(refused.map(|_| ()), Err(Kind::Exhausted));
    assert!(arena.used_bytes() <= arena.limit_bytes());
    drop(kept);
    put(&domain, b"more").expect("there is room again");
}

#[test]
fn a_writer_that_finds_no_room_keeps_none() {
    let arena = arena(2, 0);
    let domain = domain(&arena, u64::MAX);
    let mut writer = domain.writer();
    writer.append(b"some").expect("there is room");
    for refused in [
        writer.append(&[1; 40 * PAGE]),
        writer.write_at(u64::MAX - 10, b"far away"),
        writer.truncate(1 << 40),
        writer.reserve(u64::MAX),
    ] {
        assert_eq!(refused.map_err(|error| error.kind), Err(Kind::Exhausted));
    }
    assert_eq!(writer.len(), 4);
    put(&domain, &[2; 31 * PAGE]).expect("all but a page is free");
    let object = domain.seal(writer).expect("it is as it was");
    assert_eq!(content(&object.open().expect("it is settled")), b"some");
}

#[test]
fn a_domain_has_its_share_and_gives_idle_memory_to_another() {
    let arena = arena(2, 2);
    let (small, large) = (domain(&arena, 25 * PAGE_BYTES), domain(&arena, u64::MAX));
    let object = put(&small, &[1; 16 * PAGE]).expect("that is its share");
    assert_eq!(
        put(&small, &[2]).map(|_| ()).map_err(|error| error.kind),
        Err(Kind::Exhausted)
    );
    let both = put(&large, &[3; 32 * PAGE]);
    assert_eq!(
        both.map(|_| ()).map_err(|error| error.kind),
        Err(Kind::Exhausted)
    );
    drop(object);
    put(&large, &[3; 32 * PAGE]).expect("what the other does not use is free for all");
}

#[test]
fn objects_are_copied_between_domains_and_sealed_where_they_were_begun() {
    let arena = arena(4, 0);
    let (one, other) = (domain(&arena, u64::MAX), domain(&arena, u64::MAX));
    let bytes = pattern(2, 20 * PAGE + 1);
    let object = put(&one, &bytes).expect("there is room");
    let copy = other.copy(&object).expect("there is room");
    assert_ne!(copy.no(), object.no());
    assert_eq!(copy.sums(), object.sums());
    assert_eq!(content(&copy.open().expect("it is settled")), bytes);
    let elsewhere = other.seal(one.writer());
    assert_eq!(
        elsewhere.map(|_| ()).map_err(|error| error.kind),
        Err(Kind::Invalid)
    );
}

#[test]
fn segments_that_make_no_sense_are_refused() {
    for segment_bytes in [0, 100, PAGE_BYTES + 1, u64::from(u32::MAX) * PAGE_BYTES * 2] {
        let config = Config {
            segment_bytes,
            ..Config::default()
        };
        let refused = Arena::start(&config)
            .map(|_| ())
            .map_err(|error| error.kind);
        assert_eq!(refused, Err(Kind::Invalid), "{segment_bytes}");
    }
}

#[test]
fn the_kernel_tells_who_else_has_memory_and_keeps_them_from_writing() {
    use rustix::fs::OFlags;
    let fd = memory::create(PAGE_BYTES, &memory::HugePages::default()).expect("there is memory");
    let ours = Memory::of_ours(&fd, PAGE_BYTES).expect("it is mapped");
    assert!(memory::alone(&fd));
    let writer = memory::reopen(&fd, OFlags::RDWR).expect("it opens");
    let theirs = Memory::of_ours(&writer, PAGE_BYTES).expect("it is not closed yet");
    drop(writer);
    assert!(!memory::alone(&fd), "a mapping counts");
    memory::close_to_writers(&fd).expect("it closes");
    let writer = memory::reopen(&fd, OFlags::RDWR).expect("it opens");
    assert!(
        Memory::of_ours(&writer, PAGE_BYTES).is_err(),
        "it is closed"
    );
    assert!(rustix::io::pwrite(&writer, b"x", 0).is_err());
    assert!(
        rustix::fs::ftruncate(&writer, 0).is_err(),
        "nobody takes pages away"
    );
    assert!(
        rustix::fs::fallocate(
            &writer,
            rustix::fs::FallocateFlags::PUNCH_HOLE.union(rustix::fs::FallocateFlags::KEEP_SIZE),
            0,
            PAGE_BYTES
        )
        .is_err()
    );
    drop((writer, theirs));
    assert!(memory::alone(&fd));
    let reader = memory::reopen(&fd, OFlags::RDONLY).expect("it opens");
    assert!(!memory::alone(&fd), "a descriptor counts");
    drop((reader, ours));
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Append(usize, usize),
    WriteAt(usize, prop::sample::Index, usize),
    Truncate(usize, usize),
    Restart(usize, usize),
    Seal(usize),
    Abandon(usize),
    Open(usize),
    Drop(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    let len = || prop_oneof![0..200_usize, 3000..5000_usize, 0..70_000_usize];
    prop_oneof![
        4 => Just(Step::Begin),
        8 => (which(), len()).prop_map(|(which, len)| Step::Append(which, len)),
        4 => (which(), any::<prop::sample::Index>(), len()).prop_map(|(which, at, len)| Step::WriteAt(which, at, len)),
        2 => (which(), len()).prop_map(|(which, len)| Step::Truncate(which, len)),
        1 => (which(), len()).prop_map(|(which, len)| Step::Restart(which, len)),
        6 => which().prop_map(Step::Seal),
        1 => which().prop_map(Step::Abandon),
        4 => which().prop_map(Step::Open),
        4 => which().prop_map(Step::Drop),
        3 => which().prop_map(Step::Close),
    ]
}

/// What is there, each with what it should contain.
#[derive(Default)]
struct Model {
    writers: Vec<(Writer, Vec<u8>)>,
    objects: Vec<(Object, Vec<u8>)>,
    opened: Vec<(Opened, Vec<u8>)>,
}

impl Model {
    fn check(&self) {
        for (object, expected) in &self.objects {
            assert_eq!(object.len(), expected.len() as u64);
            assert_eq!(object.sums(), sums_of(expected));
            let mut bytes = vec![0; expected.len() + 1];
            let n_read = object.read_at(0, &mut bytes).expect("nobody alters it");
            assert_eq!(bytes[..n_read], expected[..]);
        }
        for (opened, expected) in &self.opened {
            assert_eq!(content(opened), *expected);
        }
    }

    fn take(&mut self, domain: &Domain, n: usize, step: Step) {
        let pick = |which: usize, len: usize| which.checked_rem(len);
        match step {
            Step::Begin => self.writers.push((domain.writer(), Vec::new())),
            Step::Append(which, len) => {
                let idx = pick(which, self.writers.len());
                let Some((writer, expected)) = idx.map(|idx| &mut self.writers[idx]) else {
                    return;
                };
                let bytes = pattern(n, len);
                if is_done(writer.append(&bytes)) {
                    expected.extend(bytes);
                }
            }
            Step::WriteAt(which, at, len) => {
                let idx = pick(which, self.writers.len());
                let Some((writer, expected)) = idx.map(|idx| &mut self.writers[idx]) else {
                    return;
                };
                let bytes = pattern(n, len);
                let position = at.index(expected.len() + 6000);
                if is_done(writer.write_at(position as u64, &bytes)) {
                    expected.resize(expected.len().max(position + len), 0);
                    expected[position..position + len].copy_from_slice(&bytes);
                }
            }
            Step::Truncate(which, len) => {
                let idx = pick(which, self.writers.len());
                let Some((writer, expected)) = idx.map(|idx| &mut self.writers[idx]) else {
                    return;
                };
                if is_done(writer.truncate(len as u64)) {
                    expected.resize(len, 0);
                }
            }
            Step::Restart(which, room) => {
                let idx = pick(which, self.writers.len());
                if let Some((writer, expected)) = idx.map(|idx| &mut self.writers[idx]) {
                    restart(writer, expected, room);
                }
            }
            Step::Seal(which) => {
                let Some(idx) = pick(which, self.writers.len()) else {
                    return;
                };
                let (writer, expected) = self.writers.swap_remove(idx);
                match domain.seal(writer) {
                    Ok(object) => self.objects.push((object, expected)),
                    Err(error) => assert_eq!(error.kind, Kind::Exhausted),
                }
            }
            Step::Open(which) => {
                let idx = pick(which, self.objects.len());
                let Some((object, expected)) = idx.map(|idx| &self.objects[idx]) else {
                    return;
                };
                let opened = object.open().expect("it is settled");
                self.opened.push((opened, expected.clone()));
            }
            Step::Abandon(which) => {
                pick(which, self.writers.len()).map(|idx| self.writers.swap_remove(idx));
            }
            Step::Drop(which) => {
                pick(which, self.objects.len()).map(|idx| self.objects.swap_remove(idx));
            }
            Step::Close(which) => {
                pick(which, self.opened.len()).map(|idx| self.opened.swap_remove(idx));
            }
        }
    }
}

/// What is written can be seen before it is sealed.
fn restart(writer: &mut Writer, expected: &mut Vec<u8>, room: usize) {
    let slices = |from: usize, to: usize| -> Vec<u8> {
        let slices = writer.slices(from as u64..to as u64);
        slices.flatten().copied().collect()
    };
    let at = room.min(expected.len());
    assert_eq!(slices(0, at), expected[..at]);
    assert_eq!(slices(at, usize::MAX), expected[at..]);
    assert_eq!(*writer.sums(), sums_of(expected));
    let before = writer.room();
    writer.restart(room as u64);
    let kept = before.min((room as u64).next_multiple_of(PAGE_BYTES));
    assert_eq!((writer.len(), writer.room()), (0, kept));
    expected.clear();
}

fn sums_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(64 << 10).map(crc32c::crc32c).collect()
}

fn is_done(result: super::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind, Kind::Exhausted);
            false
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_a_list_of_vectors_does(steps in prop::collection::vec(step(), 1..80)) {
        let arena = arena(6, 1);
        let domain = domain(&arena, u64::MAX);
        let mut model = Model::default();
        for (n, step) in steps.into_iter().enumerate() {
            model.take(&domain, n, step);
            prop_assert!(arena.used_bytes() <= arena.limit_bytes());
        }
        model.check();
        drop(model);
        // Nothing has leaked: all of it can be had in one object.
        put(&domain, &[1; 6 * 16 * PAGE]).expect("all pages are free again");
    }
}
