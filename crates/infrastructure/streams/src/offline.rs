//! A directory that no server has: is it what was written, and what is in it?

use store::Registry;
use streams_control::check::{self as rows, Found};
use streams_control::{Control, Limits};
use streams_core::SegmentName;
use streams_store::check::Check;
use telemetry::Metrics;

use crate::config::Config;
use crate::controller::TABLE;
use crate::service::{Error, lts};

pub use streams_store::check::{Finding, Told};
pub use streams_store::dump;

/// Looks at all that the directory and long-term storage have, and tells what is wrong. How much that was. Nothing is written.
///
/// # Errors
/// [`Error`]: it is no such directory, cannot be read, or a server writes in it.
pub async fn check(config: &Config, tell: impl FnMut(Told)) -> Result<usize, Error> {
    let lts = lts(config, &Registry::default(), &Metrics::new())?;
    let mut check = Check::read(&config.dir, tell)?;
    check_streams(&mut check);
    check.look_behind(&lts).await?;
    Ok(check.finish()?)
}

/// What the controller remembers of streams, and whether the store has it.
fn check_streams(check: &mut Check<impl FnMut(Told)>) {
    let table = SegmentName::new(TABLE).expect("it is a name");
    let mut loaded = Vec::new();
    let mut is_whole = check.knows(&table);
    for (key, value, version) in check.entries(&table) {
        // What stands for a row that went is empty.
        if value.is_empty() {
            continue;
        }
        if let Err(error) = rows::row(&key, &value) {
            is_whole = false;
            let place = format!("the row {}", String::from_utf8_lossy(&key));
            check.find(place, error);
        }
        loaded.push((key.to_vec(), value.to_vec(), version));
    }
    if !is_whole {
        return;
    }
    let control = match Control::load(Limits::default(), loaded, 0) {
        Ok(control) => control,
        Err(error) => return check.find("the rows of the controller", error),
    };
    let mut wrong = Vec::new();
    let find = |segment: &str| {
        let name = SegmentName::new(segment).ok()?;
        let info = check.info(&name)?;
        Some(Found {
            length: info.length,
            is_sealed: info.is_sealed,
        })
    };
    control.check_segments(find, |segment, what| {
        // Of a container that cannot be read all is unknown, which has been told.
        if SegmentName::new(segment).is_ok_and(|name| check.knows(&name)) {
            wrong.push((segment.to_owned(), what));
        }
    });
    for (segment, what) in wrong {
        check.find(segment, what);
    }
}

#[cfg(test)]
mod tests;
