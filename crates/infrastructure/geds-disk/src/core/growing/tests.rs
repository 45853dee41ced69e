use geds_core::extents::{Extent, Extents, SegmentNo};
use proptest::prelude::*;

use super::{BLOCK_BYTES, BLOCK_PAGES, Growing};
use crate::core::catalogue::pages_of;

type Page = (SegmentNo, u32);

fn pages_in(extents: &[Extent]) -> Vec<Page> {
    let pages = extents
        .iter()
        .flat_map(|one| (one.first..one.first + one.pages).map(|page| (one.segment, page)));
    pages.collect()
}

/// Pages as they come: each extent is as short as that at most.
fn take(room: &mut Extents, mut pages: u64, longest: u32) -> Option<Vec<Extent>> {
    let mut taken = Vec::new();
    while pages > 0 {
        let wish = longest.min(u32::try_from(pages).expect("few"));
        let extent = room.take_longest(wish)?;
        pages -= u64::from(extent.pages);
        taken.push(extent);
    }
    Some(taken)
}

#[derive(Clone, Debug)]
enum Step {
    /// So many blocks, in extents of at most so many pages.
    Add(u64, u32),
    Cut(u64),
    Sum(u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u64, 1..40_u32).prop_map(|(blocks, longest)| Step::Add(blocks, longest)),
        2 => (0..12_u64).prop_map(Step::Cut),
        1 => any::<(u64, u32)>().prop_map(|(block, sum)| Step::Sum(block, sum)),
    ]
}

/// The model: a list of pages, and one of sums.
fn check(growing: &Growing, pages: &[Page], sums: &[u32], len: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(growing.len(), len);
    prop_assert_eq!(&pages_in(&growing.extents), pages);
    prop_assert_eq!(growing.weight().places, growing.extents.len() as u64);
    let apart = |both: &[Extent]| {
        let [one, other] = both else { return true };
        one.segment != other.segment || one.first + one.pages != other.first
    };
    prop_assert!(growing.extents.windows(2).all(apart), "neighbours are one");
    for (block, sum) in (0..).zip(sums) {
        let (places, bytes) = growing.block(block);
        let found = places.iter().flat_map(|place| {
            (place.first..place.first + place.pages).map(|page| (place.segment, page))
        });
        let start = usize::try_from(block * BLOCK_PAGES).expect("few");
        let end = pages
            .len()
            .min(start + usize::try_from(BLOCK_PAGES).expect("few"));
        prop_assert_eq!(found.collect::<Vec<_>>(), &pages[start..end]);
        prop_assert_eq!(bytes, BLOCK_BYTES.min(len - block * BLOCK_BYTES));
        prop_assert_eq!(growing.sum(block), *sum);
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_has_the_pages_and_sums_of_its_pieces(
        steps in prop::collection::vec(step(), 0..30),
        last_bytes in 0..2 * BLOCK_BYTES,
    ) {
        let mut room = Extents::default();
        room.add(SegmentNo(1), 300);
        room.add(SegmentNo(2), 200);
        let (mut growing, mut pages, mut sums) = (Growing::default(), Vec::new(), Vec::new());
        let add = |growing: &mut Growing, pages: &mut Vec<Page>, sums: &mut Vec<u32>, len, extents: Vec<Extent>| {
            pages.extend(pages_in(&extents));
            let more: Vec<u32> = (0..u32::try_from(pages_of(len).div_ceil(BLOCK_PAGES)).expect("few")).collect();
            sums.extend(&more);
            growing.add(len, extents, &more);
        };
        for step in steps {
            match step {
                Step::Add(blocks, longest) => {
                    if let Some(extents) = take(&mut room, blocks * BLOCK_PAGES, longest) {
                        add(&mut growing, &mut pages, &mut sums, blocks * BLOCK_BYTES, extents);
                    }
                }
                Step::Cut(n_blocks) => {
                    let n_pages = usize::try_from(n_blocks * BLOCK_PAGES).expect("few");
                    let cut = pages.split_off(n_pages.min(pages.len()));
                    sums.truncate(usize::try_from(n_blocks).expect("few"));
                    let rest = growing.cut(n_blocks);
                    prop_assert_eq!(pages_in(&rest), cut);
                    rest.into_iter().for_each(|extent| room.give(extent));
                }
                Step::Sum(block, sum) => {
                    if let Some(block) = block.checked_rem(sums.len() as u64) {
                        growing.set_sum(block, sum);
                        sums[usize::try_from(block).expect("few")] = sum;
                    }
                }
            }
            check(&growing, &pages, &sums, sums.len() as u64 * BLOCK_BYTES)?;
        }
        let mut len = growing.len();
        if let Some(extents) = take(&mut room, pages_of(last_bytes), 7) {
            add(&mut growing, &mut pages, &mut sums, last_bytes, extents);
            len += last_bytes;
        }
        check(&growing, &pages, &sums, len)?;
        let lying = growing.finish();
        prop_assert_eq!((lying.len, pages_in(&lying.extents)), (len, pages));
        prop_assert_eq!(&*lying.sums, &*sums);
    }
}
