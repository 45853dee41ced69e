//! What users write, read once: afterwards it is what the interface describes.

use std::collections::BTreeSet;
use std::fmt::Display;

use ids::{Labels, Selector};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::limits::{
    ARGS_MAX, BLOCKS_MAX, ENV_MAX, LABEL_CHARS_MAX, LABELS_MAX, MOUNTS_MAX, POLICY_CHARS_MAX,
    RANKS_MAX, REASON_CHARS_MAX, REPLICAS_MAX, REQUEST_PATH_CHARS_MAX, TEXT_CHARS_MAX,
};
use crate::{
    API_VERSION, Block, BlockKind, CellDeployment, FieldError, MigrationSpec, Mount, NewJoinToken,
    PolicyRequest, Problem, Scale, Service, Target, parse_bytes, parse_duration,
};

/// `CALL`, `CALL/COMM` or `CALL/COMM/TAG`
pub(crate) const ITERATION_PATTERN: &str = "^MPI_[A-Za-z_]{1,40}(/[A-Za-z0-9_.-]{1,64}){0,2}$";

/// At most so many wrong fields are told of at once.
const ERRORS_MAX: usize = 20;

/// What a body can be.
pub trait Checked: DeserializeOwned + Serialize {
    /// Notes what the types do not refuse, and forgets what is not the user's to say.
    fn check(&mut self, found: &mut Findings);
}

/// Reads a body. A text that is not as the schema says is a 400; one that is, and makes no sense, a 422.
///
/// # Errors
/// With the pointers of what is wrong.
pub fn parse<T: Checked>(body: &[u8]) -> Result<T, Box<Problem>> {
    let mut unknown = Vec::new();
    let mut note_unknown = |path: serde_ignored::Path<'_>| {
        if unknown.len() < ERRORS_MAX {
            let (mut pointer, mut name) = (String::new(), String::new());
            unknown_pointer(&path, &mut pointer, &mut name);
            let detail = format!("unknown field `{name}`");
            unknown.push(FieldError { pointer, detail });
        }
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize::<_, _, T>(tracked, &mut note_unknown);
    let mut value = value.map_err(|error| {
        let problem = Problem::new(400, shorten(&error));
        Box::new(problem.at(pointer(&track.path())))
    })?;
    let refuse = |error: serde_json::Error| Box::new(Problem::new(400, error.to_string()));
    json.end().map_err(refuse)?;
    if let Some(problem) = Problem::of_fields(400, unknown) {
        return Err(Box::new(problem));
    }
    let mut findings = Findings::default();
    let given: Value = serde_json::from_slice(body).map_err(refuse)?;
    let read = serde_json::to_value(&value).map_err(refuse)?;
    findings.compare(&given, &read);
    value.check(&mut findings);
    let Findings {
        malformed,
        senseless,
        ..
    } = findings;
    let problem = Problem::of_fields(400, malformed).or(Problem::of_fields(422, senseless));
    problem.map_or(Ok(value), |problem| Err(Box::new(problem)))
}

/// Where something is wrong, and what.
#[derive(Debug, Default)]
pub struct Findings {
    at: String,
    malformed: Vec<FieldError>,
    senseless: Vec<FieldError>,
}

impl Findings {
    /// Looks at a field below.
    fn within(&mut self, name: impl Display, look: impl FnOnce(&mut Self)) {
        let len = self.at.len();
        self.at.push('/');
        self.at.push_str(&escape(&name.to_string()));
        look(self);
        self.at.truncate(len);
    }

    /// The schema says otherwise.
    fn malformed(&mut self, detail: impl Display) {
        note(&mut self.malformed, &self.at, detail);
    }

    /// The schema cannot say it.
    fn senseless(&mut self, detail: impl Display) {
        note(&mut self.senseless, &self.at, detail);
    }

    /// Serde reads an object from an array of its fields too, and a word from an object: no schema here says that.
    fn compare(&mut self, given: &Value, read: &Value) {
        match (given, read) {
            (Value::Array(given), Value::Array(read)) => {
                for (idx, (given, read)) in given.iter().zip(read).enumerate() {
                    self.within(idx, |found| found.compare(given, read));
                }
            }
            (Value::Object(given), Value::Object(read)) => {
                for (name, given) in given {
                    if let Some(read) = read.get(name) {
                        self.within(name, |found| found.compare(given, read));
                    }
                }
            }
            (Value::Array(_), _) => self.malformed("this is not an array"),
            (Value::Object(_), _) => self.malformed("this is not an object"),
            _ => {}
        }
    }

    fn wants(&mut self, is_so: bool, detail: impl Display) {
        if !is_so {
            self.malformed(detail);
        }
    }

    fn at_most(&mut self, n: usize, n_max: usize, what: &str) {
        self.wants(n <= n_max, format_args!("{n} {what}; {n_max} at most"));
    }

    fn c_text(&mut self, text: &str) {
        self.at_most(text.chars().count(), TEXT_CHARS_MAX, "characters");
        self.wants(!text.contains('\0'), "a text with a NUL in it");
    }

