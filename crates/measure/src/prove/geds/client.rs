//! A client in a process of its own, which may be killed: it asks a node, by each of its faces, what a seed says, and tells what it asks before it does
//! and what it was answered after that, a line each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use geds::client::{Client as NodeClient, Credentials, Error, Kind, Local};
use geds::index::{
    BucketName, Class, Etag, Folder as NodeFolder, Item, Key as NodeKey, Name, Precondition, Prefix,
};
use geds::store::Terms;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::history::{Answer, Ask, KEYS_OF_FOLDER, Key, Version, When};
use super::s3::{self, S3};
use super::{BUCKET, GROUPS, Random, content, wait};

/// Longer nobody waits for an answer.
const ANSWER_TIME: Duration = Duration::from_millis(1500);
/// What S3 says of an object that finds no room in memory or on the disk: then nothing was changed.
const NO_ROOM: &str = "there is no room";
/// Between two looks where the node is.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// A look at everything goes on so long until all is readable.
const READABLE_WITHIN: Duration = Duration::from_secs(40);

/// What a client is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub seed: u64,
    /// Of clients of this seed, each has another one.
    pub number: u64,
    pub what: What,
    /// Says where the node is: see [`Place`].
    pub place: PathBuf,
    pub credentials: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// Until its standard input ends.
    Work,
    /// Everything once, by each face.
    Look,
}

/// Where the node is, and which incarnation of it that is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub era: usize,
    pub s3: SocketAddr,
    pub node: SocketAddr,
}

