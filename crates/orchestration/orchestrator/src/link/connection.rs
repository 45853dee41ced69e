//! One connected site, as the rest of the controller sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ids::{Epoch, Generation, Name, UnitId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use workload::Offers;
use workload::link::Down;

use super::frames::{self, Frame};
use crate::core::places::SITE_UNITS_MAX;
use crate::{Error, ErrorKind};

/// Messages that wait for a site, beside its configuration and offers.
const QUEUE_MAX: usize = 64;
/// Requests for logs that wait for one site.
const LOG_REQUESTS_MAX: usize = 64;
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// The sites that are connected.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_site: Mutex<BTreeMap<Name, Arc<Connection>>>,
    last_request: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub site: Name,
    /// What the site has said that it has.
    generation: AtomicU64,
    /// What it had when it dialled was compared with what was made for it; before, it is told nothing that would take the place of it.
    is_compared: AtomicBool,
    /// A configuration that cannot be sent.
    too_large: AtomicU64,
    /// The newest configuration that it was sent, and where the writer finds it.
    config: watch::Sender<(Generation, Option<Frame>)>,
    queue: mpsc::Sender<Frame>,
    offers: Arc<News>,
    /// Who waits for a log; `None`: nobody does any more, for it is over.
    logs: Mutex<Option<BTreeMap<u64, oneshot::Sender<LogReply>>>>,
    pub end: Notify,
}

/// The offers of units for one site. They do not queue: of each unit the newest wait until the writer takes them, however many units change
/// at once.
#[derive(Debug, Default)]
pub(crate) struct News {
    units: Mutex<Told>,
    has_more: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// What it was last told, or will be, about each unit.
    told: BTreeMap<UnitId, (Epoch, Offers)>,
    /// The units whose news wait.
    waiting: BTreeSet<UnitId>,
}

type LogReply = Result<(u64, Vec<u8>), String>;

/// What the writer of a connection takes from.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub config: watch::Receiver<(Generation, Option<Frame>)>,
    pub queue: mpsc::Receiver<Frame>,
    pub offers: Arc<News>,
}

impl Connections {
    fn by_site(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Connection>>> {
        self.by_site.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.by_site().values().cloned().collect()
    }

    pub(crate) fn get(&self, site: &Name) -> Option<Arc<Connection>> {
        self.by_site().get(site).cloned()
    }

    /// Takes over from an earlier connection of the site.
    pub(crate) fn open(&self, site: &Name, generation: Generation) -> (Arc<Connection>, Outbox) {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let config = watch::Sender::new((Generation(0), None));
        let offers = Arc::new(News::default());
        let outbox = Outbox {
            config: config.subscribe(),
            queue: queued,
            offers: Arc::clone(&offers),
        };
        let connection = Arc::new(Connection {
            site: site.clone(),
            generation: AtomicU64::new(generation.0),
            is_compared: AtomicBool::new(false),
            too_large: AtomicU64::new(0),
            config,
            queue,
            offers,
            logs: Mutex::new(Some(BTreeMap::new())),
            end: Notify::new(),
        });
        let earlier = self.by_site().insert(site.clone(), Arc::clone(&connection));
        if let Some(earlier) = earlier {
            tracing::info!(%site, "a newer connection of the site takes over");
            earlier.end.notify_one();
        }
        (connection, outbox)
    }

    /// Whoever waits for it hears that it is over.
    pub(crate) fn close(&self, connection: &Arc<Connection>) {
        *connection.logs() = None;
        let mut by_site = self.by_site();
        if by_site
            .get(&connection.site)
            .is_some_and(|current| Arc::ptr_eq(current, connection))
        {
            by_site.remove(&connection.site);
        }
    }

    pub(crate) async fn read_log(
        &self,
        site: &Name,
        unit: &UnitId,
        offset: u64,
        max: usize,
    ) -> Result<(u64, Vec<u8>), Error> {
        let unavailable = |message: String| Error::new(ErrorKind::Unavailable, message);
        let connection = self.get(site);
        let connection = connection.ok_or_else(|| {
            unavailable(format!("site {site}, which has the log, is not connected"))
        })?;
        let lost = || unavailable(format!("the link to site {site} was lost"));
        let request = self.last_request.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        {
            let mut logs = connection.logs();
            let logs = logs.as_mut().ok_or_else(lost)?;
            // Those whose askers have left make room.
            logs.retain(|_, reply| !reply.is_closed());
            if logs.len() >= LOG_REQUESTS_MAX {
                let message = format!("{LOG_REQUESTS_MAX} requests for logs wait for site {site}");
                return Err(Error::new(ErrorKind::Exhausted, message));
            }
            logs.insert(request, reply);
        }
        let unit = unit.clone();
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        connection.send(&Down::ReadLog {
            request,
            unit,
            offset,
            max,
        });
        match tokio::time::timeout(LOG_TIMEOUT, answer).await {
            Ok(Ok(Ok(piece))) => Ok(piece),
            Ok(Ok(Err(message))) => Err(unavailable(format!("site {site}: {message}"))),
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(unavailable(format!("site {site} does not answer"))),
        }
    }
}

impl Connection {
    fn logs(&self) -> MutexGuard<'_, Option<BTreeMap<u64, oneshot::Sender<LogReply>>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Relaxed);
    }

