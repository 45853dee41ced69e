//! Puts what the ranks of a world write in order, and cuts it into lines.
//!
//! A rank that moves may be heard from two hosts at once, and one that is started again from a checkpoint repeats itself: each piece
//! has a number, and passes once and in its turn. A line passes when it is complete, so that no other rank writes into its middle.

use std::collections::BTreeMap;
use std::io;

use crate::wire::messages::Rank;

/// A line longer than this passes in parts.
const LINE_BYTES_MAX: usize = 64 << 10;
/// So much of one rank may wait behind a piece that is missing; then nobody waits for that piece any more.
const EARLY_BYTES_MAX: usize = 16 << 20;
/// What a waiting piece takes beside its bytes, about.
const EARLY_PIECE_BYTES: usize = 64;

/// The output of all ranks.
#[derive(Debug)]
pub(crate) struct Order {
    ranks: BTreeMap<Rank, RankOutput>,
    /// Bytes of unfinished lines, of all ranks together.
    held_bytes: usize,
    held_bytes_max: usize,
}

#[derive(Debug, Default)]
struct RankOutput {
    next: u64,
    early: BTreeMap<u64, (bool, Vec<u8>)>,
    early_bytes: usize,
    /// Unfinished lines of standard output and standard error.
    lines: [Vec<u8>; 2],
}

/// A piece whose turn has come.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    pub rank: Rank,
    /// The number of the piece behind it.
    pub next: u64,
    pub stderr: bool,
    /// The lines that it completes, from their beginnings.
    pub text: &'a [u8],
    /// What it adds to an unfinished line: to the same one as before, if it completes none.
    pub rest: &'a [u8],
}

impl Order {
    /// Unfinished lines take at most `held_bytes_max`: a line that would go beyond passes in parts.
    pub(crate) fn new(held_bytes_max: usize) -> Self {
        Self {
            ranks: BTreeMap::new(),
            held_bytes: 0,
            held_bytes_max,
        }
    }

    /// Takes piece `seq` of `rank` and passes on what it was waited for.
    ///
    /// # Errors
    /// Those of `pass`; what it did not take is gone.
    pub(crate) fn take(
        &mut self,
        rank: Rank,
        seq: u64,
        (stderr, bytes): (bool, Vec<u8>),
        mut pass: impl FnMut(Passed<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let output = self.ranks.entry(rank).or_default();
        if seq < output.next || output.early.contains_key(&seq) {
            return Ok(());
        }
        output.early_bytes += bytes.len() + EARLY_PIECE_BYTES;
        output.early.insert(seq, (stderr, bytes));
        while let Some(first) = output.early.first_entry() {
            let seq = *first.key();
            if seq > output.next {
                if output.early_bytes <= EARLY_BYTES_MAX {
                    break;
                }
                tracing::warn!(
                    rank,
                    missing = seq - output.next,
                    "output is lost: a piece never came"
                );
            }
            let (stderr, bytes) = first.remove();
            output.early_bytes -= bytes.len() + EARLY_PIECE_BYTES;
            output.next = seq.saturating_add(1);
            let room = self.held_bytes_max.saturating_sub(self.held_bytes);
            let held_before = output.held();
            let passed = output.lengthen(rank, stderr, &bytes, room, &mut pass);
            self.held_bytes = self.held_bytes + output.held() - held_before;
            passed?;
        }
        Ok(())
    }

    /// Whether the first `count` pieces of the rank have passed.
    pub(crate) fn has_all(&self, rank: Rank, count: u64) -> bool {
        self.ranks.get(&rank).map_or(0, |output| output.next) >= count
    }

    /// Passes what remains: pieces behind a gap that will not be filled, and lines without an end.
    ///
    /// # Errors
    /// Those of `pass`.
    pub(crate) fn finish(
        &mut self,
        mut pass: impl FnMut(Passed<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.held_bytes = 0;
        for (&rank, output) in &mut self.ranks {
            output.early_bytes = 0;
            for (seq, (stderr, bytes)) in std::mem::take(&mut output.early) {
                output.next = seq.saturating_add(1);
                output.lengthen(rank, stderr, &bytes, LINE_BYTES_MAX, &mut pass)?;
            }
            for (line, stderr) in output.lines.iter_mut().zip([false, true]) {
                let text = std::mem::take(line);
                if !text.is_empty() {
                    pass(Passed {
                        rank,
                        next: output.next,
                        stderr,
                        text: &text,
                        rest: &[],
                    })?;
                }
            }
        }
        Ok(())
    }

    /// What an order must [recall](Self::recall) to go on where this one is; pieces that came early are not part of it.
    pub(crate) fn memory(&self) -> impl Iterator<Item = Passed<'_>> {
        self.ranks.iter().flat_map(|(&rank, output)| {
            let lines = output.lines.iter().zip([false, true]);
            lines.map(move |(line, stderr)| Passed {
                rank,
                next: output.next,
                stderr,
                text: &[],
                rest: line,
            })
        })
    }

    /// Goes on behind `passed`, of an earlier order. `is_whole`: its rest is the whole unfinished line.
    pub(crate) fn recall(&mut self, passed: &Passed<'_>, is_whole: bool) {
        let output = self.ranks.entry(passed.rank).or_default();
        output.next = output.next.max(passed.next);
        let line = &mut output.lines[usize::from(passed.stderr)];
        self.held_bytes -= line.len();
        if is_whole || !passed.text.is_empty() {
            line.clear();
        }
        line.extend_from_slice(passed.rest);
        self.held_bytes += line.len();
    }
}

impl RankOutput {
    fn held(&self) -> usize {
        self.lines[0].len() + self.lines[1].len()
    }

