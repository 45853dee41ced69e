//! The metrics of a cell host.

use prometheus::{CounterVec, IntCounter, IntCounterVec, IntGauge};

use crate::wire::session::Depth;

#[derive(Debug)]
pub(crate) struct Metrics {
    pub received_frames: IntCounter,
    pub received_bytes: IntCounter,
    pub refused_frames: IntCounter,
    pub resumed_ranks: IntCounter,
    pub departed_ranks: IntCounter,
    pub ranks: IntGauge,
    /// Those that wait for the coordinator.
    pub events: Depth,
    /// By rank and key: at most 32 keys of each rank that is here.
    pub iterations: IntCounterVec,
    pub iteration_seconds: CounterVec,
    /// By rank.
    pub uncounted_completions: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(metrics: &telemetry::Metrics) -> Self {
        let counter = |name: &str, help| metrics.counter(&format!("cloudskin_cell_{name}"), help);
        Self {
            received_frames: counter(
                "received_frames_total",
                "Frames between ranks taken in from other hosts.",
            ),
            received_bytes: counter(
                "received_bytes_total",
                "Message contents taken in from other hosts.",
            ),
            refused_frames: counter(
                "refused_frames_total",
                "Frames of an old epoch, or for a rank that is not here.",
            ),
            resumed_ranks: counter(
                "resumed_ranks_total",
                "Times that a rank went on here after it stood still.",
            ),
            departed_ranks: counter("departed_ranks_total", "Ranks that left for another host."),
            ranks: metrics.gauge("cloudskin_cell_ranks", "Ranks that run here now."),
            events: Depth {
                items: metrics.gauge(
                    "cloudskin_cell_queued_events",
                    "Events that the coordinator has not acknowledged.",
                ),
                bytes: metrics.gauge("cloudskin_cell_queued_event_bytes", "What they take."),
                waited: counter(
                    "waited_events_total",
                    "Events for which there was no room at first: a rank waited.",
                ),
            },
            iterations: metrics.counters(
                "cloudskin_cell_iterations_total",
                "Intervals between successive completions of an MPI call, without those in which the rank stood still.",
                &["rank", "key"],
            ),
            iteration_seconds: metrics.sums(
                "cloudskin_cell_iteration_seconds_total",
                "The time that these intervals took.",
                &["rank", "key"],
            ),
            uncounted_completions: metrics.counters(
                "cloudskin_cell_uncounted_completions_total",
                "Completions of MPI calls of more kinds than are told apart.",
                &["rank"],
            ),
        }
    }
}
