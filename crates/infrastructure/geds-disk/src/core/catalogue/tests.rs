//! A catalogue with its log, its snapshots and its readers, and after each step every crash that the log allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use geds_core::extents::{Extent, PAGE_BYTES, SegmentNo};
use proptest::prelude::*;
use wal::Position;

use super::{Catalogue, Entry, Few, Id, Lying, Picked, Place, Replay, What, pages_of};

const SEGMENTS: [(SegmentNo, u32); 2] = [(SegmentNo(3), 14), (SegmentNo(4), 10)];

/// What an object is can be told from its number, so that its bytes need not be there.
type Tag = u32;

#[derive(Clone, Debug)]
enum Record {
    Small(Id, u64),
    Entry(Entry),
    Freed(Vec<Id>),
}

#[derive(Clone, Debug, Default)]
struct Snapshot {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Walk {
    position: Position,
    after: Option<Id>,
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct World {
    catalogue: Catalogue,
    /// The record at index n is at position n + 1.
    log: Vec<Record>,
    n_durable: usize,
    /// A crash may bring back what was truncated last.
    starts: [usize; 2],
    snapshot: Snapshot,
    walk: Option<Walk>,
    picked: Vec<Picked>,
    /// Somebody has written them, or tries again to put them.
    writing: Vec<(Id, Arc<Lying>)>,
    readers: Vec<(Tag, Arc<Lying>)>,
    made_of: BTreeMap<Id, Tag>,
    /// What was last written to each page.
    pages: BTreeMap<(SegmentNo, u32), Tag>,
    /// Of each object: its put is at that index; its free was asked for.
    put: BTreeMap<Id, usize>,
    freed: BTreeSet<Id>,
    refused: Vec<Id>,
    serial: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Stage(u64),
    Take(u64),
    /// Makes another one of it, in the same place.
    Join(usize),
    Lay(usize),
    Pick(u64),
    Place(usize),
    GiveUp(usize, bool),
    Repair(usize),
    Leave(usize),
    Say(usize),
    Settle(usize),
    /// Whether what has pages is put again.
    Refuse(bool),
    Hold(usize),
    LetGo(usize),
    Damage(usize),
    Begin,
    Walk(usize),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let idx = any::<usize>;
    prop_oneof![
        6 => (0..3_u64).prop_map(Step::Stage),
        3 => (1..6_u64).prop_map(Step::Take),
        2 => idx().prop_map(Step::Join),
        3 => idx().prop_map(Step::Lay),
        4 => (1..6_u64).prop_map(Step::Pick),
        6 => idx().prop_map(Step::Place),
        1 => (idx(), any::<bool>()).prop_map(|(idx, is_damaged)| Step::GiveUp(idx, is_damaged)),
        2 => idx().prop_map(Step::Repair),
        6 => idx().prop_map(Step::Leave),
        4 => (0..4_usize).prop_map(Step::Say),
        8 => (1..6_usize).prop_map(Step::Settle),
        1 => any::<bool>().prop_map(Step::Refuse),
        2 => idx().prop_map(Step::Hold),
        2 => idx().prop_map(Step::LetGo),
        1 => idx().prop_map(Step::Damage),
        2 => Just(Step::Begin),
        4 => (1..6_usize).prop_map(Step::Walk),
        3 => Just(Step::End),
    ]
}

/// So long that it has so many pages.
fn len_of(pages: u64) -> u64 {
    (pages * PAGE_BYTES).saturating_sub(PAGE_BYTES - 1)
}

fn tag(id: Id) -> Tag {
    u32::try_from(id.serial).expect("few")
}

fn lying(id: Id, len: u64, extents: Vec<Extent>) -> Arc<Lying> {
    Arc::new(Lying::new(len, extents.into(), vec![tag(id)].into()))
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        for (segment, pages) in SEGMENTS {
            world.catalogue.room_mut().add(segment, pages);
        }
        world
    }

    fn append(&mut self, record: Record) -> Position {
        self.log.push(record);
        Position(self.log.len() as u64)
    }

    /// A new name, or one whose put was refused.
    fn name(&mut self) -> Id {
        let refused = self.refused.pop();
        refused.unwrap_or_else(|| {
            self.serial += 1;
            Id {
                node: 1,
                epoch: 2,
                serial: self.serial,
            }
        })
    }

