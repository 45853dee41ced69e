//! A disk in memory that keeps a history, and of which any crash that the history allows can be had.
//!
//! What survives a crash after some operation:
//!
//! - of a file, all that was written before its last completed sync; of what was written since, and of changes of its length since, any
//!   subset, where a write counts as many: one for each 512-byte sector. A sector may also be torn: it is new up to some byte, or from it on;
//! - of the directory, all that was done before its last completed sync, and any subset of what was done since. A rename is one thing.
//!
//! After a sync that failed, what it was about stays readable, and no later sync makes it durable: that is how the kernel does it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};
use crate::lock;

const SECTOR_BYTES: u64 = 512;

type Node = usize;

/// Shared by its clones. It is one directory of it; others have a history with it.
#[derive(Clone, Debug)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
    /// Before the names of its files.
    folder: Arc<str>,
}

#[derive(Clone, Debug)]
struct State {
    /// Before the first operation.
    first: Image,
    /// What is seen.
    now: Image,
    history: Vec<Op>,
    /// How many bytes the files may have together.
    room: u64,
    is_lying: bool,
}

#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, Node>,
    files: Vec<Vec<u8>>,
}

struct Hook(Box<dyn FnMut(Call) -> io::Result<()> + Send>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What a disk is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    List,
    Create,
    Open,
    Rename,
    Remove,
    SyncDirectory,
    Size,
    Read,
    Write,
    Allocate,
    SetLen,
    SyncFile,
    IsLinked,
}

#[derive(Clone, Debug)]
enum Op {
    Create {
        name: String,
        node: Node,
    },
    Rename {
        from: String,
        to: String,
        node: Node,
    },
    Remove {
        name: String,
        node: Node,
    },
    SyncDirectory {
        folder: Arc<str>,
        is_done: bool,
    },
    Write {
        node: Node,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        node: Node,
        bytes: u64,
    },
    SyncFile {
        node: Node,
        is_done: bool,
    },
}

/// What a crash makes of the things that it may lose.
#[derive(Clone, Debug)]
pub struct Choices(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Of each choice, the option and how many there are.
    Every {
        path: Vec<(usize, usize)>,
        at: usize,
    },
    Random {
        state: u64,
        kept_of_256: u64,
    },
}

/// What becomes of a write to a sector.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Lost,
    /// So many of its bytes are kept: the first ones, or the last.
    Begun(usize),
    Ended(usize),
}

impl Choices {
    /// The first of all; [`advance`](Self::advance) has the others. A torn sector is torn in its middle.
    #[must_use]
    pub fn every() -> Self {
        Self(Kind::Every {
            path: Vec::new(),
            at: 0,
        })
    }

    /// Some, the same for the same seed: sometimes nearly all is kept, sometimes nearly nothing.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut state = seed;
        let kept_of_256 = [8, 64, 128, 192, 248][usize::from(random_byte(&mut state) % 5)];
        Self(Kind::Random { state, kept_of_256 })
    }

    /// Of all that may be lost, what is left are parts of sectors.
    #[must_use]
    pub fn least(seed: u64) -> Self {
        Self(Kind::Random {
            state: seed,
            kept_of_256: 0,
        })
    }

    /// Becomes the next of every one, after a crash with this one. `false`: there are no more.
    pub fn advance(&mut self) -> bool {
        let Kind::Every { path, at } = &mut self.0 else {
            return true;
        };
        path.truncate(*at);
        *at = 0;
        while path
            .pop_if(|(option, n_options)| *option + 1 == *n_options)
            .is_some()
        {}
        if let Some((option, _)) = path.last_mut() {
            *option += 1;
        }
        !path.is_empty()
    }

    fn keep(&mut self) -> bool {
        self.choose(2) == 0
    }

    fn fate(&mut self, n_bytes: usize) -> Fate {
        let n_options = if n_bytes > 1 { 4 } else { 2 };
        let option = self.choose(n_options);
        let n_kept = match &mut self.0 {
            Kind::Every { .. } => n_bytes / 2,
            Kind::Random { state, .. } => {
                let bytes = [random_byte(state), random_byte(state)];
                usize::from(u16::from_le_bytes(bytes)) % n_bytes
            }
        };
        match option {
            0 => Fate::Kept,
            1 => Fate::Lost,
            2 => Fate::Begun(n_kept),
            _ => Fate::Ended(n_kept),
        }
    }

    /// One of so many, of which the first loses nothing.
    fn choose(&mut self, n_options: usize) -> usize {
        match &mut self.0 {
            Kind::Every { path, at } => {
                if *at == path.len() {
                    path.push((0, n_options));
                }
                *at += 1;
                path[*at - 1].0
            }
            Kind::Random { state, kept_of_256 } => {
                if u64::from(random_byte(state)) < *kept_of_256 {
                    return 0;
                }
                1 + usize::from(random_byte(state)) % (n_options - 1)
            }
        }
    }
}

/// Splitmix64.
fn random_byte(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()[0]
}

