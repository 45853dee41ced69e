//! One connection of a client that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ids::Name as Tenant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::detached::Detached;
use super::door::{NEVER_CLOSED, Share, end_of};
use super::metrics::Counters;
use super::outbox::{Answers, Asked, Outbox, Room};
use super::writes::{Begin, Step, Writing};
use super::{Limits, changes, looks, moves, reads, site, watches, writes};
use crate::error::{Error, Kind, Result};
use crate::front::local::Local;
use crate::link::Incoming;
use crate::store::{Reader, Store, Writer};
use crate::wire::{HEADER_BYTES, Header, Op, Read, Request, Site, Watch, Write};

/// What a client may use, and what its requests need.
pub(super) struct Session {
    pub limits: Limits,
    pub store: Store,
    pub local: Option<Arc<Local>>,
    pub tenant: Tenant,
    /// It is a node of the site, and the tenant is none.
    pub is_peer: bool,
    pub share: Arc<Share>,
    pub detached: Arc<Detached<Writer>>,
    pub outbox: Outbox,
    pub stopped: watch::Receiver<bool>,
    pub counters: Counters,
}

/// What its requests share.
pub(super) struct Shared {
    pub session: Session,
    /// By the numbers that the client has given them.
    pub open: Mutex<BTreeMap<u32, Reader>>,
    /// The numbers of the requests that wait for changes.
    watching: Mutex<BTreeSet<u64>>,
    /// Of data to be sent.
    sent: Arc<Semaphore>,
}

impl Shared {
    /// It waits no more: there is room for another one before it is answered.
    pub(super) fn end_watch(&self, request: u64) {
        lock(&self.watching).remove(&request);
    }

    pub(super) fn opened(&self, open: u32) -> Result<Reader> {
        let found = lock(&self.open).get(&open).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("{open} is not open")))
    }

    /// # Errors
    /// `Invalid`; `Exhausted`.
    pub(super) fn keep(&self, number: u32, reader: Reader) -> Result<()> {
        let mut open = lock(&self.open);
        if open.contains_key(&number) {
            return Err(Error::new(Kind::Invalid, format!("{number} is open")));
        }
        check_room(open.len(), self.session.limits.objects, "open objects")?;
        open.insert(number, reader);
        Ok(())
    }

    /// Room for data that is to be sent, if there is some at once.
    pub(super) fn try_room(&self, n_bytes: u32) -> Option<Room> {
        let places = [&self.sent, &self.session.share.sent].map(Arc::clone);
        let [own, tenants] = places.map(|place| place.try_acquire_many_owned(n_bytes).ok());
        Some([own?, tenants?])
    }

    pub(super) async fn room(&self, n_bytes: u32) -> Room {
        room(&self.sent, &self.session.share.sent, n_bytes).await
    }
}

async fn room(own: &Arc<Semaphore>, tenants: &Arc<Semaphore>, n_bytes: u32) -> Room {
    let own = Arc::clone(own).acquire_many_owned(n_bytes).await;
    let tenants = Arc::clone(tenants).acquire_many_owned(n_bytes).await;
    [own.expect(NEVER_CLOSED), tenants.expect(NEVER_CLOSED)]
}

/// Makes a call that may wait for the disk, or for room.
pub(super) async fn blocking<T: Send + 'static>(
    calls: &Arc<Semaphore>,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let place = place(calls).await;
    // It goes on when nobody waits for it any more, and has its place until then.
    let called = rt::blocking(move || {
        let called = call();
        drop(place);
        called
    });
    let called = called.await;
    called.map_err(|error| Error::caused(Kind::Unavailable, "wait for the store", error))?
}

