//! What the ranks write, in the order in which each wrote it, line by line.

use std::io::{self, Write};

use crate::core::output::{Order, Passed};
use crate::wire::messages::Rank;

/// Unfinished lines of all ranks take so much memory.
const HELD_BYTES_MAX: usize = 64 << 20;

/// One piece of output: which stream, and what.
type Piece = (bool, Vec<u8>);

/// Passes the output of all ranks on.
#[derive(Debug)]
pub(super) struct Output {
    order: Order,
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
    fn write(&mut self, passed: &Passed<'_>) -> io::Result<()> {
        if passed.text.is_empty() {
            return Ok(());
        }
        let sink = if passed.stderr {
            &mut self.stderr
        } else {
            &mut self.stdout
        };
        sink.write_all(passed.text)?;
        sink.flush()
    }
}

impl Default for Output {
    fn default() -> Self {
        let order = Order::new(HELD_BYTES_MAX);
        Self { order }
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
        self.order
            .take(rank, seq, piece, |passed| sinks.write(&passed))
    }

    /// Whether the first `count` pieces of the rank have been passed on.
    pub(super) fn has_all(&self, rank: Rank, count: u64) -> bool {
        self.order.has_all(rank, count)
    }

    /// Passes on what remains: lines without an end, and pieces behind a gap that will not be filled.
    pub(super) fn finish(&mut self, sinks: &mut Sinks<'_>) -> io::Result<()> {
        self.order.finish(|passed| sinks.write(&passed))
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
