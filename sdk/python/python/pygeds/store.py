"""The store: names, and what is done with them."""

import contextlib
import os
import re
import shutil
import tempfile
import warnings

from . import status
from ._geds import Node
from .config import DEFAULT_METADATA_SERVER_PORT, DEFAULT_PORT

DELIMITER = "/"
# An object with such a name says that there is a folder, as upstream and Hadoop have them.
FOLDER_MARKER = "_$folder$"
_IN_FOLDER = DELIMITER + FOLDER_MARKER
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# So many bytes of an object are copied at a time.
_PIECE_BYTES = 4 << 20


class GEDSFileStatus:
    """A name that was listed: of an object, or of a folder."""

    __slots__ = ("key", "size", "isDirectory", "modified_at_ms", "etag")

    def __init__(self, key, size, is_directory, modified_at_ms=0, etag=""):
        self.key = key
        self.size = size
        self.isDirectory = is_directory
        self.modified_at_ms = modified_at_ms
        self.etag = etag

    @property
    def name(self):
        return self.key

    def __str__(self):
        return self.key

    def __repr__(self):
        kind = "directory" if self.isDirectory else "file"
        return f"{{{self.key}, {self.size} bytes, {kind}}}"


class Subscription:
    """What happens to names, from when it was made: pairs of what (`named`, `removed` or `placed`) and the key.

    Nothing is left out. If more has happened than the node remembers, `("lost", "")` says so: list again."""

    def __init__(self, geds, bucket, prefix, key):
        self._geds = geds
        self._what = (bucket, prefix, key)
        self._at = geds._running().watch(*self._what, None, 0.0)[1]

    def poll(self, timeout=0.0):
        """What has happened; waits so many seconds for something to happen."""
        if self._at is None:
            return []
        events, self._at = self._geds._running().watch(*self._what, self._at, timeout)
        return [("lost", "")] if events is None else events

    def close(self):
        self._at = None

    def __iter__(self):
        while self._at is not None:
            yield from self.poll(10.0)


