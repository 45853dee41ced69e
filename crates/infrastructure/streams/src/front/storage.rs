//! What is asked about long-term storage. Upstream answers it on a port for administrators only (`AdminRequestProcessorImpl.java`).

use std::sync::Arc;

use streams_core::Refusal;
use streams_store::StoredChunk;
use streams_wire::replies::{StorageChunksListed, StorageFlushed};
use streams_wire::requests::{FlushToStorage, ListStorageChunks};
use streams_wire::shapes::ChunkInfo;

use super::connection::Connection;
use super::refusals::{Subject, refuse};

impl Connection {
    /// It waits beside what is asked later.
    pub(super) fn flush_to_storage(&mut self, request: FlushToStorage) {
        let FlushToStorage {
            container_id,
            request_id,
            ..
        } = request;
        let subject = Subject::new(request_id, "");
        let Ok(number) = u32::try_from(container_id) else {
            let why = Refusal::Invalid("there is no such container");
            return refuse(&self.outbox, &subject, &why.into());
        };
        let (outbox, shared) = (Arc::clone(&self.outbox), Arc::clone(&self.shared));
        // It keeps others of the container from that: it does not stand still with this connection.
        let flushing = rt::spawn("streams-flush", async move {
            match shared.store.flush_container(number).await {
                Ok(()) => outbox.send(StorageFlushed { request_id }),
                Err(error) => refuse(&outbox, &subject, &error),
            }
        });
        self.waiting.push(Box::pin(flushing.ended()));
    }

    pub(super) fn list_storage_chunks(&mut self, request: ListStorageChunks) {
        let request_id = request.request_id;
        let subject = Subject::new(request_id, &request.segment);
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let (outbox, shared) = (Arc::clone(&self.outbox), Arc::clone(&self.shared));
        let fetches = Arc::clone(&self.fetches);
        self.waiting.push(Box::pin(async move {
            let _permit = fetches.acquire_owned().await;
            match shared.store.chunks(&segment).await {
                Ok(chunks) => {
                    let chunks = chunks.into_iter().map(info).collect();
                    outbox.send(StorageChunksListed { request_id, chunks });
                }
                Err(error) => refuse(&outbox, &subject, &error),
            }
        }));
    }
}

fn info(chunk: StoredChunk) -> ChunkInfo {
    ChunkInfo {
        length_in_metadata: chunk.n_bytes.cast_signed(),
        length_in_storage: chunk.n_stored_bytes.unwrap_or(0).cast_signed(),
        start_offset: chunk.start_offset.cast_signed(),
        name: chunk.name,
        exists_in_storage: chunk.n_stored_bytes.is_some(),
    }
}
