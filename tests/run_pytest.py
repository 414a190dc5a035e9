"""Runs pytest on the files of a Bazel test, which see what its target declares and nothing else of the project."""

import os
import site
import sys

import pytest


class Skipped:
    """Notes whether a file skipped itself, which leaves pytest without a test."""

    files = False

    def pytest_collectreport(self, report):
        self.files = self.files or report.skipped


def main(files):
    # An installed package would stand in for what the target does not declare.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
    installed = [path for path in site.getsitepackages() if os.path.exists(os.path.join(path, "keras_an"))]
    if installed:
        return f"keras_an must not be installed, unless as editable, where Bazel runs tests. Received: {installed}"
    arguments = ["--rootdir=.", "--config-file=pyproject.toml", "-p", "no:cacheprovider"]
    arguments += [f"--basetemp={os.environ['TEST_TMPDIR']}/pytest", f"--junitxml={os.environ['XML_OUTPUT_FILE']}"]
    if "TESTBRIDGE_TEST_ONLY" in os.environ:  # bazel test --test_filter
        arguments += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    skipped = Skipped()
    code = pytest.main(arguments + files, plugins=[skipped])
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED and skipped.files else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
