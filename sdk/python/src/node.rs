//! A node: names, and the files that they stand for.

use std::sync::Arc;
use std::time::Duration;

use geds_client::index::{
    BucketName, Class, Cursor, Folder, Item, Key, Loss, Name, Placement, Precondition, Prefix,
    Residency, Revision, Scope,
};
use geds_client::{Credentials, Event, Position, Watched};
use geds_client::{Error, Kind, Result};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::door::{Door, Link};
use crate::failure;
use crate::file::File;

/// Names of one answer.
const PAGE_ITEMS: usize = 1_000;
/// So often a list is begun again because what it lists is not known any more.
const LISTS_MAX: usize = 3;

#[pyclass(frozen, module = "pygeds._geds")]
pub(crate) struct Node {
    door: Arc<Door>,
}

/// Key, size, when it was modified (since 1970, in ms), etag. Those of a folder are 0 and empty.
type Listed = (String, u64, u64, String, bool);

/// What happened to which key, oldest first, and from where to ask on. `None`: more than is known any more.
type Told = (Option<Vec<(String, String)>>, (u64, u64));

fn bucket(py: Python<'_>, text: &str) -> PyResult<BucketName> {
    BucketName::new(text).map_err(|error| invalid(py, &error))
}

fn name(py: Python<'_>, bucket_name: &str, key: &str) -> PyResult<Name> {
    let key = Key::new(key).map_err(|error| invalid(py, &error))?;
    let bucket = bucket(py, bucket_name)?;
    Ok(Name { bucket, key })
}

fn folder(py: Python<'_>, bucket_name: &str, prefix: &str) -> PyResult<Folder> {
    let prefix = Prefix::new(prefix).map_err(|error| invalid(py, &error))?;
    let bucket = bucket(py, bucket_name)?;
    Ok(Folder { bucket, prefix })
}

fn invalid(py: Python<'_>, error: &dyn std::error::Error) -> PyErr {
    failure::status(py, "INVALID_ARGUMENT", &error.to_string())
}

#[pymethods]
impl Node {
    /// Does not connect yet. `credentials` is what `cloudskin geds user add` has written, or an access key and its secret.
    #[new]
    fn new(py: Python<'_>, node: String, credentials: &str, durable: bool) -> PyResult<Self> {
        let credentials =
            Credentials::parse(credentials).map_err(|error| failure::raise(py, &error))?;
        let class = if durable {
            Class::Durable
        } else {
            Class::Ephemeral
        };
        let door = Arc::new(Door::new(node, credentials, class));
        Ok(Self { door })
    }

    /// The number of the node, and of its incarnation.
    fn connect(&self, py: Python<'_>) -> PyResult<(u32, u64)> {
        let (node, epoch) = self.door.link(py)?.client.node();
        Ok((node.0, epoch.0))
    }

    /// Files that are open stay so.
    fn disconnect(&self, py: Python<'_>) {
        self.door.forget_link(py);
    }

    fn create_bucket(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let name = bucket(py, name)?;
        let create = |link: Link| async move { link.client.create_bucket(&name).await };
        self.door.change(py, create)
    }

    fn delete_bucket(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let name = bucket(py, name)?;
        let delete = |link: Link| async move { link.client.delete_bucket(&name).await };
        self.door.change(py, delete)
    }

    /// With when they were created.
    fn buckets(&self, py: Python<'_>) -> PyResult<Vec<(String, u64)>> {
        let ask = |link: Link| async move { link.client.buckets().await };
        let buckets = self.door.look(py, ask)?;
        Ok(buckets
            .into_iter()
            .map(|(name, at)| (name.to_string(), at))
            .collect())
    }

