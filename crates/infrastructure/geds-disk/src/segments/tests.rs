use std::sync::Arc;

use geds_core::extents::SegmentNo;
use proptest::prelude::*;
use wal::testing::CrashDisk;

use super::{Aligned, PAGE, Place, Segments};

const PAGES: u32 = 40;

fn open(disk: &CrashDisk) -> (Segments, Vec<(SegmentNo, u32)>) {
    Segments::open(Arc::new(disk.clone()), PAGES).expect("it works")
}

fn place(segment: SegmentNo, first: u32, pages: u32) -> Place {
    Place {
        segment,
        first,
        pages,
    }
}

fn read(segments: &Segments, places: &[Place], len: usize) -> Vec<u8> {
    let mut found = Aligned::zeroed(len.next_multiple_of(PAGE));
    segments
        .read(places.iter().copied(), 0, &mut found)
        .expect("it works");
    found.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the bytes lie in memory and the places on the disk.
    #[test]
    fn what_is_written_is_there(
        lens in prop::collection::vec(prop_oneof![0_usize..20_000, 65_536_usize..65_540, 100_000_usize..150_000], 0..5),
        shifts in prop::collection::vec(prop_oneof![Just(0), Just(PAGE), 0..PAGE], 5),
        cuts in prop::collection::vec(1_u32..12, 0..40),
    ) {
        let disk = CrashDisk::default();
        let (segments, _) = open(&disk);
        let numbers: Vec<_> = (0..5).map(|_| segments.make().expect("it works").0).collect();
        let memory: Vec<_> = lens.iter().zip(&shifts).map(|(len, shift)| {
            let mut bytes = Aligned::zeroed(len + shift);
            rt::fill_random(&mut bytes);
            bytes
        }).collect();
        let pieces: Vec<_> = memory.iter().zip(&shifts).map(|(bytes, shift)| &bytes[*shift..]).collect();
        let whole = pieces.concat();
        // From behind, so that neighbours are not always in order.
        let mut left = u32::try_from(whole.len().div_ceil(PAGE)).expect("few");
        let (mut places, mut ends) = (Vec::new(), [PAGES; 5]);
        for (n, cut) in cuts.iter().chain(std::iter::repeat(&30)).enumerate() {
            let pages = (*cut).min(left).min(ends[n % 5]);
            if left == 0 {
                break;
            }
            if pages > 0 {
                left -= pages;
                ends[n % 5] -= pages;
                places.push(place(numbers[n % 5], ends[n % 5], pages));
            }
        }
        segments.write(places.clone(), &pieces).expect("it works");
        let found = read(&segments, &places, whole.len());
        prop_assert_eq!(&found[..whole.len()], &whole[..]);
        prop_assert!(found[whole.len()..].iter().all(|byte| *byte == 0));
        if whole.len() > 3 * PAGE {
            let mut part = Aligned::zeroed(2 * PAGE);
            segments.read(places.iter().copied(), PAGE as u64, &mut part).expect("it works");
            prop_assert_eq!(&part[..], &whole[PAGE..3 * PAGE]);
        }
        segments.sync(places.into_iter()).expect("it works");
    }
}

#[test]
fn segments_are_found_again() {
    let disk = CrashDisk::default();
    let (segments, found) = open(&disk);
    assert_eq!(found, []);
    segments.skip(SegmentNo(6));
    let made = [(); 2].map(|()| segments.make().expect("it works"));
    assert_eq!(made, [(SegmentNo(7), PAGES), (SegmentNo(8), PAGES)]);
    segments
        .write(vec![place(SegmentNo(7), 39, 1)], &[b"here"])
        .expect("it works");
    let (again, found) = open(&disk);
    assert_eq!(
        {
            let mut found = found;
            found.sort_unstable();
            found
        },
        made
    );
    assert_eq!(
        read(&again, &[place(SegmentNo(7), 39, 1)], 4)[..4],
        *b"here"
    );
    assert_eq!(again.make().expect("it works").0, SegmentNo(9));
    let beyond = again.write(vec![place(SegmentNo(7), 39, 1)], &[&[1; 5000]]);
    assert!(beyond.is_err(), "it does not fit");
}

#[test]
fn a_segment_that_cannot_be_made_leaves_nothing() {
    use wal::Disk as _;
    let disk = CrashDisk::default();
    let (segments, _) = open(&disk);
    disk.set_room(1 << 10);
    let error = segments.make().expect_err("there is no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.list().expect("it works"), Vec::<String>::new());
    disk.set_room(u64::MAX);
    segments.make().expect("there is room");
}
