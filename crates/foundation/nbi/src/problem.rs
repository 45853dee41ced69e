//! Problems, RFC 9457 (`application/problem+json`).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:cloudskin:problem:…`; stable, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, for people.
    pub title: String,
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// The first field that is wrong, as a JSON pointer (RFC 6901) into the request's body, or `?name` for a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// All fields that are wrong, if there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let (name, title) = kind(status);
        Self {
            kind: format!("urn:cloudskin:problem:{name}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            pointer: None,
            errors: Vec::new(),
        }
    }

    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            ..self
        }
    }

    /// The problem with these fields, if there are any.
    pub(crate) fn of_fields(status: u16, mut errors: Vec<FieldError>) -> Option<Self> {
        let FieldError { pointer, detail } = errors.first()?.clone();
        if errors.len() == 1 {
            errors.clear();
        }
        Some(Self {
            errors,
            ..Self::new(status, detail).at(pointer)
        })
    }
}

/// Where and what, one line a field.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_deref() {
            Some(pointer) if !pointer.is_empty() => write!(f, "{pointer}: {}", self.detail)?,
            _ => f.write_str(&self.detail)?,
        }
        for error in self.errors.iter().skip(1) {
            write!(f, "\n{}: {}", error.pointer, error.detail)?;
        }
        Ok(())
    }
}

/// The name and the title of the problems with this status.
fn kind(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => (
            "malformed",
            "The request is not as the interface describes it",
        ),
        401 => ("unauthenticated", "A bearer token is missing or unknown"),
        403 => ("forbidden", "The token is not for this"),
        404 => ("not-found", "There is no such thing"),
        405 => ("method-not-allowed", "This cannot be done to it"),
        406 => ("not-acceptable", "It cannot be shown in the wanted format"),
        408 => ("timeout", "The request took too long to arrive"),
        409 => ("conflict", "It contradicts what is there"),
        410 => ("gone", "It is not kept any more"),
        412 => ("precondition-failed", "It has changed since it was read"),
        413 => ("too-large", "The request is too large"),
        415 => (
            "unsupported-media-type",
            "The request is in an unknown format",
        ),
        422 => (
            "unprocessable",
            "The request is well formed but cannot be done",
        ),
        429 => ("exhausted", "A limit is reached"),
        503 => ("unavailable", "Not now"),
        _ => ("internal", "Something went wrong on our side"),
    }
}
