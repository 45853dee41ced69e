//! Whether a process is ready to serve, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A reason longer than this is cut: it is a line for an operator, not a report.
const REASON_BYTES_MAX: usize = 200;

/// The named reasons why a process is not ready. It is ready when there are none.
///
/// Clones share the reasons. Names are literals, so there are as many as the code has.
#[derive(Debug, Clone)]
pub struct Health {
    reasons: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Health {
    /// A process that has just begun, and is not ready because of `name`, until [`Health::clear`] is told so.
    #[must_use]
    pub fn starting(name: &'static str) -> Self {
        let health = Self {
            reasons: Arc::default(),
        };
        health.block(name, "starting");
        health
    }

    /// Not ready because of `name`, for this `reason`, which takes the place of an earlier one.
    pub fn block(&self, name: &'static str, reason: &str) {
        // One line each: what comes from elsewhere, an error for instance, may not add lines of its own.
        let mut line: String = reason.chars().filter(|c| !c.is_control()).collect();
        line.truncate(line.floor_char_boundary(REASON_BYTES_MAX));
        if self.lock().insert(name, line.clone()).is_none() {
            tracing::info!(name, reason = line, "not ready");
        }
    }

    /// `name` no longer keeps the process from being ready.
    pub fn clear(&self, name: &'static str) {
        let mut reasons = self.lock();
        if reasons.remove(name).is_some() && reasons.is_empty() {
            tracing::info!("ready");
        }
    }

    /// Whether nothing keeps the process from serving.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// A line for each reason, `name: reason`.
    pub(crate) fn render(&self) -> String {
        self.lock()
            .iter()
            .map(|(name, reason)| format!("{name}: {reason}\n"))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // Every change is a single insert or remove: a panic elsewhere leaves the map whole.
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_reason_is_gone() {
        let health = Health::starting("recovery");
        assert!(!health.is_ready());
        health.block("disk", "no space");
        health.clear("recovery");
        assert_eq!(health.render(), "disk: no space\n");
        health.clear("disk");
        health.clear("disk");
        assert!(health.is_ready());
    }

    #[test]
    fn clones_share_and_the_latest_reason_counts() {
        let health = Health::starting("a");
        health.clone().block("a", "other");
        assert_eq!(health.render(), "a: other\n");
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let health = Health::starting("a");
        health.block("a", &format!("x\nb: forged\r{}", "ä".repeat(200)));
        let text = health.render();
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.len() <= "a: \n".len() + REASON_BYTES_MAX,
            "{}",
            text.len()
        );
    }
}