    /// Adds to a line, which may grow by `room`, and passes it on.
    fn lengthen(
        &mut self,
        rank: Rank,
        stderr: bool,
        bytes: &[u8],
        room: usize,
        pass: &mut impl FnMut(Passed<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let line = &mut self.lines[usize::from(stderr)];
        let old = line.len();
        line.extend_from_slice(bytes);
        let complete = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => old + end + 1,
            None => 0,
        };
        let rest = line.len() - complete;
        let complete = if rest > LINE_BYTES_MAX || rest > room.saturating_add(old) {
            line.len()
        } else {
            complete
        };
        let rest_at = if complete == 0 { old } else { complete };
        let passed = pass(Passed {
            rank,
            next: self.next,
            stderr,
            text: &line[..complete],
            rest: &line[rest_at..],
        });
        line.drain(..complete);
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes, as text with its rank.
    fn lines(order: &mut Order, pieces: &[(Rank, u64, &str)]) -> Vec<(Rank, String)> {
        let mut lines = Vec::new();
        for (rank, seq, text) in pieces {
            let piece = (false, text.as_bytes().to_vec());
            let passed = order.take(*rank, *seq, piece, |passed| {
                if !passed.text.is_empty() {
                    let text = String::from_utf8_lossy(passed.text);
                    lines.push((passed.rank, text.into_owned()));
                }
                Ok(())
            });
            passed.expect("nothing refuses");
        }
        lines
    }

    #[test]
    fn a_line_passes_in_parts_when_it_is_long_or_there_is_no_room() {
        let mut order = Order::new(LINE_BYTES_MAX + 10);
        let long = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(lines(&mut order, &[(0, 0, &long)]), []);
        assert_eq!(
            lines(&mut order, &[(0, 1, "y"), (0, 2, "z\n")]),
            [(0, format!("{long}y")), (0, "z\n".into())]
        );
        assert_eq!(
            lines(&mut order, &[(0, 3, &long), (1, 0, "0123456789")]),
            []
        );
        assert_eq!(lines(&mut order, &[(2, 0, "!")]), [(2, "!".into())]);
        assert_eq!(
            lines(&mut order, &[(1, 1, "\n"), (2, 1, "?"), (2, 2, "\n")]),
            [(1, "0123456789\n".into()), (2, "?\n".into())]
        );
    }

    #[test]
    fn what_waits_behind_a_gap_is_bounded() {
        let mut order = Order::new(0);
        let piece = format!("{}\n", "x".repeat(1 << 20));
        for seq in 1..16 {
            assert_eq!(lines(&mut order, &[(0, seq, &piece)]), []);
        }
        assert!(!order.has_all(0, 1));
        assert_eq!(lines(&mut order, &[(0, 16, &piece)]).len(), 16);
        assert!(order.has_all(0, 17) && !order.has_all(0, 18));
    }

    #[test]
    fn an_order_that_recalls_what_another_has_passed_goes_on_where_it_is() {
        let mut order = Order::new(1000);
        let mut copy = Order::new(1000);
        for (seq, text) in ["a", "b\nc", "d", "\n", "e"].into_iter().enumerate() {
            let piece = (seq % 2 == 1, text.into());
            let passed = order.take(3, seq as u64, piece, |passed| {
                copy.recall(&passed, false);
                Ok(())
            });
            passed.expect("nothing refuses");
        }
        let mut recalled = Order::new(1000);
        for passed in order.memory() {
            recalled.recall(&passed, true);
        }
        for other in [copy, recalled] {
            assert_eq!(format!("{other:?}"), format!("{order:?}"));
        }
    }
}
