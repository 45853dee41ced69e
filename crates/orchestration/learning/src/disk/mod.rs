//! What is written as bytes: the journal, and the records in it.

pub(crate) mod journal;
pub(crate) mod record;
