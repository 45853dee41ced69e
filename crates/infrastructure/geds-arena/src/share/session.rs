//! One client, as the agent sees it: hostile until checked.
//!
//! Every page of the client's segments is in one of three places: free in its pool, granted and not sealed, or part of an object. What the
//! client says of pages is taken from what it has been granted, or its session is over.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use geds_core::extents::{Extents, PAGE_BYTES, SegmentNo};
use geds_core::{Error, Kind, Result};

use super::lent::{Grant, Lent, REFUSED, SLOTS, TOLD, WORDS};
use super::{Admission, ClientNo, Found, Keeper};
use crate::budget::Charge;
use crate::domain::Domain;
use crate::lock;
use crate::memory::{Home, Pages, Words};
use crate::object::{Lender, Object, ObjectNo, Placement, WeakObject};
use crate::pool::Pool;
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::wire::{
    self, COPY_BYTES_MAX, META_BYTES_MAX, NAME_BYTES_MAX, PLACES_MAX, Place, Reply, Request, Seal,
    Tell, VERSION,
};

/// So many packets are taken from one client before another one's turn.
const PACKETS_AT_ONCE: usize = 64;
/// More than a socket holds.
const TOLD_AT_ONCE: usize = 4096;

#[derive(Debug)]
pub(super) struct Session {
    pub no: ClientNo,
    pub requests: OwnedFd,
    /// Once it has been admitted.
    member: OnceLock<Arc<Member>>,
}

#[derive(Debug)]
pub(super) struct Member {
    domain: Domain,
    pool: Arc<Pool>,
    words: Words,
    /// What it tells without waiting for an answer.
    pub told: OwnedFd,
    unsealed_pages_max: u64,
    /// How far its count of what it has told was looked at.
    seen: AtomicU64,
    intake: Mutex<Intake>,
    lent: Mutex<Lent>,
    /// The segments that it has mapped to read.
    passed: Mutex<BTreeSet<SegmentNo>>,
    _charges: [Charge; 2],
}

#[derive(Debug, Default)]
struct Intake {
    /// Pages that it may write and seal, and how many.
    granted: Extents,
    granted_pages: u64,
    sealed: Vec<WeakObject>,
    buffer: Vec<u8>,
}

/// What goes back to a client.
struct Answer {
    packet: Vec<u8>,
    rest: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Answer {
    fn of(reply: &Reply<'_>) -> Self {
        Self {
            packet: wire::packet(reply),
            rest: Vec::new(),
            fds: Vec::new(),
        }
    }
}

impl Session {
    pub(super) fn new(no: ClientNo, requests: OwnedFd) -> Self {
        Self {
            no,
            requests,
            member: OnceLock::new(),
        }
    }

    pub(super) fn member(&self) -> Option<&Arc<Member>> {
        self.member.get()
    }

