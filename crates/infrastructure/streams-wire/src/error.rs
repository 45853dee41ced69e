use thiserror::Error;

use crate::limits::{FRAME_BYTES_MAX, TEXT_BYTES_MAX};

/// Why a frame is not understood. The frames that follow it can be nevertheless.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("no command has the type {0}")]
    Unknown(i32),
    #[error("{command} is not for this side of a connection")]
    WrongSide { command: &'static str },
    #[error("decode {command}")]
    Malformed {
        command: &'static str,
        #[source]
        flaw: Flaw,
    },
}

/// What is wrong with the fields of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    #[error("it ends within a field")]
    Cut,
    #[error("a field says that it has {0} bytes")]
    Length(i32),
    #[error("a list says that it has {0} elements")]
    Count(i32),
    #[error("a text is not in the modified UTF-8 of Java")]
    Text,
    #[error("a field with few values has the value {0}")]
    Code(i32),
    #[error("an event has the type {0}")]
    NotAnEvent(i32),
}

/// Why a command cannot be sent. Nothing of it has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("a text of {bytes} bytes, but it may have {TEXT_BYTES_MAX}")]
    Text { bytes: usize },
    #[error("{command} of {bytes} bytes, but a frame may have {FRAME_BYTES_MAX}")]
    Frame { command: &'static str, bytes: usize },
}
