//! What is answered from the index, or by S3 if that is the authority.

use std::sync::Arc;

use super::outbox::Asked;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::front::s3::native_metadata;
use crate::index::{Cursor, Entry, Item, Page, Query, Revision};
use crate::store::{Stats, Status, Store};
use crate::wire::{Buckets, Listed, Look, PAGE_BYTES, Statistics};

/// Of one answer.
const BUCKETS_MAX: usize = 1_000;
/// What an item of a list takes beside its name and metadata, at most, but for consumers.
const ITEM_BYTES: usize = 256;
const CONSUMER_BYTES: usize = 19;

/// Is S3 asked, so that the answer may be long in coming?
pub(super) fn is_elsewhere(store: &Store, look: &Look) -> bool {
    let bucket = match look {
        Look::Status(name) => &name.bucket,
        Look::List { folder, .. } => &folder.bucket,
        Look::Buckets { .. } | Look::Statistics | Look::Attach => return false,
    };
    store.through(bucket).is_some()
}

pub(super) async fn look(session: &Session, look: Look, asked: Asked) {
    let Session { store, tenant, .. } = session;
    match look {
        Look::Buckets { from } => {
            let mut buckets = store.buckets(tenant);
            buckets.retain(|(name, _)| name.as_str() >= &*from);
            let are_all = buckets.len() <= BUCKETS_MAX;
            buckets.truncate(BUCKETS_MAX);
            asked.answer(Ok(Buckets { buckets, are_all })).await;
        }
        Look::Status(name) => {
            let status = match store.through(&name.bucket) {
                Some(through) => through.status(tenant, &name).await,
                None => store.status(tenant, &name),
            };
            let status = status.map(|status| Status {
                entry: native(&status.entry),
                placement: status.placement,
            });
            asked.answer(status).await;
        }
        Look::List {
            folder,
            delimiter,
            items_max,
            from,
            with_metadata,
        } => {
            let query = Query {
                folder: &folder,
                delimiter: &delimiter,
                items_max,
            };
            let listed = list(session, &query, from, with_metadata).await;
            asked.answer(listed).await;
        }
        Look::Statistics => {
            let memory = store.memory_of(tenant);
            let statistics = memory.map(|memory| statistics(&store.stats(), memory));
            asked.answer(statistics).await;
        }
        Look::Attach => {
            let missing = || Error::new(Kind::Unavailable, "this node shares no memory");
            let local = session.local.as_ref().ok_or_else(missing);
            let attached = local.and_then(|local| local.attach(tenant));
            asked.answer(attached).await;
        }
    }
}

/// What a name stands for, as its users have said it.
pub(crate) fn native(entry: &Arc<Entry>) -> Arc<Entry> {
    if entry.metadata.is_empty() {
        return Arc::clone(entry);
    }
    Arc::new(Entry {
        metadata: native_metadata(&entry.metadata),
        ..Entry::clone(entry)
    })
}

async fn list(
    session: &Session,
    query: &Query<'_>,
    from: Option<Cursor>,
    with_metadata: bool,
) -> Result<Listed> {
    let Session { store, tenant, .. } = session;
    if let Some(through) = store.through(&query.folder.bucket) {
        // S3 knows the present only.
        let from = from.map_or_else(String::new, |cursor| cursor.from);
        let page = through.list(tenant, query, &from).await?;
        let revision = Revision(0);
        return Ok(Listed {
            page: cut(page, revision, with_metadata),
            revision,
        });
    }
    let now = || store.namespace().read(|index| index.cursor(""));
    let from = from.unwrap_or_else(now);
    let page = store.list(tenant, query, Some(&from))?;
    Ok(Listed {
        page: cut(page, from.revision, with_metadata),
        revision: from.revision,
    })
}

/// As much of a page as an answer has, with what users have said.
fn cut(page: Page, revision: Revision, with_metadata: bool) -> Page {
    let Page { items, mut next } = page;
    let mut n_bytes = 0;
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let item = match item {
            Item::Object(key, entry) if with_metadata => Item::Object(key, native(&entry)),
            Item::Object(key, entry) => Item::Object(key, without_metadata(&entry)),
            folder @ Item::Folder(_) => folder,
        };
        let (name, more) = match &item {
            Item::Object(key, entry) => {
                let consumers = entry.hints.consumers.len() * CONSUMER_BYTES;
                (key.as_str(), entry.metadata.len() + consumers)
            }
            Item::Folder(prefix) => (prefix.as_str(), 0),
        };
        n_bytes += ITEM_BYTES + name.len() + more;
        if n_bytes > PAGE_BYTES && !kept.is_empty() {
            // All names of a folder begin with its own.
            let from = name.to_owned();
            next = Some(Cursor { revision, from });
            break;
        }
        kept.push(item);
    }
    Page { items: kept, next }
}

fn without_metadata(entry: &Arc<Entry>) -> Arc<Entry> {
    if entry.metadata.is_empty() {
        return Arc::clone(entry);
    }
    let Entry {
        generation,
        modified_at_ms,
        sealed,
        metadata: _,
        hints,
    } = &**entry;
    Arc::new(Entry {
        generation: *generation,
        modified_at_ms: *modified_at_ms,
        sealed: sealed.clone(),
        metadata: Box::default(),
        hints: hints.clone(),
    })
}

fn statistics(stats: &Stats, [used, limit]: [u64; 2]) -> Statistics {
    let numbers = [
        ("memory_bytes", stats.memory_used_bytes),
        ("memory_bytes_max", stats.memory_limit_bytes),
        ("tenant_memory_bytes", used),
        ("tenant_memory_bytes_max", limit),
        ("copied_bytes_total", stats.copied_bytes),
        ("buckets", stats.n_buckets),
        ("names", stats.n_names),
        ("objects", stats.n_objects),
        ("names_bytes", stats.names_bytes),
        ("names_bytes_max", stats.names_bytes_max),
        ("opened_total", stats.n_opened),
        ("sealed_total", stats.n_sealed),
        ("sealed_bytes_total", stats.sealed_bytes),
    ];
    let numbers = numbers.map(|(name, number)| (name.to_owned(), number));
    Statistics(numbers.into())
}
