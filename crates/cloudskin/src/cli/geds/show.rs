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
