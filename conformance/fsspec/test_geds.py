"""fsspec's own tests for file systems, which it lets others inherit, on a bucket of a real node."""

import pytest
import served
from fsspec.tests import abstract
from geds_fsspec import GEDSFileSystem


@pytest.fixture(scope="module")
def node():
    node = served.Node()
    yield node
    node.stop()


class GEDSFixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, node):
        fs = GEDSFileSystem(node=node.address, credentials=str(node.credentials))
        fs.makedirs("bucket", exist_ok=True)
        return fs

    @pytest.fixture
    def fs_path(self):
        return "bucket/tests"

    @pytest.fixture
    def supports_empty_directories(self):
        return True


class TestCopy(abstract.AbstractCopyTests, GEDSFixtures):
    pass


class TestGet(abstract.AbstractGetTests, GEDSFixtures):
    pass


class TestPut(abstract.AbstractPutTests, GEDSFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, GEDSFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, GEDSFixtures):
    pass
