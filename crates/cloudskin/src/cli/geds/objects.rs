//! Objects, in and out.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use geds::client::Acknowledged;
use geds::index::{Class, Etag, Name, Precondition};
use geds::store::Terms;
use serde_json::json;

use super::access::Access;
use super::show;
use crate::cli::say;
use crate::config::Config;

/// So much is read from a file at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// How far it is is shown of transfers that are longer than this, so often, on a terminal.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
const PROGRESS_EACH: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassArg {
    /// The end of the node loses it.
    Ephemeral,
    /// It is on a disk when this returns.
    Durable,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Put {
    /// `-` is standard input.
    file: PathBuf,
    /// BUCKET/KEY; a KEY that ends in `/` gets the name of the file behind it.
    name: String,
    #[arg(long, value_enum, default_value = "durable")]
    class: ClassArg,
    /// Only if there is no such object.
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,
    /// Only in place of the object with this etag.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// Is kept with it.
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
    /// From then on it is a first victim when room is needed.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// So many consumers are expected.
    #[arg(long, value_name = "N", default_value_t = 0)]
    readers: u32,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Put {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let name = self.target()?;
        let terms = self.terms()?;
        let (mut from, len): (Box<dyn Read + Send>, _) = if self.is_stdin() {
            (Box::new(io::stdin()), 0)
        } else {
            let doing = || format!("read {}", self.file.display());
            let file = File::open(&self.file).with_context(doing)?;
            let len = file.metadata().with_context(doing)?.len();
            (Box::new(file), len)
        };
        let client = self.access.connect(config).await?;
        let mut writer = client.writer(len).await?;
        let mut progress = Progress::new(len);
        loop {
            let (block, rest) = rt::blocking(move || (read_block(&mut *from), from)).await?;
            let block = block.with_context(|| format!("read {}", self.file.display()))?;
            from = rest;
            if block.is_empty() {
                break;
            }
            progress.add(block.len());
            writer.append(block.into()).await?;
        }
        let class = match self.class {
            ClassArg::Ephemeral => Class::Ephemeral,
            ClassArg::Durable => Class::Durable,
        };
        let sealed = writer.seal(&name, class, terms).await?;
        progress.end();
        self.show(&name, &sealed)
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn target(&self) -> anyhow::Result<Name> {
        if !self.name.ends_with('/') {
            return super::name(&self.name);
        }
        let file = self.file.file_name().filter(|_| !self.is_stdin());
        let file = file.and_then(|file| file.to_str());
        let file = file.with_context(|| format!("`{}` names no object", self.name))?;
        super::name(&format!("{}{file}", self.name))
    }

    fn terms(&self) -> anyhow::Result<Terms> {
        let when = match &self.if_match {
            Some(etag) => Precondition::Etag(Etag::new(etag)?),
            None if self.if_absent => Precondition::Absent,
            None => Precondition::None,
        };
        let now = rt::wall()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_millis();
        let now_ms = u64::try_from(now)?;
        let at = |ttl: u64| now_ms.saturating_add(ttl.saturating_mul(1000));
        Ok(Terms {
            when,
            metadata: self
                .metadata
                .clone()
                .unwrap_or_default()
                .into_bytes()
                .into(),
            expires_at_ms: self.ttl.map(at),
            readers: self.readers,
            etag: None,
        })
    }

    fn show(&self, name: &Name, sealed: &Acknowledged) -> anyhow::Result<()> {
        let Acknowledged { entry, lost_with } = sealed;
        if self.json {
            let mut value = show::entry(entry);
            value["name"] = json!(format!("{}/{}", name.bucket, name.key));
            value["lost_with"] =
                json!(lost_with.map(|(node, epoch)| json!({"node": node.0, "epoch": epoch.0})));
            return say(&value.to_string());
        }
        let promise = match lost_with {
            Some((node, _)) => format!("ephemeral: the end of node {} loses it", node.0),
            None => "durable".to_owned(),
        };
        let size = show::bytes(entry.sealed.size);
        say(&format!("{}  {size}  {promise}", show::name(name)))
    }
}

/// Empty at the end.
fn read_block(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    from.take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
    Ok(block)
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    /// BUCKET/KEY
    name: String,
    /// `-` is standard output; what is there is replaced when all has arrived.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Bytes FROM-TO, both within, `FROM-` to the end, or `-N` for the last N.
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl Get {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let name = super::name(&self.name)?;
        let range = self.range.as_deref().map(parse_range).transpose()?;
        let client = self.access.connect(config).await?;
        let object = client.open(&name, Precondition::None).await?;
        let range = match range {
            Some(range) => range.within(object.len()),
            None => 0..object.len(),
        };
        let mut sink = Sink::open(&self.file)?;
        let mut progress = Progress::new(range.end - range.start);
        let mut pieces = object.pieces(range);
        while let Some(piece) = pieces.next().await? {
            progress.add(piece.len());
            let write = move || {
                let written = sink.out.write_all(&piece);
                (written, sink)
            };
            let (written, rest) = rt::blocking(write).await?;
            written.context("write what was read")?;
            sink = rest;
        }
        progress.end();
        rt::blocking(move || sink.finish()).await?
    }
}

/// Where an object is written to.
struct Sink {
    out: Box<dyn Write + Send>,
    /// A file, and under which name it is written.
    file: Option<(PathBuf, PathBuf)>,
}

impl Sink {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let out = Box::new(io::stdout());
            return Ok(Self { out, file: None });
        }
        let name = path.file_name();
        let name = name.with_context(|| format!("`{}` is no file", path.display()))?;
        let mut part = name.to_owned();
        part.push(format!(".{:08x}.part", rt::random_u64()));
        let part = path.with_file_name(part);
        let doing = || format!("write {}", part.display());
        let out = File::create_new(&part).with_context(doing)?;
        Ok(Self {
            out: Box::new(out),
            file: Some((path.to_owned(), part)),
        })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().context("write what was read")?;
        if let Some((path, part)) = self.file.take() {
            let doing = || format!("give {} its name", path.display());
            fs::rename(&part, &path).with_context(doing)?;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some((_, part)) = &self.file {
            // What is not whole is not kept; what went wrong before is what is told.
            fs::remove_file(part).ok();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    From(u64),
    /// Both within.
    FromTo(u64, u64),
    Last(u64),
}

impl Range {
    fn within(self, len: u64) -> std::ops::Range<u64> {
        let (start, end) = match self {
            Self::From(from) => (from, len),
            Self::FromTo(from, to) => (from, to.saturating_add(1).min(len)),
            Self::Last(n) => (len.saturating_sub(n), len),
        };
        start.min(end)..end
    }
}

fn parse_range(text: &str) -> anyhow::Result<Range> {
    let parse = || {
        let (from, to) = text.split_once('-')?;
        let number = |text: &str| text.parse::<u64>().ok();
        match (from, to) {
            ("", last) => Some(Range::Last(number(last)?)),
            (from, "") => Some(Range::From(number(from)?)),
            (from, to) => {
                let (from, to) = (number(from)?, number(to)?);
                (from <= to).then_some(Range::FromTo(from, to))
            }
        }
    };
    match parse() {
        Some(range) => Ok(range),
        None => bail!("`{text}` is no range: FROM-TO, FROM- or -N is wanted"),
    }
}

/// How far a transfer is, on a terminal, if it takes long.
struct Progress {
    len: u64,
    n_bytes: u64,
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// 0: nobody knows how long it will be.
    fn new(len: u64) -> Self {
        Self {
            len,
            n_bytes: 0,
            begun: rt::now(),
            shown: None,
        }
    }

    fn add(&mut self, n_bytes: usize) {
        self.n_bytes += n_bytes as u64;
        let now = rt::now();
        let is_due = match self.shown {
            Some(shown) => now - shown >= PROGRESS_EACH,
            None => now - self.begun >= PROGRESS_AFTER,
        };
        if is_due && io::stderr().is_terminal() {
            let of = match self.len {
                0 => String::new(),
                len => format!(" of {}", show::bytes(len)),
            };
            let seconds = (now - self.begun).as_secs().max(1);
            let pace = show::bytes(self.n_bytes / seconds);
            let line = format!("\r{}{of}, {pace}/s\x1b[K", show::bytes(self.n_bytes));
            // Nobody is left to be told if it is closed.
            io::stderr().write_all(line.as_bytes()).ok();
            self.shown = Some(now);
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            io::stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for (text, range, within) in [
            ("0-9", Range::FromTo(0, 9), 0..10),
            ("5-5", Range::FromTo(5, 5), 5..6),
            ("90-1000", Range::FromTo(90, 1000), 90..100),
            ("7-", Range::From(7), 7..100),
            ("200-", Range::From(200), 100..100),
            ("-10", Range::Last(10), 90..100),
            ("-1000", Range::Last(1000), 0..100),
        ] {
            assert_eq!(parse_range(text).expect(text), range);
            assert_eq!(range.within(100), within, "{text}");
        }
        for text in ["", "-", "5", "9-5", "a-b", "1-2-3"] {
            parse_range(text).expect_err(text);
        }
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        fs::write(&path, b"old").expect("it is written");
        let count = || fs::read_dir(dir.path()).expect("a directory").count();
        let mut sink = Sink::open(&path).expect("it is open");
        sink.out.write_all(b"half").expect("it is written");
        assert_eq!(
            (fs::read(&path).expect("it is there"), count()),
            (b"old".to_vec(), 2)
        );
        drop(sink);
        assert_eq!(count(), 1);
        let mut sink = Sink::open(&path).expect("it is open");
        sink.out.write_all(b"new").expect("it is written");
        sink.finish().expect("it is there");
        assert_eq!(
            (fs::read(&path).expect("it is there"), count()),
            (b"new".to_vec(), 1)
        );
    }
}