    fn stat<'py>(&self, py: Python<'py>, bucket: &str, key: &str) -> PyResult<Bound<'py, PyDict>> {
        let name = &name(py, bucket, key)?;
        let ask = |link: Link| async move { link.client.status(name).await };
        let status = self.door.look(py, ask)?;
        let entry = &status.entry;
        let found = PyDict::new(py);
        found.set_item("size", entry.sealed.size)?;
        found.set_item("modified_at_ms", entry.modified_at_ms)?;
        found.set_item("etag", entry.sealed.etag.to_string())?;
        found.set_item("generation", entry.generation.0)?;
        found.set_item("durable", entry.sealed.class == Class::Durable)?;
        found.set_item("metadata", PyBytes::new(py, &entry.metadata))?;
        found.set_item("places", places(&status.placement))?;
        Ok(found)
    }

    /// All names that begin so. Those that have `delimiter` after that are told as folders, if it is not empty.
    fn list(
        &self,
        py: Python<'_>,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
    ) -> PyResult<Vec<Listed>> {
        let folder = &folder(py, bucket, prefix)?;
        let ask = |link: Link| async move { list(&link, folder, delimiter).await };
        self.door.look(py, ask)
    }

    /// Whether any name begins so.
    fn has_prefix(&self, py: Python<'_>, bucket: &str, prefix: &str) -> PyResult<bool> {
        let folder = &folder(py, bucket, prefix)?;
        let ask = |link: Link| async move { link.client.list(folder, "", 1, None).await };
        let (page, _) = self.door.look(py, ask)?;
        Ok(!page.items.is_empty())
    }

    fn open(&self, py: Python<'_>, bucket: &str, key: &str) -> PyResult<File> {
        File::open(py, &self.door, name(py, bucket, key)?)
    }

    /// If `absent`, the name must not be there when it is sealed first.
    fn create(&self, py: Python<'_>, bucket: &str, key: &str, absent: bool) -> PyResult<File> {
        let when = if absent {
            Precondition::Absent
        } else {
            Precondition::None
        };
        Ok(File::create(&self.door, name(py, bucket, key)?, when))
    }

    fn copy(&self, py: Python<'_>, from: (String, String), to: (String, String)) -> PyResult<()> {
        let [from, to] = pair(py, &from, &to)?;
        let copy = |link: Link| async move {
            let names = [&from, &to];
            link.client.copy(names, None, Precondition::None).await
        };
        self.door.change(py, copy)
    }

    fn rename(&self, py: Python<'_>, from: (String, String), to: (String, String)) -> PyResult<()> {
        let [from, to] = pair(py, &from, &to)?;
        let rename = |link: Link| async move {
            let names = [&from, &to];
            link.client.rename(names, Precondition::None).await
        };
        self.door.change(py, rename)
    }

    /// All at once.
    fn rename_prefix(
        &self,
        py: Python<'_>,
        from: (String, String),
        to: (String, String),
    ) -> PyResult<()> {
        let [from, to] = [folder(py, &from.0, &from.1)?, folder(py, &to.0, &to.1)?];
        let rename = |link: Link| async move {
            let folders = [&from, &to];
            link.client.rename_prefix(folders, Precondition::None).await
        };
        self.door.change(py, rename)
    }

    fn delete(&self, py: Python<'_>, bucket: &str, key: &str) -> PyResult<()> {
        let name = name(py, bucket, key)?;
        let delete =
            |link: Link| async move { link.client.delete(&name, Precondition::None).await };
        self.door.change(py, delete)
    }

    /// All at once.
    fn delete_prefix(&self, py: Python<'_>, bucket: &str, prefix: &str) -> PyResult<()> {
        let folder = folder(py, bucket, prefix)?;
        let delete = |link: Link| async move { link.client.delete_prefix(&folder).await };
        self.door.change(py, delete)
    }

    /// Returns when it is on the disk of the node.
    fn relocate(&self, py: Python<'_>, bucket: &str, key: &str) -> PyResult<()> {
        let name = name(py, bucket, key)?;
        let bring = |link: Link| async move { link.client.relocate(&name).await };
        self.door.change(py, bring)
    }

    /// Returns when it is in S3.
    fn persist(&self, py: Python<'_>, bucket: &str, key: &str) -> PyResult<()> {
        let name = name(py, bucket, key)?;
        let bring = |link: Link| async move { link.client.persist(&name).await };
        self.door.change(py, bring)
    }

    /// What was sealed through this node since this was asked: names, and buckets of which it is not known any more.
    fn take_written(&self, py: Python<'_>) -> (Vec<(String, String)>, Vec<String>) {
        let written = self.door.take_written(py);
        let names = written.names.iter();
        let names = names.map(|name| (name.bucket.to_string(), name.key.to_string()));
        let buckets = written.buckets.iter().map(ToString::to_string);
        (names.collect(), buckets.collect())
    }

    /// What has happened since `from` to names that begin so, or to one name; waits so long for something to happen. Without `from`, where now is.
    #[pyo3(signature = (bucket, prefix, key, from_, wait_s))]
    fn watch(
        &self,
        py: Python<'_>,
        bucket: &str,
        prefix: &str,
        key: Option<&str>,
        from_: Option<(u64, u64)>,
        wait_s: f64,
    ) -> PyResult<Told> {
        let scope = match key {
            Some(key) => Scope::Name(name(py, bucket, key)?),
            None => Scope::Folder(folder(py, bucket, prefix)?),
        };
        let wait = Duration::try_from_secs_f64(wait_s)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let from = from_.map(|(revision, n_more)| Position {
            revision: Revision(revision),
            n_more,
        });
        let ask = |link: Link| {
            let scope = scope.clone();
            async move { link.client.watch(scope, from, wait).await }
        };
        let position = |at: Position| (at.revision.0, at.n_more);
        match self.door.look(py, ask)? {
            Watched::Compacted { now } => Ok((None, position(now))),
            Watched::Events { events, next, .. } => {
                let events = events.iter().map(|(_, event)| told(event)).collect();
                Ok((Some(events), position(next)))
            }
        }
    }

    /// Numbers of the node.
    fn statistics(&self, py: Python<'_>) -> PyResult<std::collections::BTreeMap<String, u64>> {
        let ask = |link: Link| async move { link.client.statistics().await };
        self.door.look(py, ask)
    }
}

