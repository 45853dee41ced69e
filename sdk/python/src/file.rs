//! One object, being read or written.
//!
//! ```text
//!  open ───▶ sealed ──write, truncate──▶ draft, which begins with what is sealed ──seal──▶ sealed, a new generation
//!  create ─▶ draft ─────────────────────────────────────────────────────────────seal──▶ sealed
//!  a write, truncation or seal that fails or is interrupted: failed, for good
//! ```
//!
//! Others see what is sealed, until the next seal; who has it open keeps that generation. A draft that nobody seals is gone with its file.

use std::os::raw::c_int;
use std::sync::Arc;

use bytes::Bytes;
use geds_client::Acknowledged;
use geds_client::Terms;
use geds_client::index::{Class, Entry, Name, Precondition};
use geds_client::{Error, Kind, Result};
use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PySlice};
use tokio::sync::Mutex;

use crate::content::{Content, index};
use crate::door::{Door, Link};
use crate::draft::Draft;
use crate::failure;
use crate::memory::{self, NewBytes, Room, Source, Target};
use crate::runtime::{self, Own};

/// So much is copied at a time from file to file.
const COPY_BYTES: u64 = 4 << 20;

#[pyclass(frozen, module = "pygeds._geds")]
pub(crate) struct File {
    door: Arc<Door>,
    name: Name,
    /// Locked while something is written or looked up, by those who do not have the interpreter.
    state: Own<Mutex<State>>,
}

struct State {
    sealed: Option<Sealed>,
    draft: Option<Draft>,
    metadata: Box<[u8]>,
    /// It is other than what is sealed.
    is_described: bool,
    /// Of the name, at the first seal.
    when: Precondition,
    end: Option<End>,
}

/// What a name was given, and stood for at least until then.
struct Sealed {
    entry: Arc<Entry>,
    /// `None`: it is opened when it is wanted.
    content: Option<Arc<Content>>,
}

/// Why it can be used no more.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Failed,
}

impl File {
    /// Opens what a name stands for.
    pub(crate) fn open(py: Python<'_>, door: &Arc<Door>, name: Name) -> PyResult<Self> {
        let named = &name;
        let open =
            |link: Link| async move { Content::open(&link, named, Precondition::None).await };
        let (entry, content) = door.look(py, open)?;
        let metadata = entry.metadata.clone();
        let content = Some(Arc::new(content));
        let sealed = Some(Sealed { entry, content });
        Ok(Self::new(door, name, sealed, None, metadata))
    }

    /// Begins what a name is to stand for, if it is as `when` says at the first seal.
    pub(crate) fn create(door: &Arc<Door>, name: Name, when: Precondition) -> Self {
        let draft = Some((Draft::Small(Vec::new()), when));
        Self::new(door, name, None, draft, Box::default())
    }

    fn new(
        door: &Arc<Door>,
        name: Name,
        sealed: Option<Sealed>,
        draft: Option<(Draft, Precondition)>,
        metadata: Box<[u8]>,
    ) -> Self {
        let (draft, when) = draft.unzip();
        let state = State {
            sealed,
            draft,
            metadata,
            is_described: false,
            when: when.unwrap_or(Precondition::None),
            end: None,
        };
        Self {
            door: Arc::clone(door),
            name,
            state: Own::new(Mutex::new(state)),
        }
    }

    fn state(&self, py: Python<'_>) -> PyResult<&Mutex<State>> {
        let state = self.state.get().ok_or_else(|| {
            let what = "it was opened before this process was forked: open it here";
            failure::status(py, "FAILED_PRECONDITION", what)
        })?;
        if runtime::would_wait_for_itself(state) {
            let what = "a signal has interrupted a call that uses this file";
            return Err(PyRuntimeError::new_err(what));
        }
        Ok(state)
    }

    /// Looks at the state, if the file can be used.
    fn see<T: Send>(&self, py: Python<'_>, see: impl FnOnce(&State) -> T + Send) -> PyResult<T> {
        let state = self.state(py)?;
        runtime::attempt(py, async {
            let state = state.lock().await;
            state.usable()?;
            Ok(see(&state))
        })
    }