    pub(crate) fn is_compared(&self) -> bool {
        self.is_compared.load(Ordering::Relaxed)
    }

    pub(crate) fn compared(&self) {
        self.is_compared.store(true, Ordering::Relaxed);
    }

    /// Whether it has, or is on the way to have, an older configuration.
    pub(crate) fn wants(&self, generation: Generation) -> bool {
        let has = Generation(self.generation.load(Ordering::Relaxed));
        let too_large = Generation(self.too_large.load(Ordering::Relaxed));
        generation > has.max(self.config.borrow().0) && generation != too_large
    }

    /// Says whether it can be sent. One that is too large is not tried again.
    pub(crate) fn configure(&self, generation: Generation, configure: &Down) -> bool {
        let frame = frames::encode(configure, &[]);
        let Some(frame) = frame else {
            tracing::error!(site = %self.site, %generation, "the configuration of the site is too large to be sent");
            self.too_large.store(generation.0, Ordering::Relaxed);
            return false;
        };
        self.config.send_replace((generation, Some(frame)));
        true
    }

    /// Queues a message. A site that lets its queue fill up is dropped.
    pub(crate) fn send(&self, message: &Down) {
        let sent = frames::encode(message, &[]).map(|frame| self.queue.try_send(frame));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!(site = %self.site, "the site does not take its messages; its connection is ended");
            self.end.notify_one();
        }
    }

    /// Lets it be told what the other parts of a unit offer, if it has been told something else.
    pub(crate) fn offer(&self, unit: &UnitId, epoch: Epoch, offers: Offers) {
        let mut units = self.offers.units();
        match units.told.get(unit) {
            None if offers.is_empty() => return,
            Some((before, same)) if *before == epoch && *same == offers => return,
            _ => {}
        }
        units.told.insert(unit.clone(), (epoch, offers));
        units.waiting.insert(unit.clone());
        drop(units);
        self.offers.has_more.notify_one();
    }

    /// Forgets units that it has no part of any more, if there are many.
    pub(crate) fn forget_offers(&self, has_part: impl Fn(&UnitId) -> bool) {
        let mut units = self.offers.units();
        if units.told.len() > 2 * SITE_UNITS_MAX {
            units.told.retain(|id, _| has_part(id));
            let Told { told, waiting } = &mut *units;
            waiting.retain(|id| told.contains_key(id));
        }
    }

    pub(crate) fn answer_log(&self, request: u64, reply: LogReply) {
        let asker = self.logs().as_mut().and_then(|logs| logs.remove(&request));
        if let Some(asker) = asker {
            // It may have left.
            asker.send(reply).ok();
        }
    }
}

impl News {
    fn units(&self) -> MutexGuard<'_, Told> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message about offers, when there is one. Cancel-safe: what it takes it gives at once.
    pub(crate) async fn next(&self) -> Down {
        loop {
            if let Some(message) = self.take() {
                return message;
            }
            self.has_more.notified().await;
        }
    }