    fn write(&mut self, id: Id, extents: &[Extent]) {
        for extent in extents {
            for page in extent.first..extent.first + extent.pages {
                self.pages.insert((extent.segment, page), tag(id));
            }
        }
    }

    fn there(&self, idx: usize) -> Option<(Id, What)> {
        let all: Vec<_> = self.catalogue.after(None).collect();
        let (id, what) = all.get(idx.checked_rem(all.len())?)?;
        Some((*id, (*what).clone()))
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Stage(pages) => self.stage(pages),
            Step::Take(pages) => self.take(pages),
            Step::Join(idx) => self.join(idx),
            Step::Lay(idx) if !self.writing.is_empty() => {
                let idx = idx % self.writing.len();
                let (id, lying) = self.writing.swap_remove(idx);
                let position = self.append(Record::Entry(lying.entry(id)));
                self.put.insert(id, self.log.len());
                self.catalogue.lay(id, lying, position);
            }
            Step::Pick(pages) => {
                let before = Position(u64::MAX);
                let picked = self.catalogue.pick(before, pages * PAGE_BYTES);
                for one in &picked {
                    self.write(one.id, &one.extents);
                }
                self.picked.extend(picked);
            }
            Step::Place(idx) if !self.picked.is_empty() => {
                let one = self.picked.swap_remove(idx % self.picked.len());
                self.place(one);
            }
            Step::GiveUp(idx, is_damaged) if !self.picked.is_empty() => {
                let one = self.picked.swap_remove(idx % self.picked.len());
                self.catalogue.give_up(one.id, &one.staged);
                if is_damaged {
                    self.catalogue.room_mut().set_apart(one.extents);
                } else {
                    self.catalogue.room_mut().give(one.extents);
                }
            }
            Step::Repair(idx) => self.repair(idx),
            Step::Leave(idx) => {
                if let Some((id, _)) = self.there(idx) {
                    self.freed.insert(id);
                    self.catalogue.leave(id);
                }
            }
            Step::Say(n_max) => {
                let ids = self.catalogue.unsaid(n_max);
                let n = ids.len();
                let position = self.append(Record::Freed(ids));
                self.catalogue.free(n, position);
            }
            Step::Settle(n) => self.settle(n),
            Step::Refuse(is_put_again) => self.refuse(is_put_again),
            Step::Hold(idx) => {
                if let Some((id, What::Lying(lying))) = self.there(idx) {
                    assert!(self.has_bytes(id, &lying));
                    self.readers.push((lying.sums[0], lying));
                }
            }
            Step::Damage(idx) => {
                if let Some((_, What::Lying(lying))) = self.there(idx) {
                    lying.note_damage();
                }
            }
            Step::LetGo(idx) if !self.readers.is_empty() => {
                self.readers.swap_remove(idx % self.readers.len());
            }
            Step::Begin | Step::Walk(_) | Step::End => self.checkpoint(&step),
            Step::Lay(_) | Step::Place(_) | Step::GiveUp(..) | Step::LetGo(_) => {}
        }
    }

    fn take(&mut self, pages: u64) {
        if !self.catalogue.room_mut().promise(pages) {
            return;
        }
        // Less than promised is only there when the disk is damaged.
        if let Some(extents) = self.catalogue.room_mut().take(pages) {
            let id = self.name();
            self.write(id, &extents);
            self.writing.push((id, lying(id, len_of(pages), extents)));
        }
    }

    fn join(&mut self, idx: usize) {
        if let Some((_, What::Lying(part))) = self.there(idx) {
            let tag = part.sums[0];
            let is_damaged = part.is_damaged.load(Ordering::Relaxed);
            let joined = Lying::join(&[part], self.catalogue.room_mut());
            // What is known to be damaged is not given a second name.
            assert_eq!(joined.is_none(), is_damaged);
            if let Some(joined) = joined {
                let id = self.name();
                self.made_of.insert(id, tag);
                self.writing.push((id, Arc::new(joined)));
            }
        }
    }

    fn place(&mut self, one: Picked) {
        if self.catalogue.wants(one.id, &one.staged) {
            let lying = lying(one.id, one.staged.len(), one.extents);
            let position = self.append(Record::Entry(lying.entry(one.id)));
            self.catalogue.place(one.id, lying, position);
        } else {
            self.catalogue.give_up(one.id, &one.staged);
            self.catalogue.room_mut().give(one.extents);
        }
    }

