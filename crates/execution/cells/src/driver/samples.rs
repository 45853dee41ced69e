//! Numbers about what runs here: how long the iterations of a program take.
//!
//! A host counts iterations and their time for each rank and each kind of call. Two looks at the counters give the mean time between
//! them; where nothing was counted there is no number, for missing is not zero.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, UNIX_EPOCH};

use ids::Labels;
use workload::link::Sample;

use super::part::Part;
use super::unit::Seen;

const TIMEOUT: Duration = Duration::from_millis(200);
/// More of what a host says is not read.
const BODY_BYTES_MAX: u64 = 1 << 20;
const COUNT: &str = "cloudskin_cell_iterations_total";
const SECONDS: &str = "cloudskin_cell_iteration_seconds_total";

/// What was counted so far at one host.
type Counters = BTreeMap<(u32, String), Counted>;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    n: f64,
    seconds: f64,
}

#[derive(Debug, Default)]
pub(super) struct Sampler {
    last: BTreeMap<SocketAddr, Counters>,
}

impl Sampler {
    pub(super) fn sample(&mut self, part: &Part, seen: &Seen) -> Vec<Sample> {
        self.last.retain(|at, _| seen.metrics.contains(at));
        let mut grown = Counters::new();
        let mut totals = Counters::new();
        for at in &seen.metrics {
            let counters = match scrape(*at) {
                Ok(text) => parse(&text),
                Err(error) => {
                    tracing::debug!(%error, %at, "a host's metrics were not read");
                    continue;
                }
            };
            let last = self.last.insert(*at, counters.clone());
            for (key, counted) in counters {
                totals.entry(key.clone()).or_default().add(counted);
                if let Some(last) = &last {
                    let before = last.get(&key).copied().unwrap_or_default();
                    grown.entry(key).or_default().add(counted.since(before));
                }
            }
        }
        let mut samples = Vec::new();
        let labels = labels_of(part);
        if let Some((rank, key, counted)) = iteration(&grown, &totals, part) {
            let mut labels = labels.clone();
            labels.insert("rank".into(), rank.to_string());
            labels.insert("key".into(), key.clone());
            let total = of_key(&totals, rank, &key).n;
            let mean = counted.seconds / counted.n;
            samples.push(sample("cell_iteration_seconds", labels.clone(), mean));
            samples.push(sample("cell_iterations_total", labels, total));
        }
        if let Some(made) = seen.moves.last() {
            let pause = Duration::from_micros(made.pause_us).as_secs_f64();
            samples.push(sample("cell_move_pause_seconds", labels.clone(), pause));
            // Exact up to 2^53.
            #[expect(clippy::cast_precision_loss, reason = "nobody moves that often")]
            let n_moves = seen.n_moves as f64;
            samples.push(sample("cell_moves_total", labels, n_moves));
        }
        samples
    }
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.n += other.n;
        self.seconds += other.seconds;
    }

    fn since(self, before: Self) -> Self {
        Self {
            n: (self.n - before.n).max(0.0),
            seconds: (self.seconds - before.seconds).max(0.0),
        }
    }
}

fn sample(name: &str, labels: Labels, value: f64) -> Sample {
    let now = rt::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    Sample {
        name: name.to_owned(),
        labels,
        at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        value,
    }
}

