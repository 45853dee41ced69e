"""`pygeds` against a real node. A test that is named after a defect is about one that IBM's GEDS has."""

import ctypes
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import unittest

import numpy
import pygeds
import served
from pygeds import status


class OneNode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = served.Node()
        cls.geds = cls.node.connect()

    @classmethod
    def tearDownClass(cls):
        cls.geds.stop()
        cls.node.stop()

    def put(self, key, content, bucket="data"):
        file = self.geds.create(bucket, key)
        file.write(content, 0)
        file.seal()
        return file

    def get(self, key, bucket="data"):
        file = self.geds.open(bucket, key)
        return file.read1(0, file.size)

    def keys(self, prefix, bucket="data"):
        return [found.key for found in self.geds.list(bucket, prefix)]


class Api(OneNode):
    def test_all_names_of_upstream_are_there(self):
        of_store = """start stop create create_bucket mkdirs list list_folder status open delete delete_prefix rename rename_prefix copy copy_prefix
            local_path registerObjectStoreConfig syncObjectStoreConfigs relocate default_port default_metadata_server_port lookup_bucket local_open
            reopen subscribe unsubscribe is_valid_bucket_name is_valid_key_name parse_object_name"""
        of_file = """size writeable identifier metadata metadata_bytes truncate raw_ptr raw_fd seal set_metadata read1 readinto1 read write copy_to
            bucket key"""
        of_config = """metadata_service_address listen_address hostname port port_http_server local_storage_path cache_block_size
            cache_objects_from_s3 available_local_storage available_local_memory force_relocation_when_stopping io_thread_pool_size
            pub_sub_enabled storage_spilling_fraction set get"""
        for where, names in (
            (pygeds.GEDS, of_store),
            (pygeds.GEDSFile, of_file),
            (pygeds.GEDSConfig, of_config),
            (pygeds.GEDSFileStatus, "key name size isDirectory"),
        ):
            for name in names.split():
                self.assertTrue(hasattr(where, name), name)

    def test_the_examples_of_upstream(self):
        file = self.geds.create("bucket", "testfile")
        message = "Hello World\nNewline\nend\n"
        file.write(bytearray(message, "utf-8"), 0, len(message))
        read = bytearray(len(message))
        self.assertEqual(file.read(read, 0, len(read)), len(message))
        self.assertEqual(read.decode(), message)
        file.seal()
        self.assertEqual(self.get("testfile", "bucket"), read)
        self.geds.create("metadata", "String").set_metadata("Hello World", True)
        self.assertEqual(self.geds.open("metadata", "String").metadata, "Hello World")
        blob = bytearray(range(200, 216))
        self.geds.create("metadata", "ByteArray").set_metadata(blob, len(blob), True)
        self.assertEqual(self.geds.open("metadata", "ByteArray").metadata_bytes, blob)

    def test_metadata_is_set_without_writing(self):
        file = self.put("described", b"content")
        self.assertIsNone(file.metadata)
        file.set_metadata(b"what it is", seal=False)
        self.assertIsNone(self.geds.open("data", "described").metadata)
        file.seal()
        found = self.geds.open("data", "described")
        self.assertEqual((found.metadata, found.read1(0, 100)), ("what it is", b"content"))
        found.set_metadata(buffer=b"shorter", length=5)
        self.assertEqual(self.geds.open("data", "described").metadata_bytes, b"short")

    def test_failures_are_status_and_python(self):
        cases = [
            (lambda: self.geds.open("data", "nothing"), "NOT_FOUND", FileNotFoundError),
            (lambda: self.geds.open("no-such-bucket", "x"), "NOT_FOUND", FileNotFoundError),
            (lambda: self.geds.create("No", "x"), "INVALID_ARGUMENT", ValueError),
            (lambda: self.geds.list_folder("data", "nothing/"), "NOT_FOUND", FileNotFoundError),
            (lambda: self.geds.status("data", "nothing"), "NOT_FOUND", FileNotFoundError),
            (lambda: self.geds.start(), "FAILED_PRECONDITION", OSError),
            (lambda: self.put("fd", b"").raw_fd(), "UNIMPLEMENTED", NotImplementedError),
            (lambda: pygeds.GEDSConfig("x").set("colour", 1), "INVALID_ARGUMENT", ValueError),
        ]
        self.geds.create_bucket("data")
        for do, code, kind in cases:
            with self.subTest(code), self.assertRaises(status.StatusNotOk) as caught:
                do()
            error = caught.exception
            self.assertIsInstance(error, kind)
            self.assertEqual(error.status.code().name, code)
            self.assertEqual(str(pickle.loads(pickle.dumps(error))), str(error))

    def test_settings(self):
        config = pygeds.GEDSConfig("127.0.0.1:0")
        # Upstream refuses 0 and ports above 32767, and takes nothing but "true".
        for key, value, expected in (
            ("available_local_memory", 0, 0),
            ("port", "65535", 65535),
            ("pub_sub_enabled", "false", False),
            ("http_server_port", 1, 1),
        ):
            config.set(key, value)
            self.assertEqual(config.get(key), expected)
        with self.assertRaises(AttributeError):
            config.colour = 1
        config.secret_key = "hidden"
        self.assertNotIn("hidden", repr(config))

    def test_folders(self):
        self.geds.create_bucket("folders")
        self.geds.mkdirs("folders", "a/b/c")
        self.put("a/file", b"1", "folders")
        for prefix, names in (("", ["a/"]), ("a/", ["a/b/", "a/file"]), ("a/b/", ["a/b/c/"]), ("a/b/c/", [])):
            listed = self.geds.list_folder("folders", prefix)
            self.assertEqual([str(found) for found in listed], names)
            self.assertEqual([found.isDirectory for found in listed], [name.endswith("/") for name in names])
        for key, is_folder in (("", True), ("/", True), ("a", True), ("a/", True), ("a/b/c", True), ("a/file", False)):
            self.assertEqual(self.geds.status("folders", key).isDirectory, is_folder, key)
        self.geds.mkdirs("folders", "a/b/c")

    def test_copies_are_names_of_their_own(self):
        self.put("copies/a", b"a")
        self.put("copies/b", b"b")
        self.geds.copy("data", "copies/a", "elsewhere", "c")
        self.geds.copy_prefix("data", "copies/", "elsewhere", "more/")
        self.put("copies/a", b"other")
        self.assertEqual(self.get("c", "elsewhere"), b"a")
        self.assertEqual(self.keys("more/", "elsewhere"), ["more/a", "more/b"])
        source, copy = self.geds.open("data", "copies/b"), self.geds.create("data", "copies/d")
        source.copy_to(copy)
        copy.seal()
        self.assertEqual(self.get("copies/d"), b"b")

    def test_a_local_path_has_the_content(self):
        big = os.urandom(9 << 20)
        file = self.put("path", big)
        with open(self.geds.local_path(file), "rb") as copy:
            self.assertEqual(copy.read(), big)
        draft = self.geds.create("data", "draft")
        with self.assertRaises(status.FailedPrecondition):
            self.geds.local_path(draft)
        self.assertEqual(self.geds.local_open("data", "path").size, len(big))

    def test_changes_are_told(self):
        self.geds.create_bucket("watched")
        subscription = self.geds.subscribe("watched", "a/")
        self.put("a/1", b"", "watched")
        self.put("b/1", b"", "watched")
        self.geds.delete("watched", "a/1")
        told = []
        while ("removed", "a/1") not in told:
            told += subscription.poll(1.0)
        self.assertIn(("named", "a/1"), told)
        self.assertNotIn(("named", "b/1"), told)
        self.geds.unsubscribe(subscription)
        self.assertEqual(list(subscription), [])

    def test_relocate_without_s3_brings_to_the_disk(self):
        geds = self.node.connect(durable=False)
        file = geds.create("brief", "key")
        file.write(b"content", 0)
        file.seal()
        self.assertEqual(geds.info("brief", "key")["places"], [("memory", "1")])
        with self.assertWarns(RuntimeWarning):
            geds.registerObjectStoreConfig("brief", "http://s3.example.com", "key", "secret")
        geds.relocate()
        self.assertIn(("disk", "1"), geds.info("brief", "key")["places"])
        geds.stop()


