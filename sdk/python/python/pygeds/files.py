"""Objects as Python's own buffered files, over the two raw ones that are here.

What is written is seen by others when the file is closed. When an exception leaves the `with` block of a file that is written, nothing of it is.
"""

import io

__all__ = ["Reader", "Writer"]

_BUFFER_BYTES = 1 << 20


class _Raw(io.RawIOBase):
    """A position in an object."""

    def __init__(self, file):
        self.file = file
        self._position = 0

    @property
    def size(self):
        return self.file.size

    def seekable(self):
        self._check()
        return True

    def _check(self):
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def seek(self, offset, whence=io.SEEK_SET):
        self._check()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self):
        self._check()
        return self._position


class _RawReader(_Raw):
    def readable(self):
        self._check()
        return True

    def readinto(self, buffer):
        self._check()
        n_bytes = self.file.readinto1(buffer, self._position)
        self._position += n_bytes
        return n_bytes

    def readall(self):
        self._check()
        data = self.file.read1(self._position, max(self.size - self._position, 0))
        self._position += len(data)
        return data

    def close(self):
        if not self.closed:
            super().close()
            self.file.close()


class _RawWriter(_Raw):
    def __init__(self, file, append, is_sealed_when_closed):
        super().__init__(file)
        self._append = append
        self._is_sealed_when_closed = is_sealed_when_closed
        self._is_given_up = False
        if append:
            self._position = self.size

    def writable(self):
        self._check()
        return True

    def write(self, data):
        self._check()
        with memoryview(data) as view:
            n_bytes = view.nbytes
        if self._is_given_up:
            return n_bytes
        if self._append:
            self._position = self.size
        self.file.write(data, self._position, n_bytes)
        self._position += n_bytes
        return n_bytes

    def truncate(self, size=None):
        self._check()
        size = self._position if size is None else size
        if not self._is_given_up:
            self.file.truncate(size)
        return size

    def give_up(self):
        self._is_given_up = True

    def close(self):
        if self.closed:
            return
        super().close()
        if self._is_given_up:
            self.file.close()
        elif self._is_sealed_when_closed:
            self.seal()

    def seal(self):
        try:
            self.file.seal()
        finally:
            self.file.close()


class _Named:
    """What upstream's files say of themselves."""

    @property
    def file(self):
        return self.raw.file

    @property
    def name(self):
        return f"geds://{self.file.identifier}"

    @property
    def bucket(self):
        return self.file.bucket

    @property
    def key(self):
        return self.file.key

    def fileno(self):
        raise io.UnsupportedOperation(f"{self.file.identifier} has no file number")


class Reader(_Named, io.BufferedReader):
    def __init__(self, file):
        super().__init__(_RawReader(file), _BUFFER_BYTES)

    @property
    def size(self):
        return self.raw.size


class Writer(_Named, io.BufferedWriter):
    def __init__(self, file, append=False, autocommit=True):
        super().__init__(_RawWriter(file, append, autocommit), _BUFFER_BYTES)

    @property
    def size(self):
        self.flush()
        return self.raw.size

    def terminate(self):
        """Closes it, and what was written is gone."""
        if not self.closed:
            self.raw.give_up()
            self.close()

    def commit(self):
        """After it was closed: seals it, if closing it does not."""
        self.raw.seal()

    def discard(self):
        """Instead of that."""
        self.raw.file.close()

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()
        else:
            self.terminate()
