//! The control plane of streams: which scopes and streams there are, what each is made of, and how that changes. Pure: no I/O, no clock, no
//! threads, no random numbers.
//!
//! Its state is rows, ordered byte keys with versioned values, in a table somewhere; its deeds are those rows, and what stores of segments are
//! told. [`Control`] says what is to be written or called, somebody else does it and says what came of that.
//!
//! ```text
//!  request(Scale) ─▶ Write: Scaling, what goes, what comes     the intent: from here on it will happen
//!                    Call: create the successors               no room: delete them, Write: Active, and refuse
//!                    Write: their epoch, and answer            a writer that is turned away finds them
//!                    Call: seal the predecessors, then lengths
//!                    Write: Active, the new epoch              the end
//!  kill -9 ─▶ load(rows) ─▶ resume() ─▶ Call: create the successors …
//! ```
//!
//! # What it guarantees
//! - What was begun is finished, whoever owns the rows then, or it is undone, if a store refuses it for good (`work::undo`). Before anything is
//!   done to a segment, the row of its stream says what will be done to all of them; each call may be made again; and what is next follows from
//!   the rows alone.
//! - A refusal says that nothing was done, and that nothing will be. Who waits for what has begun waits until it is done. What cannot be known is
//!   only what becomes of requests that are not answered when their owner dies.
//! - One thing at a time is done to a stream. Others wait, not too many.
//! - The segments of each epoch tile all keys, and all of them exist before one that they take the place of is sealed.
//! - A transaction is committed once and wholly, or never. When it is answered that it will be, it will be.
//! - A name that is used again has segments with other numbers, however many names were used.
//! - How a transaction has ended is remembered for [`Limits::ended_ms_min`] at least.
//! - Clocks may leap: transactions live, and data stays, longer than without that, never shorter (`clock`).
//! - Rows are hostile until they are parsed; there are golden bytes of each kind. Everything has a limit ([`Limits`]): plans too, so what is much
//!   takes several of them.
//!
//! # What it expects
//! - One owner. When rows are loaded, nobody can write them any more who loaded them before, and no call of theirs is still under way: versions
//!   alone do not keep an old owner from creating what it does not expect to be there.
//! - [`Action::Write`] is all or nothing, and durable when it is told; an outcome that is not known is [`Outcome::Lost`].
//! - Calls do what [`Call`] says, once, twice, or after others that followed them.
//! - [`Control::tick`] is called often. Requests come from people who may do that.
//! - Plans of many streams may come at once, above all from [`Control::resume`]: whoever carries them out does so at their own pace.
//!
//! # In which order to read
//! `names`, `ranges`, `epochs`, `cuts`: what a stream is. `rows`: what is remembered of it, and `disk` as bytes. `step`: what is said to whom.
//! `state` holds the rows, `lanes` says whose turn it is, and `work` what is done, one file for each kind. `questions` changes nothing, `check` neither.
//!
//! Not here yet, with a place in rows as new kinds or versions: automatic scaling, key-value tables, what reader groups have read, watermarks.
#![forbid(unsafe_code)]

mod names;
mod ranges;

mod epochs;

mod cuts;

mod config;
mod groups;
mod rows;

mod disk;

mod step;

mod state;

mod clock;
mod lanes;
mod work;

mod questions;
mod retention;

pub mod check;

mod error;
mod limits;

pub use self::config::{Config, Rate, Retention, Scaling};
pub use self::cuts::Cut;
pub use self::epochs::{Segment, Successor};
pub use self::error::{Corrupt, Refusal};
pub use self::groups::{Group, Subscription};
pub use self::limits::Limits;
pub use self::names::{Epoch, Name, SYSTEM_SCOPE, SegmentId, StreamName, TxnId, Unique};
pub use self::questions::{Page, ScaleEvent, Usage};
pub use self::ranges::Range;
pub use self::state::Control;
pub use self::step::{
    Action, Call, Change, Effects, Outcome, Ping, Plan, Request, Response, ScaleStatus, Ticket,
    Token, TxnStatus, Version,
};