    fn stage(&mut self, pages: u64) {
        if !self.catalogue.room_mut().promise(pages) {
            return;
        }
        let (id, len) = (self.name(), len_of(pages));
        let position = self.append(Record::Small(id, len));
        self.put.insert(id, self.log.len());
        let bytes = vec![0; usize::try_from(len).expect("short")];
        let sums = vec![tag(id)].into();
        self.catalogue.stage(id, bytes.into(), sums, position);
    }

    fn repair(&mut self, idx: usize) {
        let Some((id, What::Lying(old))) = self.there(idx) else {
            return;
        };
        let pages = pages_of(old.len);
        if !self.catalogue.room_mut().promise(pages) {
            return;
        }
        if let Some(extents) = self.catalogue.room_mut().take(pages) {
            self.write(id, &extents);
            let lying = lying(id, old.len, extents);
            let position = self.append(Record::Entry(lying.entry(id)));
            self.catalogue.place(id, lying, position);
        }
    }

    fn settle(&mut self, n: usize) {
        self.n_durable = self.log.len().min(self.n_durable + n);
        self.catalogue.settle(Position(self.n_durable as u64 + 1));
    }

    fn refuse(&mut self, is_put_again: bool) {
        self.settle(0);
        let mut refused: BTreeMap<_, _> = self.catalogue.refuse().into_iter().collect();
        for record in self.log.drain(self.n_durable..) {
            match record {
                Record::Small(id, _) | Record::Entry(Entry { id, .. })
                    if self.put[&id] > self.n_durable =>
                {
                    self.put.insert(id, usize::MAX);
                    self.freed.remove(&id);
                    match refused.remove(&id) {
                        Some(Some(lying)) if is_put_again => self.writing.push((id, lying)),
                        Some(lying) => {
                            self.refused.push(id);
                            lying.into_iter().for_each(|one| self.catalogue.bury(one));
                        }
                        // Its place was refused too.
                        None => {}
                    }
                }
                _ => {}
            }
        }
        assert!(refused.is_empty(), "all of them were to be put");
        let end = Position(self.n_durable as u64 + 1);
        self.walk.take_if(|walk| walk.position > end);
    }