    fn take(&self) -> Option<Down> {
        let mut units = self.units();
        let unit = units.waiting.pop_first()?;
        let (epoch, offers) = units.told.get(&unit)?.clone();
        Some(Down::Offers {
            unit,
            epoch,
            offers,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use workload::SiteConfig;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn configure(generation: u64) -> Down {
        let generation = Generation(generation);
        let units = Vec::new();
        let config = SiteConfig { generation, units };
        Down::Configure { config }
    }

    #[tokio::test]
    async fn a_site_that_does_not_read_is_dropped_and_configurations_do_not_queue() {
        let connections = Connections::default();
        let (connection, mut outbox) = connections.open(&name("edge"), Generation(3));
        assert!(!connection.wants(Generation(3)) && connection.wants(Generation(4)));
        for generation in 4..1000 {
            connection.configure(Generation(generation), &configure(generation));
        }
        assert!(!connection.wants(Generation(999)));
        // One that is too large takes the place of none.
        let reason = "x".repeat(workload::link::HEADER_BYTES_MAX);
        let long = Down::Refused { reason };
        assert!(!connection.configure(Generation(1000), &long));
        assert!(!connection.wants(Generation(1000)) && connection.wants(Generation(1001)));
        let newest = outbox.config.borrow_and_update().clone();
        assert_eq!(newest, (Generation(999), encoded(999)));
        for n in 0..QUEUE_MAX {
            connection.send(&configure(n as u64));
        }
        let is_ended = || futures_now(connection.end.notified());
        assert!(!is_ended());
        connection.send(&configure(0));
        assert!(is_ended());
    }

    fn encoded(generation: u64) -> Option<Frame> {
        frames::encode(&configure(generation), &[])
    }

    /// Whether a future is ready at once.
    fn futures_now(future: impl Future<Output = ()>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn the_newest_connection_stays_when_the_older_one_closes() {
        let connections = Connections::default();
        let (old, _outbox) = connections.open(&name("edge"), Generation(0));
        let (new, _outbox) = connections.open(&name("edge"), Generation(0));
        assert!(futures_now(old.end.notified()));
        connections.close(&old);
        let current = connections.get(&name("edge")).expect("it is there");
        assert!(Arc::ptr_eq(&current, &new));
        connections.close(&new);
        assert!(connections.get(&name("edge")).is_none());
    }

    #[tokio::test]
    async fn offers_are_told_once_and_the_newest() {
        let connections = Connections::default();
        let (connection, outbox) = connections.open(&name("edge"), Generation(0));
        let unit: UnitId = "acme/va/decode/0".parse().expect("a unit");
        let offers = |text: &str| Offers::from([(name("cloud"), text.to_owned())]);
        let told = |epoch, offers: &Offers| {
            connection.offer(&unit, Epoch(epoch), offers.clone());
            match outbox.offers.take() {
                Some(Down::Offers { offers: told, .. }) => told == *offers,
                _ => false,
            }
        };
        assert!(!told(1, &Offers::new()));
        assert!(told(1, &offers("a")));
        assert!(!told(1, &offers("a")));
        assert!(told(1, &offers("b")));
        assert!(told(2, &offers("b")));
        assert!(told(2, &Offers::new()));
        connection.offer(&unit, Epoch(3), offers("c"));
        assert!(told(3, &offers("d")));
        assert!(outbox.offers.take().is_none());
    }

    #[tokio::test]
    async fn offers_of_all_units_at_once_end_no_connection() {
        let connections = Connections::default();
        let (connection, outbox) = connections.open(&name("edge"), Generation(0));
        let unit = |n: usize| -> UnitId { format!("acme/va/decode/{n}").parse().expect("a unit") };
        let offers = Offers::from([(name("cloud"), "x".to_owned())]);
        for n in 0..2 * SITE_UNITS_MAX + 1 {
            connection.offer(&unit(n), Epoch(1), offers.clone());
        }
        assert!(!futures_now(connection.end.notified()));
        // Those that it has no part of any more do not add up.
        connection.forget_offers(|id| id.replica() < 100);
        let mut n_told = 0;
        while outbox.offers.take().is_some() {
            n_told += 1;
        }
        assert_eq!(n_told, 100);
        let next = outbox.offers.next();
        let later = async { connection.offer(&unit(7), Epoch(2), offers) };
        let (message, ()) = tokio::join!(next, later);
        assert!(matches!(
            message,
            Down::Offers {
                epoch: Epoch(2),
                ..
            }
        ));
    }

    #[tokio::test]
    async fn a_log_is_asked_of_a_site_that_is_there_and_answers() {
        let connections = Arc::new(Connections::default());
        let unit: UnitId = "acme/va/decode/0".parse().expect("a unit");
        let edge = name("edge");
        let error = connections.read_log(&edge, &unit, 0, 9).await;
        assert_eq!(error.expect_err("nobody").kind, ErrorKind::Unavailable);
        let (connection, mut outbox) = connections.open(&edge, Generation(0));
        let ask = connections.read_log(&edge, &unit, 7, 9);
        let answer = async {
            outbox.queue.recv().await.expect("a question");
            connection.answer_log(99, Ok((0, vec![])));
            connection.answer_log(0, Ok((7, b"text".to_vec())));
        };
        let (piece, ()) = tokio::join!(ask, answer);
        assert_eq!(piece.expect("answered"), (7, b"text".to_vec()));
        let ask = connections.read_log(&edge, &unit, 7, 9);
        let answer = async {
            outbox.queue.recv().await.expect("a question");
            connection.answer_log(1, Err("it is not here".to_owned()));
        };
        let (error, ()) = tokio::join!(ask, answer);
        assert!(error.expect_err("refused").message.contains("not here"));
        let ask = connections.read_log(&edge, &unit, 7, 9);
        let end = async {
            outbox.queue.recv().await.expect("a question");
            connections.close(&connection);
        };
        let (error, ()) = tokio::join!(ask, end);
        assert!(error.expect_err("lost").message.contains("was lost"));
    }
}
