"""Tests that pytest runs."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, data = [], deps = [], **kwargs):
    """A `py_test` of `<name>.py`, with the fixtures of conftest.py.

    Args:
        name: of the test, and of its file.
        data: files that it reads.
        deps: what it imports.
        **kwargs: of `py_test`.
    """
    py_test(
        name = name,
        srcs = [
            name + ".py",
            "//tests:run_pytest.py",
        ],
        args = [native.package_name() + "/" + name + ".py"],
        data = data + ["//:pyproject.toml"],
        main = "//tests:run_pytest.py",
        deps = deps + ["//tests:conftest"],
        **kwargs
    )
