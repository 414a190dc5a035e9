"""Bazel 4 has the Python rules built in; the load statements that Bazel 8 needs find them here."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
