//! Kill -9 of clients, of the node and of the S3 behind it, while clients work; and what they were told is judged.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use geds::index::{Class, Precondition};
use geds::store::Terms;

use super::client::{self, Order, Place, Told, What};
use super::history::{self, Answer, Call, End, Rule};
use super::servers::Servers;
use super::{Found, GROUPS, Random, wait};
use crate::bench::Scratch;

const CLIENTS: u64 = 3;
const KILLS: usize = 7;
/// Something is told within this time, whatever was killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long it may take until nothing is left of what nobody names.
const EMPTY_WITHIN: Duration = Duration::from_secs(30);
/// After so many seeds everything is made anew.
const SEEDS_OF_STAGE: u64 = 16;

/// Memory is taken in such pieces, which may stay when nothing is in them.
const PIECE_BYTES: u64 = 16 << 20;
const PIECES: u64 = 4;
/// What a tenant has in memory, beside such pieces, when nothing has a name.
const EMPTY_BYTES: u64 = 8 << 10;

pub(in crate::prove) struct Stage {
    servers: Servers,
    /// Says where the node is.
    place: PathBuf,
    ends: Vec<End>,
    n_played: u64,
    scratch: Scratch,
}

/// What was told, by whom, in the order in which it came.
type Journal = Arc<(Mutex<Vec<(u64, Told)>>, Condvar)>;

/// A client in a process of its own. It ends with this.
struct Teller {
    child: Child,
    number: u64,
    listener: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Client(usize),
    Node,
    Back,
}