impl Place {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

/// What a client tells. Times are those of [`now`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Asks {
        group: u8,
        ask: Ask,
        face: Face,
        era: usize,
        at: u64,
    },
    Answered {
        answer: Answer,
        at: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Face {
    Node,
    /// The same, in parts.
    Parts,
    /// In the memory of the node.
    Local,
    S3,
}

const FACES: [Face; 4] = [Face::Node, Face::Parts, Face::Local, Face::S3];

struct Client {
    order: Order,
    random: Random,
    runtime: Runtime,
    credentials: Credentials,
    keys: store::Credentials,
    connected: Option<Connected>,
    n_written: u64,
    /// What a name stood for when this client has seen it last.
    known: BTreeMap<(u8, Key), (Version, String)>,
}

struct Connected {
    place: Place,
    node: NodeClient,
    local: Local,
    s3: S3,
}

/// `cloudskin prove --client ORDER`.
pub(in crate::prove) fn run(order: &Path) -> anyhow::Result<ExitCode> {
    let order: Order = serde_json::from_slice(&fs::read(order)?)?;
    let text = fs::read_to_string(&order.credentials).context("read the credentials")?;
    let mut client = Client {
        random: Random((order.seed << 16) ^ order.number),
        runtime: rt::runtime()?,
        credentials: Credentials::parse(&text)?,
        keys: store::Credentials::parse(&text)?,
        connected: None,
        n_written: 0,
        known: BTreeMap::new(),
        order,
    };
    let is_over = Arc::<AtomicBool>::default();
    let over = Arc::clone(&is_over);
    rt::thread("until the end".into(), 1 << 16, move || {
        // Whatever comes, it is over then.
        std::io::stdin().read_exact(&mut [0]).ok();
        over.store(true, Ordering::SeqCst);
    })?;
    match client.order.what {
        What::Work => {
            while !is_over.load(Ordering::SeqCst) {
                client.step(&is_over)?;
            }
        }
        What::Look => client.look(&is_over)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Client {
    fn step(&mut self, is_over: &AtomicBool) -> anyhow::Result<()> {
        let group = u8::try_from(self.random.below(GROUPS.into()))?;
        let (ask, face, len) = self.pick(group);
        self.call(group, ask, (face, len), is_over)?;
        Ok(())
    }

    fn pick(&mut self, group: u8) -> (Ask, Face, usize) {
        let random = &mut self.random;
        let key = random_key(random);
        let mut when = match random.below(10) {
            0..6 => When::Always,
            6..8 => When::Absent,
            _ => {
                let known = self.known.get(&(group, key));
                known.map_or(When::Always, |(version, _)| When::Is(*version))
            }
        };
        let face = FACES[usize::try_from(random.below(4)).expect("few")];
        let other =
            (key + 1 + random_key(random) % (2 * KEYS_OF_FOLDER - 1)) % (2 * KEYS_OF_FOLDER);
        let folder = key / KEYS_OF_FOLDER;
        let ask = match random.below(100) {
            0..36 => {
                let is_durable = face != Face::Local && random.below(3) > 0;
                self.n_written += 1;
                let version = (self.order.number << 32) + self.n_written;
                Ask::Seal {
                    key,
                    version,
                    is_durable,
                    when,
                }
            }
            36..68 => Ask::Read(key),
            68..73 => Ask::Delete(key),
            73..75 => Ask::DeleteFolder(folder),
            75..81 => Ask::Rename {
                from: other,
                to: key,
                when,
            },
            81..87 => Ask::Copy {
                from: other,
                to: key,
                when,
            },
            87..90 => {
                if let When::Is(_) = when {
                    when = When::Absent;
                }
                Ask::RenameFolder {
                    from: folder,
                    to: 1 - folder,
                    when,
                }
            }
            90..95 => Ask::Keep(key),
            _ => Ask::List,
        };
        let len = match random.below(20) {
            0..6 => random.below(200),
            6..11 => 200 + random.below(6_000),
            11..15 => 6_000 + random.below(64_000),
            15..18 => 70_000 + random.below(500_000),
            _ => 1_000_000 + random.below(2_000_000),
        };
        (ask, face, usize::try_from(len).expect("it is short"))
    }

    /// Reads all names and lists until nothing is unknown, by each face.
    fn look(&mut self, is_over: &AtomicBool) -> anyhow::Result<()> {
        let began = rt::now();
        for group in 0..GROUPS {
            for face in FACES {
                let keys = (0..2 * KEYS_OF_FOLDER).map(Ask::Read);
                for ask in keys.chain([Ask::List]) {
                    loop {
                        let answer = self.call(group, ask.clone(), (face, 0), is_over)?;
                        let is_known = !matches!(
                            answer,
                            Answer::Unknown(_) | Answer::NotAsked | Answer::NoRoom
                        );
                        if is_known || is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        anyhow::ensure!(
                            began.elapsed() < READABLE_WITHIN,
                            "{ask:?} by {face:?} in group {group}: {answer:?} for {READABLE_WITHIN:?}"
                        );
                        wait(LOOK_AGAIN);
                    }
                }
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        group: u8,
        ask: Ask,
        (face, len): (Face, usize),
        is_over: &AtomicBool,
    ) -> anyhow::Result<Answer> {
        let Some(connected) = self.connect(is_over) else {
            return Ok(Answer::NotAsked);
        };
        let era = connected.place.era;
        let at = now()?;
        let asks = Told::Asks {
            group,
            ask: ask.clone(),
            face,
            era,
            at,
        };
        tell(&asks)?;
        let answer = self.ask(&connected, group, &ask, (face, len));
        tell(&Told::Answered {
            answer: answer.clone(),
            at: now()?,
        })?;
        if !matches!(answer, Answer::Unknown(_) | Answer::NotAsked) {
            self.connected = Some(connected);
        }
        Ok(answer)
    }

    /// A connection to the node that is there. `None`: it is over.
    fn connect(&mut self, is_over: &AtomicBool) -> Option<Connected> {
        if let Some(connected) = self.connected.take() {
            return Some(connected);
        }
        while !is_over.load(Ordering::SeqCst) {
            // It may just be starting again.
            if let Ok(connected) = self.try_to_connect() {
                return Some(connected);
            }
            wait(LOOK_AGAIN);
        }
        None
    }

    fn try_to_connect(&self) -> anyhow::Result<Connected> {
        let place = Place::read(&self.order.place)?;
        self.runtime.block_on(async {
            let node = NodeClient::connect(place.node, &self.credentials, None).await?;
            let local = node.attach().await?;
            let s3 = S3::new(place.s3, self.keys.clone());
            Ok(Connected {
                place,
                node,
                local,
                s3,
            })
        })
    }

    fn ask(&mut self, to: &Connected, group: u8, ask: &Ask, (face, len): (Face, usize)) -> Answer {
        let (seed, known) = (self.order.seed, &self.known);
        let asked = match (face, ask) {
            (Face::S3, Ask::Seal { .. } | Ask::Read(_) | Ask::Delete(_) | Ask::List) => {
                let by_s3 = ByS3 {
                    to: &to.s3,
                    seed,
                    group,
                    known,
                };
                by_s3.ask(ask, len)
            }
            (Face::Local, Ask::Read(key)) => match to.local.open(&name(seed, group, *key)) {
                Ok(Some(object)) => in_place(seed, &object),
                Ok(None) => self.by_node(to, group, ask, (face, len)),
                Err(error) => refused(&error),
            },
            _ => self.by_node(to, group, ask, (face, len)),
        };
        match (ask, asked) {
            (Ask::Seal { key, version, .. }, (answer, Some(etag))) => {
                self.known.insert((group, *key), (*version, etag));
                answer
            }
            (Ask::Read(key), (Answer::Found(version), Some(etag))) => {
                self.known.insert((group, *key), (version, etag));
                Answer::Found(version)
            }
            (_, (answer, _)) => answer,
        }
    }

    fn by_node(&self, to: &Connected, group: u8, ask: &Ask, how: (Face, usize)) -> Answered {
        let by_node = ByNode {
            to,
            seed: self.order.seed,
            group,
            known: &self.known,
        };
        self.runtime.block_on(async {
            let asked = tokio::time::timeout(ANSWER_TIME, by_node.ask(ask, how));
            match asked.await {
                Ok(Ok(answered)) => answered,
                Ok(Err(error)) => refused(&error),
                Err(_) => (
                    Answer::Unknown(format!("nothing for {ANSWER_TIME:?}")),
                    None,
                ),
            }
        })
    }
}

/// An answer, and the etag of what was written or found.
type Answered = (Answer, Option<String>);

struct ByNode<'a> {
    to: &'a Connected,
    seed: u64,
    group: u8,
    known: &'a BTreeMap<(u8, Key), (Version, String)>,
}

impl ByNode<'_> {
    async fn ask(&self, ask: &Ask, (face, len): (Face, usize)) -> geds::client::Result<Answered> {
        let node = &self.to.node;
        let name = |key: Key| name(self.seed, self.group, key);
        let folder = |folder: u8| folder_of(&format!("{}f{folder}/", home(self.seed, self.group)));
        match *ask {
            Ask::Seal {
                key,
                version,
                is_durable,
                when,
            } => {
                let bytes = content::make(self.seed, version, len);
                let sealed = self
                    .seal(key, bytes, (face, is_durable), self.when(key, when))
                    .await?;
                return Ok((Answer::Done, Some(sealed)));
            }
            Ask::Read(key) => return self.read(&name(key), face).await,
            Ask::Delete(key) => node.delete(&name(key), Precondition::None).await?,
            Ask::DeleteFolder(of) => node.delete_prefix(&folder(of)).await?,
            Ask::Rename { from, to, when } => {
                node.rename([&name(from), &name(to)], self.when(to, when))
                    .await?;
            }
            Ask::Copy { from, to, when } => {
                node.copy([&name(from), &name(to)], None, self.when(to, when))
                    .await?;
            }
            Ask::RenameFolder { from, to, when } => {
                node.rename_prefix([&folder(from), &folder(to)], self.when(0, when))
                    .await?;
            }
            Ask::Keep(key) if face == Face::Node => node.relocate(&name(key)).await?,
            Ask::Keep(key) => node.persist(&name(key)).await?,
            Ask::List => {
                let home = home(self.seed, self.group);
                let (page, _) = node.list(&folder_of(&home), "", 1_000, None).await?;
                let keys = page.items.iter().map(|item| match item {
                    Item::Object(key, _) => key_of(key.as_str().strip_prefix(&home)?),
                    Item::Folder(_) => None,
                });
                return Ok((listed(keys), None));
            }
        }
        Ok((Answer::Done, None))
    }

    fn when(&self, key: Key, when: When) -> Precondition {
        match when {
            When::Always => Precondition::None,
            When::Absent => Precondition::Absent,
            When::Is(version) => {
                let known = self.known.get(&(self.group, key));
                let known = known.filter(|(known, _)| *known == version);
                let etag = known.map_or("none", |(_, etag)| etag);
                Precondition::Etag(Etag::new(etag).expect("a node has said it"))
            }
        }
    }

    /// Tells the etag.
    async fn seal(
        &self,
        key: Key,
        bytes: Vec<u8>,
        (face, is_durable): (Face, bool),
        when: Precondition,
    ) -> geds::client::Result<String> {
        let name = name(self.seed, self.group, key);
        let terms = Terms {
            when,
            ..Terms::default()
        };
        let class = if is_durable {
            Class::Durable
        } else {
            Class::Ephemeral
        };
        let Connected { node, local, .. } = self.to;
        let is_local = face == Face::Local && bytes.len() as u64 <= local.object_bytes_max();
        let sealed = if is_local {
            local.put(&name, bytes.into(), terms).await?
        } else if face == Face::Parts {
            // Out of order, and without saying how long it will be.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let mut writer = node.writer(0).await?;
            writer
                .write_at(first.len() as u64, second.to_vec().into())
                .await?;
            writer.write_at(0, first.to_vec().into()).await?;
            writer.seal(&name, class, terms).await?
        } else {
            node.put(&name, bytes.into(), class, terms).await?
        };
        Ok(sealed.entry.sealed.etag.to_string())
    }

    async fn read(&self, name: &Name, face: Face) -> geds::client::Result<Answered> {
        let node = &self.to.node;
        if face != Face::Parts {
            let (entry, bytes) = node.get(name, 1 << 30).await?;
            return Ok(whole(
                self.seed,
                &bytes,
                Some(entry.sealed.etag.to_string()),
            ));
        }
        let object = node.open(name, Precondition::None).await?;
        let head = object.read(0..content::HEAD_BYTES as u64).await?;
        let part = |version, len: usize| async move {
            let start = len / 3;
            let bytes = object.read(start as u64..len as u64).await?;
            let checked = content::check_part(self.seed, (version, len), start, &bytes);
            let checked = checked.and_then(|()| match start + bytes.len() == len {
                true => Ok(()),
                false => Err("it is cut".to_owned()),
            });
            let etag = object.entry().sealed.etag.to_string();
            Ok((
                checked.map_or_else(Answer::Wrong, |()| Answer::Found(version)),
                Some(etag),
            ))
        };
        match content::read_head(self.seed, &head) {
            Ok((version, len)) => part(version, len).await,
            Err(what) => Ok((Answer::Wrong(what), None)),
        }
    }
}

struct ByS3<'a> {
    to: &'a S3,
    seed: u64,
    group: u8,
    known: &'a BTreeMap<(u8, Key), (Version, String)>,
}

impl ByS3<'_> {
    fn ask(&self, ask: &Ask, len: usize) -> Answered {
        let path = |key: Key| format!("/{BUCKET}/{}", path(self.seed, self.group, key));
        let (method, target, body) = match ask {
            Ask::Seal { key, version, .. } => {
                ("PUT", path(*key), content::make(self.seed, *version, len))
            }
            Ask::Read(key) => ("GET", path(*key), Vec::new()),
            Ask::Delete(key) => ("DELETE", path(*key), Vec::new()),
            _ => {
                let prefix = home(self.seed, self.group).replace('/', "%2F");
                (
                    "GET",
                    format!("/{BUCKET}?list-type=2&prefix={prefix}"),
                    Vec::new(),
                )
            }
        };
        let etag;
        let mut headers = Vec::new();
        if let Ask::Seal {
            key,
            is_durable,
            when,
            ..
        } = ask
        {
            match when {
                When::Always => {}
                When::Absent => headers.push(("if-none-match", "*")),
                When::Is(version) => {
                    let known = self.known.get(&(self.group, *key));
                    let known = known.filter(|(known, _)| known == version);
                    etag = format!("\"{}\"", known.map_or("none", |(_, etag)| etag));
                    headers.push(("if-match", &etag));
                }
            }
            if !is_durable {
                headers.push(("x-cloudskin-acknowledgement", "ephemeral"));
            }
        }
        match self.to.send(method, &target, &headers, &body) {
            Ok(response) => self.understand(ask, response),
            Err(s3::Failure::NotSent) => (Answer::NotAsked, None),
            Err(s3::Failure::Cut(what)) => (Answer::Unknown(what), None),
        }
    }

    fn understand(&self, ask: &Ask, response: s3::Response) -> Answered {
        let etag = response.etag;
        match (response.status, ask) {
            (200, Ask::Read(_)) => whole(self.seed, &response.body, etag),
            (200, Ask::List) => {
                let home = home(self.seed, self.group);
                let text = String::from_utf8_lossy(&response.body);
                let keys = text.split("<Key>").skip(1).map(|rest| {
                    let (key, _) = rest.split_once("</Key>")?;
                    key_of(key.strip_prefix(&home)?)
                });
                (listed(keys), None)
            }
            (200 | 204, _) => (Answer::Done, etag),
            (404, _) => (Answer::Nothing, None),
            (410, _) => (Answer::Lost, None),
            (412, _) => (Answer::Conflict, None),
            (500.., _) => {
                let text = String::from_utf8_lossy(&response.body);
                if text.contains(NO_ROOM) {
                    return (Answer::NoRoom, None);
                }
                (
                    Answer::Unknown(format!("{}: {text}", response.status)),
                    None,
                )
            }
            (status, _) => {
                let text = String::from_utf8_lossy(&response.body);
                (Answer::Wrong(format!("{status}: {text}")), None)
            }
        }
    }
}

fn in_place(seed: u64, object: &geds::client::InPlace) -> Answered {
    let bytes: Vec<u8> = object.views().flat_map(|view| view.to_vec()).collect();
    match object.entry() {
        Ok(entry) => whole(seed, &bytes, Some(entry.sealed.etag.to_string())),
        Err(error) => refused(&error),
    }
}

fn whole(seed: u64, bytes: &[u8], etag: Option<String>) -> Answered {
    match content::read(seed, bytes) {
        Ok(version) => (Answer::Found(version), etag),
        Err(what) => (Answer::Wrong(what), None),
    }
}

fn listed(keys: impl Iterator<Item = Option<Key>>) -> Answer {
    match keys.collect() {
        Some(keys) => Answer::Names(keys),
        None => Answer::Wrong("a name that nobody has given".to_owned()),
    }
}

fn refused(error: &Error) -> Answered {
    let answer = match error.kind {
        Kind::NotFound => Answer::Nothing,
        Kind::Lost => Answer::Lost,
        Kind::Conflict => Answer::Conflict,
        // The log has room: so it was refused before anything was changed.
        Kind::Exhausted => Answer::NoRoom,
        Kind::Unavailable | Kind::Fenced => Answer::Unknown(error.to_string()),
        Kind::Invalid | Kind::Denied | Kind::Corrupt | Kind::Internal => {
            Answer::Wrong(format!("{:?}: {error}", error.kind))
        }
    };
    (answer, None)
}

fn random_key(random: &mut Random) -> Key {
    let key = random.below(u64::from(2 * KEYS_OF_FOLDER));
    Key::try_from(key).expect("there are few")
}

/// What the names of a group begin with.
fn home(seed: u64, group: u8) -> String {
    format!("s{seed}/g{group}/")
}

fn path(seed: u64, group: u8, key: Key) -> String {
    let (folder, key) = (key / KEYS_OF_FOLDER, key % KEYS_OF_FOLDER);
    format!("{}f{folder}/k{key}", home(seed, group))
}

/// Of what is in the home of a group.
fn key_of(path: &str) -> Option<Key> {
    let (folder, key) = path.strip_prefix('f')?.split_once("/k")?;
    let (folder, key): (Key, Key) = (folder.parse().ok()?, key.parse().ok()?);
    (folder < 2 && key < KEYS_OF_FOLDER).then_some(folder * KEYS_OF_FOLDER + key)
}

pub(super) fn name(seed: u64, group: u8, key: Key) -> Name {
    Name {
        bucket: BucketName::new(BUCKET).expect("a bucket"),
        key: NodeKey::new(&path(seed, group, key)).expect("a key"),
    }
}

pub(super) fn folder_of(prefix: &str) -> NodeFolder {
    NodeFolder {
        bucket: BucketName::new(BUCKET).expect("a bucket"),
        prefix: Prefix::new(prefix).expect("a prefix"),
    }
}

/// Of a clock that all processes of the machine share: what one has seen before another did something. In ns.
pub(super) fn now() -> anyhow::Result<u64> {
    let now = Duration::try_from(rustix::time::clock_gettime(ClockId::Monotonic))?;
    Ok(u64::try_from(now.as_nanos())?)
}

/// In one piece: whoever is killed has told it, or not.
fn tell(told: &Told) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}
