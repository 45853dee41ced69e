//! What is written in streams, and read of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use streams_client::cut::StreamCut;
use streams_client::names::StreamName;
use streams_client::reader::Until;
use streams_client::{EventWriter, StreamReader};

use super::Server;

#[derive(Debug, Args)]
pub(crate) struct Write {
    stream: StreamName,
    #[command(flatten)]
    lines: Lines,
    #[command(flatten)]
    server: Server,
}

/// What is written: lines, each as an event.
#[derive(Debug, Args)]
pub(super) struct Lines {
    /// Files whose lines are written; without them, those of standard input.
    files: Vec<PathBuf>,
    /// All events have this key, and so are read in their order. Without it, all have the key `cloudskin`; a stream with many segments is
    /// better used with `--split`.
    #[arg(long, value_name = "KEY", default_value = "cloudskin")]
    key: String,
    /// What is before the first such character of a line is its key.
    #[arg(long, value_name = "CHARACTER", conflicts_with = "key")]
    split: Option<char>,
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    /// SCOPE/STREAM, read from where it begins; or a position, as `info` prints it.
    from: String,
    /// Wait for more, until the stream is sealed.
    #[arg(long, short)]
    follow: bool,
    /// Print each event as a JSON object, with the position behind it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Write {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let writer = EventWriter::open(&client, self.stream.clone()).await?;
        let written = self.lines.each(async |key, event| {
            // `flush` says what has become of it.
            drop(writer.write(&key, event).await?);
            Ok(())
        });
        written.await?;
        Ok(writer.flush().await?)
    }
}

impl Lines {
    /// Gives each line, with its key. It waits for lines with the thread that it is on, which has nothing else to do.
    pub(super) async fn each(
        &self,
        mut write: impl AsyncFnMut(String, Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut inputs: Vec<Box<dyn BufRead>> = Vec::new();
        for path in &self.files {
            let file = File::open(path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            inputs.push(Box::new(BufReader::new(file)));
        }
        if inputs.is_empty() {
            inputs.push(Box::new(std::io::stdin().lock()));
        }
        for line in inputs.into_iter().flat_map(|input| input.split(b'\n')) {
            let line = line?;
            let key = match self.split {
                None => self.key.clone(),
                Some(split) => {
                    let text = String::from_utf8_lossy(&line);
                    text.split(split).next().unwrap_or_default().to_owned()
                }
            };
            write(key, Bytes::from(line)).await?;
        }
        Ok(())
    }
}

impl Read {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let until = if self.follow {
            Until::Sealed
        } else {
            Until::Tail
        };
        let mut reader = if self.from.contains(':') {
            let cut: StreamCut = self.from.parse()?;
            StreamReader::open_at(&client, cut, until)
        } else {
            let stream: StreamName = self.from.parse()?;
            StreamReader::open(&client, &stream, until).await?
        };
        let mut out = std::io::stdout().lock();
        while let Some(event) = reader.next().await? {
            if self.json {
                let line = serde_json::json!({
                    "segment": event.segment.to_string(), "offset": event.offset,
                    "data": String::from_utf8_lossy(&event.data),
                    "position": reader.position().to_string(),
                });
                writeln!(out, "{line}")?;
            } else {
                out.write_all(&event.data)?;
                out.write_all(b"\n")?;
            }
            out.flush()?;
        }
        Ok(())
    }
}
