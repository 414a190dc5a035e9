"""Every module, main and test has a Bazel target, whose `deps` are what the file imports: neither fewer nor more.

`python tests/project/build_test.py` writes the `deps` of all targets, and targets for files that have none.
"""

import ast
import functools
import pathlib
import shutil
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("keras_an", "keras_an_tensorboard", "trainers", "tools", "examples", "tests")
RULES = ("py_library", "py_binary", "pytest_test")
RUNNER = "run_pytest"  # `pytest_test` adds it to each test


class Repository:
    """The sources below a folder, what they import of each other, and the targets of the BUILD files."""

    def __init__(self, root=ROOT):
        self.root = pathlib.Path(root)
        paths = [path for folder in FOLDERS for path in sorted((self.root / folder).rglob("*.py"))]
        self.modules = {module_name(path.relative_to(self.root)): path for path in paths if path.stem != RUNNER}
        self.texts = {name: path.read_text(encoding="utf-8") for name, path in self.modules.items()}
        self.rules = {
            name: rule_of(path.relative_to(self.root), self.texts[name]) for name, path in self.modules.items()
        }
        self.mains = {name for name, rule in self.rules.items() if rule == "py_binary"}
        self.imports = {name: self.imported(text) & set(self.modules) - {name} for name, text in self.texts.items()}

    def imported(self, text):
        """Names of what a program imports anywhere: in functions, in programs that are text, mains by name."""
        found = set()
        for node in nodes_in(text):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(self.origin(node.module, alias.name) for alias in node.names)
            elif node.value in self.mains:
                found.add(node.value)
            elif "\nimport " in node.value or "\nfrom " in node.value:
                found |= self.imported(node.value)
        return found

    def origin(self, module, name):
        """The module to which `from module import name` leads.

        What a package's `__init__` takes out of a module hides a module of the same name.
        """
        nodes = [node for node in nodes_in(self.texts.get(module, "")) if isinstance(node, ast.ImportFrom)]
        taken = {alias.name for node in nodes for alias in node.names if node.module != module}
        whole = f"{module}.{name}"
        return whole if whole in self.modules and name not in taken else module

    def deps(self, name):
        """The labels of what a module needs, shortened and sorted as buildifier does.

        A package's `__init__` that imports nothing is needed by all modules below it. Others import modules below
        them, which run without.
        """
        parts = name.split(".")
        above = {".".join(parts[:length]) for length in range(1, len(parts))} & set(self.modules)
        needed = self.imports[name] | {package for package in above if not self.imports[package]}
        # A message may name a main that imports the module of the message.
        needed -= {main for main in needed & self.mains if name in self.imports[main]}
        here = f"{self.label(name).split(':')[0]}:"
        labels = [self.label(module) for module in needed]
        labels = [label[len(here) - 1 :] if label.startswith(here) else shortened(label) for label in labels]
        return sorted(labels, key=lambda label: (label[0] != ":", label.split(":")))

    def label(self, name):
        """`//folder:module`; that of a package's `__init__` is `//package:package`."""
        path = self.modules[name]
        return f"//{path.parent.relative_to(self.root)}:{path.parent.name if path.stem == '__init__' else path.stem}"

    def build_files(self):
        return sorted(path for folder in FOLDERS for path in (self.root / folder).rglob("BUILD"))

    def problems(self):
        """What is wrong, one sentence each."""
        found, without = [], dict(zip(map(self.label, self.modules), self.modules))
        for path in self.build_files():
            for call, arguments in calls_in(path):
                label = f"//{path.parent.relative_to(self.root)}:{arguments['name']}"
                name, rule = without.pop(label, None), call.func.id
                right = (self.rules[name], [self.modules[name].name]) if name else "the target of a module"
                if right != (rule, arguments["srcs"]):
                    found.append(f"{label} must be {right}. Received: {(rule, arguments['srcs'])}")
                    continue
                deps, needed = arguments["deps"], self.deps(name)
                lacking, idle = [dep for dep in needed if dep not in deps], [dep for dep in deps if dep not in needed]
                found += [f"{name} imports {dep}, which is not in the deps of {label}" for dep in lacking]
                found += [f"{name} does not import {dep}, which is in the deps of {label}" for dep in idle]
        return found + [f"{name} has no target {label}" for label, name in without.items()]

    def fix(self):
        """Writes the deps of all targets, and targets for modules that have none."""
        for path in self.build_files():
            lines = path.read_text(encoding="utf-8").splitlines()
            modules = [name for name, module in self.modules.items() if module.parent == path.parent]
            without = {self.label(name).split(":")[1]: name for name in modules}
            for call, arguments in reversed(calls_in(path)):
                name = without.pop(arguments["name"], None)
                if name and arguments["deps"] != self.deps(name):
                    nodes = [keyword.value for keyword in call.keywords if keyword.arg == "deps"]
                    start, end = (nodes[0].lineno - 1, nodes[0].end_lineno) if nodes else [call.end_lineno - 1] * 2
                    lines[start:end] = self.deps_lines(name)
            for target, name in sorted(without.items()):
                srcs = [f'    srcs = ["{self.modules[name].name}"],'] if self.rules[name] != "pytest_test" else []
                lines += ["", f"{self.rules[name]}(", f'    name = "{target}",', *srcs, *self.deps_lines(name), ")"]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def deps_lines(self, name):
        deps = [f'"{dep}",' for dep in self.deps(name)]
        if len(deps) < 2:
            return [f"    deps = [{dep[:-1]}]," for dep in deps]
        return ["    deps = [", *(f"        {dep}" for dep in deps), "    ],"]