    /// Puts what there is from `position` on into `room`; if the connection has ended, after having opened it again, as it was.
    fn read_into(&self, py: Python<'_>, position: u64, room: Room<'_>) -> PyResult<usize> {
        let state = self.state(py)?;
        let link = self.door.link(py)?;
        let read = runtime::wait(py, self.read_once(state, &link, position, room))?;
        match read {
            Err(error) if error.kind == Kind::Unavailable => {
                self.door.forget_link(py);
                let link = self.door.link(py)?;
                runtime::attempt(py, async {
                    state.lock().await.forget_content();
                    self.read_once(state, &link, position, room).await
                })
            }
            read => read.map_err(|error| failure::raise(py, &error)),
        }
    }

    async fn read_once(
        &self,
        state: &Mutex<State>,
        link: &Link,
        position: u64,
        room: Room<'_>,
    ) -> Result<usize> {
        let content = {
            let mut state = state.lock().await;
            state.usable()?;
            if let Some(draft) = &state.draft {
                return draft.read(position, room);
            }
            state.content(link, &self.name).await?
        };
        // Others can read at the same time.
        content.read(position, room).await
    }

    /// All that is sealed, in memory, where it stays.
    fn hold(&self, py: Python<'_>) -> PyResult<Bytes> {
        let state = self.state(py)?;
        let link = self.door.link(py)?;
        runtime::attempt(py, async {
            let mut state = state.lock().await;
            state.usable()?;
            if state.draft.is_some() {
                return Err(Error::new(Kind::Invalid, "it is to be sealed first"));
            }
            let content = state.content(&link, &self.name).await?;
            let bytes = content.bytes().await?;
            if let Some(sealed) = &mut state.sealed {
                sealed.content = Some(Arc::new(Content::Here(bytes.clone())));
            }
            Ok(bytes)
        })
    }

    fn change(&self, py: Python<'_>, change: Change<'_>) -> PyResult<()> {
        let state = self.state(py)?;
        let link = self.door.link(py)?;
        let changed = runtime::wait(py, async {
            let mut state = state.lock().await;
            state.usable()?;
            state.change(&link, &self.name, change).await
        })?;
        changed.map_err(|error| {
            self.door.noticed(py, &error);
            failure::raise(py, &error)
        })
    }
}

enum Change<'a> {
    Write(u64, &'a Source),
    Truncate(u64),
}

impl State {
    fn usable(&self) -> Result<()> {
        match self.end {
            None => Ok(()),
            Some(End::Closed) => Err(Error::new(Kind::Invalid, "the file is closed")),
            Some(End::Failed) => {
                let what = "an earlier write has failed or was interrupted: begin again";
                Err(Error::new(Kind::Conflict, what))
            }
        }
    }

    fn len(&self) -> u64 {
        match (&self.draft, &self.sealed) {
            (Some(draft), _) => draft.len(),
            (None, Some(sealed)) => sealed.entry.sealed.size,
            (None, None) => 0,
        }
    }

    /// What is sealed, opened if it is not. If the name stands for something else by now, that is a conflict.
    async fn content(&mut self, link: &Link, name: &Name) -> Result<Arc<Content>> {
        let Some(sealed) = &mut self.sealed else {
            return Err(Error::new(
                Kind::Internal,
                "there is neither draft nor content",
            ));
        };
        if let Some(content) = &sealed.content {
            return Ok(Arc::clone(content));
        }
        let same = Precondition::Etag(sealed.entry.sealed.etag.clone());
        let (_, content) = Content::open(link, name, same).await?;
        let content = Arc::new(content);
        sealed.content = Some(Arc::clone(&content));
        Ok(content)
    }

    /// The next to read opens it again.
    fn forget_content(&mut self) {
        if let Some(sealed) = &mut self.sealed
            && let Some(content) = &sealed.content
            && matches!(**content, Content::Remote { .. })
        {
            sealed.content = None;
        }
    }

    async fn change(&mut self, link: &Link, name: &Name, change: Change<'_>) -> Result<()> {
        let draft = match self.draft.take() {
            Some(draft) => draft,
            None => {
                let keep = match change {
                    Change::Write(..) => u64::MAX,
                    Change::Truncate(len) => len,
                };
                let content = self.content(link, name).await?;
                Draft::of(link, &content, keep).await?
            }
        };
        // The draft is not whole until this is done.
        self.end = Some(End::Failed);
        let draft = match change {
            Change::Write(position, from) => draft.write(link, position, from).await?,
            Change::Truncate(len) => draft.truncate(link, len).await?,
        };
        self.draft = Some(draft);
        self.end = None;
        Ok(())
    }

