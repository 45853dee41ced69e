use proptest::prelude::*;

use super::core::Found;
use super::*;

fn labels(pairs: &[(&str, &str)]) -> ids::Labels {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

fn sample(name: &str, pairs: &[(&str, &str)], at_ms: u64, value: f64) -> Sample {
    Sample {
        name: name.to_owned(),
        labels: labels(pairs),
        at_ms,
        value,
    }
}

fn open(dir: &Path, limits: Limits) -> (Store, Metrics) {
    let metrics = Metrics::new();
    let store = Store::open(dir, limits, &metrics).expect("a directory of our own");
    (store, metrics)
}

fn select(text: &str) -> Selector {
    Selector::parse(text).expect(text)
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn values(found: Instants) -> Vec<f64> {
    found.into_iter().map(|(_, point)| point.value).collect()
}

#[test]
fn points_are_found_by_prometheus_rules_of_time() {
    let dir = dir();
    let (store, _) = open(dir.path(), Limits::default());
    let now = wall_ms();
    store.append(&[
        sample("up", &[("site", "edge")], now - 10_000, 1.0),
        sample("up", &[("site", "edge")], now - 5_000, 2.0),
        sample("up", &[("site", "cloud")], now - 9_000, 3.0),
    ]);
    let query = |text: &str, at_ms: u64, lookback: u64| {
        let lookback = Duration::from_millis(lookback);
        values(
            store
                .query(&select(text), None, at_ms, lookback)
                .expect("few"),
        )
    };
    assert_eq!(query("up", now, 300_000), [2.0, 3.0]);
    assert_eq!(query("up", now - 9_000, 300_000), [1.0, 3.0]);
    assert_eq!(query("up", now - 9_001, 300_000), [1.0]);
    assert_eq!(query("up", now, 5_000), [] as [f64; 0], "left end is open");
    assert_eq!(query("up", now, 5_001), [2.0]);
    assert_eq!(query(r#"up{site="cloud"}"#, now, 300_000), [3.0]);
    let seen = store.last_seen(&select(r#"up{site="edge"}"#), None);
    assert_eq!(seen.expect("few")[0].1.at_ms, now - 5_000);

    let steps = Steps {
        start_ms: now - 11_000,
        end_ms: now,
        step_ms: 2_000,
    };
    let lookback = Duration::from_millis(3_000);
    let ranges = store.query_range(&select(r#"up{site="edge"}"#), None, steps, lookback);
    let points = &ranges.expect("few")[0].1;
    let seen: Vec<_> = points.iter().map(|p| (now - p.at_ms, p.value)).collect();
    assert_eq!(
        seen,
        [(9_000, 1.0), (5_000, 2.0), (3_000, 2.0)],
        "a gap is a gap"
    );
    let raw = store
        .points(&select("up"), None, now - 9_000, now)
        .expect("few");
    assert_eq!(raw.len(), 2);
}

#[test]
fn an_organisation_sees_its_own_and_what_is_nobodys() {
    let dir = dir();
    let (store, _) = open(dir.path(), Limits::default());
    let now = wall_ms();
    store.append(&[
        sample("x", &[("org", "a")], now, 1.0),
        sample("x", &[("org", "b")], now, 2.0),
        sample("x", &[("site", "edge")], now, 3.0),
    ]);
    let see = |org| values(store.query(&select("x"), org, now, LOOKBACK).expect("few"));
    assert_eq!(see(Some("a")), [1.0, 3.0]);
    assert_eq!(see(Some("c")), [3.0]);
    assert_eq!(see(None), [1.0, 2.0, 3.0]);
}

#[test]
fn what_a_site_has_measured_is_let_go_and_nothing_else() {
    let dir = dir();
    let (store, _) = open(dir.path(), Limits::default());
    let now = wall_ms();
    let at = |site: &str, at_ms: u64, value: f64| sample("x", &[("site", site)], at_ms, value);
    store.append(&[at("edge", now - 120_000, 1.0), at("cloud", now, 2.0)]);
    store.flush();
    // By its own clock, it has measured that in the future.
    store.append(&[at("edge", now - 30_000, 3.0)]);
    let see = |store: &Store| values(store.last_seen(&select("x"), None).expect("few"));
    store.forget("edge", now - 60_000);
    assert_eq!(see(&store), [2.0]);
    // Another site of that name begins anew.
    store.append(&[at("edge", now + 1, 4.0)]);
    drop(store);
    let (store, _) = open(dir.path(), Limits::default());
    store.forget("edge", now - 60_000);
    assert_eq!(see(&store), [4.0, 2.0]);
    let points = store.points(&select(r#"x{site="edge"}"#), None, 0, now + 1);
    assert_eq!(points.expect("few")[0].1.len(), 1);
}

/// The places of its series are free again, and its blocks go as they would have.
#[test]
fn what_was_let_go_takes_no_places() {
    let limits = Limits {
        series_max: 2,
        ..Limits::default()
    };
    let mut tables = Tables::new(limits);
    let edge = labels(&[("site", "edge")]);
    let append = |tables: &mut Tables, name: &str, at_ms| {
        let value = 0.0;
        tables.append(name, &edge, Point { at_ms, value }, at_ms)
    };
    append(&mut tables, "a", 1_000).expect("room");
    append(&mut tables, "b", 1_000).expect("room");
    tables.open_block(1);
    append(&mut tables, "a", 99_000).expect("room");
    append(&mut tables, "a", 99_001).expect("room");
    assert_eq!(append(&mut tables, "c", 1_000), Err(Refusal::TooManySeries));
    // In the middle of a block.
    tables.forget("edge", 39_000);
    assert_eq!(tables.n_series(), 1);
    append(&mut tables, "c", 99_000).expect("room");
    tables.open_block(2);
    append(&mut tables, "c", 99_001).expect("room");
    let later = 99_001 + limits.retention_ms + 1;
    assert_eq!(tables.turn(later), [0, 1, 2]);
    assert_eq!((tables.n_series(), tables.bytes()), (0, 0));
}

#[test]
fn what_is_not_taken_is_counted() {
    let dir = dir();
    let limits = Limits {
        series_max: 4,
        series_per_owner_max: 2,
        ..Limits::default()
    };
    let (store, metrics) = open(dir.path(), limits);
    let now = wall_ms();
    let long = "x".repeat(300);
    let many: Vec<String> = (0..20).map(|n| format!("l{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
    store.append(&[
        sample("a", &[("site", "edge")], now, 1.0),
        sample("a", &[("site", "edge")], now, 1.0),
        sample("a", &[("site", "edge")], now - 1, 1.0),
        sample("a", &[("site", "edge")], now + 3_600_000, 1.0),
        sample("a", &[("site", "edge")], 0, 1.0),
        sample("a", &[("site", "edge")], now + 1, f64::NAN),
        sample("a", &[("bad-label", "v")], now, 1.0),
        sample("a", &[("l", &long)], now, 1.0),
        sample("a", &many, now, 1.0),
        sample("bad name", &[], now, 1.0),
        sample("b", &[("site", "edge")], now, 1.0),
        sample("c", &[("site", "edge")], now, 1.0),
        sample("c", &[("site", "cloud"), ("org", "o")], now, 1.0),
        sample("d", &[("site", "cloud"), ("org", "p")], now, 1.0),
        sample("e", &[("site", "cloud"), ("org", "q")], now, 1.0),
    ]);
    let text = metrics.render();
    for (outcome, n) in [
        ("taken", 4),
        ("duplicate", 1),
        ("out_of_order", 2),
        ("ahead", 1),
        ("malformed", 5),
        ("too_many_series", 2),
    ] {
        let line = format!("series_samples_total{{outcome=\"{outcome}\"}} {n}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[test]
fn what_was_written_is_there_after_a_start_and_a_torn_end_is_cut() {
    let dir = dir();
    let now = wall_ms();
    let all = || select(r#"{site="edge"}"#);
    let (store, _) = open(dir.path(), Limits::default());
    store.append(&[sample("a", &[("site", "edge")], now - 3, 1.0)]);
    store.flush();
    store.append(&[sample("b", &[("site", "edge")], now - 2, 2.0)]);
    drop(store);
    let file = std::fs::read_dir(dir.path()).expect("ours").next();
    let file = file.expect("one").expect("readable").path();
    let len = std::fs::metadata(&file).expect("there").len();

    let (store, _) = open(dir.path(), Limits::default());
    assert_eq!(
        values(store.last_seen(&all(), None).expect("few")),
        [1.0, 2.0]
    );
    store.append(&[sample("a", &[("site", "edge")], now - 2, 3.0)]);
    drop(store);
    let (store, _) = open(dir.path(), Limits::default());
    let a = store.points(&select("a"), None, 0, now).expect("few");
    assert_eq!(a[0].1.len(), 2, "points of two files are one series");
    drop(store);

    let torn = std::fs::OpenOptions::new().write(true).open(&file);
    torn.and_then(|file| file.set_len(len - 1)).expect("ours");
    let (store, _) = open(dir.path(), Limits::default());
    assert_eq!(values(store.last_seen(&all(), None).expect("few")), [3.0]);
}

#[test]
fn memory_and_disk_stay_within_the_limit() {
    let dir = dir();
    let limits = Limits {
        bytes_max: 64 << 10,
        ..Limits::default()
    };
    let (store, _) = open(dir.path(), limits);
    let begin = wall_ms() - 1_000_000;
    for n in 0..200 {
        let batch: Vec<Sample> = (0..100)
            .map(|k| {
                sample(
                    "a",
                    &[("k", &(k % 5).to_string())],
                    begin + n * 100 + k,
                    1.0,
                )
            })
            .collect();
        store.append(&batch);
        store.flush();
    }
    let (bytes, n_points) = {
        let memory = store.shared.read();
        let all = select("a");
        let found = memory.tables.select(&all, None);
        let n_points: usize = found
            .map(|series| series.between(0, u64::MAX).count())
            .sum();
        (memory.tables.bytes(), n_points as u64)
    };
    assert!(bytes <= limits.bytes_max + limits.bytes_max / 8, "{bytes}");
    assert!(
        n_points * 16 > limits.bytes_max / 2,
        "most of it is used: {n_points}"
    );
    let on_disk: u64 = std::fs::read_dir(dir.path())
        .expect("ours")
        .map(|entry| {
            entry
                .and_then(|entry| entry.metadata())
                .expect("readable")
                .len()
        })
        .sum();
    assert!(
        on_disk <= limits.bytes_max + limits.bytes_max / 4,
        "{on_disk}"
    );
    let newest = store.last_seen(&select(r#"a{k="4"}"#), None).expect("few");
    assert_eq!(newest[0].1.at_ms, begin + 199 * 100 + 99);
    // What was let go stays gone.
    drop(store);
    let (store, _) = open(dir.path(), limits);
    let after: usize = store
        .points(&select("a"), None, 0, u64::MAX)
        .expect("few")
        .iter()
        .map(|(_, points)| points.len())
        .sum();
    assert_eq!(after as u64, n_points);
}

#[test]
fn a_disk_that_fails_costs_nothing_until_too_much_waits() {
    let dir = dir();
    let (store, metrics) = open(&dir.path().join("series"), Limits::default());
    let now = wall_ms();
    // A directory that is gone fails as a full disk does.
    std::fs::remove_dir(dir.path().join("series")).expect("empty");
    store.append(&[sample("a", &[], now - 2, 1.0)]);
    store.flush();
    store.flush();
    assert_eq!(
        values(store.last_seen(&select("a"), None).expect("few")),
        [1.0]
    );
    std::fs::create_dir(dir.path().join("series")).expect("ours");
    store.append(&[sample("a", &[], now - 1, 2.0)]);
    drop(store);
    assert!(metrics.render().contains("series_points_lost_total 0\n"));
    let (store, _) = open(&dir.path().join("series"), Limits::default());
    let a = store.points(&select("a"), None, 0, now).expect("few");
    assert_eq!(a[0].1.len(), 2);
}

#[test]
fn a_query_has_limits() {
    let dir = dir();
    let (store, _) = open(dir.path(), Limits::default());
    let range = |start_ms, end_ms, step_ms| {
        let steps = Steps {
            start_ms,
            end_ms,
            step_ms,
        };
        store.query_range(&select("a"), None, steps, LOOKBACK)
    };
    assert_eq!(range(0, 10, 0), Err(QueryError::BadRange));
    assert_eq!(range(10, 0, 1), Err(QueryError::BadRange));
    assert_eq!(range(0, 11_000, 1), Err(QueryError::TooManySteps));
    assert_eq!(range(0, u64::MAX, u64::MAX), Ok(Vec::new()));
}

#[test]
fn what_a_range_takes_is_bounded_before_it_is_done() {
    let dir = dir();
    let (store, _) = open(dir.path(), Limits::default());
    let now = wall_ms();
    let series: Vec<_> = (0..60)
        .flat_map(|n| {
            let labels = [("n", n.to_string())];
            let labels: Vec<_> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let sample = |at_ms| sample("a", &labels, at_ms, 1.0);
            [sample(now - 20_000), sample(now)]
        })
        .collect();
    store.append(&series);
    let range = |start_ms: u64, step_ms: u64, lookback: u64| {
        let steps = Steps {
            start_ms,
            end_ms: start_ms + 10_000 * step_ms,
            step_ms,
        };
        let lookback = Duration::from_millis(lookback);
        store.query_range(&select("a"), None, steps, lookback)
    };
    // Between their ends they have nothing, but that has to be looked at.
    let found = range(now - 20_000, 2, 1);
    assert_eq!(found, Err(QueryError::TooMuch("500,000 steps of series")));
    // Before and after them they need not be looked at.
    assert_eq!(range(now - 31_000, 1, 1).map(|found| found.len()), Ok(0));
    assert_eq!(range(now + 1_000, 1, 1).map(|found| found.len()), Ok(0));
    assert_eq!(
        range(now - 5_000, 1_000, 1).map(|found| found.len()),
        Ok(60)
    );
}

/// The same store as a list of points.
#[derive(Default)]
struct Model(Vec<(u8, u64)>);

impl Model {
    fn append(&mut self, series: u8, at_ms: u64) {
        let newest = self
            .0
            .iter()
            .filter(|(s, _)| *s == series)
            .map(|p| p.1)
            .max();
        if newest.is_none_or(|newest| newest < at_ms) {
            self.0.push((series, at_ms));
        }
    }

    fn at(&self, series: u8, at_ms: u64, lookback_ms: u64) -> Option<u64> {
        let own = self.0.iter().filter(|(s, _)| *s == series).map(|p| p.1);
        own.filter(|t| *t <= at_ms && at_ms - t < lookback_ms).max()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn tables_answer_like_a_list(
        appends in prop::collection::vec((0..3u8, 1_000..1_100u64), 0..80),
        queries in prop::collection::vec((0..3u8, 990..1_110u64, 1..60u64), 1..20),
    ) {
        let mut tables = Tables::new(Limits::default());
        let mut model = Model::default();
        for (n, (series, at_ms)) in appends.into_iter().enumerate() {
            let labels = labels(&[("s", &series.to_string())]);
            tables.append("a", &labels, Point { at_ms, value: 0.0 }, 1_050).ok();
            model.append(series, at_ms);
            if n % 10 == 9 {
                let next = tables.block() + 1;
                tables.open_block(next);
            }
        }
        for (series, at_ms, lookback_ms) in queries {
            let selector = select(&format!("a{{s=\"{series}\"}}"));
            let found: Vec<Found<'_>> = tables.select(&selector, None).collect();
            let seen = found.first().and_then(|series| series.at(at_ms, lookback_ms));
            if let Some(series) = found.first() {
                let steps = Steps { start_ms: at_ms, end_ms: at_ms + 100, step_ms: 7 };
                let looked_at = steps.at_which(series, lookback_ms);
                for n in 0..=14 {
                    let is_there = series.at(at_ms + 7 * n, lookback_ms).is_some();
                    prop_assert!(!is_there || looked_at.contains(&n), "{looked_at:?} {n}");
                }
            }
            prop_assert_eq!(seen.map(|p| p.at_ms), model.at(series, at_ms, lookback_ms));
        }
    }
}
