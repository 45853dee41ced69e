use proptest::prelude::*;

use super::{Extent, Extents, SegmentNo};

/// Each segment as a row of pages: is it used?
#[derive(Default)]
struct Model(Vec<(SegmentNo, Vec<bool>)>);

impl Model {
    /// The lengths of all maximal runs of free pages.
    fn runs(&self) -> Vec<u32> {
        let mut runs = Vec::new();
        for (_, pages) in &self.0 {
            let lengths = pages.split(|used| *used).map(|run| run.len());
            runs.extend(lengths.filter_map(|len| u32::try_from(len).ok().filter(|len| *len > 0)));
        }
        runs.sort_unstable();
        runs
    }

    fn set(&mut self, extent: &Extent, used: bool) {
        let (_, pages) = self
            .0
            .iter_mut()
            .find(|(no, _)| *no == extent.segment)
            .expect("it is there");
        for page in &mut pages[extent.first as usize..(extent.first + extent.pages) as usize] {
            assert_ne!(*page, used, "no page is taken or given twice");
            *page = used;
        }
    }

    fn is_free(&self, segment: SegmentNo, first: u32, pages: u32) -> bool {
        let segment = self.0.iter().find(|(no, _)| *no == segment);
        let range = first as usize..(first + pages) as usize;
        let pages = segment.and_then(|(_, pages)| pages.get(range));
        pages.is_some_and(|pages| !pages.is_empty() && pages.iter().all(|used| !used))
    }

    fn idle(&self) -> Vec<SegmentNo> {
        let idle = self
            .0
            .iter()
            .filter(|(_, pages)| pages.iter().all(|used| !used));
        idle.map(|(no, _)| *no).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u32),
    Take(u32),
    TakeLongest(u32),
    TakeAt(u64, u32, u32),
    Grow(usize, u32),
    Give(usize),
    Cut(usize, u32),
    ForgetIdle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1..40_u32).prop_map(Step::Add),
        8 => (1..20_u32).prop_map(Step::Take),
        2 => (1..50_u32).prop_map(Step::TakeLongest),
        4 => (1..6_u64, 0..45_u32, 0..20_u32).prop_map(|(no, first, pages)| Step::TakeAt(no, first, pages)),
        2 => (any::<usize>(), 0..20_u32).prop_map(|(idx, pages)| Step::Grow(idx, pages)),
        8 => any::<usize>().prop_map(Step::Give),
        2 => (any::<usize>(), 1..20_u32).prop_map(|(idx, pages)| Step::Cut(idx, pages)),
        1 => Just(Step::ForgetIdle),
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_row_of_pages_does(steps in prop::collection::vec(step(), 1..200)) {
        let mut extents = Extents::default();
        let mut model = Model::default();
        let mut held: Vec<Extent> = Vec::new();
        let mut next = 0;
        for step in steps {
            let runs = model.runs();
            match step {
                Step::Add(pages) => {
                    next += 1;
                    extents.add(SegmentNo(next), pages);
                    model.0.push((SegmentNo(next), vec![false; pages as usize]));
                }
                Step::Take(pages) => {
                    let best = runs.iter().copied().find(|run| *run >= pages);
                    let taken = extents.take(pages);
                    prop_assert_eq!(taken.is_some(), best.is_some());
                    if let Some(extent) = taken {
                        prop_assert_eq!(extent.pages, pages);
                        model.set(&extent, true);
                        // It came out of a run of the best length: that one is gone or shorter.
                        let mut expected = runs;
                        let best = best.expect("checked above");
                        let idx = expected.binary_search(&best).expect("it is one of them");
                        expected.remove(idx);
                        if best > pages {
                            expected.push(best - pages);
                            expected.sort_unstable();
                        }
                        prop_assert_eq!(model.runs(), expected);
                        held.push(extent);
                    }
                }
                Step::TakeLongest(pages) => {
                    let taken = extents.take_longest(pages);
                    let longest = runs.last().map(|run| *run.min(&pages));
                    prop_assert_eq!(taken.as_ref().map(|extent| extent.pages), longest);
                    if let Some(extent) = taken {
                        model.set(&extent, true);
                        held.push(extent);
                    }
                }
                Step::TakeAt(no, first, pages) => {
                    let free = model.is_free(SegmentNo(no), first, pages);
                    let taken = extents.take_at(SegmentNo(no), first, pages);
                    prop_assert_eq!(taken.is_some(), free);
                    if let Some(extent) = taken {
                        prop_assert_eq!((extent.segment.0, extent.first, extent.pages), (no, first, pages));
                        model.set(&extent, true);
                        held.push(extent);
                    }
                }
                Step::Grow(idx, pages) if !held.is_empty() => {
                    let len = held.len();
                    let extent = &mut held[idx % len];
                    let before = extent.pages;
                    let end = extent.first + before;
                    let most = (0..=pages).rev().find(|n| *n == 0 || model.is_free(extent.segment, end, *n));
                    extents.grow(extent, pages);
                    prop_assert_eq!(Some(extent.pages - before), most);
                    let more = Extent { segment: extent.segment, first: end, pages: extent.pages - before };
                    model.set(&more, true);
                }
                Step::Give(idx) if !held.is_empty() => {
                    let extent = held.swap_remove(idx % held.len());
                    model.set(&extent, false);
                    extents.give(extent);
                }
                Step::Cut(idx, pages) if !held.is_empty() => {
                    let len = held.len();
                    if let Some(rest) = held[idx % len].cut(pages) {
                        model.set(&rest, false);
                        extents.give(rest);
                    }
                }
                Step::ForgetIdle => {
                    if let Some(no) = model.idle().first().copied() {
                        extents.forget(no);
                        model.0.retain(|(other, _)| *other != no);
                    }
                }
                Step::Give(_) | Step::Cut(..) | Step::Grow(..) => {}
            }
            prop_assert_eq!(extents.idle().collect::<Vec<_>>(), model.idle());
            let ranges: Vec<u32> = extents.by_fit.iter().map(|fit| fit.0).collect();
            prop_assert_eq!(ranges, model.runs(), "neighbours are one range");
        }
    }
}

#[test]
fn of_two_that_fit_the_one_freed_last_comes_first() {
    let mut extents = Extents::default();
    extents.add(SegmentNo(1), 8);
    let mut taken: Vec<Extent> = (0..8).filter_map(|_| extents.take(1)).collect();
    // Pages 1 and 5 are freed, in this order; neither touches the other.
    let late = taken.remove(5);
    let early = taken.remove(1);
    extents.give(early);
    extents.give(late);
    assert_eq!(extents.take(1).map(|extent| extent.first), Some(5));
    assert_eq!(extents.take(1).map(|extent| extent.first), Some(1));
    assert_eq!(extents.take(1), None);
}
