"""Imports go one way, mains are short, and nothing happens at import outside mains."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("keras_an", "trainers", "tools", "examples", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TEST_MODULES = {path.stem for path in (ROOT / "tests").glob("*.py")}
MAINS = sorted(
    name for name, path in SOURCES.items() if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
)


@functools.cache
def tree_of(name):
    return ast.parse(SOURCES[name].read_text(encoding="utf-8"))


def imports_of(name):
    """All modules that a module imports anywhere, also inside functions; `from a import b` counts as `a.b`."""
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def importers(package, *forbidden):
    """Lines `module imports other` for modules of a package that import what they must not."""
    return [
        f"{name} imports {module}"
        for name in SOURCES
        if is_in(name, package)
        for module in sorted(imports_of(name))
        if any(is_in(module, other) for other in forbidden)
    ]


def is_in(name, package):
    return name == package or name.startswith(f"{package}.")


def first_party(name):
    return [module for module in sorted(imports_of(name)) if is_in(module, "keras_an")]


def test_every_folder_is_looked_at():
    assert {name.split(".")[0] for name in SOURCES} == {"keras_an", "trainers", "tools", "examples", "tests"}
    assert {"trainers.train_gan", "tools.export_saved_model"} <= set(MAINS)
    assert "keras_an.backend.ops" in imports_of("keras_an.ops.regions")


def test_keras_an_knows_neither_trainers_nor_tools():
    assert not importers("keras_an", "trainers", "tools", "examples")


@pytest.mark.parametrize("package", ["keras_an", "trainers", "tools", "examples"])
def test_nothing_imports_tests(package):
    assert not importers(package, "tests", *TEST_MODULES)


def test_only_the_backend_imports_tensorflow_or_keras():
    found = importers("keras_an", "tensorflow", "keras", "tf_keras")
    assert found and all(line.startswith("keras_an.backend imports ") for line in found)


def test_only_the_backend_imports_keras_in_programs():
    assert not importers("trainers", "keras", "tf_keras") + importers("tools", "keras", "tf_keras")


def test_ops_know_neither_layers_nor_models():
    assert not importers("keras_an.ops", "keras_an.layers", "keras_an.models", "keras_an.losses")


def test_layers_do_not_know_models():
    assert not importers("keras_an.layers", "keras_an.models", "keras_an.losses")


def test_models_do_not_know_losses():
    assert not importers("keras_an.models", "keras_an.losses")


@pytest.mark.parametrize("name", [name for name in SOURCES if is_in(name, "keras_an.losses")])
def test_losses_stand_alone(name):
    allowed = ("keras_an.backend", "keras_an.losses")
    assert [module for module in first_party(name) if not any(is_in(module, other) for other in allowed)] == []


def test_the_backend_stands_below_all():
    assert not first_party("keras_an.backend")


def test_trainers_do_not_know_tools():
    assert not importers("trainers", "tools")


def test_tools_know_of_trainers_only_configurations_and_pictures():
    allowed = ("trainers.configs", "trainers.pictures")
    # A benchmark of the training step imports the step.
    lines = [line for line in importers("tools", "trainers") if not line.startswith("tools.benchmark_training ")]
    found = [line.split()[-1] for line in lines]
    assert not [module for module in found if not any(is_in(module, other) for other in allowed)]


def test_examples_know_the_package_and_the_loader_of_tfgan():
    assert importers("examples", "trainers", "tools") == ["examples.tfgan_losses imports trainers.tfgan"]


@pytest.mark.parametrize("name", [name for name in MAINS if is_in(name, "trainers")])
def test_mains_of_trainers_are_under_120_lines(name):
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) < 120


def test_flags_are_defined_in_mains_alone():
    def is_flag(node):
        return isinstance(node, ast.Attribute) and node.attr.startswith("DEFINE_")

    definers = {name for name in SOURCES if any(is_flag(node) for node in ast.walk(tree_of(name)))}
    definers -= {"trainers.program"}  # in a function that the mains of the trainers call
    assert definers and definers <= set(MAINS)
    assert all(is_in(name, "tools") or name.startswith(("trainers.train_", "trainers.evaluate")) for name in definers)


@pytest.mark.parametrize("name", [name for name in SOURCES if not is_in(name, "tests") and not is_in(name, "examples")])
def test_import_has_no_effects(name):
    """A bare call at import is an effect; only mains may have some: their flags."""
    calls = [
        ast.unparse(node.value.func)
        for node in tree_of(name).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    allowed = ("flags.DEFINE_", "program.define_flags") if name in MAINS else ()
    assert [call for call in calls if not call.startswith(allowed)] == []


@pytest.mark.parametrize("name", [name for name in SOURCES if is_in(name, "trainers") or is_in(name, "tools")])
def test_seeds_devices_and_sessions_are_left_alone_at_import(name):
    effects = ("set_seed", "set_random_seed", "seed", "list_logical_devices", "list_physical_devices", "Session")
    functions = (ast.FunctionDef, ast.ClassDef, ast.If)
    statements = [node for node in tree_of(name).body if not isinstance(node, functions)]
    called = [
        node.func.attr
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert not set(called) & set(effects)
