//! What a container needs from time to time: that what is in its log goes to long-term storage, and checkpoints, so that the log can be truncated.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use wal::{DurableLog as _, Wal};

use crate::behind::Ahead;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::room::Room;
use crate::tiering::Tiering;

const PERIOD: Duration = Duration::from_millis(500);

/// Between two rounds that have put something: what is written meanwhile is put together.
const BREATH: Duration = Duration::from_millis(20);

/// Behind a failure, so long nothing is put.
const PAUSE: Duration = Duration::from_secs(5);

/// How much of the log may be taken before everything in it goes to long-term storage, however little: in percent.
const PRESSED: u64 = 50;

/// The tasks of one container. They end with it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    keeper: Arc<Mutex<Keeper>>,
    tiering: Arc<Mutex<Tiering>>,
    _tasks: [rt::Task; 3],
}

#[derive(Debug)]
struct Keeper {
    owner: Arc<Owner>,
    /// The logs share their files.
    wal: Arc<Wal>,
    checkpoints: Checkpoints,
    due_after: u64,
    segment_bytes: u64,
    /// Up to where the last one is.
    kept: Option<wal::Position>,
    /// Up to where the log has been truncated.
    truncated: Option<wal::Position>,
    room: Arc<Room>,
}

impl Upkeep {
    pub(crate) fn start(
        owner: &Arc<Owner>,
        (room, wal): (&Arc<Room>, &Arc<Wal>),
        checkpoints: Checkpoints,
        config: &Config,
        (tiering, ahead): (Tiering, Ahead),
    ) -> Self {
        let keeper = Arc::new(Mutex::new(Keeper {
            owner: Arc::clone(owner),
            wal: Arc::clone(wal),
            checkpoints,
            due_after: config.log.checkpoint_after.0,
            segment_bytes: config.log.segment.0,
            kept: None,
            truncated: None,
            room: Arc::clone(room),
        }));
        let tiering = Arc::new(Mutex::new(tiering));
        let keeping = keep(Arc::clone(&keeper));
        let putting = tier(Arc::clone(owner), Arc::clone(room), Arc::clone(&tiering));
        let fetching = Arc::clone(&owner.behind).fetch_ahead(ahead);
        let tasks = [
            rt::spawn("streams-checkpoints", keeping),
            rt::spawn("streams-tiering", putting),
            rt::spawn("streams-fetching", fetching),
        ];
        Self {
            keeper,
            tiering,
            _tasks: tasks,
        }
    }

    /// What was durable when this was called is in long-term storage, and the log is truncated.
    pub(crate) async fn flush(&self, room: &Room) -> Result<()> {
        room.measure();
        self.tiering.lock().await.put_all().await?;
        self.keeper.lock().await.checkpoint().await?;
        room.measure();
        Ok(())
    }

    /// The next start is to be fast.
    pub(crate) async fn close(&self) {
        let mut keeper = self.keeper.lock().await;
        if let Err(error) = keeper.checkpoint().await {
            let container = keeper.owner.number;
            tracing::warn!(container, %error, "no checkpoint is kept");
        }
    }
}

async fn keep(keeper: Arc<Mutex<Keeper>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut keeper = keeper.lock().await;
        if keeper.owner.has_ended() {
            return;
        }
        keeper.tick().await;
    }
}

/// Until the owner ends.
async fn tier(owner: Arc<Owner>, room: Arc<Room>, tiering: Arc<Mutex<Tiering>>) {
    let container = owner.number;
    let mut is_away = false;
    loop {
        let pressed = room.measure() >= PRESSED;
        let round = tiering.lock().await.round(pressed).await;
        if owner.has_ended() {
            return;
        }
        let pause = match round {
            Ok(has_put) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!(container, "long-term storage takes what it is given again");
                }
                if has_put { BREATH } else { PERIOD }
            }
            Err(Error::Fenced) => return owner.fence(),
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(container, %error, "nothing goes to long-term storage");
                }
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl Keeper {
    async fn tick(&mut self) {
        if !self.is_due() {
            return;
        }
        if let Err(error) = self.checkpoint().await {
            let container = self.owner.number;
            tracing::warn!(container, %error, "no checkpoint is kept");
        }
    }

    /// When a start would read much; and when the log is short of room, and would have more.
    fn is_due(&self) -> bool {
        let end = self.owner.log.end().0;
        let since = |position: Option<wal::Position>| position.map_or(0, |position| position.0);
        if end.saturating_sub(since(self.kept)) >= self.due_after {
            return true;
        }
        if self.room.measure() < PRESSED {
            return false;
        }
        let state = self.owner.lock();
        let needed = state.container.needs();
        let needed = needed.map_or(end, |needed| {
            state
                .container
                .position(needed)
                .map_or(0, |position| position.0)
        });
        needed.saturating_sub(since(self.truncated)) >= self.segment_bytes
    }

    /// Keeps one, and truncates the log.
    async fn checkpoint(&mut self) -> Result<()> {
        let owner = Arc::clone(&self.owner);
        let drawn = rt::blocking(move || {
            let mut state = owner.lock();
            let seq = state.container.proposed_to();
            let pieces: Vec<_> = state.container.checkpoint().collect();
            let needs = state.container.needs();
            // With the lock: its position is behind all that is in the checkpoint, and nothing else of this log.
            let barrier = owner.log.barrier();
            state.check()?;
            Ok::<_, Error>((seq, pieces, needs, barrier))
        });
        let (seq, mut pieces, needs, barrier) = drawn.await.map_err(Error::unavailable)??;
        let position = barrier.await.map_err(|error| Error::ended(&error))?;
        self.owner.durable(seq).await?;
        let needed = {
            let state = self.owner.lock();
            pieces.extend(state.container.positions(seq));
            needs.and_then(|needs| state.container.position(needs))
        };
        let checkpoints = self.checkpoints.clone();
        let epoch = self.wal.epoch();
        let kept =
            rt::blocking(move || checkpoints.keep((epoch, seq), position, pieces.into_iter()));
        kept.await.map_err(Error::unavailable)??;
        let before = needed.map_or(position, |needed| wal::Position(needed.0.min(position.0)));
        self.owner
            .lock()
            .container
            .truncated(streams_core::names::Position(before.0));
        let truncated = self.owner.log.truncate(before);
        truncated.map_err(|error| Error::ended(&error))?;
        self.kept = Some(position);
        self.truncated = Some(before);
        Ok(())
    }
}