impl Stage {
    pub(in crate::prove) fn new() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let config = serde_json::json!({
            "memory": {"limit": "65Mi", "room_wait": "500ms"},
            "disk": {"limit": "12Mi", "segment": "2Mi"},
            "log": {"segment": "1Mi", "snapshot_after": "256Ki"},
        });
        let stage = Self {
            servers: Servers::start(&scratch.path, config)?,
            place: scratch.path.join("place.json"),
            ends: Vec::new(),
            n_played: 0,
            scratch,
        };
        stage.say_place()?;
        Ok(stage)
    }

    /// May it be used for the next seed?
    pub(in crate::prove) fn is_fresh(&self) -> bool {
        self.n_played < SEEDS_OF_STAGE
    }

    /// Plays the schedule of a seed; returns how often something was killed, and what is wrong.
    pub(in crate::prove) fn play(&mut self, seed: u64) -> anyhow::Result<Found> {
        self.n_played += 1;
        let first_era = self.ends.len();
        let journal = Journal::default();
        let killed = self.disturb(seed, &journal);
        // What was told is judged first: it says more than whatever came of it.
        let judged = self.judge(seed, &journal, first_era);
        let killed = match (killed, &judged) {
            (Ok(killed), _) => killed,
            (Err(error), Ok(_)) => return Err(error),
            (Err(error), Err(judged)) => bail!("{judged:#}; and {error:#}"),
        };
        let note = judged.as_ref().map_or_else(|_| String::new(), Clone::clone);
        let left = judged.and_then(|_| self.empty(seed));
        let problem = left.and_then(|()| {
            self.servers.back.check_log()?;
            self.servers.node.check_log()
        });
        Ok(Found {
            value: killed.len(),
            runs: 1,
            problem: problem.err().map(|error| format!("{error:#}; {killed:?}")),
            note: Some(format!(
                "{note}, {} connections to S3 spoiled",
                self.servers.proxy.n_spoiled()
            )),
        })
    }

    fn disturb(&mut self, seed: u64, journal: &Journal) -> anyhow::Result<Vec<Victim>> {
        let mut random = Random(seed);
        let percent = [0, 20, 60][usize::try_from(random.below(3))?];
        self.servers.proxy.spoil(seed, percent);
        let mut number = 0;
        let mut next = |stage: &Self, what| {
            number += 1;
            let order = Order {
                seed,
                number,
                what,
                place: stage.place.clone(),
                credentials: stage.servers.node.credentials.clone(),
            };
            Teller::start(&stage.scratch.path, &order, journal)
        };
        let mut tellers = Vec::new();
        for _ in 0..CLIENTS {
            tellers.push(next(self, What::Work)?);
        }
        let (mut killed, mut back_at, mut at) = (Vec::new(), None, 0);
        for _ in 0..KILLS {
            at += 10 + usize::try_from(random.below(80))?;
            until_told(journal, at)?;
            wait(Duration::from_micros(random.below(4_000)));
            let victim = match random.below(10) {
                0..3 => Victim::Client(usize::try_from(random.below(CLIENTS))?),
                3..7 => Victim::Node,
                _ => Victim::Back,
            };
            match victim {
                Victim::Client(n) => tellers[n] = next(self, What::Work)?,
                Victim::Node => self.restart_node()?,
                Victim::Back if back_at.is_none() => {
                    self.servers.kill_back()?;
                    back_at = Some(at + usize::try_from(random.below(120))?);
                }
                Victim::Back => continue,
            }
            killed.push(victim);
            if back_at.is_some_and(|back_at| back_at <= at) {
                self.servers.start_back()?;
                back_at = None;
            }
        }
        if back_at.is_some() {
            self.servers.start_back()?;
        }
        self.servers.proxy.spoil(seed, 0);
        until_told(journal, at + 60)?;
        for teller in tellers {
            teller.end()?;
        }
        next(self, What::Look)?.finish()?;
        if random.below(2) == 0 {
            self.restart_node()?;
            killed.push(Victim::Node);
            next(self, What::Look)?.finish()?;
        }
        Ok(killed)
    }

    fn restart_node(&mut self) -> anyhow::Result<()> {
        let node = &mut self.servers.node;
        node.kill()?;
        let at = client::now()?;
        node.start()?;
        let next = client::now()?;
        self.ends.push(End { at, next });
        self.say_place()
    }

    fn say_place(&self) -> anyhow::Result<()> {
        let ready = self.servers.node.ready()?;
        let place = Place {
            era: self.ends.len(),
            s3: ready.s3,
            node: ready.node,
        };
        let partial = self.place.with_extension("partial");
        fs::write(&partial, serde_json::to_vec(&place)?)?;
        Ok(fs::rename(&partial, &self.place)?)
    }

    /// Says what was told.
    fn judge(&self, seed: u64, journal: &Journal, first_era: usize) -> anyhow::Result<String> {
        let told = lock(&journal.0);
        let ends = &self.ends[first_era..];
        let (mut n_calls, mut n_unknown, mut n_gone) = (0, 0, 0);
        for group in 0..GROUPS {
            let calls = calls_of(&told, group, first_era);
            if let Err(problem) = history::check(&calls, ends, Rule::Promised) {
                let path = std::env::temp_dir().join(format!("cloudskin-prove-geds-{seed}.txt"));
                keep(&path, &calls, ends)?;
                bail!("group {group}: {problem}; see {}", path.display());
            }
            n_gone += usize::from(history::check(&calls, ends, Rule::Strict).is_err());
            n_calls += calls.len();
            let is_unknown = |call: &&Call| matches!(call.answer, Some(Answer::Unknown(_)) | None);
            n_unknown += calls.iter().filter(is_unknown).count();
        }
        Ok(format!(
            "{n_calls} calls, {n_unknown} of unknown outcome, in {n_gone} of {GROUPS} groups something was seen and gone"
        ))
    }

    /// Takes all names away. Then nothing is left of what they stood for.
    fn empty(&self, seed: u64) -> anyhow::Result<()> {
        let Servers { node, runtime, .. } = &self.servers;
        let client = runtime.block_on(node.client())?;
        let all = client::folder_of(&format!("s{seed}/"));
        runtime.block_on(client.delete_prefix(&all))?;
        until(EMPTY_WITHIN, || {
            let left = [
                "geds_names",
                "geds_objects",
                "geds_disk_objects",
                "geds__local_storage_used",
                "geds_s3_waiting_objects",
            ];
            for name in left {
                let left = node.metric(name)?;
                ensure!(left == 0, "{name} is {left} when nothing has a name");
            }
            let statistics = runtime.block_on(client.statistics())?;
            let memory = statistics.get("tenant_memory_bytes").copied();
            let memory = memory.context("it says so")? % PIECE_BYTES;
            ensure!(
                memory == EMPTY_BYTES,
                "{memory} bytes when nothing has a name"
            );
            // Every page is to be had.
            runtime.block_on(async {
                let bytes = vec![7; usize::try_from(PIECES * PIECE_BYTES)?];
                let name = client::name(seed, 0, 0);
                let terms = Terms::default();
                client
                    .put(&name, bytes.into(), Class::Ephemeral, terms)
                    .await?;
                Ok(client.delete(&name, Precondition::None).await?)
            })
        })
    }
}

