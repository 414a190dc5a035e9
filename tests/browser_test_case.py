"""A real browser: Chromium, which Playwright drives; where one of them lacks, tests that import this are skipped.

`apt-get install chromium`, or its path in the variable CHROMIUM.
"""

import contextlib
import os
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="needs Chromium: apt-get install chromium, or its path in CHROMIUM"
)


@contextlib.contextmanager
def opened_browser():
    """A context with a browser that reaches this machine alone."""
    with contextlib.ExitStack() as at_end:
        engine = at_end.enter_context(playwright.sync_playwright())
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=arguments)
        at_end.callback(browser.close)
        yield browser


def opened_page(browser, **options):
    """A page with `problems`, what went wrong in it, and `hosts`, whom it asked."""
    page = browser.new_page(**options)
    page.problems, page.hosts = [], set()
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.problems.append(said.text))
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    return page
