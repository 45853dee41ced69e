"""What a program says of how it wants the store, with upstream's names, and what the environment says."""

import os

from . import status

DEFAULT_PORT = 4382
DEFAULT_METADATA_SERVER_PORT = 4381

_TRUE = ("1", "t", "true", "yes", "on")
_FALSE = ("", "0", "f", "false", "no", "off")


def _flag(text):
    lower = text.strip().lower()
    if lower in _TRUE or lower in _FALSE:
        return lower in _TRUE
    raise status.error("INVALID_ARGUMENT", f"`{text}` is neither true nor false")


class GEDSConfig:
    """Settings of a program that uses a node.

    These have an effect:

    - `metadata_service_address`: HOST:PORT where the node speaks its own protocol (`--node` of `cloudskin geds serve`).
    - `access_key` and `secret_key`, or `credentials`, a file that `cloudskin geds user add` has written: who asks. Else what `GEDS_ACCESS_KEY`
      and `GEDS_SECRET_KEY` say, or the file that `GEDS_CREDENTIALS` names.
    - `durable`: what is sealed is on the disk of the node then. Without it, the end of the node loses what it has in memory only.
    - `local_storage_path`: where `GEDS.local_path` puts copies. `XXXXXX` at its end stands for something that nothing else is called.
    - `force_relocation_when_stopping`: `GEDS.stop` relocates first.

    The others are upstream's settings of the node that each of its programs is. Here its operator has said them; they are accepted, and have no
    effect. Names that nobody knows are refused.
    """

    __slots__ = (
        "metadata_service_address",
        "access_key",
        "secret_key",
        "credentials",
        "durable",
        "local_storage_path",
        "force_relocation_when_stopping",
        "listen_address",
        "hostname",
        "port",
        "port_http_server",
        "cache_block_size",
        "cache_objects_from_s3",
        "available_local_storage",
        "available_local_memory",
        "io_thread_pool_size",
        "pub_sub_enabled",
        "storage_spilling_fraction",
    )

    def __init__(self, metadata_service_address):
        self.metadata_service_address = metadata_service_address
        self.access_key = None
        self.secret_key = None
        self.credentials = None
        self.durable = True
        self.local_storage_path = "/tmp/GEDS_XXXXXX"
        self.force_relocation_when_stopping = False
        self.listen_address = "0.0.0.0"
        self.hostname = None
        self.port = DEFAULT_PORT
        self.port_http_server = 4380
        self.cache_block_size = 32 << 20
        self.cache_objects_from_s3 = False
        self.available_local_storage = 100 << 30
        self.available_local_memory = 16 << 30
        self.io_thread_pool_size = max((os.cpu_count() or 1) // 2, 8)
        self.pub_sub_enabled = False
        self.storage_spilling_fraction = 0.7

    @classmethod
    def from_env(cls):
        """As the variables GEDS_METADATASERVER (or CLOUDSKIN_GEDS), GEDS_PORT, GEDS_TMP, GEDS_BLOCK_SIZE, GEDS_AVAILABLE_STORAGE,
        GEDS_AVAILABLE_MEMORY, GEDS_RELOCATE_WHEN_STOPPING and GEDS_DURABLE say."""
        env = os.environ
        default = env.get("CLOUDSKIN_GEDS", f"geds-metadataserver:{DEFAULT_METADATA_SERVER_PORT}")
        config = cls(env.get("GEDS_METADATASERVER", default))
        for variable, key in (
            ("GEDS_PORT", "port"),
            ("GEDS_TMP", "local_storage_path"),
            ("GEDS_BLOCK_SIZE", "cache_block_size"),
            ("GEDS_AVAILABLE_STORAGE", "available_local_storage"),
            ("GEDS_AVAILABLE_MEMORY", "available_local_memory"),
            ("GEDS_RELOCATE_WHEN_STOPPING", "force_relocation_when_stopping"),
            ("GEDS_DURABLE", "durable"),
        ):
            if variable in env:
                config.set(key, env[variable])
        return config

    def set(self, key, value):
        """Sets what has that name; text is understood as what is there. 0 is a number like others."""
        key = {"http_server_port": "port_http_server"}.get(key, key)
        if key not in self.__slots__:
            raise status.error("INVALID_ARGUMENT", f"there is no setting `{key}`")
        kind = type(getattr(self, key))
        if isinstance(value, str) and kind in (bool, int, float):
            try:
                value = _flag(value) if kind is bool else kind(value)
            except ValueError:
                what = f"`{value}` is no value of `{key}`"
                raise status.error("INVALID_ARGUMENT", what) from None
        setattr(self, key, value)

    def get(self, key):
        key = {"http_server_port": "port_http_server"}.get(key, key)
        if key not in self.__slots__:
            raise status.error("INVALID_ARGUMENT", f"there is no setting `{key}`")
        return getattr(self, key)

    def _who(self):
        """An access key and its secret, as one text."""
        env = os.environ
        if self.access_key and self.secret_key:
            return f"{self.access_key} {self.secret_key}"
        if not self.credentials and "GEDS_ACCESS_KEY" in env and "GEDS_SECRET_KEY" in env:
            return f"{env['GEDS_ACCESS_KEY']} {env['GEDS_SECRET_KEY']}"
        path = self.credentials or env.get("GEDS_CREDENTIALS")
        if not path:
            what = "who asks? Set GEDS_ACCESS_KEY and GEDS_SECRET_KEY, or have GEDS_CREDENTIALS name a file"
            raise status.error("UNAUTHENTICATED", what)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def __repr__(self):
        shown = (name for name in self.__slots__ if name != "secret_key")
        return f"GEDSConfig({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"
