"""What a person is told on the page: one sentence in place of a trace."""

import functools
import html

from tools.exported.generation import SampleError
from tools.exported.inpainting import InpaintError


class PageError(ValueError):
    """What the person asked for cannot be done; the message says why."""


def told(function):
    """`function`, whose PageError, InpaintError and SampleError the page shows; Gradio would take them for HTML."""

    @functools.wraps(function)
    def wrapper(*arguments):
        import gradio

        try:
            return function(*arguments)
        except (PageError, InpaintError, SampleError) as error:
            raise gradio.Error(html.escape(str(error)), print_exception=False) from error

    return wrapper
