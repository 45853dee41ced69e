//! What is asked beside appends, and what is answered.

use std::io;
use std::sync::Arc;

use streams_core::attributes::{AttributeId, AttributeUpdate, UpdateKind};
use streams_core::op::Outcome;
use streams_core::segment::Kind;
use streams_core::{Op, Refusal, SegmentName};
use streams_store::{Error, Gate, Read, is_internal};
use streams_wire::limits::{HEADER_BYTES, READ_BYTES_MAX};
use streams_wire::replies::{
    ErrorMessage, OperationUnsupported, Reply, SegmentAttribute, SegmentAttributeUpdated,
    SegmentCreated, SegmentDeleted, SegmentPolicyUpdated, SegmentRead, SegmentSealed,
    SegmentTruncated, SegmentsBatchMerged, SegmentsMerged, StreamSegmentInfo,
};
use streams_wire::requests::{
    CreateSegment, CreateTransientSegment, GetSegmentAttribute, GetStreamSegmentInfo,
    MergeSegments, MergeSegmentsBatch, ReadSegment, Request, TruncateSegment,
    UpdateSegmentAttribute, UpdateSegmentPolicy,
};
use streams_wire::shapes::{AttributeUpdateKind, ErrorCode, MergedSegment, ScaleType};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowed::Until;
use super::connection::Connection;
use super::outbox::Outbox;
use super::refusals::{Subject, refuse};

impl Connection {
    /// What changes something is begun in the order in which it comes. It is allowed until then.
    pub(super) async fn answer(&mut self, request: Request, until: Until) -> io::Result<()> {
        match request {
            Request::SetupAppend(it) => self.set_up(it, until)?,
            Request::ReadSegment(it) => self.read_segment(it, until),
            Request::GetStreamSegmentInfo(it) => self.info(it),
            Request::GetSegmentAttribute(it) => self.attribute(it),
            Request::UpdateSegmentAttribute(it) => self.update_attribute(it).await,
            Request::CreateSegment(it) => self.create(it).await,
            Request::CreateTransientSegment(it) => self.create_transient(it).await,
            Request::UpdateSegmentPolicy(it) => self.update_policy(it).await,
            Request::SealSegment(it) => {
                let subject = Subject::new(it.request_id, &it.segment);
                let reply = SegmentSealed {
                    request_id: it.request_id,
                    segment: it.segment,
                };
                self.change(subject, Op::Seal, move |_| reply.into()).await;
            }
            Request::DeleteSegment(it) => {
                let subject = Subject::new(it.request_id, &it.segment);
                let reply = SegmentDeleted {
                    request_id: it.request_id,
                    segment: it.segment,
                };
                self.change(subject, Op::Delete, move |_| reply.into())
                    .await;
            }
            Request::TruncateSegment(it) => self.truncate(it).await,
            Request::MergeSegments(it) => self.merge(it).await,
            Request::MergeSegmentsBatch(it) => self.merge_batch(it).await,
            Request::FlushToStorage(it) => self.flush_to_storage(it),
            Request::ListStorageChunks(it) => self.list_storage_chunks(it),
            other => return self.answer_of_table(other).await,
        }
        Ok(())
    }

    /// The name, if it is one that clients may have; else the sender has been told.
    pub(super) fn name(&self, subject: &Subject) -> Option<SegmentName> {
        let name = SegmentName::new(&subject.segment);
        let why = match name {
            Ok(_) if is_internal(&subject.segment) => {
                Refusal::Invalid("this segment is the platform's own")
            }
            Ok(name) => return Some(name),
            Err(refusal) => refusal,
        };
        refuse(&self.outbox, subject, &why.into());
        None
    }

    /// Proposes what is to be done to a segment, and answers when it is durable.
    pub(super) async fn change(
        &mut self,
        subject: Subject,
        op: impl FnOnce(SegmentName) -> Op,
        reply: impl FnOnce(Outcome) -> Reply + Send + 'static,
    ) {
        self.change_or(subject, op, reply, |_| None).await;
    }

