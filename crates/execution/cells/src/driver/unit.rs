//! One unit at this site: what is wanted, what was last seen, and the thread that works on the difference.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ids::UnitId;
use rustix::process::Signal;
use workload::link::Sample;
use workload::{DriverError, MoveReport, Observed, Offers, Phase, RankAt};

use super::Config;
use super::home::{Home, Look};
use super::part::{self, Part};
use super::remote::Remote;
use super::samples::Sampler;
use crate::world::process;

/// How often it is looked at if nothing is asked: when all is calm, and while things change.
const CALM: Duration = Duration::from_millis(200);
const HOT: Duration = Duration::from_millis(5);
/// For so long after a wish, or a change, there may soon be another.
const HOT_FOR: Duration = Duration::from_secs(2);
/// How long a call to stop waits for the end, and how long processes may take to end when they are asked to.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
const TERM_PATIENCE: Duration = Duration::from_secs(1);
const RESTART_MIN: Duration = Duration::from_millis(250);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// Where a process writes that was started last, in the directory of its epoch.
pub(super) const STDERR: &str = "stderr";

#[derive(Debug)]
pub(super) struct Unit {
    pub id: UnitId,
    config: Arc<Config>,
    dir: PathBuf,
    shared: Mutex<Shared>,
    changed: Condvar,
    sampler: Mutex<Sampler>,
}

#[derive(Debug)]
struct Shared {
    part: Part,
    offers: Offers,
    /// It was asked for by the present process.
    is_wanted: bool,
    /// Something was asked since the last look.
    has_news: bool,
    is_gone: bool,
    has_looked: bool,
    /// When something was asked, or another phase was seen.
    changed_at: Instant,
    seen: Seen,
}

/// What a look at a unit has found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub phase: Phase,
    pub reason: String,
    pub offer: Option<String>,
    pub ranks: Vec<RankAt>,
    pub n_moves: u64,
    pub moves: Vec<MoveReport>,
    pub restarts: u32,
    pub exit_code: Option<i32>,
    pub log_bytes: u64,
    pub pids: Vec<u32>,
    /// Where its hosts of this site serve their metrics.
    pub metrics: Vec<SocketAddr>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            reason: String::new(),
            offer: None,
            ranks: Vec::new(),
            n_moves: 0,
            moves: Vec::new(),
            restarts: 0,
            exit_code: None,
            log_bytes: 0,
            pids: Vec::new(),
            metrics: Vec::new(),
        }
    }
}

impl Shared {
    fn until_next_look(&self) -> Duration {
        if self.changed_at.elapsed() < HOT_FOR {
            HOT
        } else {
            CALM
        }
    }
}

impl Seen {
    pub(super) fn say(&mut self, phase: Phase, reason: String) {
        (self.phase, self.reason) = (phase, reason);
    }
}

/// Processes that this one has started, waited for so that they leave nothing behind.
#[derive(Debug, Default)]
pub(super) struct Children(Option<Arc<AtomicBool>>);

impl Children {
    pub(super) fn add(&mut self, mut child: Child) -> io::Result<()> {
        let is_alive = Arc::new(AtomicBool::new(true));
        self.0 = Some(Arc::clone(&is_alive));
        rt::thread("child".into(), 1 << 18, move || {
            if let Err(error) = child.wait() {
                tracing::warn!(%error, "a child was not waited for");
            }
            is_alive.store(false, Ordering::SeqCst);
        })?;
        Ok(())
    }

    /// Whether the one that was started last runs.
    pub(super) fn any_alive(&self) -> bool {
        self.0.as_ref().is_some_and(|is| is.load(Ordering::SeqCst))
    }
}

/// When a process that has ended is started again: later each time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    n_starts: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    pub(super) fn is_over(&self) -> bool {
        self.not_before.is_none_or(|at| rt::now() >= at)
    }

    pub(super) fn started(&mut self) {
        let delay = RESTART_MIN
            .saturating_mul(1 << self.n_starts.min(10))
            .min(RESTART_MAX);
        (self.n_starts, self.not_before) = (self.n_starts + 1, Some(rt::now() + delay));
    }

    /// It runs well.
    pub(super) fn forget(&mut self) {
        self.n_starts = 0;
    }

    /// One that runs for so long runs well.
    pub(super) fn forget_after(&mut self, at_least: Duration) {
        if self.not_before.is_some_and(|at| at.elapsed() > at_least) {
            self.forget();
        }
    }

    /// Why a process has to be started again, by what it wrote last to its standard error; empty: for the first time, or it did not say.
    pub(super) fn why(&self, dir: &Path) -> String {
        match last_line(&dir.join(STDERR)) {
            line if self.n_starts > 0 && !line.is_empty() => format!("its process ended: {line}"),
            _ => String::new(),
        }
    }
}

/// What a process has said last.
fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.trim_end().rsplit('\n').next().unwrap_or_default();
    line.chars().take(400).collect()
}