    fn checkpoint(&mut self, step: &Step) {
        let end = Position(self.n_durable as u64 + 1);
        match (step, &mut self.walk) {
            (Step::Begin, walk) => {
                *walk = Some(Walk {
                    position: Position(self.log.len() as u64 + 1),
                    after: None,
                    entries: Vec::new(),
                });
            }
            // Only then has everything before it been settled.
            (_, Some(walk)) if walk.position > end => {}
            (Step::Walk(n), Some(walk)) => {
                for (id, lying) in self.catalogue.lying_after(walk.after).take(*n) {
                    walk.entries.push(lying.entry(id));
                    walk.after = Some(id);
                }
            }
            (Step::End, Some(walk)) if self.catalogue.lying_after(walk.after).next().is_none() => {
                let oldest = self.catalogue.oldest_staged();
                let before = oldest.map_or(walk.position, |oldest| oldest.min(walk.position));
                let start = usize::try_from(before.0 - 1).expect("few");
                self.starts = [self.starts[1], self.starts[1].max(start)];
                let entries = std::mem::take(&mut walk.entries);
                self.snapshot = Snapshot { entries };
                self.walk = None;
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (tag, lying) in &self.readers {
            self.check_pages(*tag, lying.extents.iter().map(Place::of));
        }
        for end in self.n_durable..=self.log.len() {
            for start in self.starts {
                self.check_crash(start, end);
            }
        }
    }

    fn check_pages(&self, tag: Tag, places: impl Iterator<Item = Place>) {
        for place in places {
            for page in place.first..place.first + place.pages {
                assert_eq!(self.pages[&(place.segment, page)], tag, "nobody wrote here");
            }
        }
    }

    fn check_crash(&self, start: usize, end: usize) {
        let mut replay = Replay::default();
        for (idx, record) in self.log.iter().enumerate().take(end).skip(start) {
            match record {
                Record::Small(id, len) => {
                    let bytes = vec![0; usize::try_from(*len).expect("short")];
                    let sums: Few<_> = vec![tag(*id)].into();
                    replay.stage(*id, &bytes, sums, Position(idx as u64 + 1));
                }
                Record::Entry(entry) => replay.place(entry.clone()),
                Record::Freed(ids) => ids.iter().for_each(|id| replay.free(*id)),
            }
        }
        let found = replay.finish(self.snapshot.entries.iter().cloned(), SEGMENTS);
        let found = found.expect("nothing lies where something else does");
        for (id, what) in found.after(None) {
            match what {
                What::Staged(staged) => assert_eq!(staged.sums[..], [tag(id)]),
                What::Lying(lying) => {
                    assert!(self.has_bytes(id, lying));
                    self.check_pages(lying.sums[0], lying.extents.iter().map(Place::of));
                }
            }
        }
        for (id, n) in &self.put {
            if *n <= self.n_durable && !self.freed.contains(id) {
                assert!(found.find(*id).is_some(), "{id:?} was acknowledged");
            }
        }
        let (room, there) = (found.room(), found.after(None));
        // Some have the same ones.
        let (mut promised, mut used) = (0, BTreeSet::new());
        for (_, what) in there {
            match what {
                What::Staged(staged) => promised += pages_of(staged.len()),
                What::Lying(lying) => used.extend(lying.extents.iter().flat_map(|one| {
                    (one.first..one.first + one.pages).map(|page| (one.segment, page))
                })),
            }
        }
        let used = promised + used.len() as u64;
        assert_eq!(room.pages() - room.available(), used, "nothing is leaked");
    }

    /// Its own, or those of what it was made of.
    fn has_bytes(&self, id: Id, lying: &Lying) -> bool {
        lying.sums[0] == tag(id) || self.made_of.get(&id) == Some(&lying.sums[0])
    }

    /// Everything goes.
    fn end(mut self) {
        while !self.picked.is_empty() {
            self.run(Step::Place(0));
        }
        while !self.writing.is_empty() {
            self.run(Step::Lay(0));
        }
        while self.there(0).is_some() {
            self.run(Step::Leave(0));
        }
        self.run(Step::Say(usize::MAX));
        self.readers.clear();
        self.settle(usize::MAX / 2);
        let room = self.catalogue.room();
        assert_eq!(room.used(), 0, "nothing is leaked");
        assert_eq!(self.catalogue.staged_bytes(), 0);
        assert_eq!(self.catalogue.weight(), super::Weight::default());
        assert_eq!(self.catalogue.oldest_staged(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_loses_or_mixes_up_anything(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.end();
    }
}

/// Whether this harness would notice.
#[test]
fn pages_that_are_given_away_too_early_are_found() {
    let found = std::panic::catch_unwind(|| {
        let mut world = World::new();
        world.run(Step::Take(24));
        world.run(Step::Lay(0));
        world.run(Step::Settle(1));
        world.run(Step::Leave(0));
        world.run(Step::Say(1));
        // The log does not say so yet.
        world.catalogue.settle(Position(u64::MAX));
        world.run(Step::Take(1));
        world.check();
    });
    assert!(found.is_err());
}

#[test]
fn two_in_one_place_are_refused() {
    let id = |serial| Id {
        node: 0,
        epoch: 1,
        serial,
    };
    let entry = |serial, first| Entry {
        id: id(serial),
        len: 2 * PAGE_BYTES,
        places: vec![Place {
            segment: SegmentNo(3),
            first,
            pages: 2,
        }]
        .into(),
        sums: vec![0].into(),
        is_joined: false,
    };
    let finish = |entries: Vec<Entry>| Replay::default().finish(entries, SEGMENTS);
    assert_eq!(
        finish(vec![entry(1, 4), entry(2, 5)]).map(|_| ()),
        Err(super::Clash(id(2)))
    );
    let mut replay = Replay::default();
    replay.free(id(1));
    let found = replay.finish(vec![entry(1, 4), entry(2, 5)], SEGMENTS);
    assert_eq!(
        found.map(|found| found.objects()),
        Ok(1),
        "one of them is gone"
    );
    // The segment ends before.
    let found = finish(vec![entry(1, 13)]).expect("it is there, and unreadable");
    assert_eq!((found.objects(), found.room().available()), (1, 24));
}