    /// The same, where some refusals are answers.
    pub(super) async fn change_or(
        &mut self,
        subject: Subject,
        op: impl FnOnce(SegmentName) -> Op,
        reply: impl FnOnce(Outcome) -> Reply + Send + 'static,
        otherwise: impl FnOnce(&Refusal) -> Option<Reply> + Send + 'static,
    ) {
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let outbox = Arc::clone(&self.outbox);
        let tell = move |outcome: Result<Outcome, Error>| match outcome {
            Ok(outcome) => outbox.send(reply(outcome)),
            Err(Error::Refused(refusal)) => match otherwise(&refusal) {
                Some(reply) => outbox.send(reply),
                None => refuse(&outbox, &subject, &refusal.into()),
            },
            Err(error) => refuse(&outbox, &subject, &error),
        };
        let op = op(segment);
        let store = &self.shared.store;
        store.submit(&op, tell, &mut self.unwritten).await;
    }

    fn read_segment(&mut self, request: ReadSegment, until: Until) {
        let ReadSegment {
            segment: text,
            offset,
            suggested_length,
            request_id,
            ..
        } = request;
        let subject = Subject::new(request_id, &text).at(offset);
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let Ok(from) = u64::try_from(offset) else {
            let why = Refusal::Invalid("offsets are not below zero");
            return refuse(&self.outbox, &subject, &why.into());
        };
        let wanted = usize::try_from(suggested_length).unwrap_or(0);
        let bytes_max = wanted.clamp(HEADER_BYTES, READ_BYTES_MAX) as u64;
        let (outbox, shared) = (Arc::clone(&self.outbox), Arc::clone(&self.shared));
        let gate = Reading {
            outbox: Arc::clone(&self.outbox),
            fetches: Arc::clone(&self.fetches),
        };
        self.waiting.push(Box::pin(async move {
            // Who may not read any more waits no more.
            let left = until.map(|until| until.saturating_duration_since(rt::now()));
            let patience = shared.limits.patience;
            let patience = left.map_or(patience, |left| left.min(patience));
            let read = shared
                .store
                .read(&segment, from, bytes_max, patience, &gate);
            // What lets it fetch is held until it is to be sent.
            let (read, _passed) = match read.await {
                Ok(read) => read,
                Err(error) => return refuse(&outbox, &subject, &error),
            };
            let (data, at_tail, end_of_segment) = match read {
                Read::Bytes(bytes) => (bytes, false, false),
                Read::AtTail => (bytes::Bytes::new(), true, false),
                Read::End => (bytes::Bytes::new(), false, true),
            };
            shared.counters.read(data.len());
            outbox.send(SegmentRead {
                segment: text,
                offset,
                at_tail,
                end_of_segment,
                data,
                request_id,
            });
        }));
    }

    fn info(&mut self, request: GetStreamSegmentInfo) {
        let subject = Subject::new(request.request_id, &request.segment);
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let outbox = Arc::clone(&self.outbox);
        let question = |container: &streams_core::Container| container.info(&segment);
        let tell = move |info: Result<streams_core::container::Info, Error>| match info {
            Ok(info) => outbox.send(StreamSegmentInfo {
                request_id: subject.request_id,
                segment: subject.segment,
                exists: true,
                is_sealed: info.is_sealed,
                is_deleted: false,
                last_modified: info.modified_at_ms.cast_signed(),
                write_offset: info.length.cast_signed(),
                start_offset: info.start_offset.cast_signed(),
            }),
            Err(error) => refuse(&outbox, &subject, &error),
        };
        self.shared.store.ask_then(&segment, question, tell);
    }

