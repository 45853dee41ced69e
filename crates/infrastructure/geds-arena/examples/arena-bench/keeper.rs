//! The least that can be above an arena: it knows names in one domain, and lets everybody in.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use geds_arena::{Admission, Arena, ClientNo, Domain, Found, Keeper, Object};
use geds_arena::{Error, Kind, Result};

#[derive(Debug)]
pub(crate) struct Names {
    _arena: Arena,
    pub(crate) domain: Domain,
    named: Mutex<BTreeMap<Vec<u8>, Object>>,
    left: SyncSender<()>,
}

impl Names {
    /// `left` hears of each client that is gone.
    pub(crate) fn new(arena: Arena, left: SyncSender<()>) -> Result<Self> {
        Ok(Self {
            domain: arena.domain(u64::MAX)?,
            _arena: arena,
            named: Mutex::default(),
            left,
        })
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Object> {
        self.lock().get(name).cloned()
    }

    pub(crate) fn put(&self, name: &[u8], bytes: &[u8]) -> Result<()> {
        let mut writer = self.domain.writer();
        writer.append(bytes)?;
        self.set(name, self.domain.seal(writer)?);
        Ok(())
    }

    pub(crate) fn forget_all(&self) {
        for object in std::mem::take(&mut *self.lock()).into_values() {
            object.revoke();
        }
    }

    fn set(&self, name: &[u8], object: Object) {
        let before = self.lock().insert(name.to_vec(), object);
        if let Some(before) = before {
            before.revoke();
        }
        self.domain.touch(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Object>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for Names {
    fn admit(&self, _client: ClientNo, _uid: u32, _token: &[u8]) -> Result<Admission> {
        Ok(Admission {
            domain: self.domain.clone(),
            quota_bytes: u64::MAX,
            unsealed_bytes_max: u64::MAX,
        })
    }

    fn sealed(
        &self,
        _client: ClientNo,
        name: &[u8],
        _meta: &[u8],
        object: Object,
    ) -> Result<Vec<u8>> {
        self.set(name, object);
        Ok(Vec::new())
    }

    fn find(&self, _client: ClientNo, name: &[u8]) -> Result<Found> {
        let object = self.get(name);
        let object = object.ok_or_else(|| Error::new(Kind::NotFound, "there is no such name"))?;
        let meta = Vec::new();
        Ok(Found { object, meta })
    }

    fn ask(&self, _client: ClientNo, _question: &[u8]) -> Result<Vec<u8>> {
        Err(Error::new(Kind::Invalid, "nothing is asked here"))
    }

    fn left(&self, _client: ClientNo) {
        self.left.send(()).expect("somebody listens");
    }
}
