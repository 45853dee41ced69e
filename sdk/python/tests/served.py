"""A real node to test against: `cloudskin geds serve`, in a directory of its own, with ports of the system's choice."""

import atexit
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pygeds

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLOUDSKIN = os.environ.get("CLOUDSKIN", str(ROOT / "target/debug/cloudskin"))

# How long a test waits for anything. It is reached only when something hangs.
DEADLINE_S = 60


class Node:
    def __init__(self, config=None, directory=None, address="127.0.0.1:0"):
        # Removed when this Python ends, if not before.
        self._temporary = tempfile.TemporaryDirectory(prefix="geds-python-", ignore_cleanup_errors=True)
        self.directory = pathlib.Path(directory or self._temporary.name)
        self.credentials = self.directory / "acme.ini"
        # Of another tenant.
        self.stranger = self.directory / "other.ini"
        if not self.credentials.exists():
            self._add_user("acme", self.credentials)
            self._add_user("other", self.stranger)
        words = ["serve", "--json", "--memory", "256Mi", "--node", address]
        if config is not None:
            (self.directory / "config.yaml").write_text(config)
            words += ["--config", str(self.directory / "config.yaml")]
        self._process = subprocess.Popen(self._command(*words), stdout=subprocess.PIPE)
        # A test that fails may not come to its end.
        atexit.register(self.kill)
        self.ready = json.loads(self._process.stdout.readline())
        self.address = self.ready["node"]

    def _command(self, *words):
        return [CLOUDSKIN, "geds", *words, "--dir", str(self.directory)]

    def _add_user(self, tenant, path):
        subprocess.run(self._command("user", "add", tenant, "--credentials", str(path)), check=True, stdout=subprocess.DEVNULL)

    def environment(self):
        """What a program needs to know."""
        return {"GEDS_METADATASERVER": self.address, "GEDS_CREDENTIALS": str(self.credentials)}

    def connect(self, **settings):
        """A started `pygeds.GEDS`."""
        config = pygeds.GEDSConfig(self.address)
        config.credentials = str(self.credentials)
        for key, value in settings.items():
            setattr(config, key, value)
        geds = pygeds.GEDS(config)
        geds.start()
        return geds

    def send(self, number):
        self._process.send_signal(number)

    def stop(self):
        self._process.terminate()
        self._process.stdout.close()
        self._process.wait()

    def kill(self):
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()


def program(text, node, directory, **more):
    """Runs a program in a Python of its own, which finds the same packages; what it says."""
    environment = {**os.environ, **node.environment(), **more, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-X", "faulthandler", "-c", text]
    ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended
    return ended


def behind_s3(bucket):
    """A node, and one behind it that stands for S3; the bucket is in both, and what is in that of the first comes to that of the other."""
    cloud = Node()
    cloud.connect().create_bucket(bucket)
    secrets = json.dumps(str(cloud.credentials))
    tier2 = f"{{endpoint: 'http://{cloud.ready['s3']}', credentials: {secrets}, buckets: {{{bucket}: acme}}}}"
    return Node(config=f"tier2: {tier2}\n"), cloud
