//! The settings of the Learning Plane.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    /// How often it samples and decides.
    pub period: Duration,
    /// A measurement older than this says nothing about now. Also the longest gap between samples that is interpolated.
    pub stale_after: Duration,
    /// The shortest horizon of a forecast, from the newest measurement on; longer ones double it.
    pub horizon_min: Duration,
    /// How long a move is assumed to take, and the program to stand still meanwhile, until a move has been measured.
    pub move_time_assumed: Duration,
    /// What a program did at a site counts for so long.
    pub evidence_age_max: Duration,
    /// How long an actuator may be silent about a migration before that is shown.
    pub silence_max: Duration,
    pub targets_max: usize,
    /// Decisions that are kept for each target.
    pub decisions_max: usize,
    /// The ledger is rewritten with what still matters when it is longer.
    pub ledger_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(500),
            stale_after: Duration::from_secs(2),
            horizon_min: Duration::from_secs(3),
            move_time_assumed: Duration::from_secs(2),
            evidence_age_max: Duration::from_secs(600),
            silence_max: Duration::from_secs(120),
            targets_max: 1024,
            decisions_max: 32,
            ledger_bytes_max: 1 << 20,
        }
    }
}
