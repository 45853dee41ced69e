"""`geds_smart_open` against a real node, and listing 6 of the project's deliverable D2.5, which is in listing6.py as it was published."""

import io
import os
import pathlib
import random
import tempfile
import unittest
import warnings

import served

NODE = None


def setUpModule():
    global NODE, geds, so_open
    NODE = served.Node()
    os.environ.update(NODE.environment())
    import geds_smart_open.geds as geds
    from smart_open import open as so_open


def tearDownModule():
    geds.GEDSInstance.handle_shutdown()
    NODE.stop()


def uri(key):
    return f"geds://bucket/{key}"


def put(key, content):
    with so_open(uri(key), "wb") as file:
        file.write(content)


def get(key):
    with so_open(uri(key), "rb") as file:
        return file.read()


class Defect13(unittest.TestCase):
    """Upstream's `read(n)` ignores n, `read` stays where it is, `readline` raises, `writelines` adds line feeds, and `ab` raises."""

    content = b"one\n\ntwo\r\nthree" + bytes(3 << 20) + b"\nend"

    def setUp(self):
        put("file", self.content)

    def test_defect_13_reads_are_those_of_a_file(self):
        model, draw = io.BytesIO(self.content), random.Random(13)
        with so_open(uri("file"), "rb") as file:
            self.assertEqual(file.size, len(self.content))
            for _ in range(300):
                n = draw.choice([0, 1, 2, 5, 1000, 1 << 20, 5 << 20])
                do = draw.choice(["read", "read1", "readline", "readinto", "seek", "tell", "rest"])
                if do == "seek":
                    at = draw.randrange(len(self.content) + 10)
                    self.assertEqual(file.seek(at), model.seek(at))
                elif do == "tell":
                    self.assertEqual(file.tell(), model.tell())
                elif do == "readinto":
                    found, expected = bytearray(n), bytearray(n)
                    self.assertEqual(file.readinto(found), model.readinto(expected))
                    self.assertEqual(found, expected)
                elif do == "rest":
                    self.assertEqual(file.read(), model.read())
                elif do == "read1":
                    # It may give less than there is, but not nothing.
                    found = file.read1(n)
                    self.assertEqual(model.read(len(found)), found)
                else:
                    self.assertEqual(getattr(file, do)(n), getattr(model, do)(n), do)
            self.assertEqual(file.seek(-3, io.SEEK_END), len(self.content) - 3)
            self.assertEqual(list(file), [b"end"])

    def test_defect_13_readline(self):
        with so_open(uri("file"), "rb") as file:
            self.assertEqual([file.readline() for _ in range(3)], [b"one\n", b"\n", b"two\r\n"])
            self.assertEqual(file.readline(2), b"th")
        with so_open(uri("file"), "r", newline="") as file:
            self.assertEqual(next(file), "one\n")

    def test_defect_13_writelines_adds_nothing(self):
        with so_open(uri("lines"), "wb") as file:
            file.writelines([b"a", b"b\n", b"c"])
        self.assertEqual(get("lines"), b"ab\nc")

    def test_defect_13_appending_makes_a_new_generation(self):
        with so_open(uri("log"), "ab") as file:
            file.write(b"begun ")
        before = so_open(uri("log"), "rb")
        with so_open(uri("log"), "ab") as file:
            self.assertEqual(file.tell(), 6)
            file.seek(0)
            file.write(b"and gone on")
        self.assertEqual(get("log"), b"begun and gone on")
        self.assertEqual(before.read(), b"begun ")
        with so_open(uri("file"), "a") as file:
            file.write("!")
        self.assertEqual(get("file"), self.content + b"!")


