"""The playground in a real browser, on real exports: paint, fill, draw; it asks no other host.

One page serves all tests. What it gives is compared with what `tools.inpaint` and `tools.sample` write.
"""

import socket

import pytest

from browser_test_case import needs_chromium
from gan_test_case import exported_run
from inpainting_test_case import write_generator

pytest.importorskip("gradio", reason="needs Gradio: pip install '.[playground]'")
pytestmark = [pytest.mark.slow, needs_chromium]
HEIGHT, WIDTH = 90, 121
SCALES = dict(label=3, seed=5, truncation=0.7)


@pytest.fixture(scope="module")
def fills(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("fills") / "saved_model")


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    return exported_run(tmp_path_factory)


@pytest.fixture(scope="module")
def asked():
    """The hosts that this process asks for while the page is there."""
    hosts, connect, resolve = set(), socket.socket.connect, socket.getaddrinfo

    def connect_and_note(self, address):
        hosts.add(address[0])
        return connect(self, address)

    def resolve_and_note(host, *arguments, **options):
        hosts.add(host)
        return resolve(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", connect_and_note)
        patched.setattr(socket, "getaddrinfo", resolve_and_note)
        yield hosts
