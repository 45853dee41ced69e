//! The attributes of a segment, and how they change.
//!
//! Most of them are writers: the number of the last event of each that ever wrote there. When there is no room for one more, that of the writer is
//! given up that has not written for the longest time; but none that may be under way.

use std::collections::{BTreeMap, BTreeSet};

use crate::Refusal;
use crate::names::Seq;

/// What an attribute is called: a UUID, more significant half first. Writers are called the same way, and an attribute of that name has the number
/// of the writer's last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeId(pub u128);

impl AttributeId {
    /// In milliseconds since 1970.
    pub const CREATION_TIME: Self = Self::core(0);
    pub const EVENT_COUNT: Self = Self::core(1);
    pub const SCALE_POLICY_TYPE: Self = Self::core(2);
    pub const SCALE_POLICY_RATE: Self = Self::core(3);
    pub const ROLLOVER_SIZE: Self = Self::core(4);
    /// How many bytes an entry of an index segment has.
    pub const INDEX_EVENT_SIZE: Self = Self::core(16);

    const fn core(number: u64) -> Self {
        Self((1 << 127) | number as u128)
    }

    /// Whether it is one that upstream has for every segment, and no writer.
    pub(crate) fn is_core(self) -> bool {
        self.0 >> 64 == 1 << 63
    }

    /// Upstream never lets them change once they are set: the kind of the segment, and the length of its attributes' names.
    fn is_fixed(self) -> bool {
        [Self::core(9), Self::core(12)].contains(&self)
    }
}

/// So many may be changed at once: each is compared with those before it.
const UPDATES_MAX: usize = 4_096;

/// The value of an attribute that is not there.
pub const NO_VALUE: i64 = i64::MIN;

/// A change of one attribute. What is not there has the value [`NO_VALUE`], and setting it to that takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeUpdate {
    pub id: AttributeId,
    pub value: i64,
    pub kind: UpdateKind,
}

/// When an attribute may change, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// If it is not there.
    None,
    Replace,
    ReplaceIfGreater,
    /// To the sum.
    Accumulate,
    /// If it has this value.
    ReplaceIfEquals(i64),
}

/// Those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    values: BTreeMap<AttributeId, Attribute>,
    /// Those of writers, by the record that has changed them last.
    writers: BTreeSet<(Seq, AttributeId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) value: i64,
    /// If it is a writer's, the record that has changed it last.
    pub(crate) written: Option<Seq>,
}

/// What updates come to.
pub(crate) type Values = Vec<(AttributeId, i64)>;

/// What there is room for, and how it may be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) attributes_max: usize,
    /// Writers are given up that have not written since before this record; if none is given, none of them.
    pub(crate) idle_before: Option<Seq>,
}

impl Attributes {
    pub(crate) fn get(&self, id: AttributeId) -> i64 {
        self.values.get(&id).map_or(NO_VALUE, |it| it.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AttributeId, Attribute)> {
        self.values.iter().map(|(id, attribute)| (*id, *attribute))
    }

    pub(crate) fn set(&mut self, values: &[(AttributeId, i64)]) {
        for (id, value) in values.iter().copied() {
            let written = None;
            self.put(id, Attribute { value, written });
        }
    }

    /// With events, in that record.
    pub(crate) fn write(&mut self, values: &[(AttributeId, i64)], record: Seq) {
        for (id, value) in values.iter().copied() {
            let written = (!id.is_core()).then_some(record);
            self.put(id, Attribute { value, written });
        }
    }

    pub(crate) fn put(&mut self, id: AttributeId, attribute: Attribute) {
        let former = self.values.remove(&id);
        if let Some(seq) = former.and_then(|former| former.written) {
            self.writers.remove(&(seq, id));
        }
        if attribute.value != NO_VALUE {
            self.writers.extend(attribute.written.map(|seq| (seq, id)));
            self.values.insert(id, attribute);
        }
    }

    /// All of them, or none: each sees those before it.
    pub(crate) fn evaluate(
        &self,
        updates: &[AttributeUpdate],
        room: Room,
    ) -> Result<Values, Refusal> {
        if updates.len() > UPDATES_MAX {
            let what = "updates of attributes at once";
            return Err(Refusal::Limit { what });
        }
        let mut values = Values::with_capacity(updates.len());
        let mut n_new = 0;
        for AttributeUpdate { id, value, kind } in updates.iter().copied() {
            if id.is_fixed() {
                return Err(Refusal::Invalid("this attribute does not change"));
            }
            let changed = values.iter().rev().find(|(other, _)| *other == id);
            let before = changed.map_or_else(|| self.get(id), |(_, value)| *value);
            let is_there = before != NO_VALUE;
            let is_allowed = match kind {
                UpdateKind::None => !is_there,
                UpdateKind::Replace | UpdateKind::Accumulate => true,
                UpdateKind::ReplaceIfGreater => !is_there || value > before,
                UpdateKind::ReplaceIfEquals(expected) => before == expected,
            };
            if !is_allowed {
                return Err(Refusal::BadAttribute { id, found: before });
            }
            let sum = kind == UpdateKind::Accumulate && is_there;
            // As upstream's: whoever counts that far begins at the other end.
            let after = if sum {
                before.wrapping_add(value)
            } else {
                value
            };
            n_new += usize::from(!is_there && after != NO_VALUE);
            values.push((id, after));
        }
        // What is there already may exceed the limit.
        let n_over = (self.len() + n_new).saturating_sub(room.attributes_max);
        let idle = self.idle(&values, room.idle_before, n_over.min(n_new))?;
        values.extend(idle);
        Ok(values)
    }

    /// So many that are given up: those of the writers that have been idle for the longest time, but none of those that change.
    fn idle(
        &self,
        changing: &[(AttributeId, i64)],
        idle_before: Option<Seq>,
        n_idle: usize,
    ) -> Result<Values, Refusal> {
        let is_idle = |(seq, _): &&(Seq, AttributeId)| Some(*seq) < idle_before;
        let changes = |id: AttributeId| changing.iter().any(|(other, _)| *other == id);
        let idle = self.writers.iter().take_while(is_idle);
        let idle = idle.filter(|(_, id)| !changes(*id));
        let idle: Values = idle.take(n_idle).map(|(_, id)| (*id, NO_VALUE)).collect();
        if idle.len() < n_idle {
            let what = "attributes of a segment";
            return Err(Refusal::Limit { what });
        }
        Ok(idle)
    }
}
