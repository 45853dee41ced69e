//! Objects that are to be deleted, pure.

use std::collections::{BTreeSet, VecDeque};

use crate::names::ChunkName;

/// Each is in it once, until it is deleted.
#[derive(Debug)]
pub(super) struct Queue {
    order: VecDeque<ChunkName>,
    names: BTreeSet<ChunkName>,
    len_max: usize,
}

impl Queue {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            order: VecDeque::new(),
            names: BTreeSet::new(),
            len_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it is in it now.
    pub(super) fn push(&mut self, name: ChunkName) -> bool {
        if self.names.contains(&name) {
            return true;
        }
        if self.order.len() >= self.len_max {
            return false;
        }
        self.names.insert(name);
        self.order.push_back(name);
        true
    }

    /// The next ones. They stay in it, behind the others, until they are [`done`](Self::done): a deletion that is cut off, or fails, comes again.
    pub(super) fn next(&mut self, n_max: usize) -> Vec<ChunkName> {
        let n = n_max.min(self.order.len());
        self.order.rotate_left(n);
        self.order.range(self.order.len() - n..).copied().collect()
    }

    pub(super) fn done(&mut self, deleted: &BTreeSet<ChunkName>) {
        self.order.retain(|name| !deleted.contains(name));
        self.names.retain(|name| !deleted.contains(name));
    }
}
