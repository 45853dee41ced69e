"""`geds_fsspec` where fsspec's own tests for file systems (conformance/fsspec) do not look."""

import pathlib
import pickle
import tomllib
import unittest

import fsspec
import numpy
import served
from fsspec.registry import known_implementations
from geds_fsspec import GEDSFileSystem


class FileSystem(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = served.Node()
        cls.options = {"node": cls.node.address, "credentials": str(cls.node.credentials)}
        cls.fs = fsspec.filesystem("geds", **cls.options)
        cls.fs.mkdir("bucket")

    @classmethod
    def tearDownClass(cls):
        cls.node.stop()

    def test_the_scheme_is_known_to_fsspec(self):
        self.assertIsInstance(self.fs, GEDSFileSystem)
        project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
        wheel = project["project"]["entry-points"]["fsspec.specs"]
        self.assertEqual(known_implementations["geds"]["class"].replace(":", "."), wheel["geds"])
        with fsspec.open("geds://bucket/opened", "w", **self.options) as file:
            file.write("text")
        with fsspec.open("geds:///bucket/opened", **self.options) as file:
            self.assertEqual(file.read(), b"text")
        self.assertEqual(pickle.loads(pickle.dumps(self.fs)).cat("bucket/opened"), b"text")

    def test_arrays_are_read_where_they_lie(self):
        array = numpy.arange(1 << 20, dtype=numpy.int32)
        with self.fs.open("bucket/array.npy", "wb") as file:
            numpy.save(file, array)
        with self.fs.open("bucket/array.npy") as file:
            self.assertTrue((numpy.load(file) == array).all())
        self.assertEqual(self.fs.cat_file("bucket/array.npy", -4, None), array[-1:].tobytes())
        self.assertEqual(self.fs.cat_ranges(["bucket/array.npy"] * 2, [0, 1], [6, 4]), [b"\x93NUMPY", b"NUM"])

    def test_a_transaction_is_seen_at_its_end_or_never(self):
        with self.fs.transaction:
            for name in ("a", "b"):
                with self.fs.open(f"bucket/together/{name}", "wb") as file:
                    file.write(b"1")
            self.assertEqual(self.fs.find("bucket/together"), [])
        self.assertEqual(self.fs.find("bucket/together"), ["bucket/together/a", "bucket/together/b"])
        with self.assertRaises(KeyError), self.fs.transaction:
            with self.fs.open("bucket/never/a", "wb") as file:
                file.write(b"1")
            raise KeyError
        self.assertFalse(self.fs.exists("bucket/never"))

    def test_an_exception_leaves_what_was_there(self):
        self.fs.pipe("bucket/kept", b"old")
        with self.assertRaises(KeyError), self.fs.open("bucket/kept", "wb") as file:
            file.write(b"new")
            raise KeyError
        self.assertEqual(self.fs.cat("bucket/kept"), b"old")
        with self.fs.open("bucket/kept", "ab") as file:
            file.write(b"er")
        self.assertEqual(self.fs.cat("bucket/kept"), b"older")

    def test_objects_and_folders_are_moved_as_they_are(self):
        self.fs.pipe({"bucket/m/x/1": b"1", "bucket/m/x/y/2": b"2"})
        key = self.fs.ukey("bucket/m/x/1")
        self.fs.mv("bucket/m/x", "bucket/m/z", recursive=True)
        self.assertEqual(self.fs.find("bucket/m"), ["bucket/m/z/1", "bucket/m/z/y/2"])
        self.fs.mv("bucket/m/z/1", "bucket/m/1")
        self.assertEqual(self.fs.ukey("bucket/m/1"), key)
        self.fs.mkdir("bucket/m/into")
        self.fs.mv("bucket/m/1", "bucket/m/into/")
        self.assertEqual(self.fs.cat("bucket/m/into/1"), b"1")

    def test_folders_are_empty_until_they_are_removed(self):
        self.fs.makedirs("bucket/e/f")
        self.assertEqual((self.fs.ls("bucket/e", detail=False), self.fs.ls("bucket/e/f")), (["bucket/e/f"], []))
        self.assertEqual(self.fs.find("bucket/e"), [])
        for make in (lambda: self.fs.mkdir("bucket/e/f"), lambda: self.fs.makedirs("bucket/e/f")):
            self.assertRaises(FileExistsError, make)
        with self.assertRaises(OSError):
            self.fs.rmdir("bucket/e")
        self.fs.rmdir("bucket/e/f")
        self.assertFalse(self.fs.exists("bucket/e"))
        for look in (self.fs.ls, self.fs.info, self.fs.rmdir, self.fs.rm_file, self.fs.open):
            self.assertRaises(FileNotFoundError, look, "bucket/e")
        self.assertRaises(FileNotFoundError, self.fs.ls, "no-bucket")
        self.assertRaises(IsADirectoryError, self.fs.open, "bucket")

    def test_buckets(self):
        self.fs.pipe("another/a/b", b"1")
        self.assertEqual(self.fs.ls("", detail=False), ["another", "bucket"])
        self.assertEqual(list(self.fs.walk("another")), [("another", ["a"], []), ("another/a", [], ["b"])])
        self.assertEqual(self.fs.glob("another/*/b"), ["another/a/b"])
        self.assertIsNotNone(self.fs.modified("another/a/b").tzinfo)
        self.fs.rm("another", recursive=True)
        self.assertFalse(self.fs.exists("another"))


if __name__ == "__main__":
    unittest.main()
