//! What has changed, in order, for those who watch. It says which thing, not how it was: a watcher is shown the thing as it is when the event
//! reaches it, so one that is behind skips what is over and ends up right.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ids::Name;
use tokio::sync::watch;

use crate::{Error, ErrorKind};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Changed {
    /// `None`: everybody sees it.
    pub org: Option<Name>,
    pub kind: &'static str,
    pub name: String,
}

#[derive(Debug)]
pub(crate) struct Feed {
    /// Numbers of an earlier run of the controller mean nothing.
    run: String,
    kept: Mutex<VecDeque<Changed>>,
    /// How many there were ever.
    count: watch::Sender<u64>,
}

const KEPT_MAX: usize = 8192;

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            run: format!("{:x}", rt::random_u64()),
            kept: Mutex::new(VecDeque::new()),
            count: watch::Sender::new(0),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Changed>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, changed: Changed) {
        let mut kept = self.kept();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(changed);
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    pub(crate) fn revision(&self, count: u64) -> String {
        format!("{}-{count}", self.run)
    }

    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// How many a revision has seen.
    pub(crate) fn parse(&self, revision: &str) -> Result<u64, Error> {
        let parts = revision.split_once('-');
        let parts = parts.and_then(|(run, count)| Some((run, count.parse().ok()?)));
        let Some((run, count)) = parts else {
            return Err(Error::invalid(
                "?since",
                "a revision is what an event, or a list, gave",
            ));
        };
        if run == self.run && count <= self.count() && count >= self.oldest(&self.kept()) {
            Ok(count)
        } else {
            Err(gone())
        }
    }

    fn oldest(&self, kept: &VecDeque<Changed>) -> u64 {
        self.count() - u64::try_from(kept.len()).expect("it is bounded")
    }

    /// The first one for `org` after the first `seen`, and how many were seen then; `Err`: it is not kept any more.
    pub(crate) fn next(&self, org: &Name, seen: u64) -> Result<(u64, Option<Changed>), Error> {
        let kept = self.kept();
        let skipped = seen.checked_sub(self.oldest(&kept)).ok_or_else(gone)?;
        let skipped = usize::try_from(skipped).expect("no more than are kept");
        for (changed, count) in kept.iter().skip(skipped).zip(seen + 1..) {
            if changed.org.as_ref().is_none_or(|owner| owner == org) {
                return Ok((count, Some(changed.clone())));
            }
        }
        Ok((self.count(), None))
    }
}

fn gone() -> Error {
    let message = "that is too long ago: list everything again, and watch from there";
    Error::new(ErrorKind::Gone, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn push(feed: &Feed, org: Option<&str>, thing: &str) {
        feed.push(Changed {
            org: org.map(name),
            kind: "Service",
            name: thing.to_owned(),
        });
    }

    #[test]
    fn an_organisation_sees_its_own_and_what_all_see_in_order() {
        let feed = Feed::new();
        let start = feed.revision(feed.count());
        for (org, thing) in [
            (Some("a"), "1"),
            (Some("b"), "2"),
            (None, "3"),
            (Some("a"), "4"),
        ] {
            push(&feed, org, thing);
        }
        let mut seen = feed.parse(&start).expect("just now");
        let mut things = Vec::new();
        while let (count, Some(changed)) = feed.next(&name("a"), seen).expect("kept") {
            things.push(changed.name);
            seen = count;
        }
        assert_eq!(things, ["1", "3", "4"]);
        assert_eq!(feed.parse(&feed.revision(seen)).expect("now"), 4);
    }

    #[test]
    fn who_comes_too_late_is_told_so() {
        let feed = Feed::new();
        let start = feed.revision(0);
        for _ in 0..=KEPT_MAX {
            push(&feed, None, "x");
        }
        let kind = |result: Result<u64, Error>| result.expect_err("refused").kind;
        assert_eq!(kind(feed.parse(&start)), ErrorKind::Gone);
        assert_eq!(
            feed.next(&name("a"), 0).expect_err("lost").kind,
            ErrorKind::Gone
        );
        feed.next(&name("a"), 1).expect("just kept");
        assert_eq!(kind(feed.parse(&Feed::new().revision(0))), ErrorKind::Gone);
        assert_eq!(kind(feed.parse(&feed.revision(1 << 40))), ErrorKind::Gone);
        for bad in ["", "-", "x", "x-y"] {
            assert_eq!(kind(feed.parse(bad)), ErrorKind::Invalid, "{bad}");
        }
    }
}
