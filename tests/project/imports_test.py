"""Imports go one way, mains are short, long files say why, and nothing happens at import outside mains."""

import ast
import functools
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("keras_an", "keras_an_tensorboard", "trainers", "tools", "examples", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TEST_MODULES = {path.stem for path in (ROOT / "tests").rglob("*.py")}
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
    folders = {"keras_an", "keras_an_tensorboard", "trainers", "tools", "examples", "tests"}
    assert {name.split(".")[0] for name in SOURCES} == folders
    assert {"trainers.train_gan", "tools.export_saved_model"} <= set(MAINS)
    assert "keras_an.backend.ops" in imports_of("keras_an.ops.regions")


def test_keras_an_knows_neither_trainers_nor_tools():
    assert not importers("keras_an", "trainers", "tools", "examples")


@pytest.mark.parametrize("package", ["keras_an", "keras_an_tensorboard", "trainers", "tools", "examples"])
def test_nothing_imports_tests(package):
    assert not importers(package, "tests", *TEST_MODULES)


def test_only_the_backend_imports_tensorflow_or_keras():
    found = importers("keras_an", "tensorflow", "keras", "tf_keras")
    assert found and all(line.startswith("keras_an.backend imports ") for line in found)


def test_what_tensorboard_imports_knows_neither_keras_nor_the_house():
    assert not importers("keras_an_tensorboard", "tensorflow", "keras", "tf_keras", "keras_an", "trainers", "tools")


def test_the_package_imports_tensorboard_where_it_is_called_alone():
    at_import = {
        f"{name} imports {module}"
        for name in SOURCES
        if is_in(name, "keras_an")
        for node in tree_of(name).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for module in [getattr(node, "module", None) or node.names[0].name]
        if module.split(".")[0] in ("tensorboard", "keras_an_tensorboard")
    }
    assert at_import == set() and importers("keras_an.callbacks", "tensorboard", "keras_an_tensorboard")


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


# The rooms of the house, from the top down. A room knows those on lower floors alone, none on its own.
FLOORS = (
    ("tools", "tools.benchmarks"),
    ("tools.page",),
    ("tools.program", "tools.progress", "tools.exported"),
    ("tools.exporting",),
    ("trainers",),
    ("trainers.program", "trainers.comparison"),
    ("trainers.training", "trainers.evaluation"),
    ("trainers.data",),
    ("trainers.configs", "trainers.monitoring", "trainers.cpu"),
    ("keras_an",),
    ("keras_an.models", "keras_an.callbacks", "keras_an.losses"),
    ("keras_an.layers",),
    ("keras_an.regularizers",),
    ("keras_an.ops",),
    ("keras_an.checks",),
    ("keras_an.backend",),
    ("keras_an_tensorboard",),
)
# Of trainers, tools know the configurations, and how pictures are read and drawn.
KNOWN_TO_TOOLS = ("trainers.configs", "trainers.cpu", "trainers.data.picture_files", "trainers.monitoring.pictures")


def module_of(imported):
    """The module that `a.b.c` names, or holds, or None where it is not of the house."""
    parts = imported.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in SOURCES or f"{name}.__init__" in SOURCES), None)


def room_of(name):
    """The longest name of a room in which a module lies."""
    return max((room for floor in FLOORS for room in floor if is_in(name, room)), key=len)


def arrows():
    """Pairs of a module and one of the house that it imports; what an `__init__` imports, its package does."""
    names = [name for name in SOURCES if name.split(".")[0] not in ("examples", "tests")]
    pairs = {(name.removesuffix(".__init__"), module_of(imported)) for name in names for imported in imports_of(name)}
    return {(name, other) for name, other in pairs if other and name != other and not is_in(other, "tests")}


def upward(pairs):
    """Sentences about arrows that do not run down from room to room."""
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    rooms = {(room_of(name), room_of(other)): (name, other) for name, other in pairs}
    return [
        f"{name} imports {other}: {room} must not know of {below}"
        for (room, below), (name, other) in sorted(rooms.items())
        if room != below and floor_of[room] >= floor_of[below]
    ]


def circles(pairs):
    """The modules of a circle of imports, or none."""
    graph = {}
    for name, other in pairs:
        graph.setdefault(name, set()).add(other)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_arrows_run_down_only():
    assert upward(arrows()) == []


def test_no_imports_run_in_a_circle():
    assert circles(arrows()) == []


@pytest.mark.parametrize(
    "name, other, told",
    [
        ("trainers.data.masks", "trainers.training.loop", "trainers.data must not know of trainers.training"),
        ("trainers.evaluation.scores", "trainers.training.loop", "trainers.evaluation must not know of"),
        (
            "trainers.configs.schema",
            "trainers.monitoring.cost",
            "trainers.configs must not know of trainers.monitoring",
        ),
        ("trainers.training.loop", "trainers.program", "trainers.training must not know of trainers.program"),
        ("tools.exporting.exports", "tools.sample", "tools.exporting must not know of tools"),
        ("keras_an.layers.masked_mean", "keras_an.models.folding", "keras_an.layers must not know of keras_an.models"),
    ],
)
def test_an_arrow_that_runs_up_is_told(name, other, told):
    assert [line for line in upward(arrows() | {(name, other)}) if told in line]


def test_a_circle_is_told():
    pairs = arrows() | {("trainers.data.image_sources", "trainers.data.input_pipelines")}
    assert {"trainers.data.image_sources", "trainers.data.input_pipelines"} <= set(circles(pairs))


def test_every_room_says_what_belongs_there():
    rooms = sorted(path for top in ("trainers", "tools") for path in (ROOT / top).rglob("__init__.py"))
    assert len(rooms) == 12
    assert [path for path in rooms if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None] == []


def test_every_room_of_tests_is_run():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/*_test.py")}
    assert set(re.findall(r'^    "(tests/\w+)",$', settings, re.MULTILINE)) == rooms
    names = [path.name for path in (ROOT / "tests").rglob("*_test.py")]
    assert len(names) == len(set(names))  # pytest imports them without their rooms


def test_trainers_do_not_know_tools():
    assert not importers("trainers", "tools")


def test_tools_know_of_trainers_only_configurations_and_pictures():
    # A benchmark of the training step imports the step.
    lines = [line for line in importers("tools", "trainers") if not line.startswith("tools.benchmarks.training")]
    found = [line.split()[-1] for line in lines]
    assert not [module for module in found if not any(is_in(module, other) for other in KNOWN_TO_TOOLS)]


def test_examples_know_the_package_and_the_loader_of_tfgan():
    assert importers("examples", "trainers", "tools") == ["examples.tfgan_losses imports trainers.evaluation.tfgan"]


@pytest.mark.parametrize("name", [name for name in MAINS if is_in(name, "trainers")])
def test_mains_of_trainers_are_under_120_lines(name):
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_of_over_300_lines_says_why(name):
    text = SOURCES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300 or "The file is long because" in ast.get_docstring(tree_of(name))


def test_flags_are_defined_in_mains_alone():
    def is_flag(node):
        return isinstance(node, ast.Attribute) and node.attr.startswith("DEFINE_")

    definers = {name for name in SOURCES if any(is_flag(node) for node in ast.walk(tree_of(name)))}
    definers -= {"trainers.program", "tools.program"}  # in a function that mains call
    assert definers and definers <= set(MAINS)
    assert all(is_in(name, "tools") or is_in(name, "trainers") for name in definers)


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
