//! A few queues over one slab: whoever has the number of an item's slot moves it from queue to queue, or takes it out of the middle.

/// The end of a chain.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    previous: u32,
    /// In its queue; of a free slot, the next free one.
    next: u32,
    queue: u8,
    /// `None`: the slot is free.
    item: Option<T>,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
}

/// `N` queues. Its memory is in proportion to the most items that it ever had.
#[derive(Debug)]
pub(super) struct Queues<T, const N: usize> {
    slots: Vec<Slot<T>>,
    free: u32,
    queues: [Queue; N],
}

impl<T, const N: usize> Default for Queues<T, N> {
    fn default() -> Self {
        let (first, last) = (NONE, NONE);
        Self {
            slots: Vec::new(),
            free: NONE,
            queues: [Queue { first, last }; N],
        }
    }
}

impl<T, const N: usize> Queues<T, N> {
    /// Puts an item at the end of a queue, and says in which slot it is.
    pub(super) fn push(&mut self, queue: u8, item: T) -> u32 {
        let slot = self.free;
        let slot = if slot == NONE {
            let slot = u32::try_from(self.slots.len()).ok();
            let slot = slot.filter(|slot| *slot != NONE);
            self.slots.push(Slot {
                previous: NONE,
                next: NONE,
                queue,
                item: Some(item),
            });
            slot.expect("memory has room for fewer than 2^32 objects")
        } else {
            let free = self.slot_mut(slot);
            let next = free.next;
            free.item = Some(item);
            self.free = next;
            slot
        };
        self.link_last(queue, slot);
        slot
    }

    /// Takes an item out of its queue.
    pub(super) fn take(&mut self, slot: u32) -> T {
        self.unlink(slot);
        let free = self.free;
        let emptied = self.slot_mut(slot);
        emptied.next = free;
        let item = emptied.item.take();
        self.free = slot;
        item.expect("the slot of an item has it")
    }

    pub(super) fn move_to_end(&mut self, slot: u32, queue: u8) {
        self.unlink(slot);
        self.link_last(queue, slot);
    }

    pub(super) fn move_to_front(&mut self, slot: u32) {
        let queue = self.queue_of(slot);
        self.unlink(slot);
        let first = self.queues[usize::from(queue)].first;
        let moved = self.slot_mut(slot);
        (moved.previous, moved.next) = (NONE, first);
        match first {
            NONE => self.queues[usize::from(queue)].last = slot,
            first => self.slot_mut(first).previous = slot,
        }
        self.queues[usize::from(queue)].first = slot;
    }

    /// The slot of the item that has been in a queue for the longest time.
    pub(super) fn first(&self, queue: u8) -> Option<u32> {
        let first = self.queues[usize::from(queue)].first;
        (first != NONE).then_some(first)
    }

    pub(super) fn queue_of(&self, slot: u32) -> u8 {
        self.slots[slot as usize].queue
    }

    pub(super) fn get(&self, slot: u32) -> &T {
        let item = self.slots[slot as usize].item.as_ref();
        item.expect("the slot of an item has it")
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        let item = self.slot_mut(slot).item.as_mut();
        item.expect("the slot of an item has it")
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot<T> {
        &mut self.slots[slot as usize]
    }

    fn link_last(&mut self, queue: u8, slot: u32) {
        let last = self.queues[usize::from(queue)].last;
        let linked = self.slot_mut(slot);
        (linked.previous, linked.next, linked.queue) = (last, NONE, queue);
        match last {
            NONE => self.queues[usize::from(queue)].first = slot,
            last => self.slot_mut(last).next = slot,
        }
        self.queues[usize::from(queue)].last = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let &Slot {
            previous,
            next,
            queue,
            ..
        } = &self.slots[slot as usize];
        match previous {
            NONE => self.queues[usize::from(queue)].first = next,
            previous => self.slot_mut(previous).next = next,
        }
        match next {
            NONE => self.queues[usize::from(queue)].last = previous,
            next => self.slot_mut(next).previous = previous,
        }
    }
}

#[cfg(test)]
impl<T, const N: usize> Queues<T, N> {
    /// What is in a queue, in order.
    pub(super) fn items(&self, queue: u8) -> Vec<&T> {
        let mut items = Vec::new();
        let (mut previous, mut slot) = (NONE, self.queues[usize::from(queue)].first);
        while slot != NONE {
            let here = &self.slots[slot as usize];
            assert_eq!((here.previous, here.queue), (previous, queue));
            items.push(self.get(slot));
            (previous, slot) = (slot, here.next);
        }
        assert_eq!(self.queues[usize::from(queue)].last, previous);
        items
    }

    pub(super) const fn slot_bytes() -> usize {
        size_of::<Slot<T>>()
    }
}