    /// Answers what it has asked. `before` is done before anything is looked up. An error ends the session.
    pub(super) fn serve(
        &self,
        keeper: &dyn Keeper,
        buffer: &mut [u8],
        before: impl Fn(&Domain),
    ) -> Result<()> {
        for _ in 0..PACKETS_AT_ONCE {
            let packet = socket::try_recv(&self.requests, buffer);
            let packet = packet.map_err(|error| Error::io("hear a client", error))?;
            let is_last;
            let mut answer = match packet {
                None => break,
                Some([]) => return Err(Error::new(Kind::Unavailable, "the client has left")),
                Some(packet) => {
                    let request = wire::parse(packet)?;
                    // That may take long: it is another one's turn first.
                    is_last = matches!(request, Request::Seal(_));
                    self.answer(keeper, &before, request)?
                }
            };
            if answer.packet.len() + answer.rest.len() > PACKET_BYTES_MAX {
                answer = Answer::of(&Reply::refused(Kind::Internal, "the answer is too long"));
            }
            let fds: Vec<_> = answer.fds.iter().map(|fd| fd.as_fd()).collect();
            // A client that waits for each answer has room for one: there is no queue to be filled.
            let sent = socket::send(&self.requests, [&answer.packet, &answer.rest], &fds);
            sent.map_err(|error| Error::io("answer a client", error))?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        keeper: &dyn Keeper,
        before: &impl Fn(&Domain),
        request: Request<'_>,
    ) -> Result<Answer> {
        let answer = match (self.member(), request) {
            (None, Request::Hello { version, token }) => self.admit(keeper, version, token),
            (Some(member), request) => {
                before(&member.domain);
                member.answer(self.no, keeper, request)?
            }
            (None, _) => return Err(Error::new(Kind::Invalid, "a client says who it is first")),
        };
        Ok(answer
            .unwrap_or_else(|error| Answer::of(&Reply::refused(error.kind, &error.to_string()))))
    }

    fn admit(&self, keeper: &dyn Keeper, version: u16, token: &[u8]) -> Result<Answer> {
        if version != VERSION {
            let what = format!("this agent speaks version {VERSION}");
            return Err(Error::new(Kind::Invalid, what));
        }
        let peer = rustix::net::sockopt::socket_peercred(&self.requests);
        let peer = peer.map_err(|error| Error::io("ask who a client is", error))?;
        let admission = keeper.admit(self.no, peer.uid.as_raw(), token)?;
        let charges = admission.domain.charge(Words::bytes(WORDS))?;
        let make = |error| Error::io("make what a client shares with the agent", error);
        let (words, words_fd) = Words::create(WORDS).map_err(make)?;
        let (told, tell) = socket::pair().map_err(make)?;
        let board = admission.domain.board_fd()?;
        let quota_bytes = admission.quota_bytes;
        let member = Member::new(admission, words, told, charges);
        let mut answer = Answer::of(&Reply::Welcome {
            version: VERSION,
            segment_bytes: member.domain.segment_bytes(),
            n_slots: SLOTS,
            quota_bytes,
        });
        answer.fds = vec![tell, words_fd, board];
        assert!(
            self.member.set(Arc::new(member)).is_ok(),
            "it is admitted once"
        );
        Ok(answer)
    }
}

impl Lender for Member {
    fn revoke(&self, object: ObjectNo) {
        lock(&self.lent).revoke(&self.words, object);
    }
}

impl Member {
    fn new(admission: Admission, words: Words, told: OwnedFd, charges: [Charge; 2]) -> Self {
        let Admission {
            domain,
            quota_bytes,
            unsealed_bytes_max,
        } = admission;
        Self {
            pool: domain.client_pool(),
            domain,
            lent: Mutex::new(Lent::new(quota_bytes, &words)),
            words,
            told,
            unsealed_pages_max: unsealed_bytes_max / PAGE_BYTES,
            seen: AtomicU64::new(0),
            intake: Mutex::default(),
            passed: Mutex::default(),
            _charges: charges,
        }
    }

    pub(super) fn is_of(&self, domain: &Domain) -> bool {
        self.domain.is(domain)
    }

    /// Is there something that it has counted and that is not done?
    pub(super) fn has_told(&self) -> bool {
        self.words[TOLD].load(Ordering::SeqCst) != self.seen.load(Ordering::SeqCst)
    }

