"""What docs/geds.md shows in Python does what it says."""

import unittest

import served


class Example(unittest.TestCase):
    def test_it_runs(self):
        text = (served.ROOT / "docs/geds.md").read_text()
        [block] = text.split("```python\n")[1:]
        node = served.Node()
        self.addCleanup(node.stop)
        ended = served.program(block.split("```")[0], node, node.directory)
        self.assertEqual((ended.stdout, ended.stderr), ("b'hello world' b'hello'\n", ""))


if __name__ == "__main__":
    unittest.main()
