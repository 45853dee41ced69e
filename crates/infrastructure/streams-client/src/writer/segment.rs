//! A writer of one segment.
//!
//! ```text
//!  state       │ what happens                         │ next
//!  no setup    │ connected; the store says which event │ set up: that and all before is acknowledged, the rest is not sent
//!              │ of this writer was the last           │
//!  set up      │ events, and appends under way < max   │ set up: what there is is sent together
//!              │ DataAppended                          │ set up: up to that event all is acknowledged
//!              │ the connection ends                   │ no setup, after a pause
//!  either      │ the segment is sealed, or gone        │ over: what is not acknowledged goes back
//!              │ nothing has succeeded for too long    │ over: who waits is told why
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rt::Task;
use streams_wire::limits::EVENT_BYTES_MAX;
use streams_wire::replies::Reply;
use streams_wire::requests::{AppendBlockEnd, Request, SetupAppend};
use tokio::sync::{Notify, mpsc, oneshot};

use super::queue::{Pending, Queue};
use crate::connection::Flow;
use crate::controller::Access;
use crate::names::SegmentName;
use crate::patience::Patience;
use crate::{Client, Error};

/// Of what is sent together; one event may be longer.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Appends events to a segment, each once and in order. Dropped, it ends: what is not acknowledged may be there or not.
#[derive(Debug)]
pub struct SegmentWriter {
    shared: Arc<Shared>,
    _task: Task,
}

/// A writer that is over.
#[derive(Debug)]
pub struct Ended {
    pub segment: SegmentName,
    pub why: Error,
    /// What the segment does not have, in order, if `why` is that it is sealed, or is not there. Otherwise nobody knows, and who waits was told.
    pub unacknowledged: VecDeque<Pending>,
}

/// Tells when an event is durable, or why it is not known to be.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), Error>>);

impl Receipt {
    /// # Errors
    /// Why the event may not be there.
    pub async fn wait(self) -> Result<(), Error> {
        let gone = |_| Err(Error::Disconnected("its writer was dropped".to_owned()));
        self.0.await.unwrap_or_else(gone)
    }
}

/// An event, and who is told of it.
pub(super) fn pending(place: f64, data: Bytes) -> Result<(Pending, Receipt), Error> {
    if data.len() > EVENT_BYTES_MAX {
        let why = format!(
            "an event of {} bytes, of at most {EVENT_BYTES_MAX}",
            data.len()
        );
        return Err(Error::Refused(why));
    }
    let (told, receipt) = oneshot::channel();
    Ok((Pending { place, data, told }, Receipt(receipt)))
}

#[derive(Debug)]
struct Shared {
    client: Client,
    segment: SegmentName,
    /// What the store knows it by.
    id: u128,
    state: Mutex<State>,
    /// There is more to send.
    work: Notify,
    /// Something was acknowledged, or it is over.
    progress: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    why_over: Option<Error>,
}

impl SegmentWriter {
    /// `ended` is told once, when it is over.
    #[must_use]
    pub fn new(client: &Client, segment: SegmentName, ended: mpsc::Sender<Ended>) -> Self {
        let id = u128::from(rt::random_u64()) << 64 | u128::from(rt::random_u64());
        let shared = Arc::new(Shared {
            client: client.clone(),
            segment,
            id,
            state: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        });
        let task = rt::spawn("streams writer", run(shared.clone(), ended));
        Self {
            shared,
            _task: task,
        }
    }

    /// Waits while the window is full.
    ///
    /// # Errors
    /// `Refused`: it is too long. Otherwise why the writer is over.
    pub async fn append(&self, data: Bytes) -> Result<Receipt, Error> {
        let (pending, receipt) = pending(0.0, data)?;
        self.append_pending(pending).await.map_err(|(why, _)| why)?;
        Ok(receipt)
    }

    pub(super) async fn append_pending(&self, event: Pending) -> Result<(), (Error, Pending)> {
        let window = self.shared.client.config().window;
        loop {
            let progress = self.shared.progress.notified();
            {
                let mut state = self.shared.lock();
                if let Some(why) = &state.why_over {
                    return Err((why.clone(), event));
                }
                let queue = &mut state.queue;
                if queue.len() < window.events.max(1) && queue.bytes() < window.bytes.max(1) {
                    queue.push(event);
                    drop(state);
                    self.shared.work.notify_one();
                    return Ok(());
                }
            }
            progress.await;
        }
    }

