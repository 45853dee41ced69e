//! What a node tells about itself. Where IBM's GEDS has such a number, it is called as there.

use std::sync::Weak;

use prometheus::{IntCounter, IntGauge};
use telemetry::Metrics;

use crate::store::{Stats, Store};

type Value = fn(&Stats) -> u64;

/// Declares all of them. They are asked for when somebody reads them, as long as there is the store.
pub(crate) fn declare(metrics: &Metrics, store: Weak<Store>) {
    let (levels, numbers) = (
        [
            of_tiers(metrics),
            of_waiting(metrics),
            of_names(metrics),
            of_site(metrics),
        ]
        .concat(),
        [
            numbers(metrics),
            of_s3(metrics),
            of_blocks(metrics),
            from_nodes(metrics),
        ]
        .concat(),
    );
    metrics.before_reading(move || {
        let Some(store) = store.upgrade() else {
            return;
        };
        let stats = store.stats();
        for (level, value) in &levels {
            level.set(i64::try_from(value(&stats)).unwrap_or(i64::MAX));
        }
        for (number, value) in &numbers {
            number.inc_by(value(&stats).saturating_sub(number.get()));
        }
    });
}

fn of_site(metrics: &Metrics) -> Vec<(IntGauge, Value)> {
    let level = |name, help, value: Value| (metrics.gauge(name, help), value);
    vec![
        level(
            "geds_site_members",
            "Nodes that follow the names of this one, and answer for them.",
            |s| s.site.members,
        ),
        level(
            "geds_site_behind_records",
            "Changes of names that this node has not heard of yet, or of those that follow it the last one.",
            |s| s.site.behind_records,
        ),
        level(
            "geds_site_lease_left_seconds",
            "Seconds that this node may answer for names without hearing from their owner, or the one that follows it and has least.",
            |s| s.site.lease_left_seconds,
        ),
    ]
}

fn from_nodes(metrics: &Metrics) -> Vec<(IntCounter, Value)> {
    let count = |name, help, value: Value| (metrics.counter(name, help), value);
    vec![
        count(
            "geds_site_requests_total",
            "Times that bytes of objects were asked of other nodes.",
            |s| s.site.requests,
        ),
        count(
            "geds_site_received_bytes_total",
            "Bytes of objects that came from other nodes.",
            |s| s.site.received_bytes,
        ),
    ]
}

fn of_tiers(metrics: &Metrics) -> Vec<(IntGauge, Value)> {
    let level = |name, help, value: Value| (metrics.gauge(name, help), value);
    vec![
        level(
            "geds__local_memory_used",
            "Bytes of memory that objects have, or that is kept for them.",
            |s| s.memory_used_bytes,
        ),
        level(
            "geds__local_memory_free",
            "Bytes of memory that are left.",
            |s| s.memory_limit_bytes.saturating_sub(s.memory_used_bytes),
        ),
        level(
            "geds__local_memory_allocated",
            "Bytes of memory that objects may have.",
            |s| s.memory_limit_bytes,
        ),
        level(
            "geds__local_storage_used",
            "Bytes of the disk that objects take, or are promised.",
            |s| s.disk.used_bytes,
        ),
        level(
            "geds__local_storage_free",
            "Bytes of the disk that are left.",
            |s| s.disk.limit_bytes.saturating_sub(s.disk.used_bytes),
        ),
        level(
            "geds__local_storage_allocated",
            "Bytes of the disk that objects may take.",
            |s| s.disk.limit_bytes,
        ),
        level(
            "geds_disk_files_bytes",
            "Bytes of the files that objects are in.",
            |s| s.disk.segments_bytes,
        ),
        level(
            "geds_disk_apart_bytes",
            "Bytes of those files that are not used any more because the disk has failed there.",
            |s| s.disk.apart_bytes,
        ),
        level("geds_disk_objects", "Objects that are on the disk.", |s| {
            s.disk.objects
        }),
        level(
            "geds_disk_log_bytes",
            "Bytes that a restart would read to know the objects on the disk.",
            |s| s.disk.log_bytes,
        ),
        level(
            "geds_disk_waiting",
            "Writers that wait for room on the disk.",
            |s| s.disk.waiting,
        ),
    ]
}

fn of_waiting(metrics: &Metrics) -> Vec<(IntGauge, Value)> {
    let level = |name, help, value: Value| (metrics.gauge(name, help), value);
    vec![
        level(
            "geds_s3_waiting_objects",
            "Objects that are to be brought to S3.",
            |s| s.in_remote.waiting_objects,
        ),
        level(
            "geds_s3_doomed_objects",
            "Objects that are to be deleted in S3, since nobody names them any more.",
            |s| s.in_remote.doomed_objects,
        ),
        level(
            "geds_s3_blocks_under_way",
            "Blocks of buckets whose authority is S3 that are waited for.",
            |s| s.in_cache.under_way,
        ),
    ]
}

