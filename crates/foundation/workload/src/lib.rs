//! The seam between those who decide what runs where and those who run it.
//!
//! A *unit* is one replica of one block of a service: the smallest thing that is placed. A [`UnitSpec`] says what it is and where it shall be;
//! [`Observed`] says what has become of it. A [`Driver`] makes the one out of the other for one kind of unit at one site.
//!
//! A unit can have *parts* at several sites: while it moves, or when it runs across sites. One of them is its *home*: it holds what the unit
//! has only once (for cells: the coordinator, the log, the checkpoints). The others serve it. Parts find each other by *offers*: short
//! public texts (addresses, public keys, certificates; never a secret) that each part reports and the controller passes on, unread.
//!
//! [`link`] has what a site and its controller say to each other. The types here are wire types: they grow by optional fields, and
//! [`link::VERSION`] is raised when one changes its meaning.
#![forbid(unsafe_code)]

pub mod contract;
pub mod link;
mod unit;

use std::collections::BTreeMap;

use ids::{Epoch, Name, UnitId};

pub use unit::{
    CellSpec, Kind, Limits, MOVES_MAX, Mount, MoveReport, Observed, Phase, RankAt, SiteConfig,
    UnitSpec,
};

/// What the other parts of a unit offer, by site.
pub type Offers = BTreeMap<Name, String>;

/// Runs units of one kind at one site.
///
/// Contract, checked by [`contract::check`]: every call is idempotent and returns soon (what takes long goes on behind it and shows in
/// [`observe`](Self::observe)). A call with an older epoch than that of a unit that it knows is refused and changes nothing; a newer one
/// replaces the unit. A driver finds again, after its process was killed, what it started before: by process number *and* start time,
/// never by name. It never starts a second one.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// The kind of units that it runs: [`Kind::name`].
    fn kind(&self) -> &'static str;

    fn caps(&self) -> Caps;

    /// Brings this site's part of the unit closer to its spec: starts it, joins it to its home, moves what is to be elsewhere.
    ///
    /// # Errors
    /// When it cannot be brought closer now. It is asked again.
    fn ensure(&self, spec: &UnitSpec, offers: &Offers) -> Result<(), DriverError>;

    /// Ends this site's part of a unit and forgets it. A unit that is not known is stopped already.
    ///
    /// # Errors
    /// When it may still run.
    fn stop(&self, unit: &UnitId) -> Result<(), DriverError>;

    /// What has become of every unit that this driver knows, whoever started it.
    fn observe(&self) -> Vec<Observed>;

    /// The processes in which units run here, whoever started them: those whose use of the machine is measured and limited.
    fn pids(&self) -> Vec<u32>;

    /// Up to `max` bytes of what the unit has written, from byte `offset` on, and the offset at which they begin (later than asked for
    /// if the beginning is not kept any more). Only its home has it.
    ///
    /// # Errors
    /// When it is not at home here, or cannot be read.
    fn read_log(
        &self,
        unit: &UnitId,
        offset: u64,
        max: usize,
    ) -> Result<(u64, Vec<u8>), DriverError>;

    /// Numbers about what runs here, for the telemetry: cheap enough for once a second.
    fn sample(&self) -> Vec<link::Sample>;
}

/// What a driver can do beyond starting and stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// A running unit can move to another site and go on.
    pub moves_live: bool,
    /// A unit that was lost can begin again from a checkpoint.
    pub checkpoints: bool,
}

/// Why a driver did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It has seen a newer epoch of this unit.
    #[error("epoch {asked} of {unit} is older than {known}")]
    Fenced {
        unit: UnitId,
        asked: Epoch,
        known: Epoch,
    },
    /// The spec cannot be run here, and never will be.
    #[error("{0}")]
    Invalid(String),
    /// Something is missing now; the text says what.
    #[error("{0}")]
    NotYet(String),
    #[error("{context}")]
    Io {
        context: String,
        source: std::io::Error,
    },
}
