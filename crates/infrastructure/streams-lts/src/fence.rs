//! Who owns a container, as the store has it: a chain of manifests, which are numbered from 1 without a gap and never deleted.
//!
//! ```text
//!  manifest/…1   manifest/…2   manifest/…3   (…4: there is none)
//!   epoch 1       epoch 2       epoch 5 ◀── the owner, as long as nobody has made the next one
//! ```
//! Who opens a container makes the next manifest, which only one can do, and which the store decides (`PutMode::Create`). It makes none if the last one
//! has a higher epoch than its own, or the same and is another's: then it is the one who has been asleep. An owner has lost the container when there
//! is a manifest behind its own: [`check`](crate::Lts::check) asks that before a round of tiering, and before anything is deleted.
//!
//! # What protects what
//! - *Bytes that are there.* A chunk's name has its writer's epoch and a random number, and is made if it is not there: nobody, asleep or not, writes
//!   over another's object, or appends to it. What one who was asleep still puts is in nobody's table, and is an orphan for the owner.
//! - *What the table says.* Entries are in the container's log. Its fence, not this one, keeps those of a former owner out.
//! - *Objects of the owner, from a former one's deletions.* Not the check: between its answer and the deletion there may be any time, and another
//!   owner. It is the log. A former owner deletes (a) objects of which its log said, durably, that nothing needs them; the owner has replayed
//!   that record, or is behind it, so it does not need them either. And (b) orphans: objects of a lower epoch that were not in its table, which no one puts in
//!   a table any more, as an owner makes entries of its own objects only; and such of its own that it neither puts nor has in its table. An entry
//!   whose record may be durable or not is one it still puts: see [`Lts::settled`](crate::Lts::settled). Those of higher epochs it never touches.
//! - *Against a log that is there twice* (a copied disk or virtual machine) these arguments do not hold: two owners have each its own truth. The check
//!   finds it, and ends the older one at its next round. What that one deletes between its last check and the end of that round may be an object
//!   that the newer one needs, and then it is lost: nothing here prevents it, and the grace time, by which only young orphans are safe, makes it less
//!   likely for orphans only. [`Taken::n_unknown`] lets the newer one see that it is not alone.

use std::sync::atomic::{AtomicBool, Ordering};

use ids::Epoch;

use crate::disk::manifest;
use crate::names::Layout;
use crate::objects::{Created, Objects};
use crate::{Error, Result};

/// So often somebody else may come first. Each time an epoch is used up, so that there are not many.
const TRIES_MAX: usize = 16;

/// Who opens a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// From the container's log. No two owners have one.
    pub epoch: Epoch,
    /// Drawn at random when the container is opened, and kept while that is tried: so it knows its own manifest whose making was not answered.
    pub id: u64,
}

/// What an owner knows of itself, and of those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Of its manifest. Worth keeping: the next owner finds the end of the chain from there.
    pub number: u64,
    /// How many others have made a manifest since the one that was known. Where the log is on this machine alone, they are those who ended before they
    /// kept the number of theirs; if there were none, somebody else has the log too.
    pub n_unknown: u64,
}

/// That of one owner.
#[derive(Debug)]
pub(crate) struct Fence {
    pub(crate) taken: Taken,
    is_lost: AtomicBool,
}

impl Fence {
    /// `known`: the number of a manifest that was there, or 0. Needs requests in proportion to the logarithm of those made since.
    pub(crate) async fn take(
        objects: &Objects,
        layout: &Layout,
        owner: Owner,
        known: u64,
    ) -> Result<Self> {
        let taken = |number: u64| Self {
            taken: Taken {
                number,
                n_unknown: (number - 1).saturating_sub(known),
            },
            is_lost: AtomicBool::new(false),
        };
        let chain = Chain { objects, layout };
        let mut last = known;
        for _ in 0..TRIES_MAX {
            last = chain.last(last).await?;
            if last > 0 {
                let before = chain.read(last).await?;
                if before == owner {
                    return Ok(taken(last));
                }
                if before.epoch >= owner.epoch {
                    return Err(Error::Fenced { manifest: last });
                }
            }
            let next = successor(last)?;
            if chain.create(next, owner).await? {
                return Ok(taken(next));
            }
        }
        Err(Error::Unavailable {
            doing: "make a manifest behind",
            object: layout.manifest(last).to_string(),
            source: "others always come first".into(),
        })
    }

    /// Whether nobody has come since.
    pub(crate) async fn check(&self, objects: &Objects, layout: &Layout) -> Result<()> {
        self.held()?;
        let next = successor(self.taken.number)?;
        if objects.head(&layout.manifest(next)).await?.is_some() {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        self.held()
    }

    /// Whether it is not known that somebody has come.
    pub(crate) fn held(&self) -> Result<()> {
        if self.is_lost.load(Ordering::Relaxed) {
            let manifest = self.taken.number + 1;
            return Err(Error::Fenced { manifest });
        }
        Ok(())
    }
}

fn successor(number: u64) -> Result<u64> {
    let next = number.checked_add(1);
    next.ok_or(Error::Invalid("no manifest has that number"))
}

struct Chain<'a> {
    objects: &'a Objects,
    layout: &'a Layout,
}

impl Chain<'_> {
    async fn has(&self, number: u64) -> Result<bool> {
        let head = self.objects.head(&self.layout.manifest(number)).await?;
        Ok(head.is_some())
    }

    /// The end of the chain, from one that is known: first in steps that double, and then between the last two.
    async fn last(&self, known: u64) -> Result<u64> {
        if known > 0 && !self.has(known).await? {
            let path = self.layout.manifest(known);
            return Err(Error::corrupt(path, "it was there, and is gone"));
        }
        let (mut there, mut step) = (known, 1);
        let mut missing = loop {
            let Some(number) = there.checked_add(step) else {
                break u64::MAX;
            };
            if !self.has(number).await? {
                break number;
            }
            (there, step) = (number, step.saturating_mul(2));
        };
        while missing - there > 1 {
            let middle = there + (missing - there) / 2;
            if self.has(middle).await? {
                there = middle;
            } else {
                missing = middle;
            }
        }
        Ok(there)
    }

    async fn read(&self, number: u64) -> Result<Owner> {
        let path = self.layout.manifest(number);
        let bytes = self
            .objects
            .read(&path, 0..manifest::MANIFEST_BYTES_MAX)
            .await?;
        manifest::decode(&bytes).map_err(|what| Error::corrupt(path, what))
    }

    /// Whether it is made, and not another's.
    async fn create(&self, number: u64, owner: Owner) -> Result<bool> {
        let since = rt::wall().duration_since(std::time::UNIX_EPOCH);
        let at_ms = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let path = self.layout.manifest(number);
        let bytes = manifest::encode(owner, at_ms);
        match self.objects.create(&path, bytes.into()).await? {
            Created::Now(_) => Ok(true),
            Created::Before => Ok(self.read(number).await? == owner),
        }
    }
}