    fn duration(&mut self, name: &str, text: &str) {
        self.within(name, |found| {
            if let Err(error) = parse_duration(text) {
                found.malformed(error);
            }
        });
    }

    fn bytes(&mut self, name: &str, text: Option<&String>) {
        self.within(name, |found| {
            if let Some(Err(error)) = text.map(|text| parse_bytes(text)) {
                found.malformed(error);
            }
        });
    }

    fn labels(&mut self, name: &str, labels: &Labels) {
        self.within(name, |found| {
            found.at_most(labels.len(), LABELS_MAX, "labels");
            for (key, value) in labels {
                found.within(key, |found| {
                    found.wants(!key.is_empty(), "an empty name");
                    found.at_most(
                        key.chars().count(),
                        LABEL_CHARS_MAX,
                        "characters in the name",
                    );
                    found.at_most(value.chars().count(), LABEL_CHARS_MAX, "characters");
                });
            }
        });
    }

    fn selector(&mut self, name: &str, selector: &Selector) {
        self.within(name, |found| {
            found.labels("matchLabels", &selector.match_labels)
        });
    }
}

fn note(errors: &mut Vec<FieldError>, at: &str, detail: impl Display) {
    if errors.len() < ERRORS_MAX {
        errors.push(FieldError {
            pointer: at.to_owned(),
            detail: shorten(detail),
        });
    }
}

/// A detail must not repeat megabytes of hostile input.
fn shorten(detail: impl Display) -> String {
    let mut text = detail.to_string();
    if text.len() > 300 {
        text.truncate(text.floor_char_boundary(300));
        text.push('…');
    }
    text
}

impl Checked for Service {
    fn check(&mut self, found: &mut Findings) {
        self.status = None;
        let metadata = &mut self.metadata;
        metadata.id = None;
        metadata.resource_version = None;
        metadata.generation = None;
        metadata.created_at = None;
        let is_version = self.api_version == API_VERSION;
        found.within("apiVersion", |found| {
            found.wants(is_version, format_args!("this is `{API_VERSION}`"));
        });
        let is_service = self.kind == "Service";
        found.within("kind", |found| {
            found.wants(is_service, "this is a `Service`")
        });
        found.within("metadata", |found| {
            found.labels("labels", &self.metadata.labels)
        });
        found.within("spec", |found| {
            found.within("blocks", |found| blocks(&self.spec.blocks, found));
        });
    }
}

fn blocks(blocks: &[Block], found: &mut Findings) {
    found.wants(!blocks.is_empty(), "a service has at least one block");
    found.at_most(blocks.len(), BLOCKS_MAX, "blocks");
    let mut names = BTreeSet::new();
    for (idx, item) in blocks.iter().enumerate() {
        found.within(idx, |found| {
            block(item, found);
            if !names.insert(&item.name) {
                let twice = format_args!("another block is called `{}` too", item.name);
                found.within("name", |found| found.senseless(twice));
            }
        });
    }
}

fn block(block: &Block, found: &mut Findings) {
    found.within("replicas", |found| {
        let is_few = block.replicas <= REPLICAS_MAX;
        found.wants(is_few, format_args!("{REPLICAS_MAX} replicas at most"));
    });
    found.within("placement", |found| {
        found.selector("siteSelector", &block.placement.site_selector);
        if let Some(selector) = &block.placement.migrate_to {
            found.selector("migrateTo", selector);
        }
    });
    match &block.kind {
        BlockKind::CellDeployment(cell) => cell_deployment(cell, found),
    }
    if let Some(kpi) = &block.kpi {
        found.within("kpi", |found| {
            found.duration("max", &kpi.max);
            found.within("iteration", |found| {
                let is_key = kpi.iteration.as_deref().is_none_or(is_iteration);
                found.wants(
                    is_key,
                    "this is `CALL`, `CALL/COMM` or `CALL/COMM/TAG`: `MPI_Allreduce`",
                );
            });
        });
    }
    if let Some(text) = block
        .policy
        .as_ref()
        .and_then(|policy| policy.text.as_ref())
    {
        found.within("policy", |found| {
            found.within("text", |found| {
                found.at_most(text.chars().count(), POLICY_CHARS_MAX, "characters");
            });
        });
    }
}

fn cell_deployment(cell: &CellDeployment, found: &mut Findings) {
    found.within("module", |found| {
        let is_digest = cell.module.strip_prefix("sha256:");
        let is_digest = is_digest.is_some_and(|digest| digest.parse::<ids::Digest>().is_ok());
        found.wants(is_digest, "a module is `sha256:` and 64 of 0-9 and a-f");
    });
    found.within("ranks", |found| {
        let is_few = (1..=RANKS_MAX).contains(&cell.ranks);
        found.wants(is_few, format_args!("1 to {RANKS_MAX} ranks"));
    });
    found.within("args", |found| {
        found.at_most(cell.args.len(), ARGS_MAX, "arguments");
        for (idx, arg) in cell.args.iter().enumerate() {
            found.within(idx, |found| found.c_text(arg));
        }
    });
    found.within("env", |found| {
        found.at_most(cell.env.len(), ENV_MAX, "variables");
        for (name, value) in &cell.env {
            found.within(name, |found| {
                let is_name = !name.is_empty() && !name.contains(['=', '\0']);
                found.wants(
                    is_name,
                    "the name of a variable is not empty and has no `=`",
                );
                found.at_most(
                    name.chars().count(),
                    TEXT_CHARS_MAX,
                    "characters in the name",
                );
                found.c_text(value);
            });
        }
    });
    found.within("mounts", |found| mounts(&cell.mounts, found));
    if let Some(checkpoints) = &cell.checkpoints {
        found.within("checkpoints", |found| {
            found.duration("every", &checkpoints.every)
        });
    }
    found.within("limits", |found| {
        found.bytes("memory", cell.limits.memory.as_ref());
        found.bytes("log", cell.limits.log.as_ref());
    });
}

