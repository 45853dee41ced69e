//! What the ranks write, in the order in which each wrote it, line by line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::wire::messages::Rank;

/// A line longer than this is passed on in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One piece of output: which stream, and what.
type Piece = (bool, Vec<u8>);

/// Puts the output of all ranks in order. A rank that moves may be heard from two hosts at once, and one that is started again from a
/// checkpoint repeats itself: each piece has a number, and is passed on once and in its turn.
#[derive(Debug, Default)]
pub(super) struct Output {
    ranks: BTreeMap<Rank, RankOutput>,
}

#[derive(Debug, Default)]
struct RankOutput {
    next: u64,
    early: BTreeMap<u64, Piece>,
    /// Unfinished lines of standard output and standard error.
    lines: [Vec<u8>; 2],
}

/// Where output goes.
pub struct Sinks<'a> {
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
}

impl std::fmt::Debug for Sinks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sinks")
    }
}

impl Sinks<'_> {
    fn of(&mut self, stderr: bool) -> &mut dyn Write {
        if stderr { self.stderr } else { self.stdout }
    }
}

impl Output {
    pub(super) fn take(
        &mut self,
        rank: Rank,
        seq: u64,
        piece: Piece,
        sinks: &mut Sinks<'_>,
    ) -> io::Result<()> {
        let output = self.ranks.entry(rank).or_default();
        if seq >= output.next {
            output.early.insert(seq, piece);
        }
        while let Some((stderr, bytes)) = output.early.remove(&output.next) {
            output.next += 1;
            let line = &mut output.lines[usize::from(stderr)];
            line.extend_from_slice(&bytes);
            let complete = match line.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if line.len() > LINE_BYTES_MAX => line.len(),
                None => 0,
            };
            if complete > 0 {
                let sink = sinks.of(stderr);
                sink.write_all(&line[..complete])?;
                sink.flush()?;
                line.drain(..complete);
            }
        }
        Ok(())
    }

    /// Whether the first `count` pieces of the rank have been passed on.
    pub(super) fn has_all(&self, rank: Rank, count: u64) -> bool {
        self.ranks.get(&rank).map_or(0, |output| output.next) >= count
    }

    /// Passes on what remains: lines without an end, and pieces behind a gap that will not be filled.
    pub(super) fn finish(&mut self, sinks: &mut Sinks<'_>) -> io::Result<()> {
        for output in self.ranks.values_mut() {
            for (stderr, bytes) in std::mem::take(&mut output.early).into_values() {
                output.lines[usize::from(stderr)].extend_from_slice(&bytes);
            }
            for (line, stderr) in output.lines.iter_mut().zip([false, true]) {
                sinks.of(stderr).write_all(line)?;
                line.clear();
            }
        }
        sinks.stdout.flush()?;
        sinks.stderr.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[(Rank, u64, bool, &str)], stdout: &str, stderr: &str) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut sinks = Sinks {
            stdout: &mut out,
            stderr: &mut err,
        };
        let mut output = Output::default();
        for (rank, seq, is_err, text) in pieces {
            let piece = (*is_err, text.as_bytes().to_vec());
            output
                .take(*rank, *seq, piece, &mut sinks)
                .expect("a vector takes all");
        }
        output.finish(&mut sinks).expect("a vector takes all");
        assert_eq!(
            (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)),
            (stdout.into(), stderr.into())
        );
    }

    #[test]
    fn pieces_come_out_once_and_in_their_order() {
        check(
            &[
                (0, 1, false, "b\n"),
                (0, 0, false, "a\n"),
                (0, 0, false, "again\n"),
            ],
            "a\nb\n",
            "",
        );
    }

    #[test]
    fn lines_of_two_ranks_are_not_torn() {
        check(
            &[
                (0, 0, false, "he"),
                (1, 0, false, "she\n"),
                (0, 1, false, "re\n"),
            ],
            "she\nhere\n",
            "",
        );
    }

    #[test]
    fn what_has_no_end_comes_at_the_end() {
        check(
            &[
                (0, 0, false, "no newline"),
                (0, 1, true, "error"),
                (0, 3, false, "!"),
            ],
            "no newline!",
            "error",
        );
    }
}