fn of_names(metrics: &Metrics) -> Vec<(IntGauge, Value)> {
    let level = |name, help, value: Value| (metrics.gauge(name, help), value);
    vec![
        level("geds_buckets", "Buckets of all tenants.", |s| s.n_buckets),
        level("geds_names", "Names in all buckets.", |s| s.n_names),
        level(
            "geds_objects",
            "Objects that have a name, also those that are lost.",
            |s| s.n_objects,
        ),
        level(
            "geds_names_bytes",
            "Memory that names take, roughly; geds_names_bytes_limit is the most.",
            |s| s.names_bytes,
        ),
        level(
            "geds_names_bytes_limit",
            "No name is taken that would need more memory.",
            |s| s.names_bytes_max,
        ),
        level(
            "geds_log_queued_bytes",
            "Bytes that wait for the log's disk; geds_log_queued_bytes_limit is the most.",
            |s| s.log.queued_bytes,
        ),
        level(
            "geds_log_queued_bytes_limit",
            "Who would let more bytes wait for the log's disk waits.",
            |s| s.log.queue_bytes_max,
        ),
        level(
            "geds_log_segments",
            "Files that the log has. A snapshot of the index lets some go.",
            |s| s.log.n_segments as u64,
        ),
        level(
            "geds_log_full",
            "1 while the disk has no room for the log, and nothing can be changed.",
            |s| u64::from(s.log.is_full),
        ),
    ]
}

fn numbers(metrics: &Metrics) -> Vec<(IntCounter, Value)> {
    let theirs = |name, help, value: Value| (metrics.foreign_counter(name, help), value);
    let ours = |name, help, value: Value| (metrics.counter(name, help), value);
    vec![
        theirs(
            "geds__files_opened",
            "Times that an object was opened, also in vain.",
            |s| s.n_opened,
        ),
        theirs("geds__files_created", "Objects that were sealed.", |s| {
            s.n_sealed
        }),
        theirs(
            "gedslocalfilehandle__bytes_written",
            "Bytes of objects that were sealed.",
            |s| s.sealed_bytes,
        ),
        ours(
            "geds_spilled_objects_total",
            "Objects that were moved from memory to the disk.",
            |s| s.moved.spilled_objects,
        ),
        ours(
            "geds_spilled_bytes_total",
            "Bytes of objects that were moved from memory to the disk.",
            |s| s.moved.spilled_bytes,
        ),
        ours(
            "geds_forgotten_objects_total",
            "Objects that memory forgot, because there was another copy.",
            |s| s.moved.forgotten_objects,
        ),
        ours(
            "geds_promoted_objects_total",
            "Objects that came back from the disk to memory.",
            |s| s.moved.promoted_objects,
        ),
        ours(
            "geds_promoted_bytes_total",
            "Bytes of objects that came back from the disk to memory.",
            |s| s.moved.promoted_bytes,
        ),
        ours(
            "geds_deleted_objects_total",
            "Objects that were spent, and deleted because room was needed.",
            |s| s.moved.deleted_objects,
        ),
        ours(
            "geds_copied_bytes_total",
            "Bytes of objects that were copied in memory.",
            |s| s.copied_bytes,
        ),
        ours(
            "geds_log_syncs_total",
            "Times that the log was synced to its disk.",
            |s| s.log.n_syncs,
        ),
    ]
}

fn of_s3(metrics: &Metrics) -> Vec<(IntCounter, Value)> {
    let ours = |name, help, value: Value| (metrics.counter(name, help), value);
    vec![
        ours(
            "geds_s3_persisted_objects_total",
            "Objects that were brought to S3.",
            |s| s.in_remote.persisted_objects,
        ),
        ours(
            "geds_s3_persisted_bytes_total",
            "Bytes of objects that were brought to S3.",
            |s| s.in_remote.persisted_bytes,
        ),
        ours(
            "geds_s3_fetched_objects_total",
            "Objects that came back from S3 to memory.",
            |s| s.in_remote.fetched_objects,
        ),
        ours(
            "geds_s3_fetched_bytes_total",
            "Bytes of objects that came back from S3 to memory.",
            |s| s.in_remote.fetched_bytes,
        ),
        ours(
            "geds_s3_deleted_objects_total",
            "Objects that were deleted in S3, or were gone there.",
            |s| s.in_remote.deleted_objects,
        ),
        ours(
            "geds_s3_conflicts_total",
            "Objects that were brought to S3 under a second key, because something else was under their own.",
            |s| s.in_remote.conflicts,
        ),
        ours(
            "geds_s3_failures_total",
            "Objects that could not be brought to S3, fetched or deleted there, each attempt by itself.",
            |s| s.in_remote.failures,
        ),
        ours(
            "geds_left_disk_objects_total",
            "Objects that left the disk, because it was short of room and they are in S3.",
            |s| s.moved.left_disk_objects,
        ),
    ]
}