class GEDS:
    """A node, as one user sees it. Any thread may use it. In a child of a fork it connects anew."""

    default_port = DEFAULT_PORT
    default_metadata_server_port = DEFAULT_METADATA_SERVER_PORT

    def __init__(self, config):
        self._config = config
        self._node = None
        self._buckets = set()
        self._pending = set()
        # Of which process, and where.
        self._copies = {}

    @property
    def config(self):
        return self._config

    @property
    def is_running(self):
        return self._node is not None

    def start(self):
        """Connects to the node."""
        if self._node is not None:
            raise status.error("FAILED_PRECONDITION", "The service is running.")
        config = self._config
        node = Node(config.metadata_service_address, config._who(), bool(config.durable))
        node.connect()
        self._node = node

    def stop(self):
        """Ends the use of the node. Files that are open can still be used."""
        node = self._running()
        try:
            if self._config.force_relocation_when_stopping:
                self.relocate(True)
        finally:
            self._node = None
            node.disconnect()
            self._buckets.clear()
            copies = self._copies.pop(os.getpid(), None)
            if copies is not None:
                shutil.rmtree(copies, ignore_errors=True)

    def _running(self):
        node = self._node
        if node is None:
            raise status.error("FAILED_PRECONDITION", "The service is stopped.")
        return node

    # Names.

    @staticmethod
    def is_valid_bucket_name(bucket):
        return bool(_BUCKET.fullmatch(bucket)) and not bucket.startswith("xn--")

    @staticmethod
    def is_valid_key_name(key):
        """Whether upstream takes it. A node also takes others."""
        return bool(key) and not key.endswith("/") and not key.startswith(("./", "../")) and "/../" not in key

    @staticmethod
    def parse_object_name(name):
        bucket, slash, key = name.partition(DELIMITER)
        if not slash:
            raise status.error("INVALID_ARGUMENT", f"`{name}` is not BUCKET/KEY")
        return bucket, key

    # Buckets.

    def create_bucket(self, bucket):
        """One that is there already is as good."""
        if bucket in self._buckets:
            return
        try:
            self._running().create_bucket(bucket)
        except status.Aborted:
            # It may be somebody else's.
            self.lookup_bucket(bucket)
        self._buckets.add(bucket)

    def lookup_bucket(self, bucket):
        if bucket not in self.list_buckets():
            raise status.error("NOT_FOUND", f"you have no bucket `{bucket}`")

    def list_buckets(self):
        return [name for name, _ in self._running().buckets()]

    def delete_bucket(self, bucket):
        self._buckets.discard(bucket)
        try:
            self._running().delete_bucket(bucket)
        except status.Aborted as error:
            raise status.error("FAILED_PRECONDITION", error.message) from None

    # Objects.

    def create(self, bucket, key, overwrite=True):
        """Begins an object. Nobody sees it before it is sealed; what the name stands for stays until then, and for who has it open."""
        node = self._running()
        self.create_bucket(bucket)
        if not overwrite:
            try:
                node.stat(bucket, key)
            except status.NotFound:
                pass
            else:
                raise status.error("ALREADY_EXISTS", f"there is an object `{key}` in `{bucket}`")
        return node.create(bucket, key, not overwrite)

    def open(self, bucket, key, retry=False):
        """Opens an object. A connection that has ended is made anew, whether or not `retry` is said."""
        return self._running().open(bucket, key)

    def local_open(self, bucket, key):
        """Opens an object if the node has it in its memory or on its disk."""
        node = self._running()
        places = node.stat(bucket, key)["places"]
        if not any(place in ("memory", "disk") for place, _ in places):
            raise status.error("NOT_FOUND", f"{bucket}/{key} is not at this node")
        return node.open(bucket, key)

    def reopen(self, file):
        """What the name of a file stands for by now."""
        return self._running().open(file.bucket, file.key)

    def status(self, bucket, key):
        node = self._running()
        if key in ("", DELIMITER):
            self.lookup_bucket(bucket)
            return GEDSFileStatus(key, 0, True)
        if not key.endswith(DELIMITER):
            try:
                found = node.stat(bucket, key)
                return GEDSFileStatus(key, found["size"], False, found["modified_at_ms"], found["etag"])
            except status.NotFound:
                pass
        folder = key.rstrip(DELIMITER) + DELIMITER
        if node.has_prefix(bucket, folder):
            return GEDSFileStatus(key, 0, True)
        raise status.error("NOT_FOUND", f"there is no `{key}` in `{bucket}`")

    def info(self, bucket, key):
        """All that the node says of an object, as a dictionary: `size`, `etag`, `durable`, `places`, ..."""
        return self._running().stat(bucket, key)

    def list(self, bucket, key=""):
        """All objects whose names begin so."""
        listed = self._running().list(bucket, key, "")
        return [GEDSFileStatus(name, size, False, at, etag) for name, size, at, etag, _ in listed]

    def list_folder(self, bucket, key=""):
        """What is in a folder, objects and folders."""
        listed = self._running().list(bucket, key, DELIMITER)
        if not listed and key:
            raise status.error("NOT_FOUND", f"there is no `{key}` in `{bucket}`")
        found = [
            GEDSFileStatus(name, size, is_folder, at, etag)
            for name, size, at, etag, is_folder in listed
            if name != FOLDER_MARKER and not name.endswith(_IN_FOLDER)
        ]
        return found

    def mkdirs(self, bucket, path):
        """Says that there is a folder, and those above it."""
        self.create_bucket(bucket)
        path = path.strip(DELIMITER)
        while path:
            try:
                self._running().create(bucket, path + _IN_FOLDER, True).seal()
            except status.AlreadyExists:
                pass
            path = path.rpartition(DELIMITER)[0]

    def delete(self, bucket, key):
        """If there is none, that is as good."""
        try:
            self._running().delete(bucket, key)
        except status.NotFound:
            pass

    def delete_prefix(self, bucket, prefix):
        """All objects of the bucket whose names begin so: at once, unless they are too many for that."""
        node = self._running()
        try:
            node.delete_prefix(bucket, prefix)
        except status.ResourceExhausted:
            for name, *_ in node.list(bucket, prefix, ""):
                self.delete(bucket, name)

    def rename(self, src_bucket, src_key, dest_bucket, dest_key):
        """At once: nobody sees both names, or neither."""
        node = self._running()
        self.create_bucket(dest_bucket)
        node.rename((src_bucket, src_key), (dest_bucket, dest_key))

    def rename_prefix(self, src_bucket, src_prefix, dest_bucket, dest_prefix):
        """The same for all names that begin so."""
        node = self._running()
        self.create_bucket(dest_bucket)
        node.rename_prefix((src_bucket, src_prefix), (dest_bucket, dest_prefix))

    def copy(self, src_bucket, src_key, dest_bucket, dest_key):
        """One more name for the same content: nothing is copied."""
        node = self._running()
        self.create_bucket(dest_bucket)
        node.copy((src_bucket, src_key), (dest_bucket, dest_key))

    def copy_prefix(self, src_bucket, src_prefix, dest_bucket, dest_prefix):
        """The same for all names that begin so, one after the other."""
        node = self._running()
        self.create_bucket(dest_bucket)
        for name, *_ in node.list(src_bucket, src_prefix, ""):
            node.copy((src_bucket, name), (dest_bucket, dest_prefix + name[len(src_prefix) :]))

    def local_path(self, file):
        """The path of a copy of what is sealed, for those who read files only. It is there until `stop`."""
        name = re.sub(r"\W", "", file.etag or "")
        if not name:
            raise status.error("FAILED_PRECONDITION", f"{file.identifier} is to be sealed first")
        path = os.path.join(self._directory(), name)
        if not os.path.exists(path):
            # Others may do the same at the same time.
            number, part = tempfile.mkstemp(dir=os.path.dirname(path))
            with open(number, "wb") as copy:
                at = 0
                while piece := file.read1(at, _PIECE_BYTES):
                    at += copy.write(piece)
            os.replace(part, path)
        return path

    def _directory(self):
        here = os.getpid()
        if here not in self._copies:
            made = _new_directory(self._config.local_storage_path)
            if self._copies.setdefault(here, made) != made:
                os.rmdir(made)
        return self._copies[here]

    # S3.

    def registerObjectStoreConfig(self, bucket, endpointUrl, accessKey, secretKey):
        """Makes sure that there is the bucket. Which store is behind it, and who asks there, is the node's affair: nothing else of what is said
        here is sent or kept. If no store is behind it, that is a warning; `relocate` brings objects to the disk of the node then."""
        self._running()
        self.create_bucket(bucket)
        if not self.is_behind_s3(bucket):
            what = f"bucket `{bucket}` is not in S3: whoever runs the node names it under tier2.buckets in its settings. relocate() brings it to the node's disk"
            warnings.warn(what, RuntimeWarning, stacklevel=2)

    def syncObjectStoreConfigs(self):
        """The node knows its stores."""
        self._running()

    def is_behind_s3(self, bucket):
        """Whether the node brings objects of the bucket to S3."""
        try:
            # No object is asked for that anybody has: a node looks first whether the bucket is there.
            self._running().persist(bucket, "\0")
        except status.InvalidArgument:
            return False
        except status.NotFound:
            pass
        return True

    def relocate(self, force=False):
        """Brings what was sealed here since the last time to S3, or to the disk of the node where no S3 is behind it. What is in use there is left for
        the next time, unless `force` is said: then that is an error."""
        node = self._running()
        names, buckets = node.take_written()
        self._pending.update(names)
        for bucket in buckets:
            # It may have been deleted meanwhile.
            with contextlib.suppress(status.NotFound):
                self._pending.update((bucket, name) for name, *_ in node.list(bucket, "", ""))
        only_disk, lost = set(), None
        for bucket, key in sorted(self._pending):
            try:
                self._bring(bucket, key, only_disk)
            except status.NotFound:
                # It was deleted or renamed meanwhile.
                pass
            except status.DataLoss as error:
                # The others are brought nevertheless.
                lost = lost or error
            except status.Aborted:
                if force:
                    raise
                continue
            self._pending.discard((bucket, key))
        if lost:
            raise lost

    def _bring(self, bucket, key, only_disk):
        if bucket not in only_disk:
            try:
                return self._running().persist(bucket, key)
            except status.InvalidArgument:
                only_disk.add(bucket)
        return self._running().relocate(bucket, key)

    # Changes.

    def subscribe(self, bucket, prefix="", key=None):
        """Of one name, or of all that begin so."""
        return Subscription(self, bucket, prefix, key)

    def unsubscribe(self, subscription):
        subscription.close()

    def statistics(self):
        """Numbers of the node, by name."""
        return self._running().statistics()


def _new_directory(path):
    """A directory that only this user can read."""
    stem = path.rstrip("X")
    if len(path) - len(stem) >= 3:
        return tempfile.mkdtemp(prefix=os.path.basename(stem), dir=os.path.dirname(stem) or None)
    return tempfile.mkdtemp(dir=path)
