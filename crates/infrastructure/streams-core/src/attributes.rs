//! The attributes of a segment, and how they change.

use std::collections::BTreeMap;

use crate::Refusal;

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
pub(crate) struct Attributes(BTreeMap<AttributeId, i64>);

/// What updates come to.
pub(crate) type Values = Vec<(AttributeId, i64)>;

impl Attributes {
    pub(crate) fn get(&self, id: AttributeId) -> i64 {
        self.0.get(&id).copied().unwrap_or(NO_VALUE)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AttributeId, i64)> {
        self.0.iter().map(|(id, value)| (*id, *value))
    }

    pub(crate) fn set(&mut self, values: &[(AttributeId, i64)]) {
        for (id, value) in values {
            if *value == NO_VALUE {
                self.0.remove(id);
            } else {
                self.0.insert(*id, *value);
            }
        }
    }

    /// All of them, or none: each sees those before it.
    pub(crate) fn evaluate(
        &self,
        updates: &[AttributeUpdate],
        attributes_max: usize,
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
        if n_new > 0 && self.len() + n_new > attributes_max {
            let what = "attributes of a segment";
            return Err(Refusal::Limit { what });
        }
        Ok(values)
    }
}

impl FromIterator<(AttributeId, i64)> for Attributes {
    fn from_iter<T: IntoIterator<Item = (AttributeId, i64)>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}