fn labels_of(part: &Part) -> Labels {
    let id = &part.spec.id;
    let labels = [
        ("org", id.org().to_owned()),
        ("service", id.service().to_owned()),
        ("block", id.block().to_owned()),
        ("replica", id.replica().to_string()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The iterations of the lowest rank that makes any: of the kind that the unit names, or its most frequent collective.
fn iteration(grown: &Counters, totals: &Counters, part: &Part) -> Option<(u32, String, Counted)> {
    let named = part.cell().iteration.as_deref();
    let mut live = grown.iter().filter(|(_, counted)| counted.n > 0.0);
    let (rank, key) = live.find_map(|((rank, _), _)| {
        let key = match named {
            Some(named) => named.to_owned(),
            None => most_frequent(totals, *rank)?,
        };
        (of_key(grown, *rank, &key).n > 0.0).then_some((*rank, key))
    })?;
    Some((rank, key.clone(), of_key(grown, rank, &key)))
}

/// Of those that are about as frequent as the most frequent the first by name, so that every site takes the same.
fn most_frequent(totals: &Counters, rank: u32) -> Option<String> {
    let of_rank = totals.iter().filter(|((of, _), _)| *of == rank);
    let collectives: Vec<_> = of_rank.filter(|((_, key), _)| is_collective(key)).collect();
    let most = collectives.iter().map(|(_, counted)| counted.n);
    let most = most.fold(0.0, f64::max);
    let first = collectives.iter().find(|(_, c)| c.n * 2.0 >= most)?;
    Some(first.0.1.clone())
}

/// Whether a key, `CALL/…`, is not of point-to-point messages.
fn is_collective(key: &str) -> bool {
    let call = key.split('/').next().unwrap_or_default().to_lowercase();
    let point_to_point = ["send", "recv", "wait", "test", "probe"];
    !point_to_point.iter().any(|part| call.contains(part))
}

/// What was counted under a key, or under keys that say more than it: `CALL` is all of `CALL/COMM/TAG`.
fn of_key(counters: &Counters, rank: u32, wanted: &str) -> Counted {
    let mut sum = Counted::default();
    for ((of, key), counted) in counters {
        let rest = key.strip_prefix(wanted);
        if *of == rank && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            sum.add(*counted);
        }
    }
    sum
}

fn scrape(at: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(BODY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The counters of iterations in a text for Prometheus. Other lines, whatever they are, are not for us.
fn parse(text: &str) -> Counters {
    let mut counters = Counters::new();
    for line in text.lines() {
        if let Some((name, key, value)) = parse_line(line) {
            let counted: &mut Counted = counters.entry(key).or_default();
            match name {
                COUNT => counted.n = value,
                SECONDS => counted.seconds = value,
                _ => {}
            }
        }
    }
    counters
}

fn parse_line(line: &str) -> Option<(&str, (u32, String), f64)> {
    let (name, rest) = line.split_once('{')?;
    if name != COUNT && name != SECONDS {
        return None;
    }
    let (mut rank, mut key) = (None, None);
    let mut rest = rest;
    while !rest.starts_with('}') {
        let (label, after) = rest.split_once("=\"")?;
        let (value, after) = unquote(after)?;
        match label {
            "rank" => rank = value.parse().ok(),
            "key" => key = Some(value),
            _ => {}
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    let value = rest[1..].split_whitespace().next()?.parse::<f64>().ok()?;
    let value = Some(value).filter(|value| value.is_finite() && *value >= 0.0)?;
    Some((name, (rank?, key?), value))
}

/// The value of a label up to its closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((idx, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[idx + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"HTTP/1.1 200 OK

# TYPE cloudskin_cell_iterations_total counter
cloudskin_cell_iterations_total{key="allreduce/0",rank="0"} 10
cloudskin_cell_iterations_total{key="bcast/0",rank="0"} 3
cloudskin_cell_iterations_total{key="send/0/1",rank="0"} 400
cloudskin_cell_iterations_total{rank="1",key="a\"b\\c\nd"} 7 1700000000
cloudskin_cell_iteration_seconds_total{key="allreduce/0",rank="0"} 2.5
cloudskin_cell_iterations_total{key="unfinished,rank="0"} 7
cloudskin_cell_iterations_total{key="x",rank="0"} NaN
cloudskin_cell_ranks 4
"#;

    #[test]
    fn counters_are_read_and_garbage_is_not() {
        let counters = parse(TEXT);
        let keys: Vec<_> = counters
            .keys()
            .map(|(rank, key)| (*rank, key.as_str()))
            .collect();
        assert_eq!(
            keys,
            [
                (0, "allreduce/0"),
                (0, "bcast/0"),
                (0, "send/0/1"),
                (1, "a\"b\\c\nd")
            ]
        );
        let reduce = counters[&(0, "allreduce/0".to_owned())];
        assert_eq!((reduce.n, reduce.seconds), (10.0, 2.5));
        for cut in 0..TEXT.len() {
            parse(&TEXT[..cut]);
        }
    }

    #[test]
    fn the_most_frequent_collective_is_an_iteration() {
        let counters = parse(TEXT);
        assert_eq!(most_frequent(&counters, 0).as_deref(), Some("allreduce/0"));
        let mut counters = counters;
        let of_bcast = (0, "bcast/0".to_owned());
        for (n, wanted) in [(20.0, "allreduce/0"), (21.0, "bcast/0")] {
            counters.entry(of_bcast.clone()).or_default().n = n;
            assert_eq!(most_frequent(&counters, 0).as_deref(), Some(wanted));
        }
        assert_eq!(of_key(&counters, 0, "send").n, 400.0);
        assert_eq!(of_key(&counters, 0, "sen").n, 0.0);
        let grown = Counted {
            n: 3.0,
            seconds: 1.0,
        }
        .since(Counted::default());
        assert_eq!(grown.n, 3.0);
        assert_eq!(Counted::default().since(grown), Counted::default());
    }
}
