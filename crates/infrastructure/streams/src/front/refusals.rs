//! How a store's errors are said on the wire: as upstream's `PravegaRequestProcessor.handleException`.

use streams_core::Refusal;
use streams_store::Error;
use streams_wire::limits::NO_OFFSET;
use streams_wire::replies::{
    ErrorMessage, NoSuchSegment, OperationUnsupported, SegmentAlreadyExists, SegmentIsSealed,
    SegmentIsTruncated, TableKeyBadVersion, TableKeyDoesNotExist, TableSegmentNotEmpty, WrongHost,
};
use streams_wire::shapes::ErrorCode;

use super::outbox::Outbox;

/// What a refused request was about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) request_id: i64,
    pub(super) segment: String,
    /// Of an append the number of its event.
    pub(super) offset: i64,
}

impl Subject {
    pub(super) fn new(request_id: i64, segment: &str) -> Self {
        Self {
            request_id,
            segment: segment.to_owned(),
            offset: NO_OFFSET,
        }
    }

    pub(super) fn at(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }
}

pub(super) fn refuse(outbox: &Outbox, subject: &Subject, error: &Error) {
    match error {
        Error::Refused(refusal) => say(outbox, subject, refusal),
        Error::Fenced => {
            outbox.send(WrongHost {
                request_id: subject.request_id,
                segment: subject.segment.clone(),
                correct_host: String::new(),
                server_stack_trace: String::new(),
            });
            outbox.end();
        }
        Error::Unavailable(_) | Error::Ended(_) | Error::Corrupt(_) => {
            tracing::warn!(segment = subject.segment, %error, "a request is not answered");
            outbox.end();
        }
    }
}

fn say(outbox: &Outbox, subject: &Subject, refusal: &Refusal) {
    let Subject {
        request_id,
        segment,
        offset,
    } = subject.clone();
    let server_stack_trace = String::new();
    match refusal {
        Refusal::NoSuchSegment(name) => outbox.send(NoSuchSegment {
            request_id,
            segment: name.as_str().to_owned(),
            server_stack_trace,
            offset,
        }),
        Refusal::Exists(_) => outbox.send(SegmentAlreadyExists {
            request_id,
            segment,
            server_stack_trace,
        }),
        Refusal::Sealed(_) => outbox.send(SegmentIsSealed {
            request_id,
            segment,
            server_stack_trace,
            offset,
        }),
        Refusal::BadOffset { expected } => outbox.send(SegmentIsTruncated {
            request_id,
            segment,
            start_offset: expected.cast_signed(),
            server_stack_trace,
            offset,
        }),
        Refusal::NotEmpty(_) => outbox.send(TableSegmentNotEmpty {
            request_id,
            segment,
            server_stack_trace,
        }),
        Refusal::KeyDoesNotExist => outbox.send(TableKeyDoesNotExist {
            request_id,
            segment,
            server_stack_trace,
        }),
        Refusal::KeyBadVersion => outbox.send(TableKeyBadVersion {
            request_id,
            segment,
            server_stack_trace,
        }),
        Refusal::WrongKind(_) => outbox.send(OperationUnsupported {
            request_id,
            operation_name: refusal.to_string(),
            server_stack_trace,
        }),
        other => outbox.send(ErrorMessage {
            request_id,
            segment,
            message: other.to_string(),
            error_code: ErrorCode::IllegalArgument,
        }),
    }
}
