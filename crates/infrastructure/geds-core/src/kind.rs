//! What can go wrong, by what the caller can do about it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense, and never will.
    Invalid,
    NotFound,
    /// It belongs to somebody else.
    Denied,
    /// It is there already, or not as the precondition says: read again, decide again.
    Conflict,
    /// A later owner or incarnation has taken over.
    Fenced,
    /// A limit is reached. It gets better when something is freed.
    Exhausted,
    /// What is needed does not answer, or has failed.
    Unavailable,
    /// All copies were lost with the nodes that held them.
    Lost,
    /// Bytes are not those that were sealed.
    Corrupt,
    /// Our own mistake.
    Internal,
}