/// Of buckets whose authority is S3.
fn of_blocks(metrics: &Metrics) -> Vec<(IntCounter, Value)> {
    let ours = |name, help, value: Value| (metrics.counter(name, help), value);
    vec![
        ours(
            "geds_s3_block_hits_total",
            "Blocks that were read and were in memory.",
            |s| s.in_cache.hits,
        ),
        ours(
            "geds_s3_block_misses_total",
            "Blocks that were read and had to come from S3, or were on their way.",
            |s| s.in_cache.misses,
        ),
        ours(
            "geds_s3_blocks_fetched_total",
            "Blocks that came from S3 to memory.",
            |s| s.in_cache.fetched_blocks,
        ),
        ours(
            "geds_s3_blocks_fetched_bytes_total",
            "Bytes of blocks that came from S3 to memory.",
            |s| s.in_cache.fetched_bytes,
        ),
        ours(
            "geds_s3_passed_total",
            "Readers whose bytes came from S3 and were not kept, because memory had no room.",
            |s| s.in_cache.passed_blocks,
        ),
        ours(
            "geds_s3_revalidations_total",
            "Times that S3 was asked what a name stands for.",
            |s| s.in_cache.revalidations,
        ),
        ours(
            "geds_s3_changed_total",
            "Requests that found an object changed in S3 before all of it was read.",
            |s| s.in_cache.changes,
        ),
        ours(
            "geds_s3_cache_failures_total",
            "Requests for names or blocks that failed, after all attempts.",
            |s| s.in_cache.failures,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal::testing::CrashDisk;

    use super::*;
    use crate::index::{Class, NodeId};
    use crate::store::Disks;

    fn read(metrics: &Metrics, name: &str) -> u64 {
        let text = metrics.render();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    #[test]
    fn they_are_those_of_the_store_when_they_are_read() {
        let metrics = Metrics::new();
        let mut config = crate::Config::default();
        config.disk.segment = ids::ByteSize(1 << 20);
        config.log.segment = config.disk.segment;
        let config = config.store();
        let disk = Arc::new(CrashDisk::default());
        let disks = Disks {
            log: disk.clone(),
            objects: disk,
        };
        let store = Arc::new(Store::open(&config, NodeId(1), disks).expect("it opens"));
        declare(&metrics, Arc::downgrade(&store));
        let limit = read(&metrics, "geds__local_memory_allocated");
        assert_eq!(limit, config.arena.limit_bytes);
        assert_eq!(read(&metrics, "geds_names"), 0);
        let tenant = crate::store::tenant("acme").expect("a tenant");
        let bucket = crate::index::BucketName::new("data").expect("a bucket");
        let ack = store.create_bucket(&tenant, &bucket).expect("made");
        ack.wait().expect("kept");
        for n in 1..=3 {
            let name = crate::index::Name {
                bucket: bucket.clone(),
                key: crate::index::Key::new(&format!("{n}")).expect("a key"),
            };
            let mut writer = store.writer(&tenant).expect("memory");
            writer.append(&[n; 5000]).expect("room");
            let terms = crate::store::Terms::default();
            let sealed = store.seal(&tenant, &name, (Class::Durable, writer), terms);
            sealed.expect("sealed").1.wait().expect("kept");
            assert_eq!(read(&metrics, "geds_names"), u64::from(n));
            assert_eq!(read(&metrics, "geds__files_created"), u64::from(n));
            store.open_object(&tenant, &name).expect("it is there");
            assert_eq!(read(&metrics, "geds__files_opened"), u64::from(n));
        }
        let used = read(&metrics, "geds__local_memory_used");
        let free = read(&metrics, "geds__local_memory_free");
        assert!(used >= 15_000 && used + free == limit, "{used} {free}");
        assert!(read(&metrics, "geds_log_syncs_total") > 0);
        assert_eq!(read(&metrics, "geds_disk_objects"), 3);
        assert_eq!(read(&metrics, "gedslocalfilehandle__bytes_written"), 15_000);
        drop(store);
        assert_eq!(read(&metrics, "geds_names"), 3, "the last that was known");
    }
}
