//! Prometheus' own opinion of our metrics.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use telemetry::Metrics;

/// `./x setup` unpacks it there.
const PROMTOOL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../target/tools/promtool"
);

fn check(text: &str) -> Output {
    assert!(
        Path::new(PROMTOOL).exists(),
        "{PROMTOOL} is missing: run ./x setup"
    );
    let mut promtool = Command::new(PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    // The pipe closes at the end of the statement: promtool reads until then.
    promtool
        .stdin
        .take()
        .expect("it is piped")
        .write_all(text.as_bytes())
        .expect("promtool reads");
    promtool.wait_with_output().expect("promtool ends")
}

#[test]
fn promtool_accepts_every_kind_of_metric() {
    let metrics = Metrics::new();
    metrics.counter("a_moves_total", "Moves.").inc();
    metrics
        .counters("a_faults_total", "Faults.", &["kind"])
        .with_label_values(&["torn \"x\"\n"])
        .inc();
    metrics
        .sum("a_busy_seconds_total", "Time spent.")
        .inc_by(0.5);
    metrics
        .sums("a_idle_seconds_total", "Time not spent.", &["why"])
        .with_label_values(&["b"])
        .inc();
    metrics
        .gauge("a_memory_bytes", "Memory, with a \\ and a\nline feed.")
        .set(-1);
    metrics
        .gauges("a_ranks", "Ranks.", &["state"])
        .with_label_values(&[""])
        .set(2);
    metrics
        .histogram("a_pause_seconds", "Pauses.", &[0.01, 0.1])
        .observe(0.05);
    metrics
        .histograms("a_wait_seconds", "Waits.", &["for"], &[1.0])
        .with_label_values(&["disk"])
        .observe(f64::MAX);
    let output = check(&metrics.render());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}{}",
        metrics.render()
    );
}

#[test]
fn promtool_would_notice() {
    let output = check("# HELP a_moves Moves.\n# TYPE a_moves counter\na_moves 1\n");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("_total"));
}
