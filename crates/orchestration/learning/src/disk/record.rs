//! A record of the ledger as JSON, so that a person can read it. The version is in each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::ledger::{Closing, Intent, Record};
use crate::decision::{Alternative, Decision, Mode, Outcome, Prediction};
use crate::seam::{TargetId, Time};

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Written {
    #[serde(rename = "intent/1")]
    Intent(Box<IntentV1>),
    #[serde(rename = "outcome/1")]
    Outcome(OutcomeV1),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentV1 {
    number: u64,
    key: String,
    at_ms: u64,
    org: String,
    service: String,
    block: String,
    from: String,
    to: String,
    shadow: bool,
    inputs: BTreeMap<String, String>,
    forecast: Option<ForecastV1>,
    branch: String,
    action: String,
    alternatives: Vec<AlternativeV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForecastV1 {
    model: String,
    as_of_ms: u64,
    target_ms: u64,
    quantiles: Vec<(f64, f64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlternativeV1 {
    site: String,
    predicted: Option<f64>,
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeV1 {
    key: String,
    at_ms: u64,
    /// Why it failed; absent: it is done.
    failed: Option<String>,
}

pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let written = match record {
        Record::Intent(intent) => Written::Intent(Box::new(intent_v1(intent))),
        Record::Outcome(closing) => Written::Outcome(OutcomeV1 {
            key: closing.key.clone(),
            at_ms: closing.at.0,
            failed: match &closing.outcome {
                Outcome::Done => None,
                Outcome::Failed(why) => Some(why.clone()),
                other => Some(other.to_string()),
            },
        }),
    };
    serde_json::to_vec(&written).expect("texts and finite numbers can be written")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Record, String> {
    let written = serde_json::from_slice(bytes).map_err(|e| format!("not a record: {e}"))?;
    match written {
        Written::Intent(intent) => intent_from(*intent).map(|i| Record::Intent(Box::new(i))),
        Written::Outcome(outcome) => Ok(Record::Outcome(Closing {
            key: outcome.key,
            at: Time(outcome.at_ms),
            outcome: outcome.failed.map_or(Outcome::Done, Outcome::Failed),
        })),
    }
}

fn intent_v1(intent: &Intent) -> IntentV1 {
    let decision = &intent.decision;
    IntentV1 {
        number: intent.number,
        key: decision.id.clone(),
        at_ms: decision.at.0,
        org: intent.target.org.to_string(),
        service: intent.target.service.to_string(),
        block: intent.target.block.to_string(),
        from: intent.from.to_string(),
        to: intent.to.to_string(),
        shadow: decision.mode == Mode::Shadow,
        inputs: decision.inputs.clone(),
        forecast: decision.forecast.as_ref().map(|forecast| ForecastV1 {
            model: forecast.model.clone(),
            as_of_ms: forecast.as_of.0,
            target_ms: forecast.target.0,
            quantiles: forecast.quantiles.clone(),
        }),
        branch: decision.branch.clone(),
        action: decision.action.clone(),
        alternatives: decision
            .alternatives
            .iter()
            .map(|alternative| AlternativeV1 {
                site: alternative.site.to_string(),
                predicted: alternative.predicted,
                why: alternative.why.clone(),
            })
            .collect(),
    }
}

fn intent_from(intent: IntentV1) -> Result<Intent, String> {
    let name = |text: &str| text.parse().map_err(|e| format!("{e}"));
    let alternative = |written: AlternativeV1| -> Result<Alternative, String> {
        Ok(Alternative {
            site: name(&written.site)?,
            predicted: written.predicted,
            why: written.why,
        })
    };
    Ok(Intent {
        number: intent.number,
        target: TargetId {
            org: name(&intent.org)?,
            service: name(&intent.service)?,
            block: name(&intent.block)?,
        },
        from: name(&intent.from)?,
        to: name(&intent.to)?,
        decision: Decision {
            id: intent.key,
            at: Time(intent.at_ms),
            mode: if intent.shadow {
                Mode::Shadow
            } else {
                Mode::Active
            },
            inputs: intent.inputs,
            forecast: intent.forecast.map(|forecast| Prediction {
                model: forecast.model,
                as_of: Time(forecast.as_of_ms),
                target: Time(forecast.target_ms),
                quantiles: forecast.quantiles,
            }),
            branch: intent.branch,
            action: intent.action,
            alternatives: intent
                .alternatives
                .into_iter()
                .map(alternative)
                .collect::<Result<_, _>>()?,
            outcome: Outcome::Pending(String::new()),
            times: 1,
            violated_at: None,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn intent() -> Intent {
        let name = |text: &str| text.parse().expect("a name");
        Intent {
            number: 7,
            target: TargetId {
                org: name("acme"),
                service: name("video"),
                block: name("decode"),
            },
            from: name("edge"),
            to: name("cloud"),
            decision: Decision {
                id: "learning-1-7".to_owned(),
                at: Time(1_700_000_000_000),
                mode: Mode::Active,
                inputs: BTreeMap::from([("current_qos".to_owned(), "0.25 s".to_owned())]),
                forecast: Some(Prediction {
                    model: "holt".to_owned(),
                    as_of: Time(1_699_999_999_500),
                    target: Time(1_700_000_002_500),
                    quantiles: vec![(0.5, 0.3), (0.95, 0.4)],
                }),
                branch: "line 1: IF".to_owned(),
                action: "migrate_service to cloud".to_owned(),
                alternatives: vec![Alternative {
                    site: name("cloud"),
                    predicted: None,
                    why: "stale".to_owned(),
                }],
                outcome: Outcome::Pending(String::new()),
                times: 1,
                violated_at: None,
            },
        }
    }

    fn records() -> [Record; 3] {
        let closing = |outcome| {
            Record::Outcome(Closing {
                key: "learning-1-7".to_owned(),
                at: Time(5),
                outcome,
            })
        };
        [
            Record::Intent(Box::new(intent())),
            closing(Outcome::Done),
            closing(Outcome::Failed("no room".to_owned())),
        ]
    }

    #[test]
    fn golden() {
        let written: String = records()
            .iter()
            .map(|record| String::from_utf8(encode(record)).expect("JSON is text") + "\n")
            .collect();
        assert_eq!(written, include_str!("golden/records-1.jsonl"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for record in records() {
            assert_eq!(decode(&encode(&record)), Ok(record));
        }
        for record in records() {
            let bytes = encode(&record);
            for cut in 0..bytes.len() {
                decode(&bytes[..cut]).expect_err("cut off");
            }
        }
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(at in 0_usize..700, byte: u8) {
            let mut bytes = encode(&records()[0]);
            let idx = at % bytes.len();
            bytes[idx] = byte;
            drop(decode(&bytes));
        }
    }
}
