//! What was committed lately, for the nodes that have a replica.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::index::Revision;
use crate::error::{Error, Kind, Result};

/// So many bytes are kept. Who is further behind joins again.
const BYTES_MAX: usize = 64 << 20;

/// Empty until a node has joined: who is alone keeps nothing.
#[derive(Debug, Default)]
pub(super) struct Feed {
    is_on: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// What comes after it is here.
    from: Revision,
    records: VecDeque<Box<[u8]>>,
    n_bytes: usize,
}

impl Feed {
    /// Keeps what comes after a revision, which nothing has come after yet.
    pub(super) fn start(&self, revision: Revision) {
        let mut kept = self.kept();
        if !self.is_on.swap(true, Ordering::SeqCst) {
            kept.from = revision;
        }
    }

    /// The record after the last one. To be called in their order.
    pub(super) fn push(&self, revision: Revision, record: &[u8]) {
        if !self.is_on.load(Ordering::SeqCst) {
            return;
        }
        let mut kept = self.kept();
        assert_eq!(
            kept.from.0 + kept.records.len() as u64 + 1,
            revision.0,
            "records are kept in their order"
        );
        kept.n_bytes += record.len();
        kept.records.push_back(record.into());
        while kept.n_bytes > BYTES_MAX
            && let Some(oldest) = kept.records.pop_front()
        {
            kept.n_bytes -= oldest.len();
            kept.from = Revision(kept.from.0 + 1);
        }
    }

    pub(super) fn after(&self, revision: Revision, bytes_max: usize) -> Result<Vec<Vec<u8>>> {
        let kept = self.kept();
        let last = kept.from.0 + kept.records.len() as u64;
        let is_on = self.is_on.load(Ordering::SeqCst);
        if !is_on || !(kept.from.0..=last).contains(&revision.0) {
            let what = "what was committed then is not kept for other nodes any more";
            return Err(Error::new(Kind::NotFound, what));
        }
        let n_skipped = usize::try_from(revision.0 - kept.from.0).expect("there are so many");
        let (mut n_bytes, mut records) = (0, Vec::new());
        for record in kept.records.iter().skip(n_skipped) {
            n_bytes += record.len();
            if n_bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(record.to_vec());
        }
        Ok(records)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_in_order_and_what_is_not_is_said_to_be_gone() {
        let feed = Feed::default();
        feed.push(Revision(4), b"nobody is there");
        assert!(feed.after(Revision(3), 1).is_err());
        feed.start(Revision(4));
        assert!(feed.after(Revision(4), 1).expect("nothing").is_empty());
        for n in 5..10_u8 {
            feed.push(Revision(n.into()), &[n; 10]);
        }
        feed.start(Revision(9));
        let after = |revision, bytes| feed.after(Revision(revision), bytes);
        assert_eq!(after(4, 25).expect("kept"), [[5; 10], [6; 10]]);
        assert_eq!(after(8, 1).expect("at least one"), [[9; 10]]);
        assert!(after(3, 1).is_err() && after(10, 1).is_err());
        let large = vec![0; BYTES_MAX];
        feed.push(Revision(10), &large);
        assert!(after(8, 1).is_err());
        assert_eq!(after(9, 1).expect("the last one").len(), 1);
        feed.push(Revision(11), &large);
        assert!(after(9, 1).is_err());
    }
}