fn mounts(mounts: &[Mount], found: &mut Findings) {
    found.at_most(mounts.len(), MOUNTS_MAX, "mounts");
    let mut paths = BTreeSet::new();
    for (idx, mount) in mounts.iter().enumerate() {
        found.within(idx, |found| {
            found.within("path", |found| {
                found.c_text(&mount.path);
                found.wants(
                    mount.path.starts_with('/'),
                    "the path in the program begins with `/`",
                );
                if !paths.insert(&mount.path) {
                    found.senseless("another mount is there too");
                }
            });
            found.within("source", |found| {
                found.c_text(&mount.source);
                let path = mount.source.strip_prefix("file://");
                let is_absolute = path.is_some_and(|path| path.starts_with('/'));
                found.wants(is_absolute, "a source is `file:///absolute/path`");
                if path.is_some_and(|path| path.split('/').any(|part| part == "..")) {
                    found.senseless("a source without `..`");
                }
            });
        });
    }
}

fn is_iteration(text: &str) -> bool {
    let mut parts = text.split('/');
    let is_call = parts.next().and_then(|call| call.strip_prefix("MPI_"));
    let is_call = is_call.is_some_and(|rest| {
        (1..=40).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    });
    let is_part = |part: &str| {
        let belongs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        (1..=64).contains(&part.len()) && part.bytes().all(belongs)
    };
    let rest: Vec<_> = parts.collect();
    is_call && rest.len() <= 2 && rest.into_iter().all(is_part)
}

impl Checked for MigrationSpec {
    fn check(&mut self, found: &mut Findings) {
        if let Target::SiteSelector(selector) = &self.to {
            found.within("to", |found| found.selector("siteSelector", selector));
        }
        if let Some(ranks) = &self.ranks {
            found.within("ranks", |found| {
                found.wants(!ranks.is_empty(), "no ranks: leave it out for all");
                found.at_most(ranks.len(), RANKS_MAX as usize, "ranks");
                for (idx, rank) in ranks.iter().enumerate() {
                    found.within(idx, |found| {
                        found.wants(*rank < RANKS_MAX, "a rank is less than 256");
                    });
                }
                let distinct: BTreeSet<_> = ranks.iter().collect();
                if distinct.len() < ranks.len() {
                    found.senseless("a rank stands there twice");
                }
            });
        }
        if let Some(deadline) = &self.deadline {
            found.duration("deadline", deadline);
        }
        found.within("reason", |found| {
            let n_chars = self.reason.as_ref().map_or(0, |text| text.chars().count());
            found.at_most(n_chars, REASON_CHARS_MAX, "characters");
        });
    }
}

impl Checked for Scale {
    fn check(&mut self, found: &mut Findings) {
        found.within("replicas", |found| {
            let is_few = self.replicas <= REPLICAS_MAX;
            found.wants(is_few, format_args!("{REPLICAS_MAX} replicas at most"));
        });
    }
}

impl Checked for PolicyRequest {
    fn check(&mut self, found: &mut Findings) {
        found.within("path", |found| {
            let is_path = self.path.starts_with('/');
            found.wants(is_path, "a path begins with `/`: `/analyze_qos`");
            found.at_most(
                self.path.chars().count(),
                REQUEST_PATH_CHARS_MAX,
                "characters",
            );
        });
    }
}

impl Checked for NewJoinToken {
    fn check(&mut self, found: &mut Findings) {
        if let Some(ttl) = &self.ttl {
            found.duration("ttl", ttl);
        }
    }
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => escape(key),
            Segment::Enum { variant } => escape(variant),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&part);
    }
    shorten(pointer)
}

/// Writes where an unknown field is, and what it is called.
fn unknown_pointer(path: &serde_ignored::Path<'_>, pointer: &mut String, name: &mut String) {
    use serde_ignored::Path as P;
    let (parent, part) = match path {
        P::Root => return,
        P::Seq { parent, index } => (parent, index.to_string()),
        P::Map { parent, key } => (parent, shorten(key)),
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => {
            return unknown_pointer(parent, pointer, name);
        }
    };
    unknown_pointer(parent, pointer, name);
    pointer.push('/');
    pointer.push_str(&escape(&part));
    *name = part;
}

fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
