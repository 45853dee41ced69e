//! What an acknowledgement has promised.

use object_store::Extensions;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The end of a process or node loses it.
    Ephemeral,
    /// A copy is synced to a disk, or in a store that says so.
    Durable,
}

impl Class {
    /// As an answer says it. `usual`: that of the store, if the answer says nothing.
    #[must_use]
    pub fn of(answer: &Extensions, usual: Self) -> Self {
        answer.get().copied().unwrap_or(usual)
    }
}
