//! A process that shares the arena of the agent: it writes where it was leased pages, and reads where objects lie.
//!
//! It asks the agent for room, and for what it has not read before. It asks for nothing to seal an object, nor to open one again.

mod link;
mod reading;
mod space;

use std::path::Path;
use std::sync::Arc;

use geds_core::{Error, Kind, Result};

use self::link::Link;
use self::reading::{Opening, Reading};
use self::space::Space;
use super::memory::{Home, Pages};
use super::object::Opened;
use super::wire::{Place, Request, Seal, Tell};
use super::writer::{Writer, Written};

/// A connection to the agent. What was opened or begun with it goes on when it is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    link: Arc<Link>,
    space: Arc<Space>,
    reading: Arc<Reading>,
}

impl Client {
    /// Connects to the agent at `path`, which knows from `token` what this process may have.
    ///
    /// # Errors
    /// There is no agent, or it refuses.
    pub fn connect(path: &Path, token: &[u8]) -> Result<Self> {
        let link = Arc::new(Link::connect(path, token)?);
        Ok(Self {
            space: Arc::new(Space::new(Arc::clone(&link))),
            reading: Arc::new(Reading::new(Arc::clone(&link))),
            link,
        })
    }

    /// Begins an object.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.home())
    }

    /// Seals an object, and tells the agent what it is called. When this returns, the object outlives this process, whatever ends it;
    /// and whoever opens the name from then on finds it, or a later one. `name` and `meta` mean something to who is above the arena
    /// on the agent.
    ///
    /// # Errors
    /// `Invalid`: it has too many pieces, or something else is too long. `Unavailable`: the agent is gone, and what was not sealed
    /// with it. `Conflict`: one that was sealed before was refused; this one is not sealed.
    pub fn seal(&self, writer: Writer, name: &[u8], meta: &[u8]) -> Result<()> {
        self.link.check_refused()?;
        let (written, places) = self.finish(writer)?;
        let seal = seal(&written, places, name, meta)?;
        self.link.tell(&Tell::Seal(seal))?;
        hand_over(written);
        self.link.touch(name);
        Ok(())
    }

    /// Seals an object, and waits for what is said about it above the arena on the agent.
    ///
    /// # Errors
    /// As [`Self::seal`], and what is said there. An object that is refused is gone.
    pub fn seal_and_wait(&self, writer: Writer, name: &[u8], meta: &[u8]) -> Result<Vec<u8>> {
        let (written, places) = self.finish(writer)?;
        let seal = seal(&written, places, name, meta)?;
        // The agent takes the pages, whatever it says.
        let answer = self.link.ask(&Request::Seal(seal));
        hand_over(written);
        self.link.touch(name);
        answer
    }

    /// Opens an object in place, or a copy of it if the agent does not lend it.
    ///
    /// # Errors
    /// `NotFound`, or why else it is not to be had.
    pub fn open(&self, name: &[u8]) -> Result<(Opened, Arc<[u8]>)> {
        self.reading.open(name, &self.space)
    }

    /// Opens an object in place. `None`: the agent does not lend it.
    ///
    /// # Errors
    /// `NotFound`, or why else it is not to be had.
    pub fn open_in_place(&self, name: &[u8]) -> Result<Option<(Opened, Arc<[u8]>)>> {
        Ok(match self.reading.open_lent(name, &self.space)? {
            Opening::Lent(opened, meta) => Some((opened, meta)),
            Opening::NotLent(_) => None,
        })
    }

    /// Asks who is above the arena on the agent.
    ///
    /// # Errors
    /// What it answers.
    pub fn ask(&self, question: &[u8]) -> Result<Vec<u8>> {
        self.link.ask(&Request::Ask { question })
    }

    /// Waits until all that was sealed is done.
    ///
    /// # Errors
    /// `Conflict`: something was refused. `Unavailable`: the agent is gone.
    pub fn catch_up(&self) -> Result<()> {
        self.link.ask(&Request::CatchUp)?;
        self.link.check_refused()
    }

    fn finish(&self, writer: Writer) -> Result<(Written, Vec<Place>)> {
        if !writer.is_at(&self.home()) {
            let what = "an object is sealed by the client that has begun it";
            return Err(Error::new(Kind::Invalid, what));
        }
        let written = writer.finish();
        let places = written
            .pages
            .iter()
            .map(|pages| Place::from(pages.extent()));
        let places = places.collect();
        Ok((written, places))
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::<Space>::clone(&self.space)
    }
}

fn seal<'a>(
    written: &'a Written,
    places: Vec<Place>,
    name: &'a [u8],
    meta: &'a [u8],
) -> Result<Seal<'a>> {
    let seal = Seal {
        name,
        meta,
        len: written.len,
        places,
        sums: written.sums.to_vec(),
    };
    seal.check()?;
    Ok(seal)
}

/// The pages are the agent's from now on.
fn hand_over(written: Written) {
    for pages in written.pages {
        Pages::into_extent(pages);
    }
}