/// For a request that is not answered at once.
async fn place(requests: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let place = Arc::clone(requests).acquire_owned().await;
    place.expect(NEVER_CLOSED)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_room(n: usize, max: usize, what: &str) -> Result<()> {
    if n < max {
        Ok(())
    } else {
        let what = format!("a connection has at most {max} {what}");
        Err(Error::new(Kind::Exhausted, what))
    }
}

impl Session {
    /// Whether who asks is one who may ask that, and this node one that may answer.
    fn check_who(&self, request: &Request) -> Result<()> {
        let is_of_site = matches!(request, Request::Site(_) | Request::Read(Read::Hold { .. }));
        let is_of_both = matches!(
            request,
            Request::Read(Read::More { .. } | Read::Close { .. })
        );
        if is_of_both {
            return Ok(());
        }
        if is_of_site != self.is_peer {
            let what = match self.is_peer {
                true => "a node of the site asks for nothing else",
                false => "only nodes of the site ask that",
            };
            return Err(Error::new(Kind::Denied, what));
        }
        self.store.live()
    }

    /// Until the client ends it, does what the protocol does not know, or the server is stopped.
    pub(super) async fn converse(self, incoming: Incoming, answers: Answers) -> io::Result<()> {
        let limits = self.limits;
        let n_tasks = 2 * (limits.requests + limits.watches + limits.objects) + site::REQUESTS_MAX;
        let (over, ended) = mpsc::channel(n_tasks.max(1));
        let semaphore = |n_permits| Arc::new(Semaphore::new(n_permits));
        let conversation = Conversation {
            stopped: self.stopped.clone(),
            shared: Arc::new(Shared {
                session: self,
                open: Mutex::default(),
                watching: Mutex::default(),
                sent: semaphore(limits.connection_bytes),
            }),
            incoming,
            received: semaphore(limits.connection_bytes),
            requests: semaphore(limits.requests),
            of_site: semaphore(site::REQUESTS_MAX),
            commits: None,
            writers: BTreeMap::new(),
            watches: BTreeMap::new(),
            tasks: BTreeMap::new(),
            last_task: 0,
            over,
            ended,
        };
        let mut sending = std::pin::pin!(answers.send());
        tokio::select! {
            // It cannot be told anything any more.
            sent = sending.as_mut() => return sent,
            ended = conversation.listen() => ended?,
        }
        // What was asked is answered.
        timeout(limits.drain, sending).await?
    }
}

/// What is heard, and what comes of it.
struct Conversation {
    shared: Arc<Shared>,
    incoming: Incoming,
    stopped: watch::Receiver<bool>,
    /// Room for data that is received.
    received: Arc<Semaphore>,
    /// Those that are not answered at once.
    requests: Arc<Semaphore>,
    /// Those of a node of the site, some of which wait for what it says later.
    of_site: Arc<Semaphore>,
    /// The changes that a member of the site wants, once there was one.
    commits: Option<mpsc::Sender<site::Wanted>>,
    writers: BTreeMap<u32, Writing>,
    /// By the number of the request: their tasks.
    watches: BTreeMap<u64, u64>,
    /// They end with this.
    tasks: BTreeMap<u64, rt::Task>,
    last_task: u64,
    over: mpsc::Sender<u64>,
    ended: mpsc::Receiver<u64>,
}

/// Says that a task is over, however it ended.
struct Over(mpsc::Sender<u64>, u64);

impl Drop for Over {
    fn drop(&mut self) {
        // There is room for all.
        self.0.try_send(self.1).ok();
    }
}

impl Conversation {
    /// What was asked until then is still answered when this returns without an error.
    async fn listen(mut self) -> io::Result<()> {
        loop {
            let is_more = tokio::select! {
                is_more = self.incoming.wait() => is_more?,
                () = end_of(&mut self.stopped) => false,
            };
            if !is_more {
                break;
            }
            let patience = self.shared.session.limits.patience;
            let header = timeout(patience, self.incoming.header()).await??;
            let header = match Header::parse(&header) {
                Ok(header) if !header.is_reply => header,
                Ok(header) => {
                    let error = Error::new(Kind::Invalid, "a client asks, and does not answer");
                    let asked = self.shared.session.outbox.asked(header.request, header.op);
                    asked.answer(Err::<(), _>(error)).await;
                    break;
                }
                Err(error) => {
                    // Nothing that follows can be understood.
                    let asked = self.shared.session.outbox.asked(0, 0);
                    asked.answer(Err::<(), _>(error.into())).await;
                    break;
                }
            };
            self.hear(header).await?;
        }
        // Objects that are written are given up; what was asked otherwise is answered. Those who wait for changes know that the server is
        // stopped, if it is.
        self.writers.clear();
        self.commits = None;
        if !*self.stopped.borrow() {
            for task in self.watches.values() {
                self.tasks.remove(task);
            }
        }
        while !self.tasks.is_empty() {
            match self.ended.recv().await {
                Some(task) => self.tasks.remove(&task),
                None => break,
            };
        }
        Ok(())
    }

    async fn hear(&mut self, header: Header) -> io::Result<()> {
        let asked = self.shared.session.outbox.asked(header.request, header.op);
        let (n_body, n_data) = (header.body_bytes, header.data_bytes);
        let limits = self.shared.session.limits;
        let pace = u64::from(limits.bytes_per_second.max(1));
        let time = limits.patience + Duration::from_secs((n_body + n_data) as u64 / pace);
        let counters = &self.shared.session.counters;
        counters
            .requests
            .with_label_values(&[Op::name(header.op)])
            .inc();
        let n_bytes = HEADER_BYTES + n_body + n_data;
        counters.received_bytes.inc_by(n_bytes as u64);
        let body = timeout(time, self.incoming.bytes(n_body)).await??;
        let request = match Request::parse(header.op, &body) {
            Ok(request) => request,
            Err(error) => {
                timeout(time, self.incoming.skip(n_data)).await??;
                asked.answer(Err::<(), _>(error.into())).await;
                return Ok(());
            }
        };
        if let Err(error) = self.shared.session.check_who(&request) {
            timeout(time, self.incoming.skip(n_data)).await??;
            asked.answer(Err::<(), _>(error)).await;
            return Ok(());
        }
        match request {
            Request::Write(write) => {
                let n_bytes = u32::try_from(n_data).expect("it is bounded");
                let room = room(&self.received, &self.shared.session.share.received, n_bytes).await;
                let data = timeout(time, self.incoming.bytes(n_data)).await??;
                self.write(write, (data, room), asked).await;
            }
            other => {
                timeout(time, self.incoming.skip(n_data)).await??;
                self.carry_out(other, asked).await;
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, request: Request, asked: Asked) {
        let shared = Arc::clone(&self.shared);
        match request {
            Request::Look(look) if looks::is_elsewhere(&shared.session.store, &look) => {
                let place = place(&self.requests).await;
                self.spawn("geds look", async move {
                    looks::look(&shared.session, look, asked).await;
                    drop(place);
                });
            }
            Request::Look(look) => looks::look(&shared.session, look, asked).await,
            Request::Change(change) => {
                let place = place(&self.requests).await;
                self.spawn("geds change", async move {
                    changes::change(&shared.session, change, asked).await;
                    drop(place);
                });
            }
            Request::Read(Read::Close { open }) => {
                let closed = lock(&shared.open).remove(&open);
                let missing = || Error::new(Kind::NotFound, format!("{open} is not open"));
                let closed = closed.map(drop).ok_or_else(missing);
                asked.answer(closed).await;
            }
            Request::Read(read) => {
                let Some((read, asked)) = reads::read_at_once(&shared, read, asked).await else {
                    return;
                };
                let place = place(&self.requests).await;
                self.spawn("geds read", async move {
                    reads::read(&shared, read, asked).await;
                    drop(place);
                });
            }
            Request::Move(what) => {
                let place = place(&self.requests).await;
                self.spawn("geds move", async move {
                    moves::bring(&shared.session, what, asked).await;
                    drop(place);
                });
            }
            Request::Site(what) => self.site(what, asked).await,
            Request::Watch(watch) => self.watch(watch, asked).await,
            Request::Cancel(request) => {
                if let Some(task) = self.watches.remove(&request) {
                    self.tasks.remove(&task);
                    shared.end_watch(request);
                }
                asked.answer(Ok(())).await;
            }
            Request::Write(_) => unreachable!("it comes with data"),
        }
    }

    async fn site(&mut self, what: Site, asked: Asked) {
        let Ok(place) = Arc::clone(&self.of_site).try_acquire_owned() else {
            let what = "a node of the site asks for too much at once";
            let error = Error::new(Kind::Exhausted, what);
            return asked.answer(Err::<(), _>(error)).await;
        };
        let shared = Arc::clone(&self.shared);
        if !matches!(what, Site::Commit { .. }) {
            self.spawn("geds site", async move {
                site::site(&shared.session, what, asked).await;
                drop(place);
            });
            return;
        }
        if self.commits.is_none() {
            let (commits, queue) = mpsc::channel(site::REQUESTS_MAX);
            self.spawn("geds commits of a member", async move {
                site::commit(&shared.session, queue).await;
            });
            self.commits = Some(commits);
        }
        if let Some(commits) = &self.commits {
            // There is room for all that may be under way; if it has ended, they are answered by being dropped.
            commits.try_send((what, asked, place)).ok();
        }
    }

    async fn watch(&mut self, watch: Watch, asked: Asked) {
        let number = asked.request();
        if let Err(error) = self.begin_watch(number) {
            return asked.answer(Err::<(), _>(error)).await;
        }
        let shared = Arc::clone(&self.shared);
        let task = self.spawn("geds watch", async move {
            watches::watch(&shared, watch, asked).await;
        });
        self.watches.insert(number, task);
    }

    fn begin_watch(&self, number: u64) -> Result<()> {
        let mut watching = lock(&self.shared.watching);
        check_room(
            watching.len(),
            self.shared.session.limits.watches,
            "watches",
        )?;
        if watching.insert(number) {
            Ok(())
        } else {
            let what = "a request has a number of its own";
            Err(Error::new(Kind::Invalid, what))
        }
    }

    async fn write(&mut self, write: Write, data: (Bytes, Room), asked: Asked) {
        let number = write.writer();
        let step = match write {
            Write::Begin { writer, reserve } => {
                return self.begin(writer, Begin::New { reserve }, asked).await;
            }
            Write::Attach {
                writer,
                token,
                epoch,
            } => {
                let attach = Begin::Attach { token, epoch };
                return self.begin(writer, attach, asked).await;
            }
            Write::Abort { writer } => {
                if let Some(writing) = self.writers.remove(&writer) {
                    self.tasks.remove(&writing.task);
                }
                return asked.answer(Ok(())).await;
            }
            Write::Put { position, .. } => Step::Write { position, data },
            Write::Truncate { len, .. } => Step::Truncate(len),
            Write::Detach { .. } => Step::Detach,
            Write::Seal(seal) => Step::Seal(seal),
        };
        let is_last = matches!(step, Step::Seal(_));
        let place = place(&self.requests).await;
        let Some(writing) = self.writers.get(&number) else {
            let what = format!("{number} is not being written");
            return asked
                .answer(Err::<(), _>(Error::new(Kind::NotFound, what)))
                .await;
        };
        // It takes as many as there may be requests: only if it has ended there is no room, and then it is answered by being dropped.
        writing.steps.try_send((step, asked, place)).ok();
        if is_last {
            self.writers.remove(&number);
        }
    }

    async fn begin(&mut self, writer: u32, begin: Begin, asked: Asked) {
        let limits = self.shared.session.limits;
        let checked = check_room(
            self.writers.len(),
            limits.objects,
            "objects that are written",
        );
        let same = || Error::new(Kind::Invalid, format!("{writer} is being written"));
        let is_new = !self.writers.contains_key(&writer);
        if let Err(error) = checked.and_then(|()| is_new.then_some(()).ok_or_else(same)) {
            return asked.answer(Err::<(), _>(error)).await;
        }
        let place = place(&self.requests).await;
        let (steps, queue) = mpsc::channel(limits.requests);
        let shared = Arc::clone(&self.shared);
        let task = self.spawn("geds write", async move {
            writes::write(&shared.session, begin, (asked, place), queue).await;
        });
        self.writers.insert(writer, Writing { steps, task });
    }

    fn spawn(
        &mut self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> u64 {
        self.reap();
        self.last_task += 1;
        let task = self.last_task;
        let over = Over(self.over.clone(), task);
        let life = async move {
            future.await;
            drop(over);
        };
        self.tasks.insert(task, rt::spawn(name, life));
        task
    }

    /// Lets go the tasks that are over.
    fn reap(&mut self) {
        while let Ok(task) = self.ended.try_recv() {
            self.tasks.remove(&task);
        }
        let tasks = &self.tasks;
        self.watches.retain(|_, task| tasks.contains_key(task));
    }
}
