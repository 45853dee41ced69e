"""`geds://` for smart_open.

    import geds_smart_open
    from smart_open import open

    with open("geds://bucket/key", "wb") as file:
        file.write(b"content")

The environment says which node, and who asks: see `pygeds.GEDSConfig.from_env`.
"""

from pygeds import GEDS
from smart_open.transport import register_transport

from . import geds
from .geds import register_object_store, relocate

register_transport(geds)

__all__ = ["GEDS", "register_object_store", "relocate"]
