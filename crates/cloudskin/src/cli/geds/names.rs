//! Names and buckets.

use anyhow::bail;
use clap::Args;
use geds::index::{Item, PAGE_ITEMS_MAX, Precondition};
use serde_json::json;

use super::access::Access;
use super::{is_not_found, show};
use crate::cli::say;
use crate::config::Config;

#[derive(Debug, Args)]
pub(in crate::cli) struct Ls {
    /// BUCKET or BUCKET/PREFIX; without it, the buckets.
    place: Option<String>,
    /// All names, and no folders.
    #[arg(short, long, conflicts_with = "delimiter")]
    recursive: bool,
    /// What ends the name of a folder.
    #[arg(long, value_name = "TEXT", default_value = "/")]
    delimiter: String,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Ls {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let client = self.access.connect(config).await?;
        let Some(place) = &self.place else {
            for (bucket, created_at_ms) in client.buckets().await? {
                say(&if self.json {
                    json!({"bucket": bucket.as_str(), "created_at_ms": created_at_ms}).to_string()
                } else {
                    format!("{}  {bucket}", ids::utc(created_at_ms))
                })?;
            }
            return Ok(());
        };
        let folder = super::folder(place)?;
        let delimiter = if self.recursive { "" } else { &*self.delimiter };
        let mut from = None;
        loop {
            let listed = client.list(&folder, delimiter, PAGE_ITEMS_MAX, from.as_ref());
            let (page, _) = listed.await?;
            for item in &page.items {
                say(&self.line(item))?;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn line(&self, item: &Item) -> String {
        match item {
            Item::Object(key, entry) if self.json => {
                let mut value = show::entry(entry);
                value["key"] = json!(key.as_str());
                value.to_string()
            }
            Item::Folder(prefix) if self.json => json!({"folder": prefix.as_str()}).to_string(),
            Item::Object(key, entry) => {
                let time = ids::utc(entry.modified_at_ms);
                let size = show::bytes(entry.sealed.size);
                let class = show::class(entry.sealed.class);
                let key = show::text(key.as_str());
                format!("{time}  {size:>12}  {class:<9}  {key}")
            }
            Item::Folder(prefix) => {
                format!(
                    "{:19}  {:>12}  {:<9}  {}",
                    "",
                    "",
                    "",
                    show::text(prefix.as_str())
                )
            }
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Stat {
    /// BUCKET/KEY
    name: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Stat {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let name = super::name(&self.name)?;
        let client = self.access.connect(config).await?;
        let status = client.status(&name).await?;
        let copies = show::placement(&status.placement, &name);
        let mut value = show::entry(&status.entry);
        if self.json {
            value["copies"] = json!(copies);
            return say(&value.to_string());
        }
        let entry = &status.entry;
        let readers = match (entry.hints.readers, entry.hints.consumers.len()) {
            (0, n) => format!("{n} have consumed it"),
            (readers, n) => format!("{n} of {readers} have consumed it"),
        };
        let expires = entry.hints.expires_at_ms.map(ids::utc);
        let metadata = match std::str::from_utf8(&entry.metadata) {
            Ok(metadata) => show::text(metadata),
            Err(_) => value["metadata"]["hex"].to_string(),
        };
        for (what, shown) in [
            ("name", show::name(&name)),
            (
                "size",
                format!("{} ({})", entry.sealed.size, show::bytes(entry.sealed.size)),
            ),
            ("class", show::class(entry.sealed.class).to_owned()),
            ("etag", entry.sealed.etag.to_string()),
            ("generation", entry.generation.to_string()),
            ("modified", ids::utc(entry.modified_at_ms)),
            ("expires", expires.unwrap_or_else(|| "never".to_owned())),
            ("readers", readers),
            ("metadata", metadata),
            ("copies", copies.join(", ")),
        ] {
            say(&format!("{what:<10}  {shown}"))?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rm {
    /// BUCKET/KEY, or with -r BUCKET/PREFIX.
    name: String,
    /// All whose names begin so.
    #[arg(short, long)]
    recursive: bool,
    /// There need not be such an object.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    access: Access,
}

impl Rm {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        if self.recursive {
            let folder = super::folder(&self.name)?;
            if folder.prefix.as_str().is_empty() && !self.force {
                bail!("this deletes all of `{}`: say -f as well", folder.bucket);
            }
            let client = self.access.connect(config).await?;
            return Ok(client.delete_prefix(&folder).await?);
        }
        let name = super::name(&self.name)?;
        let client = self.access.connect(config).await?;
        match client.delete(&name, Precondition::None).await {
            Err(error) if self.force && is_not_found(&error) => Ok(()),
            result => Ok(result?),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Mv {
    /// BUCKET/KEY, or with -r BUCKET/PREFIX.
    from: String,
    to: String,
    /// All whose names begin with FROM begin with TO, at once.
    #[arg(short, long)]
    recursive: bool,
    /// Replace nothing.
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    access: Access,
}

impl Mv {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let when = when(self.if_absent);
        if self.recursive {
            let [from, to] = [super::folder(&self.from)?, super::folder(&self.to)?];
            let client = self.access.connect(config).await?;
            return Ok(client.rename_prefix([&from, &to], when).await?);
        }
        let [from, to] = [super::name(&self.from)?, super::name(&self.to)?];
        let client = self.access.connect(config).await?;
        Ok(client.rename([&from, &to], when).await?)
    }
}

fn when(if_absent: bool) -> Precondition {
    if if_absent {
        Precondition::Absent
    } else {
        Precondition::None
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Cp {
    /// BUCKET/KEY
    from: String,
    to: String,
    /// Replace nothing.
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    access: Access,
}

impl Cp {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let [from, to] = [super::name(&self.from)?, super::name(&self.to)?];
        let client = self.access.connect(config).await?;
        Ok(client
            .copy([&from, &to], None, when(self.if_absent))
            .await?)
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Mb {
    bucket: String,
    #[command(flatten)]
    access: Access,
}

impl Mb {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let bucket = super::bucket(&self.bucket)?;
        let client = self.access.connect(config).await?;
        Ok(client.create_bucket(&bucket).await?)
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rb {
    bucket: String,
    #[command(flatten)]
    access: Access,
}

impl Rb {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let bucket = super::bucket(&self.bucket)?;
        let client = self.access.connect(config).await?;
        Ok(client.delete_bucket(&bucket).await?)
    }
}