    fn attribute(&mut self, request: GetSegmentAttribute) {
        let request_id = request.request_id;
        let subject = Subject::new(request_id, &request.segment);
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let outbox = Arc::clone(&self.outbox);
        let id = AttributeId(request.attribute_id);
        self.shared.store.ask_then(
            &segment,
            |container| container.attribute(&segment, id),
            move |value| match value {
                Ok(value) => outbox.send(SegmentAttribute { request_id, value }),
                Err(error) => refuse(&outbox, &subject, &error),
            },
        );
    }

    async fn update_attribute(&mut self, request: UpdateSegmentAttribute) {
        let request_id = request.request_id;
        let subject = Subject::new(request_id, &request.segment);
        let update = AttributeUpdate {
            id: AttributeId(request.attribute_id),
            value: request.new_value,
            kind: UpdateKind::ReplaceIfEquals(request.expected_value),
        };
        let op = |segment| Op::UpdateAttributes {
            segment,
            updates: vec![update],
        };
        let updated = move |success| {
            let updated = SegmentAttributeUpdated {
                request_id,
                success,
            };
            Reply::from(updated)
        };
        let otherwise = move |refusal: &Refusal| match refusal {
            Refusal::BadAttribute { .. } => Some(updated(false)),
            _ => None,
        };
        self.change_or(subject, op, move |_| updated(true), otherwise)
            .await;
    }

