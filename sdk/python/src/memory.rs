//! Memory that belongs to Python, used without the interpreter.
//!
//! Other threads of the program may use it at the same time: that is their affair, as with `readinto` of Python's own files. So no reference is made
//! of it here; bytes are copied by address.

use std::marker::PhantomData;
use std::os::raw::{c_char, c_int};
use std::ptr;

use bytes::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// What somebody gave to be written.
pub(crate) struct Source {
    buffer: PyUntypedBuffer,
    len: usize,
}

impl Source {
    /// Any object with a buffer that is one piece, whatever its items are; or text.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let encoded;
        let given = if given.is_instance_of::<PyString>() {
            encoded = given.call_method0("encode")?;
            &encoded
        } else {
            given
        };
        let buffer = one_piece(given)?;
        let len = buffer.len_bytes();
        Ok(Self { buffer, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Only its beginning.
    pub(crate) fn shorten(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Copies what is there from `at` on.
    pub(crate) fn copy_to(&self, at: usize, into: &mut [u8]) {
        let start = self.part(at, into.len());
        // SAFETY: so many bytes are there, and `into` is of Rust, so it is elsewhere.
        unsafe { ptr::copy_nonoverlapping(start, into.as_mut_ptr(), into.len()) }
    }

    pub(crate) fn copy(&self, at: usize, len: usize) -> Bytes {
        let start = self.part(at, len);
        let mut copy = Vec::<u8>::with_capacity(len);
        // SAFETY: the same, and all of what then counts as filled is.
        unsafe {
            ptr::copy_nonoverlapping(start, copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        copy.into()
    }

    /// Where `len` bytes are, in one piece. They stay there until the buffer is dropped, as every exporter of one promises.
    fn part(&self, at: usize, len: usize) -> *const u8 {
        assert!(at <= self.len && len <= self.len - at);
        let start = self.buffer.buf_ptr().cast::<u8>();
        // Not `add`: what is empty may be nowhere.
        start.wrapping_add(at)
    }
}

/// Where somebody wants to have what is read.
pub(crate) struct Target(PyUntypedBuffer);

impl Target {
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = one_piece(given)?;
        if buffer.readonly() {
            return Err(PyBufferError::new_err("the buffer cannot be written to"));
        }
        Ok(Self(buffer))
    }

    pub(crate) fn room(&self) -> Room<'_> {
        Room {
            start: self.0.buf_ptr().cast(),
            len: self.0.len_bytes(),
            _holder: PhantomData,
        }
    }
}

fn one_piece(given: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let buffer = PyUntypedBuffer::get(given)?;
    if buffer.is_c_contiguous() {
        Ok(buffer)
    } else {
        Err(PyBufferError::new_err("the buffer is not in one piece"))
    }
}

/// A new `bytes`, to be filled before anybody sees it.
pub(crate) struct NewBytes {
    object: Py<PyBytes>,
    start: *mut u8,
    len: usize,
}

impl NewBytes {
    pub(crate) fn new(py: Python<'_>, len: usize) -> PyResult<Self> {
        let size = ffi::Py_ssize_t::try_from(len)
            .map_err(|_| PyIndexError::new_err("that is more than there can be"))?;
        // SAFETY: without a source it makes a new object with room for so many bytes, or raises and gives null.
        let object = unsafe {
            let made = ffi::PyBytes_FromStringAndSize(ptr::null::<c_char>(), size);
            Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked::<PyBytes>()
        };
        // SAFETY: it is a `bytes`, whose bytes do not move while it lives, and nobody else has it.
        let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast();
        let object = object.unbind();
        Ok(Self { object, start, len })
    }

    pub(crate) fn room(&self) -> Room<'_> {
        Room {
            start: self.start,
            len: self.len,
            _holder: PhantomData,
        }
    }

    /// Nobody is to look at what was not filled.
    pub(crate) fn filled(self) -> Py<PyBytes> {
        self.object
    }
}

/// Where bytes can be put.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    start: *mut u8,
    len: usize,
    _holder: PhantomData<&'a ()>,
}

// SAFETY: it is an address of memory that its holder keeps, and bytes are put there from any thread.
unsafe impl Send for Room<'_> {}
// SAFETY: the same.
unsafe impl Sync for Room<'_> {}

impl<'a> Room<'a> {
    /// Nobody else has it meanwhile.
    pub(crate) fn of(bytes: &'a mut [u8]) -> Self {
        Self {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
            _holder: PhantomData,
        }
    }
}

impl Room<'_> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Only its beginning.
    pub(crate) fn shorter(self, len: usize) -> Self {
        let len = self.len.min(len);
        Self { len, ..self }
    }

    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at);
        let start = self.start.wrapping_add(at);
        // SAFETY: the holder keeps so many bytes there, writable; `bytes` cannot lie there, because no reference to that memory was made.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) }
    }
}

/// Answers who wants the buffer of `owner`, which is `bytes`. They stay until the view is released.
///
/// # Safety
/// `view` is what Python has given to `__getbuffer__`.
pub(crate) unsafe fn export(
    view: *mut ffi::Py_buffer,
    flags: c_int,
    owner: &Bound<'_, PyAny>,
    bytes: Bytes,
) -> PyResult<()> {
    let len = ffi::Py_ssize_t::try_from(bytes.len()).expect("memory is shorter than that");
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: `view` is to be filled, says the caller. It is read-only, so nobody writes to `start`.
    let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, len, 1, flags) };
    if filled != 0 {
        return Err(PyErr::fetch(owner.py()));
    }
    // SAFETY: it was filled, and this field is the exporter's.
    unsafe { (*view).internal = Box::into_raw(Box::new(bytes)).cast() };
    Ok(())
}

/// # Safety
/// `view` was filled by [`export`], and this is the only time.
pub(crate) unsafe fn release(view: *mut ffi::Py_buffer) {
    // SAFETY: `export` has put it there, and nobody else takes it.
    drop(unsafe { Box::from_raw((*view).internal.cast::<Bytes>()) });
}
