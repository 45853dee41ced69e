//! Which container a segment is in. It never changes: what is kept would not be found.

use streams_core::{Op, Refusal, SegmentName};

/// The container of what the platform itself keeps: tenants cannot fill it.
pub(crate) const SYSTEM: u32 = 0;

/// What begins so is in [`SYSTEM`].
const SYSTEM_PREFIX: &str = "_system/";

/// What is written in a container about its own chunks is in that container.
const CHUNKS_PREFIX: &str = "_system/_chunks/";

/// What ends the part of a name that says in which container the segment is. Those of its transactions and the like are merged into it, and those of
/// a transaction of an earlier epoch into one of a later epoch that has the same number.
const SUFFIXES: [&str; 4] = [".#epoch.", "#transaction.", "#transient.", "#index"];

/// The table of the chunks of a container.
pub(crate) fn chunks_of(container: u32) -> SegmentName {
    let name = format!("{CHUNKS_PREFIX}{container}.#epoch.0");
    SegmentName::new(&name).expect("it is short")
}

/// Whether it is for the platform only, however it is asked for.
#[must_use]
pub fn is_internal(segment: &str) -> bool {
    segment.starts_with(SYSTEM_PREFIX)
}

/// From 1 on, where the platform's own has 0.
pub(crate) fn container_of(segment: &str, n_containers: u32) -> u32 {
    if let Some(rest) = segment.strip_prefix(CHUNKS_PREFIX) {
        let number = rest
            .split('.')
            .next()
            .and_then(|number| number.parse().ok());
        return number.filter(|n| *n <= n_containers).unwrap_or(SYSTEM);
    }
    if segment.starts_with(SYSTEM_PREFIX) {
        return SYSTEM;
    }
    let ends = SUFFIXES.iter().filter_map(|suffix| segment.find(suffix));
    let parent = &segment[..ends.min().unwrap_or(segment.len())];
    1 + crc32c::crc32c(parent.as_bytes()) % n_containers
}

/// # Errors
/// [`Refusal::Invalid`]: it is about segments of several containers, or about none that has a name.
pub(crate) fn container_of_op(op: &Op, n_containers: u32) -> Result<u32, Refusal> {
    let of = |segment: &SegmentName| container_of(segment.as_str(), n_containers);
    let together = |target: &SegmentName, sources: &[SegmentName]| {
        if sources.iter().all(|source| of(source) == of(target)) {
            Ok(of(target))
        } else {
            Err(Refusal::Invalid("only what belongs together is merged"))
        }
    };
    match op {
        Op::Append(append) => Ok(of(&append.segment)),
        Op::Create { segment, .. }
        | Op::Seal(segment)
        | Op::Truncate { segment, .. }
        | Op::UpdateAttributes { segment, .. }
        | Op::Delete(segment)
        | Op::DeleteEmptyTable(segment) => Ok(of(segment)),
        Op::PutEntries { table, .. } | Op::RemoveEntries { table, .. } => Ok(of(table)),
        Op::Merge { target, source, .. } => together(target, std::slice::from_ref(source)),
        Op::MergeBatch { target, sources } => together(target, sources),
        Op::Store { .. } => Err(Refusal::Invalid("it is for the container's owner")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_where_they_are() {
        let hex = "00000000000000000000000000000001";
        let of_txn = format!("scope/stream/0.#epoch.0#transaction.{hex}");
        for (segment, container) in [
            ("scope/stream/0.#epoch.0", 2),
            ("scope/stream/0.#epoch.7", 2),
            (&of_txn, 2),
            ("scope/stream/0.#epoch.0#transient.5", 2),
            ("scope/stream/1.#epoch.0", 3),
            ("_system/_control/0.#epoch.0", 0),
            ("_system/_chunks/0.#epoch.0", 0),
            ("_system/_chunks/3.#epoch.0", 3),
            ("_system/_chunks/99.#epoch.0", 0),
            ("_system/_chunks/x", 0),
        ] {
            assert_eq!(container_of(segment, 4), container, "{segment}");
        }
        assert_eq!(container_of(chunks_of(4).as_str(), 4), 4);
    }
}
