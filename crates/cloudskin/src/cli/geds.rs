//! `cloudskin geds`: the store of a node, from the command line.

mod access;
mod live;
mod moves;
mod names;
mod objects;
mod show;

use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use geds::Kind;
use geds::index::{BucketName, Folder, Key, Name, Prefix};

use super::geds_serve;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Geds {
    /// Write an object: a file, or standard input.
    Put(objects::Put),
    /// Read an object to a file, or to standard output.
    Get(objects::Get),
    /// List buckets, or the names in one.
    Ls(names::Ls),
    /// Show what is known of an object.
    Stat(names::Stat),
    /// Delete an object, or with -r all whose names begin so.
    Rm(names::Rm),
    /// Rename an object, or with -r all whose names begin so, at once.
    Mv(names::Mv),
    /// Give an object one more name; nothing is copied.
    Cp(names::Cp),
    /// Have objects on the disk of the node: its end does not lose them any more.
    Relocate(moves::Relocate),
    /// Have objects in S3, under their names: no node is needed for them any more.
    Persist(moves::Persist),
    /// Compare objects on the disk with their checksums; what is damaged is repaired, or said to be lost.
    Scrub(moves::Scrub),
    /// Make a bucket.
    Mb(names::Mb),
    /// Remove a bucket, which is empty.
    Rb(names::Rb),
    /// Print what changes, as it changes.
    Watch(live::Watch),
    /// Show how full the node is, again and again.
    Top(live::Top),
    #[command(flatten)]
    Node(geds_serve::Geds),
}

impl Geds {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        if let Self::Node(node) = self {
            return node.run();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the runtime")?;
        let running = async {
            match self {
                Self::Put(put) => put.run(config).await,
                Self::Get(get) => get.run(config).await,
                Self::Ls(ls) => ls.run(config).await,
                Self::Stat(stat) => stat.run(config).await,
                Self::Rm(rm) => rm.run(config).await,
                Self::Mv(mv) => mv.run(config).await,
                Self::Cp(cp) => cp.run(config).await,
                Self::Relocate(relocate) => relocate.run(config).await,
                Self::Persist(persist) => persist.run(config).await,
                Self::Scrub(scrub) => scrub.run(config).await,
                Self::Mb(mb) => mb.run(config).await,
                Self::Rb(rb) => rb.run(config).await,
                Self::Watch(watch) => watch.run(config).await,
                Self::Top(top) => top.run(config).await,
                Self::Node(_) => unreachable!("it has a runtime of its own"),
            }
        };
        match runtime.block_on(Box::pin(running)) {
            // Whoever reads has had enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS),
        }
    }
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn is_not_found(error: &geds::client::Error) -> bool {
    error.kind == Kind::NotFound
}

/// BUCKET/KEY, as users write it.
fn name(text: &str) -> anyhow::Result<Name> {
    let (bucket, key) = split(text);
    if key.is_empty() {
        bail!("`{text}` is no object: BUCKET/KEY is wanted");
    }
    Ok(Name {
        bucket: BucketName::new(bucket)?,
        key: Key::new(key)?,
    })
}

/// BUCKET or BUCKET/PREFIX.
fn folder(text: &str) -> anyhow::Result<Folder> {
    let (bucket, prefix) = split(text);
    Ok(Folder {
        bucket: BucketName::new(bucket)?,
        prefix: Prefix::new(prefix)?,
    })
}

fn bucket(text: &str) -> anyhow::Result<BucketName> {
    match split(text) {
        (bucket, "") => Ok(BucketName::new(bucket)?),
        _ => bail!("`{text}` is no bucket"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.strip_prefix("geds://").unwrap_or(text);
    text.split_once('/').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests;