class Content(OneNode):
    def test_long_and_short_writes_anywhere(self):
        model = bytearray()
        file = self.geds.create("data", "anywhere")
        random = numpy.random.default_rng(7)
        pieces = [(0, 100), (100, 5 << 20), (50, 10), (6 << 20, 1 << 20), (7 << 20, 3), (3, 4 << 20)]
        for position, length in pieces:
            piece = random.bytes(length)
            model.extend(bytes(max(position + length - len(model), 0)))
            model[position : position + length] = piece
            file.write(piece, position)
            self.assertEqual(file.size, len(model))
        file.truncate(6 << 20)
        file.truncate((6 << 20) + 5)
        model[6 << 20 :] = bytes(5)
        file.seal()
        self.assertEqual(self.get("anywhere"), model)
        self.assertEqual(file.read1(4 << 20, 9), model[4 << 20 :][:9])
        self.assertEqual(file.read1(len(model), 9), b"")
        self.assertEqual(file.read1(1 << 40, 9), b"")

    def test_many_small_writes(self):
        file = self.geds.create("data", "appended")
        line = b"x" * 999 + b"\n"
        for n in range(10_000):
            file.write(line, n * len(line))
        file.seal()
        self.assertEqual(self.get("appended"), line * 10_000)

    def test_any_buffer_in_one_piece(self):
        matrix = numpy.arange(12, dtype=numpy.float64).reshape(3, 4)
        self.put("matrix", matrix)
        found = numpy.zeros((3, 4))
        self.assertEqual(self.geds.open("data", "matrix").readinto1(found, 0), matrix.nbytes)
        self.assertTrue((found == matrix).all())
        self.put("matrix", numpy.zeros((0, 4)))
        self.assertEqual(self.get("matrix"), b"")
        self.put("matrix", matrix)
        opened = self.geds.open("data", "matrix")
        for buffer in (matrix[:, 1], b"read only"):
            with self.assertRaises(BufferError):
                opened.readinto1(buffer, 0)
        with self.assertRaises(status.FailedPrecondition):
            self.geds.create("data", "short").write(b"abc", 0, 4)

    def test_what_is_sealed_again_is_a_new_generation(self):
        for size in (10, 5 << 20):
            file = self.put("again", b"a" * size)
            reader = self.geds.open("data", "again")
            file.write(b"b", size)
            self.assertEqual(self.geds.open("data", "again").size, size, "not sealed yet")
            file.seal()
            self.assertEqual(self.get("again"), b"a" * size + b"b")
            self.assertEqual((reader.size, reader.read1(size - 1, 9)), (size, b"a"))
            other = self.geds.open("data", "again")
            other.truncate(1)
            other.seal()
            self.assertEqual(self.get("again"), b"a")

    def test_two_who_append_do_not_lose_each_other(self):
        self.put("log", b"a")
        first, second = (self.geds.open("data", "log") for _ in range(2))
        first.write(b"b", 1)
        second.write(b"c", 1)
        first.seal()
        with self.assertRaises(status.Aborted):
            second.seal()
        self.assertEqual(self.get("log"), b"ab")

    def test_views_outlive_the_file(self):
        for size in (100, 5 << 20):
            content = os.urandom(size)
            self.put("viewed", content)
            file = self.geds.open("data", "viewed")
            view, array = memoryview(file), numpy.frombuffer(file, dtype=numpy.uint8)
            self.assertTrue(view.readonly)
            file.close()
            self.put("viewed", b"other")
            del file
            self.assertTrue(view == content and array.tobytes() == content)
        with self.assertRaises(BufferError):
            memoryview(self.geds.create("data", "draft"))

    def test_a_closed_file_is_refused(self):
        file = self.put("closed", b"1")
        file.close()
        file.close()
        self.assertFalse(file.writeable)
        for do in (lambda: file.size, lambda: file.read1(0, 1), lambda: file.write(b"", 0), file.seal):
            with self.assertRaises(ValueError):
                do()

    def test_more_are_open_than_there_may_be(self):
        self.put("many", b"1")
        files = []
        with self.assertRaises(status.ResourceExhausted):
            while len(files) < 1000:
                files.append(self.geds.open("data", "many"))
        files.clear()
        self.assertEqual(self.get("many"), b"1")


