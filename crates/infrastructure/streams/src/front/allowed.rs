//! What requests are allowed, as the tokens in them say: as upstream's `AppendProcessor.java` and `PravegaRequestProcessor.java` have it.
//!
//! There what changes a segment needs a token to read it, but for appends. Here it needs one to update it, which is what clients ask for.

use std::time::Instant;

use streams_wire::replies::AuthTokenCheckFailed;
use streams_wire::requests::Request;
use streams_wire::shapes::TokenError;

use super::connection::Connection;
use crate::controller::Permission;

/// Until when a token is good. Without it, for ever.
pub(super) type Until = Option<Instant>;

/// What a request has to be allowed.
struct Need<'a> {
    request_id: i64,
    token: &'a str,
    segments: Vec<&'a str>,
    permission: Permission,
}

impl Connection {
    /// Until when, if it may be answered; else the sender has been told.
    pub(super) fn allowed(&mut self, request: &Request) -> Option<Until> {
        let Some(tokens) = &self.shared.tokens else {
            return Some(None);
        };
        let Some(need) = need(request) else {
            return Some(None);
        };
        let grants = tokens.read(need.token, rt::wall());
        let granted = grants.and_then(|grants| {
            let mut segments = need.segments.iter();
            if segments.all(|segment| grants.allow(segment, need.permission)) {
                Ok(grants.left)
            } else {
                Err(TokenError::CheckFailed)
            }
        });
        match granted {
            Ok(left) => {
                self.is_trusted = true;
                Some(left.and_then(|left| rt::now().checked_add(left)))
            }
            Err(error_code) => {
                self.outbox.send(AuthTokenCheckFailed {
                    request_id: need.request_id,
                    server_stack_trace: String::new(),
                    error_code,
                });
                None
            }
        }
    }
}

/// Returns when it is time.
pub(super) async fn until(time: Until) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// All commands are named, so that each that is new has to be decided on.
fn need(request: &Request) -> Option<Need<'_>> {
    macro_rules! of_segment {
        ($it:ident, $permission:ident) => {
            Need {
                request_id: $it.request_id,
                token: &$it.token.0,
                segments: vec![&$it.segment],
                permission: Permission::$permission,
            }
        };
    }
    Some(match request {
        Request::ReadSegment(it) => of_segment!(it, Read),
        Request::GetStreamSegmentInfo(it) => of_segment!(it, Read),
        Request::GetSegmentAttribute(it) => of_segment!(it, Read),
        Request::LocateOffset(it) => of_segment!(it, Read),
        Request::GetTableSegmentInfo(it) => of_segment!(it, Read),
        Request::ReadTable(it) => of_segment!(it, Read),
        Request::ReadTableKeys(it) => of_segment!(it, Read),
        Request::ReadTableEntries(it) => of_segment!(it, Read),
        Request::ReadTableEntriesDelta(it) => of_segment!(it, Read),
        Request::ListStorageChunks(it) => of_segment!(it, Read),
        Request::SetupAppend(it) => of_segment!(it, ReadUpdate),
        Request::UpdateSegmentAttribute(it) => of_segment!(it, ReadUpdate),
        Request::CreateSegment(it) => of_segment!(it, ReadUpdate),
        Request::UpdateSegmentPolicy(it) => of_segment!(it, ReadUpdate),
        Request::SealSegment(it) => of_segment!(it, ReadUpdate),
        Request::TruncateSegment(it) => of_segment!(it, ReadUpdate),
        Request::DeleteSegment(it) => of_segment!(it, ReadUpdate),
        Request::CreateTableSegment(it) => of_segment!(it, ReadUpdate),
        Request::DeleteTableSegment(it) => of_segment!(it, ReadUpdate),
        Request::UpdateTableEntries(it) => of_segment!(it, ReadUpdate),
        Request::RemoveTableKeys(it) => of_segment!(it, ReadUpdate),
        Request::CreateTransientSegment(it) => Need {
            request_id: it.request_id,
            token: &it.token.0,
            segments: vec![&it.parent_segment],
            permission: Permission::ReadUpdate,
        },
        Request::MergeSegments(it) => Need {
            request_id: it.request_id,
            token: &it.token.0,
            segments: vec![&it.target, &it.source],
            permission: Permission::ReadUpdate,
        },
        Request::MergeSegmentsBatch(it) => {
            let sources = it.sources.iter().map(String::as_str);
            Need {
                request_id: it.request_id,
                token: &it.token.0,
                segments: sources.chain([it.target.as_str()]).collect(),
                permission: Permission::ReadUpdate,
            }
        }
        // Of all segments.
        Request::FlushToStorage(it) => Need {
            request_id: it.request_id,
            token: &it.token.0,
            segments: vec![""],
            permission: Permission::ReadUpdate,
        },
        // Their writer was allowed when it was set up.
        Request::AppendBlock(_)
        | Request::AppendBlockEnd(_)
        | Request::ConditionalAppend(_)
        | Request::ConditionalBlockEnd(_)
        | Request::Padding(_)
        | Request::Hello(_)
        | Request::KeepAlive(_) => return None,
    })
}
