//! What the three acts have shown.

use serde_json::{Value, json};

use super::scene::{Take, broken};
use super::{round, yes};

/// A sample of the iteration time stands for this long, seconds.
const SAMPLE_S: f64 = 0.5;
/// A forecast is for one moment; what it foresees may come earlier by this part of the distance that it looked ahead, and later.
const TOLERANCE: f64 = 0.5;
/// The overload is seen in the kernel's counters when ready threads wait for so many processors more than they did before.
const WAITING_MORE: f64 = 0.5;

pub(super) struct Verdict {
    is_identical: bool,
    migrations: usize,
    n_ranks: usize,
    decided_by: Option<&'static str>,
    is_predicted_before: bool,
    is_overload_seen: bool,
    false_moves: usize,
    violation_s: [f64; 2],
    pause_ms_max: f64,
    disruption_pct: f64,
    /// In the shadow act: how long before the first violation it was foreseen, seconds, and how far the forecast's time was off.
    lead_s: Option<f64>,
    off_s: Option<f64>,
}

impl Verdict {
    pub(super) fn new([calm, active, shadow]: &[Take; 3]) -> Self {
        let moves = &active.moves;
        let foreseen = shadow.decision.as_ref().map(|(decision, _)| decision);
        let violated = first_violation(shadow);
        let lead_s = foreseen
            .zip(violated)
            .map(|(decision, at)| seconds(decision.at_ms, at));
        let forecast = foreseen.and_then(|decision| decision.forecast.as_ref());
        let off_s = forecast
            .zip(violated)
            .map(|(forecast, at)| seconds(forecast.target_ms, at));
        let tolerance_s = forecast.map_or(0.0, |forecast| {
            TOLERANCE * seconds(forecast.as_of_ms, forecast.target_ms)
        });
        let acted_in_time = active.decision.as_ref().is_some_and(|(decision, _)| {
            first_violation(active).is_none_or(|at| decision.at_ms <= at)
        });
        let pauses = moves.iter().map(|m| m.pause_us as f64 / 1e3);
        let run_ms = (active.ended_ms - active.began_ms) as f64;
        Self {
            is_identical: [calm, active, shadow].iter().all(|take| take.is_identical),
            migrations: moves.len(),
            n_ranks: usize::try_from(active.n_ranks).unwrap_or(usize::MAX),
            decided_by: match active.decision {
                Some((_, true)) => Some("policy"),
                _ => None,
            },
            is_predicted_before: acted_in_time
                && lead_s.is_some_and(|lead| lead > 0.0)
                && off_s.is_some_and(|off| off >= -tolerance_s),
            is_overload_seen: is_overload_seen(active) && is_overload_seen(shadow),
            false_moves: calm.moves.len() + shadow.moves.len(),
            violation_s: [active, shadow].map(violation_s),
            pause_ms_max: pauses.clone().fold(0.0, f64::max),
            disruption_pct: pauses.sum::<f64>() / run_ms * 100.0,
            lead_s,
            off_s,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        let [active, shadow] = self.violation_s;
        self.is_identical
            && self.migrations == self.n_ranks
            && self.decided_by.is_some()
            && self.is_predicted_before
            && self.is_overload_seen
            && self.false_moves == 0
            && shadow > active
            && self.disruption_pct < 10.0
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let lead = self.lead_s.map_or_else(
            || "never".into(),
            |lead| format!("{lead:.1} s before it came"),
        );
        vec![
            format!(
                "pictures identical to the local run's: {}",
                yes(self.is_identical)
            ),
            format!(
                "{} ranks moved by the policy, {} without a reason; longest pause {:.1} ms, {:.2} % of the run",
                self.migrations, self.false_moves, self.pause_ms_max, self.disruption_pct
            ),
            format!(
                "the violation was foreseen {lead}; the promise was broken for {:.1} s when the policy acted, \
                 for {:.1} s when it only watched",
                self.violation_s[0], self.violation_s[1]
            ),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "ok": self.is_ok(),
            "identical": self.is_identical,
            "migrations": self.migrations,
            "decided_by": self.decided_by,
            "predicted_before_violation": self.is_predicted_before,
            "overload_in_kernel_counters": self.is_overload_seen,
            "false_moves": self.false_moves,
            "slo_violation_s": {"active": round(self.violation_s[0]), "shadow": round(self.violation_s[1])},
            "pause_ms_max": round(self.pause_ms_max),
            "disruption_pct": round(self.disruption_pct),
            "foreseen_s": self.lead_s.map(round),
            "forecast_off_s": self.off_s.map(round),
        })
    }
}

/// Whether more threads waited for the edge's processors than before the overload, by the kernel's counters.
fn is_overload_seen(take: &Take) -> bool {
    let Some(from) = take.overloaded_from_ms else {
        return false;
    };
    let before = take.waiting.iter().filter(|(at, _)| *at < from);
    let mut before: Vec<f64> = before.map(|(_, waiting)| *waiting).collect();
    before.sort_unstable_by(f64::total_cmp);
    let Some(usual) = before.get(before.len() / 2) else {
        return false;
    };
    take.waiting
        .iter()
        .any(|(_, waiting)| *waiting > usual + WAITING_MORE)
}

fn first_violation(take: &Take) -> Option<u64> {
    broken(&take.iterations, take.limit).first().copied()
}

fn violation_s(take: &Take) -> f64 {
    broken(&take.iterations, take.limit).len() as f64 * SAMPLE_S
}

fn seconds(from_ms: u64, to_ms: u64) -> f64 {
    (to_ms as f64 - from_ms as f64) / 1e3
}