    /// Gives the name what was written or said; whether there was something.
    async fn seal(&mut self, link: &Link, name: &Name, class: Class) -> Result<bool> {
        let Some(draft) = self.draft.take() else {
            let is_described = self.is_described;
            if is_described {
                let metadata = self.metadata.clone();
                link.client.set_metadata(name, metadata).await?;
                self.is_described = false;
            }
            return Ok(is_described);
        };
        let terms = Terms {
            when: self.condition(),
            metadata: self.metadata.clone(),
            ..Terms::default()
        };
        self.end = Some(End::Failed);
        let (sealed, content) = match draft {
            Draft::Small(bytes) => {
                let bytes = Bytes::from(bytes);
                match put(link, name, bytes.clone(), class, terms).await {
                    Ok(sealed) => (sealed, Some(Arc::new(Content::Here(bytes)))),
                    Err(error) => {
                        // It is all here, so it can be tried again.
                        self.draft = Some(Draft::Small(bytes.into()));
                        self.end = None;
                        return Err(error);
                    }
                }
            }
            Draft::Large(large) => {
                let (writer, _handle) = large.finish().await?;
                (writer.seal(name, class, terms).await?, None)
            }
        };
        let entry = sealed.entry;
        self.sealed = Some(Sealed { entry, content });
        self.is_described = false;
        self.end = None;
        Ok(true)
    }

    /// What is sealed again is made of what was sealed before: nothing of somebody else may be lost.
    fn condition(&self) -> Precondition {
        match &self.sealed {
            Some(sealed) => Precondition::Etag(sealed.entry.sealed.etag.clone()),
            None => self.when.clone(),
        }
    }
}

async fn put(
    link: &Link,
    name: &Name,
    bytes: Bytes,
    class: Class,
    terms: Terms,
) -> Result<Acknowledged> {
    let _handle = link.handle()?;
    link.client.put(name, bytes, class, terms).await
}

#[pymethods]
impl File {
    #[getter]
    fn bucket(&self) -> &str {
        self.name.bucket.as_str()
    }

    #[getter]
    fn key(&self) -> &str {
        self.name.key.as_str()
    }