class Writing(unittest.TestCase):
    def test_nobody_sees_what_is_not_closed(self):
        put("w", b"old")
        with so_open(uri("w"), "wb") as file:
            file.write(b"new")
            file.flush()
            self.assertEqual(get("w"), b"old")
        self.assertEqual(get("w"), b"new")

    def test_an_exception_leaves_what_was_there(self):
        put("w", b"old")
        cases = [("wb", bytes(6 << 20), "w"), ("wb", b"new", "w"), ("w", "new", "w"), ("ab", b"new", "w"), ("w", "new", "w.gz")]
        for mode, content, key in cases:
            with self.assertRaises(KeyError), so_open(uri(key), mode) as file:
                file.write(content)
                raise KeyError
            del file
            self.assertEqual(get("w"), b"old", mode)
        self.assertRaises(FileNotFoundError, get, "w.gz")

    def test_seek_and_truncate(self):
        with so_open(uri("w"), "wb") as file:
            file.write(b"0123456789")
            file.seek(2)
            file.write(b"ab")
            file.truncate(6)
            self.assertEqual(file.size, 6)
            file.truncate(0)
            self.assertEqual(file.size, 0)
            file.seek(0)
            file.write(b"x")
        self.assertEqual(get("w"), b"x")

    def test_text_and_compression(self):
        text = "é\n" * 1000
        for key in ("text", "text.gz", "text.bz2"):
            with so_open(uri(key), "w", encoding="utf-8") as file:
                file.write(text)
            with so_open(uri(key), encoding="utf-8") as file:
                self.assertEqual(file.read(), text)
        self.assertLess(geds.open("bucket", "text.gz", "rb").size, 1000)

    def test_a_file_has_what_upstreams_have(self):
        put("w", b"old")
        with so_open(uri("w"), "rb") as file:
            self.assertEqual((file.bucket, file.key, file.name), ("bucket", "w", uri("w")))
            self.assertTrue(file.readable() and file.seekable() and not file.writable())
            for call in (file.fileno, lambda: file.write(b"")):
                with self.assertRaises(io.UnsupportedOperation):
                    call()
        with self.assertRaises(FileNotFoundError):
            so_open(uri("nothing"), "rb")
        with self.assertRaises(NotImplementedError):
            geds.open("bucket", "w", "rb+")


class Uris(unittest.TestCase):
    def test_names(self):
        for text, bucket, key in (
            ("geds://bucket/a/b", "bucket", "a/b"),
            ("geds:///bucket/a/b", "bucket", "a/b"),
            ("geds://bucket/a@b:c@d", "bucket", "a@b:c@d"),
            ("geds://bucket//a", "bucket", "/a"),
        ):
            parsed = geds.parse_uri(text)
            self.assertEqual((parsed["bucket"], parsed["key"]), (bucket, key))

    def test_what_is_wrong_is_not_repeated(self):
        for text in ("geds://", "geds://bucket", "geds://bucket/", "s3://a/b", "geds://KEY:SECRET@host@bucket"):
            with self.assertRaises(ValueError) as caught:
                geds.parse_uri(text)
            self.assertNotIn("SECRET", str(caught.exception))

    def test_a_store_in_front_is_registered_and_not_told(self):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with so_open("geds://KEY:SEC/RET@s3.example.com:443@new-bucket/key@x", "wb") as file:
                file.write(b"1")
        self.assertEqual((file.bucket, file.key), ("new-bucket", "key@x"))
        self.assertEqual(len(warned), 1)
        self.assertNotIn("RET", str(warned[0].message))
        self.assertTrue(geds.GEDSInstance.object_store_mapped("new-bucket"))


class Listing6(unittest.TestCase):
    program = (pathlib.Path(__file__).parent / "listing6.py").read_text()

    def run_with(self, node):
        """What is in its table, once it has run as it is."""
        store = node.connect()
        models = [os.urandom((n + 1) * 700_000) for n in range(6)]
        for n, model in enumerate(models):
            file = store.create("geds-test", f"ml_model_{n}.bin")
            file.write(model, 0)
            file.seal()
        cloud = {"AWS_ENDPOINT_URL": "https://s3.example.com", "AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRET"}
        with tempfile.TemporaryDirectory() as directory:
            ended = served.program(self.program, node, directory, **cloud)
            table = (pathlib.Path(directory) / "ai_training.csv").read_text().splitlines()
        self.assertNotIn("Traceback", ended.stderr)
        self.assertNotIn("SECRET", ended.stderr)
        for n, model in enumerate(models):
            self.assertEqual(bytes(store.open("geds-test", f"checkpoint/checkpoint_{n}.bin")), model)
        self.assertEqual(table[0], "Threads,Time,Data Read,Data Written,Data Spilled")
        self.assertEqual([row.split(",")[0] for row in table[1:]], [n for n in "1246" for _ in range(3)])
        total = str(sum(map(len, models)))
        self.assertEqual([row.split(",")[2:] for row in table[-3:]], [[total, "0", "0"], ["0", total, "0"], ["0", "0", total]])
        return ended

    def test_listing_6_runs_unchanged(self):
        ended = self.run_with(NODE)
        self.assertIn("`geds-test` is not in S3", ended.stderr)

    def test_listing_6_runs_unchanged_with_s3_behind_the_node(self):
        node, cloud = served.behind_s3("geds-test")
        self.addCleanup(cloud.stop)
        self.addCleanup(node.stop)
        ended = self.run_with(node)
        self.assertEqual(ended.stderr, "")
        there = [found.key for found in cloud.connect().list("geds-test", "checkpoint/")]
        self.assertEqual(there, [f"checkpoint/checkpoint_{n}.bin" for n in range(6)])


if __name__ == "__main__":
    unittest.main()