impl Default for CrashDisk {
    fn default() -> Self {
        Self::of(Image::default())
    }
}

impl CrashDisk {
    fn of(image: Image) -> Self {
        Self::with(State {
            first: image.clone(),
            now: image,
            history: Vec::new(),
            room: u64::MAX,
            is_lying: false,
        })
    }

    fn with(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            hook: Arc::default(),
            folder: Arc::default(),
        }
    }

    /// Another directory of the same disk. It is there, and outlasts any crash; what is in it is made durable by a sync of its own.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        Self {
            folder: format!("{name}/").into(),
            ..self.clone()
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// What every call begins with.
    fn ask(&self, call: Call) -> io::Result<()> {
        // It is not held meanwhile: the hook may use the disk, and is not asked about that.
        let hook = lock(&self.hook).take();
        let Some(mut hook) = hook else { return Ok(()) };
        let answer = hook.0(call);
        lock(&self.hook).get_or_insert(hook);
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many operations have been recorded.
    #[must_use]
    pub fn n_ops(&self) -> usize {
        self.state().history.len()
    }

    /// What a machine finds that crashed after `n_ops` operations.
    #[must_use]
    pub fn crash(&self, n_ops: usize, choices: &mut Choices) -> Self {
        let state = self.state();
        let history = &state.history[..n_ops];
        let names = crash_names(&state.first, history, choices);
        let mut image = Image::default();
        for (name, node) in names {
            let first = state.first.files.get(node).cloned().unwrap_or_default();
            let file = crash_file(first, node, history, choices);
            image.names.insert(name, image.files.len());
            image.files.push(file);
        }
        drop(state);
        Self::of(image)
    }

    /// What another process would see, on a disk of its own; the history goes on in both.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with(self.state().clone())
    }

    /// How many bytes the files may have together.
    pub fn set_room(&self, bytes: u64) {
        self.state().room = bytes;
    }

    /// From now on asks `hook` before each call, which may fail it, and do anything else meanwhile. A write that fails has done a half; a sync
    /// that fails has lost what it was about.
    pub fn hook(&self, hook: impl FnMut(Call) -> io::Result<()> + Send + 'static) {
        *lock(&self.hook) = Some(Hook(Box::new(hook)));
    }

    /// From now on syncs do nothing and say that all is well. With such a disk every test must fail.
    pub fn lie(&self) {
        self.state().is_lying = true;
    }

    /// Changes bits of a byte, without a trace in the history.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, bits: u8) {
        let mut state = self.state();
        let offset = usize::try_from(offset).expect("an offset");
        let node = state.now.names[&self.path(name)];
        state.now.files[node][offset] ^= bits;
        if let Some(file) = state.first.files.get_mut(node) {
            file[offset] ^= bits;
        }
    }
}

impl Op {
    /// Where it changes a name.
    fn folder(&self) -> Option<&str> {
        match self {
            Self::Create { name, .. } | Self::Remove { name, .. } => Some(folder_of(name)),
            Self::Rename { to, .. } => Some(folder_of(to)),
            _ => None,
        }
    }
}

/// With its slash.
fn folder_of(path: &str) -> &str {
    let end = path.rfind('/').map_or(0, |slash| slash + 1);
    &path[..end]
}

