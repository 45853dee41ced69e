//! What the store says, as text and as JSON.

use geds::index::{Class, Entry, Loss, Name, Placement, Residency};
use geds::tier2::keys;
use serde_json::{Value, json};

/// A name on a terminal is a line, whatever it has in it.
pub(super) fn text(name: &str) -> String {
    let is_odd = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
    if name.chars().any(is_odd) {
        name.escape_debug().to_string()
    } else {
        name.to_owned()
    }
}

pub(super) fn name(name: &Name) -> String {
    format!("{}/{}", name.bucket, text(name.key.as_str()))
}

pub(super) fn class(class: Class) -> &'static str {
    match class {
        Class::Ephemeral => "ephemeral",
        Class::Durable => "durable",
    }
}

pub(super) fn bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut left = n_bytes;
    let mut unit = None;
    let mut tenths = 0;
    for next in UNITS {
        if left < 1024 {
            break;
        }
        tenths = left % 1024 * 10 / 1024;
        left /= 1024;
        unit = Some(next);
    }
    match unit {
        Some(unit) => format!("{left}.{tenths} {unit}"),
        None => format!("{n_bytes} B"),
    }
}

/// `2026-11-29 06:42:41`, in UTC.
pub(in crate::cli) fn time(since_1970_ms: u64) -> String {
    let seconds = since_1970_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years, as in Howard Hinnant's `civil_from_days`.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

pub(super) fn entry(entry: &Entry) -> Value {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let metadata = match std::str::from_utf8(&entry.metadata) {
        Ok(text) => json!(text),
        Err(_) => json!({"hex": hex(&entry.metadata)}),
    };
    let consumers = entry.hints.consumers.iter();
    let consumers: Vec<_> = consumers.map(|of| format!("{:032x}", of.0)).collect();
    json!({
        "size": entry.sealed.size,
        "etag": entry.sealed.etag.to_string(),
        "class": class(entry.sealed.class),
        "generation": entry.generation.0,
        "modified_at_ms": entry.modified_at_ms,
        "metadata": metadata,
        "expires_at_ms": entry.hints.expires_at_ms,
        "readers": entry.hints.readers,
        "consumers": consumers,
    })
}

/// Where the object of a name is.
pub(super) fn placement(placement: &Placement, of: &Name) -> Vec<String> {
    match placement {
        Placement::At(copies) => copies.iter().map(|copy| residency(copy, of)).collect(),
        Placement::Lost(Loss::Node { node, epoch }) => {
            vec![format!("lost with node {} (epoch {epoch})", node.0)]
        }
        Placement::Lost(Loss::Corrupt) => vec!["lost: it was damaged".to_owned()],
    }
}

/// In S3 other tools may know it by another key.
fn residency(copy: &Residency, of: &Name) -> String {
    match copy {
        Residency::Dram(node) => format!("memory of node {}", node.0),
        Residency::Disk(node) => format!("disk of node {}", node.0),
        Residency::S3(at) => {
            let path = keys::path(&at.name.key);
            let is_same = at.name.bucket == of.bucket && path.as_ref() == of.key.as_str();
            if is_same {
                "S3".to_owned()
            } else {
                format!("S3 as {}/{}", at.name.bucket, text(path.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use geds::index::{Etag, InS3, NodeId};

    use super::*;

    #[test]
    fn lengths_are_short() {
        for (n_bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes(n_bytes), shown);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (at_s, shown) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (4_102_444_800, "2100-01-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(time(at_s * 1000), shown);
        }
    }

    #[test]
    fn a_copy_in_s3_has_its_key_if_that_is_another() {
        let name = |text| super::super::name(text).expect("a name");
        for (of, at, shown) in [
            ("data/a/b", "data/a/b", "S3"),
            ("data/a b*%é", "data/a b*%é", "S3"),
            (
                "data/a",
                "data/a.geds-home-1-2-3",
                "S3 as data/a.geds-home-1-2-3",
            ),
            ("data/a", "more/a", "S3 as more/a"),
            ("data/a//b", "data/a//b", "S3 as data/!geds-key/a%2F%2Fb"),
        ] {
            let at = InS3 {
                name: name(at),
                etag: Etag::new("x").expect("an etag"),
            };
            let copies = [Residency::Dram(NodeId(1)), Residency::S3(at.into())];
            let told = placement(&Placement::At(copies.into_iter().collect()), &name(of));
            assert_eq!(told, ["memory of node 1", shown]);
        }
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(text("a/é b"), "a/é b");
        assert_eq!(text("a\n\x1b[2J"), "a\\n\\u{1b}[2J");
    }
}