def module_name(path):
    """The name by which a file is imported; tests import each other without their folders."""
    parts = path.with_suffix("").parts
    return ".".join(parts[-1:] if parts[0] == "tests" else parts[:-1] if parts[-1] == "__init__" else parts)


def rule_of(path, text):
    """The rule that a file's target must have."""
    if path.parts[0] == "tests":
        return "pytest_test" if path.stem.endswith("_test") else "py_library"
    return "py_binary" if '\nif __name__ == "__main__"' in text else "py_library"


@functools.cache
def nodes_in(text):
    """The imports and the strings of a program; none where the text is no program."""
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError:
        return ()
    imports = (ast.Import, ast.ImportFrom)
    return tuple(node for node in nodes if isinstance(node, imports) or isinstance(getattr(node, "value", None), str))


def calls_in(path):
    """The targets of a BUILD file: calls, and their `name`, `srcs` and `deps`."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func.id in RULES:
            values = {keyword.arg: keyword.value for keyword in node.value.keywords}
            name = ast.literal_eval(values["name"])
            arguments = {"name": name, "srcs": [f"{name}.py"], "deps": []}
            arguments.update((key, ast.literal_eval(values[key])) for key in ("srcs", "deps") if key in values)
            found.append((node.value, arguments))
    return found


def shortened(label):
    """`//a/b` for `//a/b:b`."""
    package, name = label.split(":")
    return package if package.split("/")[-1] == name else label


def test_every_file_has_its_target_and_every_target_its_deps():
    assert Repository().problems() == []


def test_the_sources_are_found():
    repository = Repository()
    assert {"keras_an", "keras_an.ops.regions", "trainers.training.loop", "loop_test", "conftest"} <= set(
        repository.modules
    )
    assert {"train_gan", "sample"} <= {main.split(".")[-1] for main in repository.mains}
    assert set(repository.rules.values()) == set(RULES)


@pytest.fixture
def copy(tmp_path):
    """A folder with the sources and the BUILD files."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix == ".py" or path.name == "BUILD":
                (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


FAULTS = {
    "module without target": ("trainers/new.py", None, "", "trainers.new has no target //trainers:new"),
    "test without target": ("tests/data/new_test.py", None, "", "new_test has no target //tests/data:new_test"),
    "file renamed": (
        "tools/benchmarks/BUILD",
        '"timing.py"',
        '"times.py"',
        "//tools/benchmarks:timing must be ('py_library', ['timing.py']). Received: ('py_library', ['times.py'])",
    ),
    "rule of a module": (
        "tools/BUILD",
        'py_binary(\n    name = "sample"',
        'py_library(\n    name = "sample"',
        "//tools:sample must be ('py_binary', ['sample.py']). Received: ('py_library', ",
    ),
    "target without module": (
        "tools/BUILD",
        'py_library(\n    name = "tools"',
        'py_library(\n    name = "gone",\n    srcs = ["gone.py"],\n)\n\npy_library(\n    name = "tools"',
        "//tools:gone must be the target of a module. Received: ('py_library', ['gone.py'])",
    ),
    "import": (
        "keras_an/ops/products.py",
        '"""\n',
        '"""\nfrom keras_an import checks\n',
        "keras_an.ops.products imports //keras_an:checks, which is not in the deps of //keras_an/ops:products",
    ),
    "import in a function": (
        "keras_an/checks.py",
        "    if ",
        "    import keras_an.backend\n\n    if ",
        "keras_an.checks imports :backend, which is not in the deps of //keras_an:checks",
    ),
    "import of what a package takes in": (
        "keras_an/checks.py",
        '"""\n',
        '"""\nfrom keras_an.ops import orthogonality\n',
        "keras_an.checks imports //keras_an/ops, which",
    ),
    "import in a program that is text": (
        "tests/evaluation/score_names_test.py",
        '"""\n',
        '"""\nPROGRAM = "import sys\\nimport keras_an\\n"\n',
        "score_names_test imports //keras_an, which",
    ),
    "main by its name": (
        "tests/evaluation/score_names_test.py",
        '"""\n',
        '"""\nMAIN = "tools.sample"\n',
        "score_names_test imports //tools:sample, which",
    ),
    "dep that is not imported": (
        "keras_an/BUILD",
        'srcs = ["checks.py"],',
        'srcs = ["checks.py"],\n    deps = [":backend"],',
        "keras_an.checks does not import :backend, which is in the deps of //keras_an:checks",
    ),
    "__init__ above a module": (
        "trainers/monitoring/BUILD",
        'srcs = ["cost.py"],\n    deps = [\n        ":monitoring",\n',
        'srcs = ["cost.py"],\n    deps = [\n',
        "trainers.monitoring.cost imports :monitoring, which",
    ),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_told_and_nothing_else(copy, name):
    path, old, new, problem = FAULTS[name]
    text = (copy / path).read_text(encoding="utf-8") if old else ""
    assert old is None or old in text
    (copy / path).write_text(text.replace(old, new, 1) if old else new, encoding="utf-8")
    (told,) = Repository(copy).problems()
    assert told.startswith(problem)


def test_the_fix_makes_right_deps_and_targets_and_changes_nothing_else(copy):
    def build_files():
        return {path: path.read_text(encoding="utf-8") for path in Repository(copy).build_files()}

    right = build_files()
    Repository(copy).fix()
    assert build_files() == right
    (copy / "trainers" / "new.py").write_text(
        "from trainers.training import loop\nfrom trainers.monitoring import cost\n", encoding="utf-8"
    )
    (copy / "tests" / "data" / "new_test.py").write_text("from trainers import new\n", encoding="utf-8")
    build_file = copy / "trainers" / "BUILD"
    build_file.write_text(right[build_file].replace('        "//trainers/training:loop",\n', ""), encoding="utf-8")
    assert Repository(copy).problems() != []
    Repository(copy).fix()
    assert Repository(copy).problems() == []
    assert build_file.read_text(encoding="utf-8") == right[build_file] + (
        '\npy_library(\n    name = "new",\n    srcs = ["new.py"],\n'
        '    deps = [\n        ":trainers",\n        "//trainers/monitoring:cost",\n'
        '        "//trainers/training:loop",\n    ],\n)\n'
    )


if __name__ == "__main__":
    Repository().fix()
    sys.exit("\n".join(Repository().problems()) or None)