class DefectsOfUpstream(OneNode):
    def test_defect_3_create_without_overwrite_leaves_what_is_there(self):
        self.put("there", b"precious")
        with self.assertRaises(status.AlreadyExists):
            self.geds.create("data", "there", overwrite=False)
        self.assertEqual(self.get("there"), b"precious")
        # And if it comes to be there while it is written.
        late = self.geds.create("data", "late", overwrite=False)
        late.write(b"late", 0)
        self.put("late", b"early")
        with self.assertRaises(status.AlreadyExists):
            late.seal()
        self.assertEqual(self.get("late"), b"early")

    def test_defect_4_who_reads_keeps_what_is_overwritten(self):
        for size in (100, 6 << 20):
            old, new = os.urandom(size), os.urandom(size // 2)
            self.put("over", old)
            reader = self.geds.open("data", "over")
            writer = self.geds.create("data", "over", overwrite=True)
            writer.write(new, 0)
            self.assertEqual(self.get("over"), old, "it is not sealed")
            writer.seal()
            self.assertEqual(reader.read1(0, size), old)
            self.assertEqual(self.get("over"), new)
            del reader
            self.geds.relocate()
            self.assertEqual(self.get("over"), new)

    def test_defect_7_what_is_not_sealed_is_never_seen(self):
        for size in (100, 6 << 20):
            file = self.geds.create("data", "hidden/1")
            file.write(bytes(size), 0)
            self.geds.relocate(True)
            self.assertEqual(self.keys("hidden/"), [])
            file.close()
            self.geds.relocate(True)
            self.assertEqual(self.keys("hidden/"), [])

    def test_defect_8_a_name_is_never_missing_while_it_is_renamed(self):
        self.put("moving/0", b"content")
        self.put("moving/0/more", b"more")
        seen, failed, is_over = [], [], threading.Event()

        def look():
            try:
                while not is_over.is_set():
                    seen.append(self.keys("moving/"))
            except Exception as error:
                failed.append(error)

        looker = threading.Thread(target=look)
        looker.start()
        try:
            for n in range(100):
                self.geds.rename_prefix("data", f"moving/{n}", "data", f"moving/{n + 1}")
        finally:
            is_over.set()
            looker.join()
        self.assertFalse(failed)
        self.assertGreater(len({tuple(keys) for keys in seen}), 1)
        for keys in seen:
            self.assertEqual(len(keys), 2, keys)
        self.geds.rename("data", "moving/100", "data", "moving/over")
        self.assertEqual(self.get("moving/over"), b"content")
        with self.assertRaises(status.NotFound):
            self.geds.rename("data", "moving/100", "data", "moving/x")

    def test_defect_9_a_prefix_is_deleted_in_its_bucket_only(self):
        for bucket in ("one", "two"):
            self.put("p/1", b"1", bucket)
            self.put("q/1", b"1", bucket)
        kept = self.geds.open("two", "p/1")
        self.geds.delete_prefix("one", "p/")
        self.assertEqual(self.keys("", "one"), ["q/1"])
        self.assertEqual(self.keys("", "two"), ["p/1", "q/1"])
        self.assertEqual(kept.read1(0, 1), b"1")
        self.geds.delete("one", "p/1")


class Forwarder:
    """Forwards to a node, in threads of this Python: whoever holds the interpreter while it waits for the node waits for ever."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            node = socket.create_connection(self._to)
            for pair in ((client, node), (node, client)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    @staticmethod
    def _forward(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._listener.close()


class Interpreter(OneNode):
    def test_canary_nothing_is_forwarded_while_the_interpreter_is_held(self):
        holding = ctypes.PyDLL(None)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            forwarder = Forwarder("127.0.0.1:%d" % listener.getsockname()[1])
            client = socket.create_connection(forwarder.address.split(":"))
            node, _ = listener.accept()
        arrives = select.poll()
        arrives.register(node, select.POLLIN)
        wanted = struct.pack("ihh", node.fileno(), select.POLLIN, 0)
        before = sys.getswitchinterval()
        sys.setswitchinterval(served.DEADLINE_S)
        try:
            self.assertEqual(holding.send(client.fileno(), b"x", 1, 0), 1)
            self.assertEqual(holding.poll(wanted, 1, 100), 0)
        finally:
            sys.setswitchinterval(before)
        self.assertTrue(arrives.poll(served.DEADLINE_S * 1000))
        client.close()
        node.close()
        forwarder.close()

    def test_nothing_is_waited_for_with_the_interpreter(self):
        forwarder = Forwarder(self.node.address)
        geds = self.node.connect(metadata_service_address=forwarder.address)
        content = os.urandom(6 << 20)
        file = geds.create("slow", "key")
        file.write(content, 0)
        file.seal()
        found = geds.open("slow", "key")
        target = bytearray(len(content))
        self.assertEqual(found.readinto1(target, 0), len(content))
        self.assertTrue(target == found.read1(0, len(content)) == memoryview(found) == content)
        geds.rename("slow", "key", "slow", "other")
        self.assertEqual([str(found) for found in geds.list("slow")], ["other"])
        geds.relocate()
        geds.subscribe("slow").poll(0.01)
        geds.stop()
        forwarder.close()

    def test_a_signal_ends_waiting(self):
        subscription = self.geds.subscribe("data") if self.put("signal", b"") else None

        class Rang(Exception):
            pass

        def ring(*_):
            raise Rang

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(Rang):
                subscription.poll(served.DEADLINE_S)
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_a_handler_of_a_signal_does_not_wait_for_what_it_has_interrupted(self):
        file = self.geds.create("data", "interrupted")
        refused = []

        def ring(*_):
            try:
                file.close()
            except RuntimeError as error:
                refused.append(error)
            finally:
                self.node.send(signal.SIGCONT)

        before = signal.signal(signal.SIGALRM, ring)
        self.node.send(signal.SIGSTOP)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            # More than is on its way to a node that does not listen.
            file.write(bytes(32 << 20), 0)
        finally:
            self.node.send(signal.SIGCONT)
            signal.signal(signal.SIGALRM, before)
        self.assertEqual(len(refused), 1)
        file.close()

    def test_a_child_connects_anew_and_leaves_the_parents_files_alone(self):
        self.put("family", b"content")
        found = self.geds.open("data", "family")
        half = self.geds.create("data", "half")
        half.write(bytes(5 << 20), 0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(served.DEADLINE_S)
                for file in (found, half):
                    try:
                        file.read1(0, 1)
                    except status.FailedPrecondition:
                        code += 1
                del found, half
                self.put("child", self.get("family"))
                code = 0 if code == 3 else code
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertEqual(found.read1(0, 100), b"content")
        half.seal()
        self.assertEqual(self.geds.status("data", "half").size, 5 << 20)
        self.assertEqual(self.get("child"), b"content")

    def test_what_is_left_open_at_the_end_is_sealed_after_the_exit_handlers(self):
        text = """
import atexit, os
import geds_smart_open
from smart_open import open
first = open("geds://left/small", "wb")
first.write(b"small")
second = open("geds://left/large", "wb")
second.write(bytes(6 << 20))
reader = geds_smart_open.geds.GEDSInstance.get().open("left", "before")
atexit.register(lambda: print(reader.read1(0, 9)))
pid = os.fork()
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
        self.put("before", b"before", "left")
        ended = served.program(text, self.node, self.node.directory, GEDS_RELOCATE_WHEN_STOPPING="true")
        self.assertIn("b'before'", ended.stdout)
        self.assertEqual([(str(found), found.size) for found in self.geds.list("left", "s")], [("small", 5)])
        self.assertEqual(self.geds.status("left", "large").size, 6 << 20)


class Ends(unittest.TestCase):
    def test_what_is_lost_does_not_keep_others_from_being_brought(self):
        node = served.Node()
        geds = node.connect(durable=False)

        def seal(key):
            file = geds.create("data", key)
            file.write(b"content", 0)
            file.seal()

        seal("a")
        node.stop()
        again = served.Node(directory=node.directory, address=node.address)
        self.addCleanup(again.stop)
        self.assertEqual([str(found) for found in geds.list("data")], ["a"])
        seal("b")
        with self.assertRaises(status.DataLoss):
            geds.relocate()
        self.assertEqual(geds.info("data", "b")["places"], [("disk", "1")])
        geds.relocate()
        geds.stop()

    def test_a_node_that_was_restarted_is_found_again(self):
        node = served.Node()
        geds = node.connect()
        geds.create("data", "before").seal()
        node.stop()
        again = served.Node(directory=node.directory, address=node.address)
        self.addCleanup(again.stop)
        self.assertEqual([str(found) for found in geds.list("data")], ["before"])
        geds.create("data", "after").seal()

    def test_a_node_is_found_by_any_address_of_its_name(self):
        node = served.Node()
        self.addCleanup(node.stop)
        port = node.address.rsplit(":", 1)[1]
        node.connect(metadata_service_address=f"localhost:{port}").create_bucket("data")
        with self.assertRaises(ValueError):
            node.connect(metadata_service_address="localhost")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            address = "127.0.0.1:%d" % closed.getsockname()[1]
        with self.assertRaises(ConnectionError):
            node.connect(metadata_service_address=address)

    def test_others_have_no_part_in_it(self):
        node = served.Node()
        self.addCleanup(node.stop)
        node.connect().create_bucket("mine")
        geds = node.connect(credentials=str(node.stranger))
        for do in (lambda: geds.list("mine"), lambda: geds.create_bucket("mine")):
            with self.assertRaises(status.StatusNotOk):
                do()
        self.assertEqual(geds.list_buckets(), [])
        with self.assertRaises(status.PermissionDenied):
            node.connect(access_key="nobody", secret_key="nothing")

    def test_relocate_brings_to_s3(self):
        node, cloud = served.behind_s3("data")
        self.addCleanup(cloud.stop)
        self.addCleanup(node.stop)
        geds = node.connect(force_relocation_when_stopping=True)
        geds.registerObjectStoreConfig("data", "http://s3.example.com", "key", "secret")
        self.assertTrue(geds.is_behind_s3("data"))
        file = geds.create("data", "folder/key")
        file.write(b"content", 0)
        file.seal()
        geds.stop()
        self.assertEqual(bytes(cloud.connect().open("data", "folder/key")), b"content")


if __name__ == "__main__":
    unittest.main()