    /// Does everything that the client has told before it counted it. An error ends the session.
    pub(super) fn hear(&self, no: ClientNo, keeper: &dyn Keeper) -> Result<()> {
        let mut intake = lock(&self.intake);
        // Somebody else may have been faster.
        let counted = self.words[TOLD].load(Ordering::SeqCst);
        if counted != self.seen.load(Ordering::SeqCst) && self.hear_all(no, keeper, &mut intake)? {
            self.seen.store(counted, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Not all, if it goes on and on.
    fn hear_all(&self, no: ClientNo, keeper: &dyn Keeper, intake: &mut Intake) -> Result<bool> {
        let mut buffer = std::mem::take(&mut intake.buffer);
        buffer.resize(PACKET_BYTES_MAX, 0);
        let mut n_left = TOLD_AT_ONCE;
        while n_left > 0 {
            let packet = socket::try_recv(&self.told, &mut buffer);
            let packet = packet.map_err(|error| Error::io("hear a client", error))?;
            match packet {
                None | Some([]) => break,
                Some(packet) => self.take(no, keeper, intake, wire::parse(packet)?)?,
            }
            n_left -= 1;
        }
        intake.buffer = buffer;
        Ok(n_left > 0)
    }

    fn take(
        &self,
        no: ClientNo,
        keeper: &dyn Keeper,
        intake: &mut Intake,
        tell: Tell<'_>,
    ) -> Result<()> {
        match tell {
            Tell::Seal(seal) => {
                let sealed = self.seal(intake, &seal)?;
                let sealed =
                    sealed.and_then(|object| keeper.sealed(no, seal.name, seal.meta, object));
                if let Err(error) = sealed {
                    tracing::debug!(client = no.0, %error, "a seal is refused");
                    self.words[REFUSED].fetch_add(1, Ordering::SeqCst);
                }
            }
            Tell::Done { slot, generation } => {
                lock(&self.lent).done(&self.words, slot, generation);
            }
        }
        Ok(())
    }

    /// The outer error ends the session, the inner one is told.
    fn answer(
        self: &Arc<Self>,
        no: ClientNo,
        keeper: &dyn Keeper,
        request: Request<'_>,
    ) -> Result<Result<Answer>> {
        let reply = |reply: Reply<'_>| Ok(Answer::of(&reply));
        Ok(match request {
            Request::Hello { .. } => Err(Error::new(Kind::Invalid, "it has been admitted")),
            Request::Lease { least, most } => self.grant(least, most),
            Request::Open { name } => self.open(no, keeper, name),
            Request::Copy { name, position } => self.copy(no, keeper, name, position),
            Request::Seal(seal) => {
                let sealed = self.seal(&mut lock(&self.intake), &seal)?;
                sealed
                    .and_then(|object| keeper.sealed(no, seal.name, seal.meta, object))
                    .and_then(|answer| reply(Reply::Answer { answer: &answer }))
            }
            Request::Ask { question } => keeper
                .ask(no, question)
                .and_then(|answer| reply(Reply::Answer { answer: &answer })),
            Request::CatchUp => reply(Reply::Answer { answer: &[] }),
            Request::Unmapped { segments } => {
                let segments: BTreeSet<_> = segments.into_iter().map(SegmentNo).collect();
                lock(&self.passed).retain(|segment| !segments.contains(segment));
                reply(Reply::Answer { answer: &[] })
            }
        })
    }

    fn grant(&self, least: u32, most: u32) -> Result<Answer> {
        let mut intake = lock(&self.intake);
        let left = self.unsealed_pages_max - intake.granted_pages;
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if left == 0 || most == 0 {
            let what = "this client has more unsealed pages than it may";
            return Err(Error::new(Kind::Exhausted, what));
        }
        let most = most.min(left);
        let least = least.clamp(1, most.min(self.domain.segment_pages()));
        let extent = self.pool.lease(least, most)?;
        let mut answer = Answer::of(&Reply::Leased(Place::from(&extent)));
        let segment = extent.segment;
        if !intake.granted.has(segment) {
            match self.pool.for_writer(segment) {
                Ok(fd) => answer.fds.push(fd),
                Err(error) => {
                    self.pool.give(extent);
                    return Err(error);
                }
            }
            intake
                .granted
                .add_taken(segment, self.domain.segment_pages());
        }
        intake.granted_pages += u64::from(extent.pages);
        intake.granted.give(extent);
        Ok(answer)
    }

    /// Makes an object of granted pages. It is not refused for want of room if it has any: the client may have gone on already. The outer error ends
    /// the session, the inner one is told.
    fn seal(&self, intake: &mut Intake, seal: &Seal<'_>) -> Result<Result<Object>> {
        seal.check()?;
        let mut pages = Vec::with_capacity(seal.places.len());
        for place in &seal.places {
            let segment = SegmentNo(place.segment);
            let extent = intake.granted.take_at(segment, place.first, place.pages);
            let extent = extent.ok_or_else(|| {
                Error::new(Kind::Invalid, "a client seals pages that it does not have")
            })?;
            intake.granted_pages -= u64::from(extent.pages);
            pages.push(Pages::new(self.pool.memory(segment), extent, self.home()));
            self.pool.close_to_writers(segment)?;
        }
        let placement = Placement::new(pages, seal.len);
        let object = self.domain.admit(placement, seal.sums.as_slice().into());
        if let Ok(object) = &object {
            intake.remember(object);
        }
        Ok(object)
    }

    /// Its session is over: does it still read something?
    pub(super) fn is_reading(&self) -> bool {
        lock(&self.lent).is_reading(&self.words)
    }

    fn find(&self, no: ClientNo, keeper: &dyn Keeper, name: &[u8]) -> Result<Found> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Error::new(Kind::Invalid, "a name is not as long as that"));
        }
        let found = keeper.find(no, name)?;
        if !self.domain.is(found.object.domain()) {
            tracing::error!(
                client = no.0,
                "an object of another domain was to be given out"
            );
            return Err(Error::new(
                Kind::Internal,
                "the object lies in another domain",
            ));
        }
        if found.meta.len() > META_BYTES_MAX {
            return Err(Error::new(Kind::Internal, "what is said of it is too long"));
        }
        Ok(found)
    }