    #[getter]
    fn identifier(&self) -> String {
        format!("{}/{}", self.name.bucket, self.name.key)
    }

    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        self.see(py, State::len)
    }

    #[getter]
    fn writeable(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state(py)?;
        runtime::wait(py, async { state.lock().await.end.is_none() })
    }

    /// Of what is sealed.
    #[getter]
    fn etag(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let etag = |sealed: &Sealed| sealed.entry.sealed.etag.to_string();
        self.see(py, |state| state.sealed.as_ref().map(etag))
    }

    #[getter]
    fn metadata_bytes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let metadata = self.see(py, |state| state.metadata.clone())?;
        Ok((!metadata.is_empty()).then(|| PyBytes::new(py, &metadata)))
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bytes = self.metadata_bytes(py)?;
        bytes.map(|bytes| bytes.call_method0("decode")).transpose()
    }

    /// `set_metadata(metadata, seal=True)`, or `set_metadata(buffer, length=None, seal=True)`.
    #[pyo3(signature = (metadata=None, length=None, seal=None, *, buffer=None))]
    fn set_metadata(
        &self,
        py: Python<'_>,
        metadata: Option<&Bound<'_, PyAny>>,
        length: Option<&Bound<'_, PyAny>>,
        seal: Option<bool>,
        buffer: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (mut length, mut seal) = (length, seal);
        if let Some(flag) = length.and_then(|given| given.cast::<PyBool>().ok()) {
            seal = Some(flag.is_true());
            length = None;
        }
        let mut bytes = Vec::new();
        if let Some(given) = metadata.or(buffer) {
            let mut source = Source::of(given)?;
            if let Some(length) = length {
                source.shorten(length.extract()?);
            }
            bytes.resize(source.len(), 0);
            source.copy_to(0, &mut bytes);
        }
        let state = self.state(py)?;
        runtime::attempt(py, async {
            let mut state = state.lock().await;
            state.usable()?;
            state.metadata = bytes.into();
            state.is_described = true;
            Ok(())
        })?;
        if seal.unwrap_or(true) {
            self.seal(py)?;
        }
        Ok(())
    }

    /// At most `length` bytes from `position` on, fewer at the end.
    fn read1<'py>(
        &self,
        py: Python<'py>,
        position: u64,
        length: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let len = self.see(py, State::len)?;
        let n_bytes = index(length.min(len.saturating_sub(position)));
        let bytes = NewBytes::new(py, n_bytes)?;
        let n_read = self.read_into(py, position, bytes.room())?;
        let bytes = bytes.filled().into_bound(py).into_any();
        if n_read == n_bytes {
            return Ok(bytes);
        }
        // It was made shorter meanwhile.
        bytes.get_item(PySlice::new(py, 0, n_read.cast_signed(), 1))
    }

    /// Fills `buffer` with what there is from `position` on; gives how many bytes that were.
    fn readinto1(&self, buffer: &Bound<'_, PyAny>, position: u64) -> PyResult<usize> {
        let target = Target::of(buffer)?;
        self.read_into(buffer.py(), position, target.room())
    }

    /// The same, at most `length` bytes.
    fn read(&self, buffer: &Bound<'_, PyAny>, position: u64, length: usize) -> PyResult<usize> {
        let target = Target::of(buffer)?;
        let room = target.room();
        if room.len() < length {
            return Err(too_short(buffer.py()));
        }
        self.read_into(buffer.py(), position, room.shorter(length))
    }

    /// Writes the first `length` bytes of `buffer`, or all, at `position`.
    #[pyo3(signature = (buffer, position, length=None))]
    fn write(
        &self,
        buffer: &Bound<'_, PyAny>,
        position: u64,
        length: Option<usize>,
    ) -> PyResult<()> {
        let mut source = Source::of(buffer)?;
        if let Some(length) = length {
            if source.len() < length {
                return Err(too_short(buffer.py()));
            }
            source.shorten(length);
        }
        self.change(buffer.py(), Change::Write(position, &source))
    }

    fn truncate(&self, py: Python<'_>, size: u64) -> PyResult<()> {
        self.change(py, Change::Truncate(size))
    }

    /// Others see from now on what was written.
    fn seal(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state(py)?;
        let link = self.door.link(py)?;
        let done = runtime::wait(py, async {
            let mut state = state.lock().await;
            let is_absent = state.condition() == Precondition::Absent;
            let done = match state.usable() {
                Ok(()) => state.seal(&link, &self.name, self.door.class).await,
                Err(error) => Err(error),
            };
            done.map_err(|error| (error, is_absent))
        })?;
        match done {
            Ok(true) => self.door.wrote(py, &self.name),
            Ok(false) => {}
            Err((error, true)) if error.kind == Kind::Conflict => {
                return Err(failure::raise_as(py, "ALREADY_EXISTS", &error));
            }
            Err((error, _)) => {
                self.door.noticed(py, &error);
                return Err(failure::raise(py, &error));
            }
        }
        Ok(())
    }

    /// Where its content begins in the memory of this process. It stays there while the file is open and not written to.
    fn raw_ptr(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.hold(py)?.as_ptr().addr())
    }

    fn raw_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let what = "objects have no files of their own: see GEDS.local_path";
        Err(failure::status(py, "UNIMPLEMENTED", what))
    }

    /// Writes what is in this file to another, from its beginning.
    fn copy_to(&self, py: Python<'_>, destination: &Bound<'_, File>) -> PyResult<()> {
        let mut position = 0;
        loop {
            let piece = self.read1(py, position, COPY_BYTES)?;
            let n_bytes = piece.len()? as u64;
            if n_bytes == 0 {
                return Ok(());
            }
            destination.get().write(&piece, position, None)?;
            position += n_bytes;
        }
    }

    /// What is not sealed is gone; what others have of its memory stays.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.get().is_none() {
            return Ok(());
        }
        let state = self.state(py)?;
        runtime::wait(py, async {
            let mut state = state.lock().await;
            state.end = Some(End::Closed);
            state.draft = None;
            state.sealed = None;
        })
    }

    fn __repr__(&self) -> String {
        format!("<GEDSFile {}>", self.identifier())
    }

    /// Its content, read-only. What is not in the memory of this process is brought there.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = slf.get().hold(slf.py());
        let bytes = bytes.map_err(|error| PyBufferError::new_err(error.to_string()))?;
        // SAFETY: Python gives a view that is to be filled.
        unsafe { memory::export(view, flags, slf.as_any(), bytes) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python gives each view back once.
        unsafe { memory::release(view) }
    }
}

fn too_short(py: Python<'_>) -> PyErr {
    failure::status(py, "FAILED_PRECONDITION", "the buffer is shorter than that")
}
