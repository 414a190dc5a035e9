"""Every public name is exercised by some test."""

import ast
import importlib
import inspect
import pathlib
import typing

import pytest

import keras_an

TESTS = pathlib.Path(__file__).parents[1]


def used_names():
    """Identifiers that the code of any other test file uses; an import alone is no use."""
    names = set()
    for path in TESTS.rglob("*_test.py"):
        if path.name != pathlib.Path(__file__).name:
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            names.update(node.id for node in nodes if isinstance(node, ast.Name))
            names.update(node.attr for node in nodes if isinstance(node, ast.Attribute))
    return names


def public_names(module):
    """`__all__`, or where there is none the classes and functions that a module defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


@pytest.mark.parametrize("name", ["callbacks", "layers", "losses", "models", "ops", "regularizers"])
def test_every_public_name_is_exercised(name):
    module = importlib.import_module(f"keras_an.{name}")
    names = public_names(module)
    assert names and all(hasattr(module, name) for name in names)
    assert sorted(set(names) - used_names()) == []


def test_the_package_shows_its_layer_and_modules():
    assert keras_an.AttentiveNormalization is keras_an.layers.AttentiveNormalization
    assert all(hasattr(keras_an, name) for name in keras_an.__all__)


@pytest.mark.parametrize("name", ["callbacks", "layers", "losses", "models", "ops"])
def test_public_names_are_sorted(name):
    names = importlib.import_module(f"keras_an.{name}").__all__
    assert list(names) == sorted(names)


def functions_of(public):
    """A public function; of a public class its constructor and the public methods that it defines itself."""
    if not inspect.isclass(public):
        return [public]
    members = {name: getattr(value, "__func__", value) for name, value in vars(public).items()}
    names = [name for name in members if name in ("__init__", "__call__") or not name.startswith("_")]
    return [inspect.unwrap(members[name]) for name in names if inspect.isfunction(members[name])]


@pytest.mark.parametrize("name", ["callbacks", "layers", "losses", "models", "ops", "regularizers"])
def test_every_public_signature_is_typed(name):
    module = importlib.import_module(f"keras_an.{name}")
    missing = []
    for function in [one for public in public_names(module) for one in functions_of(getattr(module, public))]:
        hints = typing.get_type_hints(function)
        wanted = [parameter for parameter in inspect.signature(function).parameters if parameter not in ("self", "cls")]
        missing += [f"{function.__qualname__}: {one}" for one in (*wanted, "return") if one not in hints]
    assert missing == []