    fn open(self: &Arc<Self>, no: ClientNo, keeper: &dyn Keeper, name: &[u8]) -> Result<Answer> {
        let Found { object, meta } = self.find(no, keeper, name)?;
        let is_lendable = object.placement().pages().len() <= PLACES_MAX;
        let Some(grant) = is_lendable.then(|| self.lend(&object)).flatten() else {
            let is_over_quota = || lock(&self.lent).is_over_quota(&object);
            return Ok(Answer::of(&Reply::NotLent {
                is_over_quota: is_lendable && !object.is_revoked() && is_over_quota(),
                object: object.no().0,
                len: object.len(),
                meta: &meta,
            }));
        };
        let Grant {
            slot,
            generation,
            placement,
        } = grant;
        let passed = self.pass(&placement);
        let (segments, fds) = passed.inspect_err(|_| {
            // The client does not know of it.
            lock(&self.lent).revoke(&self.words, object.no());
        })?;
        let mut answer = Answer::of(&Reply::Opened {
            slot,
            generation,
            len: object.len(),
            meta: &meta,
            places: placement
                .pages()
                .iter()
                .map(|pages| Place::from(pages.extent()))
                .collect(),
            segments,
        });
        answer.fds = fds;
        Ok(answer)
    }

    fn lend(self: &Arc<Self>, object: &Object) -> Option<Grant> {
        let lender: Arc<dyn Lender> = Arc::<Self>::clone(self);
        // Its revocation comes before this, or waits for this lock.
        let mut lent = lock(&self.lent);
        let may_lend = object.lend(Arc::downgrade(&lender));
        may_lend.then(|| lent.lend(&self.words, object)).flatten()
    }

    /// The segments of an object that the client has not mapped.
    fn pass(&self, placement: &Placement) -> Result<(Vec<u64>, Vec<OwnedFd>)> {
        let mut passed = lock(&self.passed);
        let mut new = BTreeMap::new();
        for pages in placement.pages() {
            let segment = pages.extent().segment;
            // Where it has written itself, it can read.
            let is_own = Arc::ptr_eq(pages.home(), &self.home());
            if !is_own && !passed.contains(&segment) && !new.contains_key(&segment) {
                new.insert(segment, pages.home().for_reader(segment)?);
            }
        }
        passed.extend(new.keys());
        Ok(new.into_iter().map(|(segment, fd)| (segment.0, fd)).unzip())
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::<Pool>::clone(&self.pool)
    }

    fn copy(
        &self,
        no: ClientNo,
        keeper: &dyn Keeper,
        name: &[u8],
        position: u64,
    ) -> Result<Answer> {
        let Found { object, .. } = self.find(no, keeper, name)?;
        let mut bytes = vec![0; COPY_BYTES_MAX];
        let n_read = object.read_at(position, &mut bytes)?;
        bytes.truncate(n_read);
        let mut answer = Answer::of(&Reply::Copied {
            object: object.no().0,
        });
        answer.rest = bytes;
        Ok(answer)
    }

    /// The session is over. What the client told last is done, and what it had not sealed is free. Does the client still read something?
    pub(super) fn end(&self, no: ClientNo, keeper: &dyn Keeper) -> (Vec<WeakObject>, bool) {
        let mut intake = lock(&self.intake);
        if let Err(error) = self.hear_all(no, keeper, &mut intake) {
            tracing::warn!(client = no.0, %error, "the last words of a client");
        }
        while let Some(extent) = intake.granted.take_longest(u32::MAX) {
            self.pool.give(extent);
        }
        let is_reading = lock(&self.lent).end(&self.words);
        self.pool.close();
        (std::mem::take(&mut intake.sealed), is_reading)
    }
}

impl Intake {
    /// Keeps it in mind for the end of the session, if it lives as long.
    fn remember(&mut self, object: &Object) {
        if self.sealed.len() == self.sealed.capacity() {
            self.sealed.retain(WeakObject::is_alive);
            self.sealed.reserve(self.sealed.len() + 1);
        }
        self.sealed.push(object.downgrade());
    }
}
