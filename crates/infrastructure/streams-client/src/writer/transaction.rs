use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::routes::Routes;
use super::segment::{Ended, Receipt, SegmentWriter};
use crate::controller::{Ping, Started};
use crate::keys::place_of;
use crate::names::{SegmentNumber, StreamName};
use crate::{Client, Error};

/// Events that become part of a stream together, or not at all.
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    stream: StreamName,
    id: u128,
    routes: Routes,
    writers: HashMap<SegmentNumber, SegmentWriter>,
    ended: mpsc::Sender<Ended>,
    _ends: mpsc::Receiver<Ended>,
}

impl Transaction {
    /// It is aborted when nobody has prolonged it for the time of the lease.
    ///
    /// # Errors
    /// What the controller says.
    pub async fn begin(
        client: &Client,
        stream: StreamName,
        lease: Duration,
    ) -> Result<Self, Error> {
        let started = client.controller().begin(&stream, lease).await?;
        Self::over(client, stream, started)
    }

    /// One that was begun before, also elsewhere, and lives on for the time of the lease.
    ///
    /// # Errors
    /// What the controller says; `Condition`: it is over.
    pub async fn resume(
        client: &Client,
        stream: StreamName,
        id: u128,
        lease: Duration,
    ) -> Result<Self, Error> {
        let controller = client.controller();
        match controller.prolong(&stream, id, lease).await? {
            Ping::Prolonged => {}
            Ping::TooOld => return Err(Error::Condition("the transaction lasts too long")),
            Ping::Committed => return Err(Error::Condition("the transaction is committed")),
            Ping::Aborted => return Err(Error::Condition("the transaction is aborted")),
        }
        let epoch = i32::try_from(id >> 96);
        let epoch = epoch.map_err(|_| Error::NotFound(format!("transaction {id:032x}")))?;
        let mut segments = controller.epoch_segments(&stream, epoch).await?;
        for segment in &mut segments {
            // Its parts are called after its own epoch, whichever made the segments.
            segment.number = segment.number.in_epoch(epoch);
        }
        Self::over(client, stream, Started { id, segments })
    }

    fn over(client: &Client, stream: StreamName, started: Started) -> Result<Self, Error> {
        let routes = Routes::new(started.segments)?;
        // Each segment has one end, which its writer says too.
        let (ended, ends) = mpsc::channel(routes.segments().count());
        Ok(Self {
            client: client.clone(),
            stream,
            id: started.id,
            routes,
            writers: HashMap::new(),
            ended,
            _ends: ends,
        })
    }

    #[must_use]
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Waits while the window of its segment is full.
    ///
    /// # Errors
    /// `Refused`: it is too long. `Sealed`, `NoSuchSegment`: the transaction is over.
    pub async fn write(&mut self, key: &str, data: Bytes) -> Result<Receipt, Error> {
        let number = self.routes.at(place_of(key));
        let writer = self.writers.entry(number).or_insert_with(|| {
            let segment = self.stream.segment(number).within(self.id);
            SegmentWriter::new(&self.client, segment, self.ended.clone())
        });
        writer.append(data).await
    }

    /// # Errors
    /// Why something that was written may not be there.
    pub async fn flush(&self) -> Result<(), Error> {
        for writer in self.writers.values() {
            writer.flush().await?;
        }
        Ok(())
    }

    /// # Errors
    /// What the controller says.
    pub async fn prolong(&self, lease: Duration) -> Result<Ping, Error> {
        let controller = self.client.controller();
        controller.prolong(&self.stream, self.id, lease).await
    }

    /// All that was written becomes part of the stream some time later: see
    /// [`transaction_state`](crate::Controller::transaction_state).
    ///
    /// # Errors
    /// See [`Self::flush`]; what the controller says.
    pub async fn commit(self) -> Result<(), Error> {
        self.flush().await?;
        self.client.controller().commit(&self.stream, self.id).await
    }

    /// # Errors
    /// What the controller says.
    pub async fn abort(self) -> Result<(), Error> {
        self.client.controller().abort(&self.stream, self.id).await
    }
}