    /// Whatever the window is.
    pub(super) fn push(&self, event: Pending) -> Result<(), Pending> {
        let mut state = self.shared.lock();
        if state.why_over.is_some() {
            return Err(event);
        }
        state.queue.push(event);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until all is acknowledged that was appended before.
    ///
    /// # Errors
    /// Why the writer is over.
    pub async fn flush(&self) -> Result<(), Error> {
        let last = self.shared.lock().queue.last();
        loop {
            let progress = self.shared.progress.notified();
            {
                let state = self.shared.lock();
                if let Some(why) = &state.why_over {
                    return Err(why.clone());
                }
                if state.queue.acknowledged() >= last {
                    return Ok(());
                }
            }
            progress.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is taken.
    fn finish(&self, why: Error) -> Ended {
        let queue = {
            let mut state = self.lock();
            state.why_over = Some(why.clone());
            let acknowledged = state.queue.acknowledged();
            std::mem::replace(&mut state.queue, Queue::after(acknowledged))
        };
        let mut events = queue.into_events();
        if !why.has_successors() {
            for event in events.drain(..) {
                event.settle(Err(why.clone()));
            }
        }
        self.progress.notify_waiters();
        Ended {
            segment: self.segment.clone(),
            why,
            unacknowledged: events,
        }
    }
}

async fn run(shared: Arc<Shared>, ended: mpsc::Sender<Ended>) {
    let mut patience = shared.client.patience();
    let why = loop {
        // Nothing is asked of the store before there is something to write.
        while shared.lock().queue.len() == 0 {
            shared.work.notified().await;
        }
        let why = shared.session(&mut patience).await;
        shared.client.learn(&shared.segment, &why);
        if let Err(why) = patience.wait(why).await {
            break why;
        }
    };
    let over = shared.finish(why);
    // Else nobody wants to know.
    drop(ended.send(over).await);
}

/// One connection, from its setup to its end.
impl Shared {
    async fn session(&self, patience: &mut Patience) -> Error {
        let appends_max = self.client.config().window.appends.max(1);
        match self.set_up(appends_max).await {
            Ok(mut flow) => {
                patience.renew();
                match self.append(&mut flow, appends_max, patience).await {
                    Ok(never) => match never {},
                    Err(why) => why,
                }
            }
            Err(why) => why,
        }
    }

    async fn set_up(&self, appends_max: usize) -> Result<Flow, Error> {
        let token = self
            .client
            .token(&self.segment.stream, Access::Write)
            .await?;
        let connection = self.client.connect(&self.segment).await?;
        // Each append is answered once, and the setup before them.
        let mut flow = Flow::open(connection, appends_max + 1)?;
        let setup = SetupAppend {
            request_id: flow.id,
            writer_id: self.id,
            segment: self.segment.to_string(),
            token,
        };
        match flow.call(setup.into()).await? {
            Reply::AppendSetup(it) if it.writer_id == self.id => {
                self.lock().queue.resume(it.last_event_number)?;
                self.progress.notify_waiters();
                Ok(flow)
            }
            other => Err(Error::unexpected(&other)),
        }
    }

    async fn append(
        &self,
        flow: &mut Flow,
        appends_max: usize,
        patience: &mut Patience,
    ) -> Result<std::convert::Infallible, Error> {
        // The last events of the appends under way.
        let mut under_way = VecDeque::new();
        let id = flow.id;
        let requests = flow.requests.clone();
        loop {
            let may_send = under_way.len() < appends_max;
            let has_unsent = may_send && self.lock().queue.has_unsent();
            tokio::select! {
                reply = flow.reply() => {
                    self.acknowledge(reply?, &mut under_way)?;
                    patience.renew();
                }
                permit = requests.reserve(), if has_unsent => {
                    let permit = permit.map_err(|_| flow.why_ended())?;
                    if let Some((request, last)) = self.next(id) {
                        under_way.push_back(last);
                        permit.send(request);
                    }
                }
                () = self.work.notified(), if may_send && !has_unsent => {}
            }
        }
    }

    fn next(&self, request_id: i64) -> Option<(Request, i64)> {
        let batch = self.lock().queue.take(BATCH_BYTES_MAX)?;
        let bytes = i32::try_from(batch.data.len());
        let append = AppendBlockEnd {
            writer_id: self.id,
            size_of_whole_events: bytes.expect("a batch fits into a frame"),
            data: batch.data,
            num_events: batch.n_events,
            last_event_number: batch.last,
            request_id,
        };
        Some((append.into(), batch.last))
    }

    fn acknowledge(&self, reply: Reply, under_way: &mut VecDeque<i64>) -> Result<(), Error> {
        match reply {
            Reply::DataAppended(it) if it.writer_id == self.id => {
                {
                    let mut state = self.lock();
                    let (known, previous) = (state.queue.acknowledged(), it.previous_event_number);
                    if previous > known {
                        let why = format!("event {previous} came before, but {known} did");
                        return Err(Error::Protocol(why));
                    }
                    state.queue.acknowledge(it.event_number)?;
                }
                while under_way
                    .pop_front_if(|last| *last <= it.event_number)
                    .is_some()
                {}
                self.progress.notify_waiters();
                Ok(())
            }
            other => Err(Error::unexpected(&other)),
        }
    }
}