fn pair(py: Python<'_>, from: &(String, String), to: &(String, String)) -> PyResult<[Name; 2]> {
    Ok([name(py, &from.0, &from.1)?, name(py, &to.0, &to.1)?])
}

async fn list(link: &Link, folder: &Folder, delimiter: &str) -> Result<Vec<Listed>> {
    'begin: for _ in 0..LISTS_MAX {
        let mut all = Vec::new();
        let mut from: Option<Cursor> = None;
        loop {
            let page = link
                .client
                .list(folder, delimiter, PAGE_ITEMS, from.as_ref());
            let page = match page.await {
                Ok((page, _)) => page,
                // The bucket was there: what is not known any more is what it was when this began.
                Err(error) if error.kind == Kind::NotFound && from.is_some() => continue 'begin,
                Err(error) => return Err(error),
            };
            all.extend(page.items.iter().map(listed));
            from = page.next;
            if from.is_none() {
                return Ok(all);
            }
        }
    }
    let what = "names change faster than they can be listed";
    Err(Error::new(Kind::Unavailable, what))
}

fn listed(item: &Item) -> Listed {
    match item {
        Item::Object(key, entry) => {
            let sealed = &entry.sealed;
            let etag = sealed.etag.to_string();
            (
                key.to_string(),
                sealed.size,
                entry.modified_at_ms,
                etag,
                false,
            )
        }
        Item::Folder(prefix) => (prefix.to_string(), 0, 0, String::new(), true),
    }
}

/// `("memory" or "disk", number of the node)`, `("s3", name there)`, or why there is none.
fn places(placement: &Placement) -> Vec<(&'static str, String)> {
    match placement {
        Placement::Lost(Loss::Corrupt) => vec![("lost", "damaged".to_owned())],
        Placement::Lost(Loss::Node { node, .. }) => {
            vec![("lost", format!("with node {}", node.0))]
        }
        Placement::At(copies) => copies.iter().map(place).collect(),
    }
}

fn place(copy: &Residency) -> (&'static str, String) {
    match copy {
        Residency::Dram(node) => ("memory", node.0.to_string()),
        Residency::Disk(node) => ("disk", node.0.to_string()),
        Residency::S3(there) => {
            let name = &there.name;
            ("s3", format!("{}/{}", name.bucket, name.key))
        }
    }
}

/// What happened to which key.
fn told(event: &Event) -> (String, String) {
    let (what, name) = match event {
        Event::Named { name, .. } => ("named", name),
        Event::Removed(name) => ("removed", name),
        Event::Placed { name, .. } => ("placed", name),
    };
    (what.to_owned(), name.key.to_string())
}
