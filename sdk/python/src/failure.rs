//! What goes wrong, as exceptions of `pygeds.status`.

use std::error::Error as _;

use geds_client::{Error, Kind};
use pyo3::prelude::*;

/// The name that upstream's status has for it.
fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "INVALID_ARGUMENT",
        Kind::NotFound => "NOT_FOUND",
        Kind::Denied => "PERMISSION_DENIED",
        Kind::Conflict | Kind::Fenced => "ABORTED",
        Kind::Exhausted => "RESOURCE_EXHAUSTED",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::Lost | Kind::Corrupt => "DATA_LOSS",
        Kind::Internal => "INTERNAL",
    }
}

pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    raise_as(py, code(error.kind), error)
}

/// When the caller knows better what it means.
pub(crate) fn raise_as(py: Python<'_>, code: &str, error: &Error) -> PyErr {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    status(py, code, &message)
}

pub(crate) fn status(py: Python<'_>, code: &str, message: &str) -> PyErr {
    let made = py
        .import("pygeds.status")
        .and_then(|module| module.call_method1("error", (code, message)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
