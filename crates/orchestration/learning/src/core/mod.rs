//! The decisions of the Learning Plane, without I/O: values and the time go in, effects come out.

pub(crate) mod conformal;
mod decide;
mod diary;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod plane;
pub(crate) mod policy;
mod score;
mod sites;
pub(crate) mod tally;
mod view;
mod watch;
