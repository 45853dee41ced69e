//! What a server tells about itself. What Pravega's segment store counts is called as there (`MetricsNames.java`), with `_` for `.`.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};
use streams_store::{Stats, Store};
use telemetry::Metrics;

/// In milliseconds.
const LATENCIES: [f64; 14] = [
    0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 30_000.0,
];

/// What is counted where it happens.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    write_latency: Histogram,
    write_bytes: IntCounter,
    write_events: IntCounter,
    read_bytes: IntCounter,
    pub(crate) connections: IntGauge,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            write_latency: metrics.foreign_histogram(
                "pravega_segmentstore_segment_write_latency_ms",
                "Milliseconds from when an append had come until it was durable.",
                &LATENCIES,
            ),
            write_bytes: metrics.foreign_counter(
                "pravega_segmentstore_segment_write_bytes_global",
                "Bytes that were appended, with what frames them.",
            ),
            write_events: metrics.foreign_counter(
                "pravega_segmentstore_segment_write_events_global",
                "Events that were appended, as writers count them.",
            ),
            read_bytes: metrics.foreign_counter(
                "pravega_segmentstore_segment_read_bytes_global",
                "Bytes of segments that readers were sent.",
            ),
            connections: metrics.gauge(
                "streams_connections",
                "Connections to the port of the store that are open.",
            ),
        }
    }

    pub(crate) fn appended(&self, n_bytes: u64, n_events: u64, took: Duration) {
        self.write_latency.observe(took.as_secs_f64() * 1e3);
        self.write_bytes.inc_by(n_bytes);
        self.write_events.inc_by(n_events);
    }

    pub(crate) fn read(&self, n_bytes: usize) {
        self.read_bytes.inc_by(n_bytes as u64);
    }
}

type Value = fn(&Stats) -> u64;

/// Levels, which are asked for when somebody reads them.
pub(crate) fn declare(metrics: &Metrics, store: Store) {
    let level = |name, help, value: Value| (metrics.gauge(name, help), value);
    let levels = [
        level(
            "streams_segments",
            "Segments, all containers together.",
            |stats| sum(stats, |of| of.usage.n_segments as u64),
        ),
        level("streams_chunks", "Chunks in long-term storage.", |stats| {
            sum(stats, |of| of.chunks as u64)
        }),
        level(
            "streams_tables_memory_bytes",
            "Bytes of memory that the entries of tables take.",
            |stats| sum(stats, |of| of.usage.tables_bytes),
        ),
        level(
            "streams_pending_bytes",
            "Bytes of records that are not durable yet.",
            |stats| sum(stats, |of| of.usage.pending_bytes),
        ),
        level(
            "streams_log_bytes",
            "Bytes of the disk that the log takes.",
            |stats| stats.log_bytes,
        ),
        level(
            "streams_log_is_full",
            "1 while nothing is taken, since long-term storage does not take what is in the log.",
            |stats| stats.is_full.into(),
        ),
    ];
    let syncs = metrics.counter("streams_log_syncs_total", "Times that the log was synced.");
    metrics.before_reading(move || {
        let stats = store.stats();
        for (level, value) in &levels {
            level.set(i64::try_from(value(&stats)).unwrap_or(i64::MAX));
        }
        syncs.inc_by(stats.log.n_syncs.saturating_sub(syncs.get()));
    });
}

fn sum(stats: &Stats, value: impl Fn(&streams_store::ContainerStats) -> u64) -> u64 {
    stats.containers.iter().map(value).sum()
}
