"""The object store of a node, with the names of IBM's GEDS.

    from pygeds import GEDS, GEDSConfig

    geds = GEDS(GEDSConfig("127.0.0.1:9001"))
    geds.start()
    file = geds.create("bucket", "key")
    file.write(b"content", 0)
    file.seal()

`GEDS` is a node, `GEDSFile` an object, `GEDSFileStatus` what is listed, and `status` what goes wrong.
"""

from . import files, status, store
from ._geds import File as GEDSFile
from .config import GEDSConfig
from .store import GEDS, GEDSFileStatus, Subscription

__all__ = ["GEDS", "GEDSConfig", "GEDSFile", "GEDSFileStatus", "Subscription", "status"]