impl State {
    fn node(&self, name: &str) -> io::Result<Node> {
        let node = self.now.names.get(name).copied();
        node.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn push_sync(&mut self, sync: Op) {
        if !self.is_lying {
            self.history.push(sync);
        }
    }

    fn set_len(&mut self, node: Node, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        let linked = self.now.names.values().filter(|other| **other != node);
        let used: usize = linked.map(|other| self.now.files[*other].len()).sum();
        if len > self.now.files[node].len() && used as u64 + bytes > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.now.files[node].resize(len, 0);
        self.history.push(Op::SetLen { node, bytes });
        Ok(())
    }
}

fn crash_names(first: &Image, history: &[Op], choices: &mut Choices) -> BTreeMap<String, Node> {
    let folders: BTreeSet<_> = history.iter().filter_map(Op::folder).collect();
    let safe_in = |folder: &str| {
        safe(history, |op| match op {
            Op::SyncDirectory { folder: f, is_done } if **f == *folder => Some(*is_done),
            _ => None,
        })
    };
    let safe: BTreeMap<_, _> = folders
        .iter()
        .map(|folder| (*folder, safe_in(folder)))
        .collect();
    let mut names = first.names.clone();
    for (at, op) in history.iter().enumerate() {
        let is_safe = op.folder().is_some_and(|folder| safe[folder][at]);
        match op {
            Op::Create { name, node } if is_safe || choices.keep() => {
                names.insert(name.clone(), *node);
            }
            Op::Rename { from, to, node } if is_safe || choices.keep() => {
                names.retain(|name, other| name != from || other != node);
                names.insert(to.clone(), *node);
            }
            Op::Remove { name, node } if is_safe || choices.keep() => {
                names.retain(|other_name, other| other_name != name || other != node);
            }
            _ => {}
        }
    }
    names
}

fn crash_file(mut file: Vec<u8>, node: Node, history: &[Op], choices: &mut Choices) -> Vec<u8> {
    let safe = safe(history, |op| match op {
        Op::SyncFile { node: n, is_done } if *n == node => Some(*is_done),
        _ => None,
    });
    for (op, is_safe) in history.iter().zip(safe) {
        match op {
            Op::SetLen { node: n, bytes } if *n == node => {
                let len = usize::try_from(*bytes).expect("it was in memory");
                if file.len() != len && (is_safe || choices.keep()) {
                    file.resize(len, 0);
                }
            }
            Op::Write {
                node: n,
                offset,
                bytes,
            } if *n == node => {
                for (offset, bytes) in sectors(*offset, bytes) {
                    if file.get(offset..offset + bytes.len()) == Some(bytes) {
                        continue;
                    }
                    let fate = if is_safe {
                        Fate::Kept
                    } else {
                        choices.fate(bytes.len())
                    };
                    match fate {
                        Fate::Kept => put(&mut file, offset, bytes),
                        Fate::Lost => {}
                        Fate::Begun(n) => put(&mut file, offset, &bytes[..n]),
                        Fate::Ended(n) => {
                            let n_lost = bytes.len() - n;
                            put(&mut file, offset + n_lost, &bytes[n_lost..]);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    file
}

/// Which operations a crash cannot undo: those of which the first sync after them was done. `done` tells of a sync whether it was.
fn safe(history: &[Op], done: impl Fn(&Op) -> Option<bool>) -> Vec<bool> {
    let mut is_safe = false;
    let mut safe: Vec<_> = history
        .iter()
        .rev()
        .map(|op| {
            is_safe = done(op).unwrap_or(is_safe);
            is_safe
        })
        .collect();
    safe.reverse();
    safe
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn sectors(mut offset: u64, mut bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let n = SECTOR_BYTES - offset % SECTOR_BYTES;
        let n = usize::try_from(n).map_or(bytes.len(), |n| n.min(bytes.len()));
        let (piece, rest) = bytes.split_at(n);
        pieces.push((usize::try_from(offset).expect("an offset"), piece));
        offset += n as u64;
        bytes = rest;
    }
    pieces
}

impl Disk for CrashDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.ask(Call::List)?;
        // In an order that nobody expects, as directories do.
        let state = self.state();
        let here = state.now.names.keys().rev();
        let here = here.filter(|path| folder_of(path) == &*self.folder);
        Ok(here
            .map(|path| path[self.folder.len()..].to_owned())
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Call::Create)?;
        let name = self.path(name);
        let mut state = self.state();
        if state.now.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.now.files.len();
        state.now.files.push(Vec::new());
        state.now.names.insert(name.clone(), node);
        state.history.push(Op::Create { name, node });
        drop(state);
        let disk = self.clone();
        Ok(Arc::new(CrashFile { disk, node }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Call::Open)?;
        let node = self.state().node(&self.path(name))?;
        let disk = self.clone();
        Ok(Arc::new(CrashFile { disk, node }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ask(Call::Rename)?;
        let (from, to) = (self.path(from), self.path(to));
        let mut state = self.state();
        let node = state.node(&from)?;
        state.now.names.remove(&from);
        state.now.names.insert(to.clone(), node);
        state.history.push(Op::Rename { from, to, node });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(Call::Remove)?;
        let name = self.path(name);
        let mut state = self.state();
        let node = state.node(&name)?;
        state.now.names.remove(&name);
        state.history.push(Op::Remove { name, node });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let answer = self.ask(Call::SyncDirectory);
        let is_done = answer.is_ok();
        let folder = Arc::clone(&self.folder);
        self.state()
            .push_sync(Op::SyncDirectory { folder, is_done });
        answer
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    node: Node,
}

impl DiskFile for CrashFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.ask(Call::Size)?;
        Ok(self.disk.state().now.files[self.node].len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.ask(Call::Read)?;
        let state = self.disk.state();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let found = state.now.files[self.node].get(offset..offset.saturating_add(bytes.len()));
        let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let answer = self.disk.ask(Call::Write);
        let n_written = bytes.len() / if answer.is_ok() { 1 } else { 2 };
        let bytes = bytes[..n_written].to_vec();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let node = self.node;
        let mut state = self.disk.state();
        put(&mut state.now.files[node], start, &bytes);
        state.history.push(Op::Write {
            node,
            offset,
            bytes,
        });
        answer
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.ask(Call::Allocate)?;
        self.disk.state().set_len(self.node, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.ask(Call::SetLen)?;
        self.disk.state().set_len(self.node, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let answer = self.disk.ask(Call::SyncFile);
        let (node, is_done) = (self.node, answer.is_ok());
        self.disk.state().push_sync(Op::SyncFile { node, is_done });
        answer
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.disk.ask(Call::IsLinked)?;
        let state = self.disk.state();
        Ok(state.now.names.values().any(|node| *node == self.node))
    }
}