/// Tries until it is well.
fn until(patience: Duration, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let began = rt::now();
    loop {
        match act() {
            Err(_) if began.elapsed() < patience => wait(Duration::from_millis(20)),
            result => return result,
        }
    }
}

impl Teller {
    fn start(dir: &Path, order: &Order, journal: &Journal) -> anyhow::Result<Self> {
        let path = dir.join(format!("order-{}-{}.json", order.seed, order.number));
        fs::write(&path, serde_json::to_vec(order)?)?;
        let mut child = Command::new(std::env::current_exe().context("find this program")?)
            .args(["prove", "--client"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a client")?;
        let (journal, number) = (Arc::clone(journal), order.number);
        let says = child.stdout.take().expect("it was piped");
        let listen = move || listen(says, number, &journal);
        let listener = rt::thread("client says".into(), 1 << 18, listen)?;
        Ok(Self {
            child,
            number,
            listener: Some(listener),
        })
    }

    /// Has it end after what it is at.
    fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.finish()
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let began = rt::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "client {} goes on", self.number);
            wait(Duration::from_millis(2));
        }
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "client {} has ended with {status}",
            self.number
        );
        Ok(())
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

fn listen(says: ChildStdout, number: u64, journal: &Journal) {
    // Of the last line there may be a part.
    for line in BufReader::new(says).lines().map_while(Result::ok) {
        let Ok(told) = serde_json::from_str(&line) else {
            return;
        };
        lock(&journal.0).push((number, told));
        journal.1.notify_all();
    }
}

/// Waits until so much was told.
fn until_told(journal: &Journal, n: usize) -> anyhow::Result<()> {
    let told = lock(&journal.0);
    let waited = journal
        .1
        .wait_timeout_while(told, PATIENCE, |told| told.len() < n);
    let (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
    ensure!(
        told.len() >= n,
        "nothing is told for {PATIENCE:?}: {:?}",
        told.last()
    );
    Ok(())
}

fn calls_of(told: &[(u64, Told)], of: u8, first_era: usize) -> Vec<Call> {
    let mut calls: Vec<(u64, u8, Call)> = Vec::new();
    for (number, told) in told {
        match told {
            Told::Asks {
                group,
                ask,
                era,
                at,
                ..
            } => {
                let call = Call {
                    ask: ask.clone(),
                    era: era - first_era,
                    from: *at,
                    to: *at,
                    answer: None,
                };
                calls.push((*number, *group, call));
            }
            Told::Answered { answer, at } => {
                let mut back = calls.iter_mut().rev();
                if let Some((_, _, call)) = back.find(|(by, ..)| by == number) {
                    (call.to, call.answer) = (*at, Some(answer.clone()));
                }
            }
        }
    }
    let calls = calls.into_iter().filter(|(_, group, _)| *group == of);
    calls.map(|(_, _, call)| call).collect()
}

fn keep(path: &Path, calls: &[Call], ends: &[End]) -> anyhow::Result<()> {
    let mut file = fs::File::create(path)?;
    for end in ends {
        writeln!(file, "{end:?}")?;
    }
    for call in calls {
        writeln!(file, "{call:?}")?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
