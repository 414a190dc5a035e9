"""Writes the reference of what `keras_an` makes public, from its docstrings, into docs/api; any warning is an error.

python docs/build_api.py
"""

import pathlib
import shutil
import sys
import warnings

import pdoc
import pdoc.docstrings
import pdoc.render

import keras_an.ops  # noqa: F401  imports Keras before its own warnings become errors

HERE = pathlib.Path(__file__).parent
# Lists of names, as `Args` is.
pdoc.docstrings.GOOGLE_LIST_SECTIONS.append("Call arguments")


def main(output_directory):
    warnings.simplefilter("error")
    shutil.rmtree(output_directory, ignore_errors=True)
    pdoc.render.configure(docformat="google")
    # A function is part of its package's page; the module of the same name has none.
    modules = ("keras_an", "keras_an.ops", r"!keras_an\.(models|ops)\..+")
    pdoc.pdoc(*modules, output_directory=output_directory)
    print(f"Wrote {output_directory}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "api")
