use proptest::prelude::*;

use super::{CHUNK_BYTES, Sums, to_usize};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    WriteAt(prop::sample::Index, usize),
    Truncate(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1..100_usize, 60_000..140_000_usize];
    prop_oneof![
        4 => len.clone().prop_map(Step::Append),
        2 => (any::<prop::sample::Index>(), len).prop_map(|(at, len)| Step::WriteAt(at, len)),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn they_are_those_of_what_lies_there_in_the_end(steps in prop::collection::vec(step(), 0..20)) {
        let mut sums = Sums::default();
        let mut content: Vec<u8> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let position = match &step {
                Step::Append(_) => content.len(),
                Step::WriteAt(at, _) | Step::Truncate(at) => at.index(content.len() + 1),
            };
            match step {
                Step::Append(len) | Step::WriteAt(_, len) => {
                    content.resize(content.len().max(position + len), 0);
                    content[position..position + len].fill(n.to_le_bytes()[0]);
                    sums.note(position as u64, &content[position..position + len]);
                }
                Step::Truncate(_) => {
                    content.truncate(position);
                    sums.truncate(position as u64);
                }
            }
        }
        let expected: Vec<u32> = content.chunks(to_usize(CHUNK_BYTES)).map(crc32c::crc32c).collect();
        let read = |range: std::ops::Range<u64>| {
            crc32c::crc32c(&content[to_usize(range.start)..to_usize(range.end)])
        };
        prop_assert_eq!(sums.finish(content.len() as u64, read).into_vec(), expected);
    }
}

#[test]
fn what_was_written_in_order_is_not_read_again() {
    let mut sums = Sums::default();
    let content = vec![7; 200_000];
    for (n, block) in content.chunks(1000).enumerate() {
        sums.note(n as u64 * 1000, block);
    }
    sums.finish(200_000, |chunk| unreachable!("{chunk:?} is read"));
}
