//! Series, in the format of Prometheus' HTTP API: its clients and dashboards read it.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::Front;
use super::answer::{Answer, Refusal, json_of};
use super::call::Call;
use crate::series::{self, Key, NAME_LABEL, Point, Selector, Steps};

/// The end of the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

pub(super) async fn query(State(front): State<Front>, call: Call) -> Answer {
    Ok(show(instant(&front, &call)))
}

pub(super) async fn query_range(State(front): State<Front>, call: Call) -> Answer {
    Ok(show(range(&front, &call)))
}

fn instant(front: &Front, call: &Call) -> Result<Value, Refusal> {
    let selector = selector(call)?;
    let at_ms = time(call, "time")?.unwrap_or_else(now_ms);
    let org = Some(call.org.as_str());
    let found = front.series.query(&selector, org, at_ms, lookback(call)?);
    let found = found.map_err(too_much)?;
    let result: Vec<Value> = found
        .iter()
        .map(|(key, point)| {
            // Prometheus shows when it was asked about, not when it was measured.
            let at = Point { at_ms, ..*point };
            json!({"metric": metric(key), "value": value(at)})
        })
        .collect();
    Ok(json!({"resultType": "vector", "result": result}))
}

fn range(front: &Front, call: &Call) -> Result<Value, Refusal> {
    let selector = selector(call)?;
    let missing =
        |name: &str| Refusal::new(400, "this parameter is missing").at(format!("?{name}"));
    let steps = Steps {
        start_ms: time(call, "start")?.ok_or_else(|| missing("start"))?,
        end_ms: time(call, "end")?.ok_or_else(|| missing("end"))?,
        step_ms: span(call, "step")?.ok_or_else(|| missing("step"))?,
    };
    let org = Some(call.org.as_str());
    let found = front
        .series
        .query_range(&selector, org, steps, lookback(call)?);
    let found = found.map_err(too_much)?;
    let result: Vec<Value> = found
        .iter()
        .map(|(key, points)| {
            let values: Vec<Value> = points.iter().copied().map(value).collect();
            json!({"metric": metric(key), "values": values})
        })
        .collect();
    Ok(json!({"resultType": "matrix", "result": result}))
}

fn selector(call: &Call) -> Result<Selector, Refusal> {
    let text = call.parameter("query").unwrap_or("");
    Selector::parse(text).map_err(|error| Refusal::new(400, error.to_string()).at("?query"))
}

/// Seconds since 1970.
fn time(call: &Call, name: &str) -> Result<Option<u64>, Refusal> {
    let what = "a number of seconds since 1970";
    let Some(seconds) = call.parsed::<f64>(name, what)? else {
        return Ok(None);
    };
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(Refusal::new(400, format!("this is {what}")).at(format!("?{name}")));
    }
    Ok(Some(millis(seconds)))
}

/// A duration, or a number of seconds; in milliseconds.
fn span(call: &Call, name: &str) -> Result<Option<u64>, Refusal> {
    let text = call.parameter(name).unwrap_or("");
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => match call.duration(name)? {
            Some(duration) => duration.as_secs_f64(),
            None => return Ok(None),
        },
    };
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        return Ok(Some(millis(seconds).max(1)));
    }
    let detail = "this is a number of seconds above 0, or a duration";
    Err(Refusal::new(400, detail).at(format!("?{name}")))
}

/// For how long a point counts as the newest.
fn lookback(call: &Call) -> Result<Duration, Refusal> {
    let given = span(call, "lookback_delta")?;
    Ok(given.map_or(series::LOOKBACK, Duration::from_millis))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was checked"
)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn now_ms() -> u64 {
    let since = rt::wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| millis(since.as_secs_f64()))
}

fn too_much(error: series::QueryError) -> Refusal {
    Refusal::new(422, error.to_string())
}

fn metric(key: &Key) -> Map<String, Value> {
    let name = (NAME_LABEL, &key.name);
    let labels = key
        .labels
        .iter()
        .map(|(label, value)| (label.as_str(), value));
    let all = std::iter::once(name).chain(labels);
    all.map(|(label, value)| (label.to_owned(), value.as_str().into()))
        .collect()
}

fn value(point: Point) -> Value {
    let seconds = point.at_ms as f64 / 1000.0;
    json!([seconds, point.value.to_string()])
}

fn show(found: Result<Value, Refusal>) -> Response {
    match found {
        Ok(data) => json_of(200, &json!({"status": "success", "data": data})),
        Err(refusal) => {
            let kind = if refusal.status() == 422 {
                "execution"
            } else {
                "bad_data"
            };
            let text = json!({"status": "error", "errorType": kind, "error": refusal.detail()});
            json_of(refusal.status(), &text)
        }
    }
}
