"""`geds://` for fsspec, and so for pandas, Dask, PyArrow and others: `geds://BUCKET/KEY`.

A folder is there as long as something is in it, or after `mkdir` until `rmdir`: an object `_$folder$` says so then, as with upstream and Hadoop.
"""

import contextlib
import datetime
import os

import pygeds
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike
from pygeds.files import Reader, Writer

__all__ = ["GEDSFileSystem"]

_PIECE_BYTES = 4 << 20


class GEDSFileSystem(AbstractFileSystem):
    """A node. `node` is its HOST:PORT, `access_key` and `secret_key`, or `credentials`, say who asks; else the environment does: see
    `pygeds.GEDSConfig.from_env`. With `durable=False` what is written may be lost when the node ends."""

    protocol = "geds"
    root_marker = ""

    def __init__(
        self, node=None, access_key=None, secret_key=None, credentials=None, durable=None, **options
    ):
        super().__init__(**options)
        given = {
            "metadata_service_address": node,
            "access_key": access_key,
            "secret_key": secret_key,
            "credentials": credentials,
            "durable": durable,
        }
        self._config = pygeds.GEDSConfig.from_env()
        for key, value in given.items():
            if value is not None:
                self._config.set(key, value)
        self._store = pygeds.GEDS(self._config)

    @property
    def geds(self):
        """The node, connected."""
        if not self._store.is_running:
            # Another thread may be faster.
            with contextlib.suppress(pygeds.status.FailedPrecondition):
                self._store.start()
        return self._store

    @classmethod
    def _strip_protocol(cls, path):
        path = super()._strip_protocol(path)
        return [name.lstrip("/") for name in path] if isinstance(path, list) else path.lstrip("/")

    def _split(self, path):
        bucket, _, key = self._strip_protocol(path).partition("/")
        return bucket, key

    def _object(self, path):
        bucket, key = self._split(path)
        if not bucket or not key:
            raise IsADirectoryError(path)
        return bucket, key

    # What is there.

    def ls(self, path, detail=True, **kwargs):
        bucket, key = self._split(path)
        if not bucket:
            found = [_folder(name) for name in self.geds.list_buckets()]
        else:
            found = self._in_folder(bucket, key)
        return found if detail else [info["name"] for info in found]

    def _in_folder(self, bucket, key):
        prefix = f"{key}/" if key else ""
        try:
            listed = self.geds.list_folder(bucket, prefix)
            return [_info(bucket, status) for status in listed if status.key != prefix]
        except FileNotFoundError:
            if not key:
                raise
        return [self._stat(bucket, key)]

    def info(self, path, **kwargs):
        bucket, key = self._split(path)
        if not bucket:
            return _folder("")
        if not key:
            self.geds.lookup_bucket(bucket)
            return _folder(bucket)
        return _info(bucket, self.geds.status(bucket, key))

    def _stat(self, bucket, key):
        found = self.geds.info(bucket, key)
        return _file(f"{bucket}/{key}", found["size"], found["modified_at_ms"], found["etag"])

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        bucket, key = self._split(path)
        if not bucket or withdirs or maxdepth is not None:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        found = {}
        prefix = f"{key}/" if key else ""
        try:
            listed = self.geds.list(bucket, prefix)
        except FileNotFoundError:
            listed = []
        for status in listed:
            if not status.key.endswith(("/", pygeds.store.FOLDER_MARKER)):
                info = _info(bucket, status)
                found[info["name"]] = info
        if not found and key and self.isfile(path):
            info = self._stat(bucket, key)
            found[info["name"]] = info
        return found if detail else sorted(found)

    def modified(self, path):
        modified = self.info(path).get("mtime")
        if modified is None:
            raise IsADirectoryError(path)
        return datetime.datetime.fromtimestamp(modified, tz=datetime.timezone.utc)

    def ukey(self, path):
        return self._stat(*self._object(path))["etag"]

    def checksum(self, path):
        return int.from_bytes(self.ukey(path).encode(), "big")

    # Folders.

    def mkdir(self, path, create_parents=True, **kwargs):
        bucket, key = self._split(path)
        if not bucket:
            raise ValueError("a folder has a name")
        if self.exists(path):
            raise FileExistsError(path)
        if key and not create_parents:
            self.geds.lookup_bucket(bucket)
        self.makedirs(path, exist_ok=True)

    def makedirs(self, path, exist_ok=False):
        bucket, key = self._split(path)
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)
        if bucket:
            self.geds.create_bucket(bucket)
        if key:
            self.geds.create(bucket, _marker(key)).seal()

    def rmdir(self, path):
        bucket, key = self._split(path)
        if not self.isdir(path):
            raise FileNotFoundError(path)
        if not key:
            return self.geds.delete_bucket(bucket)
        if self.geds.list_folder(bucket, f"{key}/"):
            raise OSError(f"{path} is not empty")
        return self.geds.delete(bucket, _marker(key))

    # Objects, as a whole.

    def rm_file(self, path):
        bucket, key = self._object(path)
        self._stat(bucket, key)
        self.geds.delete(bucket, key)

    _rm = rm_file

    def rm(self, path, recursive=False, maxdepth=None):
        for name in [path] if isinstance(path, str) else path:
            if recursive and maxdepth is None and not _is_pattern(name):
                self._rm_all(name)
                continue
            # What is in a folder comes behind it.
            for found in reversed(self.expand_path(name, recursive=recursive, maxdepth=maxdepth)):
                if not self.isdir(found):
                    self.rm_file(found)
                elif not recursive or not self.ls(found, detail=False):
                    self.rmdir(found)

    def _rm_all(self, path):
        """Object and folder of that name, at once each."""
        bucket, key = self._split(path)
        info = self.info(path)
        if not key:
            self.geds.delete_prefix(bucket, "")
            return self.geds.delete_bucket(bucket)
        if info["type"] == "file":
            self.geds.delete(bucket, key)
        return self.geds.delete_prefix(bucket, f"{key}/")

    def cp_file(self, path1, path2, **kwargs):
        if self.isdir(path1):
            return self.makedirs(path2, exist_ok=True)
        return self.geds.copy(*self._object(path1), *self._object(path2))

    def mv(self, path1, path2, recursive=False, maxdepth=None, **kwargs):
        """One object, or a folder to where nothing is, at once."""
        is_plain = isinstance(path1, str) and isinstance(path2, str) and not _is_pattern(path1)
        if is_plain and maxdepth is None and not path2.endswith("/") and not self.isdir(path2):
            (from_bucket, from_key), (to_bucket, to_key) = self._split(path1), self._split(path2)
            if self.isfile(path1):
                return self.geds.rename(*self._object(path1), *self._object(path2))
            if recursive and from_key and to_key and self.isdir(path1):
                return self.geds.rename_prefix(from_bucket, f"{from_key}/", to_bucket, f"{to_key}/")
        return super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        file = self.geds.open(*self._object(path))
        start, end, _ = slice(start, end).indices(file.size)
        data = file.read1(start, max(end - start, 0))
        file.close()
        return data

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        file = self.geds.create(*self._object(path), mode == "overwrite")
        file.write(value, 0)
        file.seal()
        file.close()

    def get_file(self, rpath, lpath, callback=DEFAULT_CALLBACK, outfile=None, **kwargs):
        if not isfilelike(lpath) and outfile is None:
            if self.isdir(rpath):
                return os.makedirs(lpath, exist_ok=True)
            os.makedirs(os.path.dirname(lpath) or ".", exist_ok=True)
        file = self.geds.open(*self._object(rpath))
        out = outfile or (lpath if isfilelike(lpath) else open(lpath, "wb"))
        try:
            callback.set_size(file.size)
            at = 0
            while piece := file.read1(at, _PIECE_BYTES):
                out.write(piece)
                at += len(piece)
                callback.relative_update(len(piece))
        finally:
            file.close()
            if not isfilelike(lpath) and outfile is None:
                out.close()

    def put_file(self, lpath, rpath, callback=DEFAULT_CALLBACK, mode="overwrite", **kwargs):
        if os.path.isdir(lpath):
            return self.makedirs(rpath, exist_ok=True)
        with open(lpath, "rb") as source:
            callback.set_size(os.fstat(source.fileno()).st_size)
            file = self.geds.create(*self._object(rpath), mode == "overwrite")
            at = 0
            while piece := source.read(_PIECE_BYTES):
                file.write(piece, at)
                at += len(piece)
                callback.relative_update(len(piece))
            file.seal()
            file.close()

    # Objects, as files.

    def _open(self, path, mode="rb", block_size=None, autocommit=True, **kwargs):
        bucket, key = self._object(path)
        if mode == "rb":
            return Reader(self.geds.open(bucket, key))
        if mode == "ab":
            try:
                return Writer(self.geds.open(bucket, key), append=True, autocommit=autocommit)
            except FileNotFoundError:
                mode = "wb"
        if mode not in ("wb", "xb"):
            raise ValueError(f"bad mode: {mode!r} expected one of 'rb', 'wb', 'xb', 'ab'")
        return Writer(self.geds.create(bucket, key, mode == "wb"), autocommit=autocommit)

    def touch(self, path, truncate=True, **kwargs):
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")
        else:
            raise NotImplementedError("what is there keeps its time")


def _marker(key):
    return f"{key}/{pygeds.store.FOLDER_MARKER}"


def _is_pattern(path):
    return any(sign in path for sign in "*?[")


def _folder(name):
    return {"name": name, "size": 0, "type": "directory"}


def _file(name, size, modified_at_ms, etag):
    return {"name": name, "size": size, "type": "file", "mtime": modified_at_ms / 1000, "etag": etag}


def _info(bucket, status):
    name = f"{bucket}/{status.key}"
    if status.isDirectory:
        return _folder(name.rstrip("/"))
    return _file(name, status.size, status.modified_at_ms, status.etag)