/// Which part of the unit this is.
#[derive(Debug)]
enum Role {
    Home(Box<Home>),
    Remote(Box<Remote>),
}

impl Unit {
    /// Takes up what is in `dir`, which has `part`.
    pub(super) fn start(config: &Arc<Config>, dir: PathBuf, part: Part) -> io::Result<Arc<Self>> {
        let unit = Arc::new(Self {
            id: part.spec.id.clone(),
            config: Arc::clone(config),
            dir,
            shared: Mutex::new(Shared {
                part,
                offers: Offers::new(),
                is_wanted: false,
                has_news: true,
                is_gone: false,
                has_looked: false,
                changed_at: rt::now(),
                seen: Seen::default(),
            }),
            changed: Condvar::new(),
            sampler: Mutex::default(),
        });
        let kept = Arc::clone(&unit);
        rt::thread(format!("unit {}", unit.id), 1 << 20, move || kept.keep())?;
        Ok(unit)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_for_look(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(rt::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |shared| {
                !shared.has_looked && !shared.is_gone
            });
        drop(waited);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    pub(super) fn want(&self, wanted: Part, offers: &Offers) -> Result<(), DriverError> {
        let mut shared = self.lock();
        let known = &shared.part.spec;
        if wanted.spec.epoch < known.epoch {
            return Err(DriverError::Fenced {
                unit: self.id.clone(),
                asked: wanted.spec.epoch,
                known: known.epoch,
            });
        }
        if shared.part.is_stopping {
            return Err(DriverError::NotYet(format!("{} is being ended", self.id)));
        }
        if wanted.spec.epoch == known.epoch && wanted.spec.home != known.home {
            let problem = format!("the home of {} does not move within an epoch", self.id);
            return Err(DriverError::Invalid(problem));
        }
        if shared.part != wanted {
            wanted.save(&self.dir).map_err(|source| DriverError::Io {
                context: format!("note what is wanted of {}", self.id),
                source,
            })?;
            if shared.part.spec.epoch != wanted.spec.epoch {
                shared.seen = Seen::default();
            }
            shared.part = wanted;
            shared.has_news = true;
        }
        if shared.offers != *offers || !shared.is_wanted {
            shared.offers = offers.clone();
            (shared.is_wanted, shared.has_news) = (true, true);
        }
        drop(shared);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn stop(&self) -> Result<(), DriverError> {
        let mut shared = self.lock();
        if !shared.part.is_stopping && !shared.is_gone {
            let mut part = shared.part.clone();
            part.is_stopping = true;
            part.save(&self.dir).map_err(|source| DriverError::Io {
                context: format!("note that {} ends", self.id),
                source,
            })?;
            (shared.part, shared.has_news) = (part, true);
            self.changed.notify_all();
        }
        let waited = self
            .changed
            .wait_timeout_while(shared, STOP_PATIENCE, |shared| !shared.is_gone);
        let (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if shared.is_gone {
            return Ok(());
        }
        Err(DriverError::NotYet(format!("{} is being ended", self.id)))
    }

    pub(super) fn observed(&self) -> Observed {
        let shared = self.lock();
        let (spec, seen) = (&shared.part.spec, shared.seen.clone());
        Observed {
            id: self.id.clone(),
            epoch: spec.epoch,
            is_home: spec.home == self.config.site,
            phase: seen.phase,
            reason: seen.reason,
            offer: seen.offer,
            ranks: seen.ranks,
            n_moves: seen.n_moves,
            moves: seen.moves,
            restarts: seen.restarts,
            exit_code: seen.exit_code,
            log_bytes: seen.log_bytes,
        }
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.lock().seen.pids.clone()
    }

    pub(super) fn read_log(&self, offset: u64, max: usize) -> Result<(u64, Vec<u8>), DriverError> {
        let (epoch, home) = {
            let shared = self.lock();
            (shared.part.spec.epoch, shared.part.spec.home.clone())
        };
        if home != self.config.site {
            let problem = format!("{} is at home at {home}", self.id);
            return Err(DriverError::Invalid(problem));
        }
        let dir = part::epoch_dir(&self.dir, epoch);
        process::read_log(&dir, offset, max).map_err(|source| DriverError::Io {
            context: format!("read the log of {}", self.id),
            source,
        })
    }

    pub(super) fn sample(&self) -> Vec<Sample> {
        let (part, seen) = {
            let shared = self.lock();
            (shared.part.clone(), shared.seen.clone())
        };
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        sampler.sample(&part, &seen)
    }

    /// Looks at the unit again and again, until it is gone or somebody else looks after it.
    fn keep(&self) {
        let mut role = None;
        loop {
            let (part, offers, is_wanted) = self.wait_for_news();
            match self.is_mine(&part) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.note_problem(&error);
                    continue;
                }
            }
            if part.is_stopping {
                match self.end() {
                    Ok(()) => return,
                    Err(error) => self.note_problem(&error),
                }
                continue;
            }
            match self.look(&mut role, &part, &offers, is_wanted) {
                Ok(seen) => {
                    let mut shared = self.lock();
                    if shared.part.spec.epoch == part.spec.epoch {
                        if (shared.seen.phase, shared.seen.n_moves) != (seen.phase, seen.n_moves) {
                            shared.changed_at = rt::now();
                        }
                        (shared.seen, shared.has_looked) = (seen, true);
                    }
                    drop(shared);
                    self.changed.notify_all();
                }
                Err(error) => self.note_problem(&error),
            }
        }
    }

    fn wait_for_news(&self) -> (Part, Offers, bool) {
        let shared = self.lock();
        let at_most = shared.until_next_look();
        let waited = self
            .changed
            .wait_timeout_while(shared, at_most, |shared| !shared.has_news);
        let (mut shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if shared.has_news {
            shared.changed_at = rt::now();
        }
        shared.has_news = false;
        (shared.part.clone(), shared.offers.clone(), shared.is_wanted)
    }

    /// The file says in the end what is wanted: another process may have taken this one's place, or another part of this one.
    fn is_mine(&self, part: &Part) -> io::Result<bool> {
        let Some(on_disk) = Part::read(&self.dir)? else {
            return Ok(false);
        };
        if on_disk == *part {
            return Ok(true);
        }
        let shared = self.lock();
        Ok(shared.part == on_disk)
    }

    fn look(
        &self,
        role: &mut Option<(ids::Epoch, Role)>,
        part: &Part,
        offers: &Offers,
        may_act: bool,
    ) -> io::Result<Seen> {
        let epoch = part.spec.epoch;
        let others = part::other_epochs(&self.dir, epoch)?;
        if !others.is_empty() && !part::end(&others, Signal::KILL)? {
            return Ok(Seen::default());
        }
        let role = match role {
            Some((of, role)) if *of == epoch => role,
            _ => {
                let begun = if part.spec.home == self.config.site {
                    Role::Home(Box::default())
                } else {
                    Role::Remote(Box::default())
                };
                &mut role.insert((epoch, begun)).1
            }
        };
        let look = Look {
            config: &self.config,
            dir: &part::epoch_dir(&self.dir, epoch),
            part,
            offers,
            may_act,
        };
        match role {
            Role::Home(home) => home.tick(&look),
            Role::Remote(remote) => remote.tick(&look),
        }
    }

    /// Ends all processes and removes the directory.
    fn end(&self) -> io::Result<()> {
        let began = rt::now();
        let mut signal = Signal::TERM;
        while !part::end(&part::epoch_dirs(&self.dir)?, signal)? {
            signal = if began.elapsed() < TERM_PATIENCE {
                Signal::TERM
            } else {
                Signal::KILL
            };
            let waited = self
                .changed
                .wait_timeout(self.lock(), Duration::from_millis(20));
            drop(waited);
        }
        std::fs::remove_dir_all(&self.dir)?;
        let mut shared = self.lock();
        shared.is_gone = true;
        shared.seen = Seen::default();
        drop(shared);
        self.changed.notify_all();
        Ok(())
    }

    fn note_problem(&self, error: &io::Error) {
        tracing::warn!(unit = %self.id, %error, "a unit cannot be looked after");
        self.lock().seen.reason = error.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_again_later_each_time() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_over(), "the first time is now");
        let check = |backoff: &mut Backoff, wanted_ms| {
            let wanted = Duration::from_millis(wanted_ms);
            let before = rt::now();
            backoff.started();
            let at = backoff.not_before.expect("it was started");
            assert!(before + wanted <= at && at <= rt::now() + wanted);
            assert!(!backoff.is_over());
        };
        for wanted_ms in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            check(&mut backoff, wanted_ms);
        }
        // A wait that has not ended is no time in which it ran.
        backoff.forget_after(Duration::ZERO);
        check(&mut backoff, 10_000);
        backoff.n_starts = u32::MAX - 1;
        check(&mut backoff, 10_000);
        backoff.forget();
        check(&mut backoff, 250);
    }

    #[test]
    fn the_last_line_of_a_process_says_why_it_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut backoff = Backoff::default();
        let stderr = dir.path().join(STDERR);
        std::fs::write(&stderr, "of an earlier one\n").expect("written");
        assert_eq!(backoff.why(dir.path()), "", "none has been started");
        backoff.started();
        for (text, wanted) in [
            ("one\nthe last\n\n", "its process ended: the last"),
            ("\n", ""),
        ] {
            std::fs::write(&stderr, text).expect("written");
            assert_eq!(backoff.why(dir.path()), wanted);
        }
        std::fs::write(&stderr, "x".repeat(5000)).expect("written");
        assert!(backoff.why(dir.path()).len() < 500);
        std::fs::remove_file(&stderr).expect("it was there");
        assert_eq!(backoff.why(dir.path()), "");
    }
}
