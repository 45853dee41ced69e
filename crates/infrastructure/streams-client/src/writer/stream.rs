//! A writer of a stream.
//!
//! It has a writer of each segment that is written now. When one of these is over because its segment is sealed, what is not acknowledged goes to
//! those that take its place, before anything else does: so the events of a key stay in order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rt::Task;
use tokio::sync::{mpsc, watch};

use super::queue::Pending;
use super::routes::Routes;
use super::segment::{Ended, Receipt, SegmentWriter, pending};
use crate::controller::Successor;
use crate::keys::{fraction, place_of};
use crate::names::{SegmentNumber, StreamName};
use crate::{Client, Error};

/// Of segments that are over. Those wait whose end is not looked at.
const ENDED_MAX: usize = 16;

/// Writes events to a stream, each once, and those of one key in the order in which they are given. Dropped, it ends: what is not acknowledged may
/// be there or not.
#[derive(Debug)]
pub struct EventWriter {
    router: Arc<Router>,
    _task: Task,
}

#[derive(Debug)]
struct Router {
    client: Client,
    stream: StreamName,
    ended: mpsc::Sender<Ended>,
    state: Mutex<State>,
    /// How often the routes have changed.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    routes: Routes,
    writers: HashMap<SegmentNumber, Arc<SegmentWriter>>,
    /// What goes to the successors of a segment whose end is not looked at yet, behind what it has not acknowledged itself.
    waiting: HashMap<SegmentNumber, VecDeque<Pending>>,
    why_over: Option<Error>,
}

impl EventWriter {
    /// # Errors
    /// `NotFound`; `Sealed`; what the controller says.
    pub async fn open(client: &Client, stream: StreamName) -> Result<Self, Error> {
        let mut patience = client.patience();
        let segments = loop {
            match client.controller().current_segments(&stream).await {
                Ok(segments) => break segments,
                Err(why) => patience.wait(why).await?,
            }
        };
        if segments.is_empty() {
            return Err(Error::Sealed(stream.to_string()));
        }
        let (ended, to_replace) = mpsc::channel(ENDED_MAX);
        let router = Arc::new(Router {
            client: client.clone(),
            stream,
            ended,
            state: Mutex::new(State {
                routes: Routes::new(segments)?,
                writers: HashMap::new(),
                waiting: HashMap::new(),
                why_over: None,
            }),
            version: watch::Sender::new(0),
        });
        let task = rt::spawn("streams routes", supervise(router.clone(), to_replace));
        Ok(Self {
            router,
            _task: task,
        })
    }

    /// Events of one key are read in the order in which they are written. Waits while the window of its segment is full.
    ///
    /// # Errors
    /// `Refused`: it is too long; `Sealed`: the stream is. What else has ended this writer.
    pub async fn write(&self, key: &str, data: Bytes) -> Result<Receipt, Error> {
        self.write_at(place_of(key), data).await
    }

    /// Somewhere.
    ///
    /// # Errors
    /// See [`Self::write`].
    pub async fn write_anywhere(&self, data: Bytes) -> Result<Receipt, Error> {
        self.write_at(fraction(rt::random_u64()), data).await
    }

    async fn write_at(&self, place: f64, data: Bytes) -> Result<Receipt, Error> {
        let (mut event, receipt) = pending(place, data)?;
        loop {
            let mut version = self.router.version.subscribe();
            let writer = self.router.writer_at(place)?;
            match writer.append_pending(event).await {
                Ok(()) => return Ok(receipt),
                Err((why, back)) if why.has_successors() => event = back,
                Err((why, _)) => return Err(why),
            }
            changed(&mut version).await;
        }
    }

    /// Waits until all is acknowledged that was written before.
    ///
    /// # Errors
    /// Why something may not be there.
    pub async fn flush(&self) -> Result<(), Error> {
        loop {
            let mut version = self.router.version.subscribe();
            let writers: Vec<_> = {
                let state = self.router.lock();
                if let Some(why) = &state.why_over {
                    return Err(why.clone());
                }
                state.writers.values().cloned().collect()
            };
            let mut has_moved = false;
            for writer in writers {
                match writer.flush().await {
                    Ok(()) => {}
                    Err(why) if why.has_successors() => has_moved = true,
                    Err(why) => return Err(why),
                }
            }
            if has_moved {
                changed(&mut version).await;
            } else if !version.has_changed().unwrap_or(false) {
                return Ok(());
            }
        }
    }
}

async fn changed(version: &mut watch::Receiver<u64>) {
    let changed = version.changed().await;
    changed.expect("its sender is the writer's");
}

/// Looks at one end after the other.
async fn supervise(router: Arc<Router>, mut ended: mpsc::Receiver<Ended>) {
    while let Some(over) = ended.recv().await {
        let replaced = if over.why.has_successors() {
            router.successors(over.segment.number).await
        } else {
            Err(over.why)
        };
        let old = router.replace(over.segment.number, over.unacknowledged, replaced);
        // Not while anything is locked: it ends tasks.
        drop(old);
    }
}

impl Router {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer_at(&self, place: f64) -> Result<Arc<SegmentWriter>, Error> {
        let mut state = self.lock();
        if let Some(why) = &state.why_over {
            return Err(why.clone());
        }
        let number = state.routes.at(place);
        Ok(self.writer(&mut state, number))
    }

    fn writer(&self, state: &mut State, number: SegmentNumber) -> Arc<SegmentWriter> {
        let writer = state.writers.entry(number).or_insert_with(|| {
            let segment = self.stream.segment(number);
            Arc::new(SegmentWriter::new(
                &self.client,
                segment,
                self.ended.clone(),
            ))
        });
        writer.clone()
    }

    /// # Errors
    /// `Sealed`: there are none.
    async fn successors(&self, of: SegmentNumber) -> Result<Vec<Successor>, Error> {
        let mut patience = self.client.patience();
        loop {
            match self.client.controller().successors(&self.stream, of).await {
                Ok(successors) if successors.is_empty() => {
                    return Err(Error::Sealed(self.stream.to_string()));
                }
                Ok(successors) => return Ok(successors),
                Err(why) => patience.wait(why).await?,
            }
        }
    }

    /// Returns what is not needed any more.
    fn replace(
        &self,
        sealed: SegmentNumber,
        mut unacknowledged: VecDeque<Pending>,
        successors: Result<Vec<Successor>, Error>,
    ) -> Option<Arc<SegmentWriter>> {
        let mut state = self.lock();
        let old = state.writers.remove(&sealed);
        unacknowledged.extend(state.waiting.remove(&sealed).into_iter().flatten());
        let replaced = successors.and_then(|it| state.routes.replace(sealed, &it));
        if let Err(why) = replaced {
            state.why_over = Some(why.clone());
            for event in unacknowledged {
                event.settle(Err(why.clone()));
            }
        } else {
            for event in unacknowledged {
                let number = state.routes.at(event.place);
                let writer = self.writer(&mut state, number);
                if let Err(event) = writer.push(event) {
                    state.waiting.entry(number).or_default().push_back(event);
                }
            }
        }
        drop(state);
        self.version.send_modify(|version| *version += 1);
        old
    }
}
