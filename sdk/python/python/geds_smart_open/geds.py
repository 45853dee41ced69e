"""The transport, as smart_open wants one: `SCHEME`, `parse_uri`, `open_uri`, `open`.

The files are those of `pygeds.files`.
"""

import atexit
import re

import pygeds
import smart_open.utils
from pygeds.files import Reader, Writer

__all__ = ["SCHEME", "open", "open_uri", "parse_uri", "register_object_store", "relocate"]

SCHEME = "geds"
URI_EXAMPLES = ("geds://bucket/key", "geds://access_key:secret_key@host:443@bucket/key")

# With what upstream puts in front: no bucket has a `:`, so no other name looks like this.
_WITH_STORE = re.compile(r"(?P<access>[^:@/]+):(?P<secret>[^@]*)@(?P<host>[^@/]+)@(?P<name>.*)", re.DOTALL)


class GEDSInstance:
    """The node that the environment names: one for the whole program, from its first use on. There is no lock: a child of a fork might find it
    locked."""

    _started = {}
    _known_s3_buckets = set()

    @classmethod
    def get(cls):
        geds = cls._started.get(SCHEME)
        if geds is None:
            geds = pygeds.GEDS(pygeds.GEDSConfig.from_env())
            geds.start()
            # All threads have the same one, even if several have started one.
            geds = cls._started.setdefault(SCHEME, geds)
        return geds

    @classmethod
    def handle_shutdown(cls):
        geds = cls._started.pop(SCHEME, None)
        if geds is not None:
            geds.stop()

    @classmethod
    def register_object_store(cls, bucket, endpoint_url, access_key, secret_key):
        if not cls.object_store_mapped(bucket):
            cls.get().registerObjectStoreConfig(bucket, endpoint_url, access_key, secret_key)
            cls._known_s3_buckets.add(bucket)

    @classmethod
    def object_store_mapped(cls, bucket):
        return bucket in cls._known_s3_buckets


atexit.register(GEDSInstance.handle_shutdown)


def register_object_store(bucket, endpoint_url, access_key, secret_key):
    """Makes sure that there is the bucket. See `pygeds.GEDS.registerObjectStoreConfig`."""
    GEDSInstance.register_object_store(bucket, endpoint_url, access_key, secret_key)


def relocate(force=False):
    """Brings what this program has written to S3. See `pygeds.GEDS.relocate`."""
    GEDSInstance.get().relocate(force)


def parse_uri(uri_as_string):
    """Which bucket and key, with or without a slash in front of the bucket."""
    scheme, separator, name = uri_as_string.partition("://")
    if not separator or scheme != SCHEME:
        # Not the text: there may be a secret in it.
        raise ValueError("expected geds://BUCKET/KEY")
    store = _WITH_STORE.fullmatch(name)
    if store:
        name = store["name"]
    bucket, slash, key = name.removeprefix("/").partition("/")
    if not bucket or not key:
        raise ValueError("expected geds://BUCKET/KEY")
    if store:
        register_object_store(bucket, _endpoint(store["host"]), store["access"], store["secret"])
    return {"scheme": SCHEME, "bucket": bucket, "key": key, "client": GEDSInstance.get()}


def _endpoint(host):
    if host.endswith(":80"):
        return f"http://{host.removesuffix(':80')}"
    return f"https://{host.removesuffix(':443')}"


def open(bucket, key, mode, client=None):
    """Opens an object: `rb`, `wb`, or `ab`, which goes on behind what is there."""
    client = client or GEDSInstance.get()
    if mode == "rb":
        return Reader(client.open(bucket, key))
    if mode == "wb":
        return Writer(client.create(bucket, key, True))
    if mode == "ab":
        try:
            file = client.open(bucket, key)
        except pygeds.status.NotFound:
            file = client.create(bucket, key, False)
        return Writer(file, append=True)
    raise NotImplementedError(f"bad mode: {mode!r} expected one of 'rb', 'wb', 'ab'")


def open_uri(uri, mode, transport_params):
    """Opens what a URI names."""
    parsed = parse_uri(uri)
    options = smart_open.utils.check_kwargs(open, transport_params)
    options.setdefault("client", parsed["client"])
    return open(parsed["bucket"], parsed["key"], mode, **options)
