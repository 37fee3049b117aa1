"""Test runner: finds and runs the unittest tests of a project, and reports as JSON.

    run_tests.py [--pattern GLOB] [--only TEXT] [--fail-fast] [FOLDER]

FOLDER (default: /workspace) and its `src` can be imported from. /task/result.json has the counts,
each failure with its traceback, and the slowest tests; it ends with 1 when a test has failed, and
with 5 when there is none.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import unittest

SLOWEST = 5
NO_TESTS = 5


class Recorded(unittest.TextTestResult):
    """A result that remembers what failed, and how long each test took."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.problems = []
        self.seconds = {}
        self._began = 0.0

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.seconds[test.id()] = time.monotonic() - self._began
        super().stopTest(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note("failure", test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._note("error", test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note("failure", subtest, err)

    def _note(self, kind, test, err):
        trace = self._exc_info_to_string(err, test)
        self.problems.append({"test": test.id(), "kind": kind, "traceback": trace})


def chosen(suite, text):
    """Keep the tests whose name holds a text."""
    kept = unittest.TestSuite()
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            kept.addTests(chosen(one, text))
        elif text in one.id() or type(one).__name__ == "_FailedTest":
            kept.addTest(one)
    return kept


def somewhere_for_files():
    """Give tests that make temporary files a folder, where the world has none for that."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.makedirs("/dist/tmp", exist_ok=True)
            tempfile.tempdir = "/dist/tmp"


def main():
    parser = argparse.ArgumentParser(description="Run the unittest tests of a project.")
    parser.add_argument("folder", nargs="?", default="/workspace")
    parser.add_argument("--pattern", default="test*.py")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--fail-fast", action="store_true")
    given = parser.parse_args()
    os.chdir(given.folder)
    sys.path[:0] = [path for path in (f"{given.folder}/src",) if os.path.isdir(path)]
    somewhere_for_files()
    loader = unittest.TestLoader()
    tests = "tests" if os.path.isdir("tests") and not os.path.exists("tests/__init__.py") else "."
    suite = loader.discover(tests, given.pattern, None if tests == "tests" else ".")
    began = time.monotonic()
    runner = unittest.TextTestRunner(
        stream=sys.stdout, verbosity=2, resultclass=Recorded, failfast=given.fail_fast
    )
    result = runner.run(chosen(suite, given.only))
    slowest = sorted(result.seconds.items(), key=lambda one: -one[1])[:SLOWEST]
    told = {
        "tests": result.testsRun, "passed": result.wasSuccessful() and result.testsRun > 0,
        "failures": len(result.failures), "errors": len(result.errors),
        "skipped": len(result.skipped), "seconds": round(time.monotonic() - began, 3),
        "problems": result.problems,
        "slowest": [{"test": name, "seconds": round(took, 4)} for name, took in slowest],
    }  # fmt: skip
    if os.path.isdir("/task"):
        with open("/task/result.json", "w", encoding="utf-8") as file:
            json.dump(told, file)
    if not result.testsRun and not result.errors:
        sys.exit(NO_TESTS)
    sys.exit(0 if result.wasSuccessful() else 1)


main()
