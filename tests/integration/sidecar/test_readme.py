"""What README pastes is what the tests run."""
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import CHECKOUT, find_program, run  # noqa: E402

PASTED = re.compile(r"<!-- (\S+) -->\n```\w+\n(.*?)```\n<!-- end -->", re.DOTALL)


class Readme(unittest.TestCase):
    def test_examples_are_the_files(self):
        pasted = dict(PASTED.findall((CHECKOUT / "README.md").read_text()))
        self.assertEqual(sorted(pasted), ["docs/examples/node/read_secret.js",
                                          "docs/examples/python/read_secret.py"])
        for path, text in pasted.items():
            self.assertEqual(text, (CHECKOUT / path).read_text(), path)

    def test_example_configurations_hold(self):
        for program, name in (("postern-node", "node.yaml"), ("postern", "postern.yaml")):
            run([find_program(program), "--config", CHECKOUT / "docs/examples" / name,
                 "--check-config"])

    def test_links_lead_somewhere(self):
        for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"):
            for link in re.findall(r"\]\(([^)#]+)\)", (CHECKOUT / page).read_text()):
                self.assertTrue((CHECKOUT / link).exists(), f"{page}: {link}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
