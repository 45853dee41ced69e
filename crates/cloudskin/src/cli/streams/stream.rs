//! Streams, beside what is written in them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ids::ByteSize;
use streams_client::controller::{Retention, Scaling, SegmentRange, StreamConfig};
use streams_client::cut::StreamCut;
use streams_client::names::StreamName;
use streams_client::{Client, Segment};

use super::Server;
use crate::cli::say;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// SCOPE/STREAM; the scope has to be there.
    stream: StreamName,
    /// How many segments it has: so many can be written at once.
    #[arg(long, value_name = "N", default_value_t = 1)]
    segments: i32,
    /// Keep at least so much, and give up what is older: `10Gi`.
    #[arg(long, value_name = "BYTES", conflicts_with = "keep_for")]
    keep: Option<ByteSize>,
    /// Keep for so long, and give up what is older: `24h`.
    #[arg(long, value_name = "TIME", value_parser = ids::parse_duration)]
    keep_for: Option<Duration>,
    /// By which it is found.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    scope: String,
    /// Also those that the platform and readers have made.
    #[arg(long)]
    all: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    stream: StreamName,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Scale {
    stream: StreamName,
    /// Into how many segments.
    segments: u32,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Truncate {
    /// A position, as `info` prints it: SCOPE/STREAM:SEGMENT=OFFSET,…
    cut: StreamCut,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Seal {
    stream: StreamName,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    stream: StreamName,
    /// Seal it first.
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    server: Server,
}

impl Create {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let retention = match (self.keep, self.keep_for) {
            (Some(keep), _) => {
                let bytes_min = i64::try_from(keep.0).context("keep less")?;
                let bytes_max = i64::MAX;
                Retention::BySize {
                    bytes_min,
                    bytes_max,
                }
            }
            (None, Some(time)) => {
                let ms_min = i64::try_from(time.as_millis()).context("keep for less")?;
                Retention::ByTime { ms_min, ms_max: 0 }
            }
            (None, None) => Retention::Nothing,
        };
        let config = StreamConfig {
            scaling: Scaling::Fixed {
                n_segments: self.segments,
            },
            retention,
            tags: self.tag,
            rollover_bytes: 0,
        };
        let client = self.server.client()?;
        let created = client
            .controller()
            .create_stream(&self.stream, &config)
            .await;
        Ok(created?)
    }
}

impl Ls {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let (mut streams, mut token) = (Vec::new(), String::new());
        loop {
            let page = client.controller().streams(&self.scope, &token).await?;
            if page.items.is_empty() {
                break;
            }
            let names = page.items.iter().map(|name| name.stream().to_owned());
            streams.extend(names.filter(|name| self.all || !name.starts_with('_')));
            token = page.token;
        }
        if self.json {
            return say(&serde_json::to_string(&streams)?);
        }
        streams.iter().try_for_each(|stream| say(stream))
    }
}

impl Info {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let config = client.controller().stream_config(&self.stream).await?;
        let ranges = client.controller().current_segments(&self.stream).await?;
        let head = client.controller().head(&self.stream).await?;
        let tail = client.tail(&self.stream).await?;
        let mut segments = Vec::new();
        for SegmentRange { number, low, high } in ranges {
            let segment = Segment::new(&client, self.stream.segment(number));
            let info = segment.info().await?;
            segments.push(serde_json::json!({
                "segment": number.to_string(), "keys": [low, high], "start": info.start_offset,
                "length": info.length, "sealed": info.is_sealed,
            }));
        }
        if self.json {
            return say(&serde_json::json!({
                "stream": self.stream.to_string(), "tags": config.tags, "segments": segments,
                "head": head.to_string(), "tail": tail.to_string(),
            })
            .to_string());
        }
        for segment in &segments {
            let (name, keys) = (segment["segment"].as_str(), &segment["keys"]);
            say(&format!(
                "segment {}  keys {keys}  from {} to {}",
                name.unwrap_or_default(),
                segment["start"],
                segment["length"]
            ))?;
        }
        say(&format!("head     {head}"))?;
        say(&format!("tail     {tail}"))?;
        if !config.tags.is_empty() {
            say(&format!("tags     {}", config.tags.join(", ")))?;
        }
        Ok(())
    }
}

impl Scale {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        if self.segments == 0 {
            bail!("a stream has one segment at least");
        }
        let controller = client.controller();
        let now = controller.current_segments(&self.stream).await?;
        let sealed: Vec<_> = now.iter().map(|segment| segment.number).collect();
        let n = f64::from(self.segments);
        // The last one ends where all keys end, whatever was rounded before.
        let at = |part: u32| {
            if part == self.segments {
                1.0
            } else {
                f64::from(part) / n
            }
        };
        let ranges: Vec<_> = (0..self.segments)
            .map(|part| (at(part), at(part + 1)))
            .collect();
        let epoch = controller.scale(&self.stream, &sealed, &ranges).await?;
        done(&client, &self.stream, epoch).await
    }
}

/// Waits until a scale is over.
async fn done(client: &Client, stream: &StreamName, epoch: i32) -> anyhow::Result<()> {
    while !client.controller().has_scaled(stream, epoch).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

impl Truncate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        Ok(client.controller().truncate_stream(&self.cut).await?)
    }
}

impl Seal {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        Ok(client.controller().seal_stream(&self.stream).await?)
    }
}

impl Rm {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        if self.force {
            client.controller().seal_stream(&self.stream).await?;
        }
        Ok(client.controller().delete_stream(&self.stream).await?)
    }
}