    async fn create(&mut self, request: CreateSegment) {
        let CreateSegment {
            request_id,
            segment,
            target_rate,
            scale_type,
            rollover_size_bytes,
            ..
        } = request;
        let subject = Subject::new(request_id, &segment);
        let mut attributes = policy(scale_type, target_rate).to_vec();
        if rollover_size_bytes > 0 {
            attributes.push(set(AttributeId::ROLLOVER_SIZE, rollover_size_bytes));
        }
        let op = |segment| Op::Create {
            segment,
            kind: Kind::Stream,
            attributes,
        };
        let reply = SegmentCreated {
            request_id,
            segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    /// Named as upstream's `NameUtils.getTransientNameFromId`.
    async fn create_transient(&mut self, request: CreateTransientSegment) {
        let request_id = request.request_id;
        let parent = Subject::new(request_id, &request.parent_segment);
        let (high, low) = (rt::random_u64(), rt::random_u64());
        let name = format!("{}#transient.{high:016x}{low:016x}", parent.segment);
        let subject = Subject::new(request_id, &name);
        let connection = self.id;
        self.has_transient = true;
        let op = |segment| Op::Create {
            segment,
            kind: Kind::Transient(connection),
            attributes: Vec::new(),
        };
        let reply = SegmentCreated {
            request_id,
            segment: name,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    async fn update_policy(&mut self, request: UpdateSegmentPolicy) {
        let UpdateSegmentPolicy {
            request_id,
            segment,
            target_rate,
            scale_type,
            ..
        } = request;
        let subject = Subject::new(request_id, &segment);
        let op = |segment| Op::UpdateAttributes {
            segment,
            updates: policy(scale_type, target_rate).to_vec(),
        };
        let reply = SegmentPolicyUpdated {
            request_id,
            segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    async fn truncate(&mut self, request: TruncateSegment) {
        let TruncateSegment {
            request_id,
            segment,
            truncation_offset,
            ..
        } = request;
        let subject = Subject::new(request_id, &segment).at(truncation_offset);
        let Ok(offset) = u64::try_from(truncation_offset) else {
            let why = Refusal::Invalid("offsets are not below zero");
            return refuse(&self.outbox, &subject, &why.into());
        };
        let op = |segment| Op::Truncate { segment, offset };
        let reply = SegmentTruncated {
            request_id,
            segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    async fn merge(&mut self, request: MergeSegments) {
        let MergeSegments {
            request_id,
            target,
            source,
            attribute_updates,
            ..
        } = request;
        let subject = Subject::new(request_id, &target);
        let of_source = Subject::new(request_id, &source);
        let Some(source_name) = self.name(&of_source) else {
            return;
        };
        let attributes = attribute_updates.iter().map(|update| AttributeUpdate {
            id: AttributeId(update.attribute_id),
            value: update.new_value,
            kind: match update.kind {
                AttributeUpdateKind::None => UpdateKind::None,
                AttributeUpdateKind::Replace => UpdateKind::Replace,
                AttributeUpdateKind::ReplaceIfGreater => UpdateKind::ReplaceIfGreater,
                AttributeUpdateKind::Accumulate => UpdateKind::Accumulate,
                AttributeUpdateKind::ReplaceIfEquals => {
                    UpdateKind::ReplaceIfEquals(update.old_value)
                }
            },
        });
        let attributes = attributes.collect();
        let op = |target| Op::Merge {
            target,
            source: source_name,
            attributes,
        };
        let reply = move |outcome| {
            let merged = SegmentsMerged {
                request_id,
                target,
                source,
                new_target_write_offset: lengths(outcome).first().copied().unwrap_or(0),
            };
            merged.into()
        };
        let otherwise = move |refusal: &Refusal| match refusal {
            Refusal::BadAttribute { .. } => {
                let success = false;
                Some(
                    SegmentAttributeUpdated {
                        request_id,
                        success,
                    }
                    .into(),
                )
            }
            _ => None,
        };
        self.change_or(subject, op, reply, otherwise).await;
    }

    async fn merge_batch(&mut self, request: MergeSegmentsBatch) {
        let MergeSegmentsBatch {
            request_id,
            target,
            sources,
            ..
        } = request;
        let subject = Subject::new(request_id, &target);
        let mut names = Vec::with_capacity(sources.len());
        for source in &sources {
            let Some(name) = self.name(&Subject::new(request_id, source)) else {
                return;
            };
            names.push(name);
        }
        let op = |target| Op::MergeBatch {
            target,
            sources: names,
        };
        let reply = move |outcome| {
            let merged = sources.into_iter().zip(lengths(outcome));
            let merged = merged.map(|(source, new_target_write_offset)| MergedSegment {
                source,
                new_target_write_offset,
            });
            let merged = SegmentsBatchMerged {
                request_id,
                target,
                merged: merged.collect(),
            };
            merged.into()
        };
        self.change(subject, op, reply).await;
    }

    pub(super) fn unsupported(&self, request: &Request) {
        self.outbox.send(OperationUnsupported {
            request_id: request.request_id().unwrap_or_default(),
            operation_name: request.name().to_owned(),
            server_stack_trace: String::new(),
        });
    }

    pub(super) fn illegal(&self, subject: &Subject, message: &str) {
        self.outbox.send(ErrorMessage {
            request_id: subject.request_id,
            segment: subject.segment.clone(),
            message: message.to_owned(),
            error_code: ErrorCode::IllegalArgument,
        });
    }
}

/// What a connection bounds its reads by.
struct Reading {
    outbox: Arc<Outbox>,
    fetches: Arc<Semaphore>,
}

impl Gate for Reading {
    type Permit = OwnedSemaphorePermit;

    async fn room(&self) {
        self.outbox.room().await;
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.fetches).acquire_owned().await;
        permit.expect("nobody closes it")
    }
}

fn lengths(outcome: Outcome) -> Vec<i64> {
    match outcome {
        Outcome::Merged { lengths } => lengths.into_iter().map(u64::cast_signed).collect(),
        _ => Vec::new(),
    }
}

fn set(id: AttributeId, value: i64) -> AttributeUpdate {
    AttributeUpdate {
        id,
        value,
        kind: UpdateKind::Replace,
    }
}

/// How the rate of a segment is remembered.
fn policy(scale_type: ScaleType, target_rate: i32) -> [AttributeUpdate; 2] {
    let kind = match scale_type {
        ScaleType::NoScaling => 0,
        ScaleType::Throughput => 1,
        ScaleType::EventRate => 2,
    };
    [
        set(AttributeId::SCALE_POLICY_TYPE, kind),
        set(AttributeId::SCALE_POLICY_RATE, target_rate.into()),
    ]
}
