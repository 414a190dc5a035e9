"""The ruff.toml of every room forbids what the room must not know. Run as a program, this file writes them all.

PYTHONPATH=tests/project python tests/project/lint_test.py
"""

import os

import pytest

from imports_test import FLOORS, KNOWN_TO_TOOLS, ROOT, SOURCES, is_in, room_of

FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
ROOMS = [room for room in FLOOR_OF if (ROOT / room.replace(".", "/")).is_dir()]
TOPS = ("keras_an", "keras_an_tensorboard", "tools", "trainers")
# Below them, and yet not for them.
UNKNOWN = {"keras_an.losses": ("keras_an.layers", "keras_an.regularizers", "keras_an.ops", "keras_an.checks")}
ARROW = "Rooms know those on lower floors alone: see FLOORS in tests/project/imports_test.py."
KERAS = "Use keras_an.backend: it knows which Keras runs."


def is_known(room, module):
    """Whether a room may import a module."""
    name = module.removesuffix(".__init__")
    if is_in(room, "tools") and is_in(name, "trainers"):
        return any(is_in(name, known) for known in KNOWN_TO_TOOLS)
    if any(is_in(name, unknown) for unknown in UNKNOWN.get(room, ())):
        return False
    return room_of(module) == room or FLOOR_OF[room_of(module)] > FLOOR_OF[room]


def banned(room, name):
    """The fewest names, at or below `name`, of all that a room must not import and of nothing else."""
    modules = [module for module in SOURCES if is_in(module, name)]
    if not any(is_known(room, module) for module in modules):
        return [name]
    length = len(name.split(".")) + 1
    parts = sorted({".".join(module.split(".")[:length]) for module in modules} - {name, f"{name}.__init__"})
    return [found for part in parts for found in banned(room, part)]


def text_of(room):
    """What the ruff.toml of a room must hold."""
    rules = dict.fromkeys(["keras", "tf_keras"], KERAS)
    if room.startswith("keras_an"):
        rules["tensorflow"] = "keras_an.backend alone knows TensorFlow."
    rules["tests"] = "Nothing imports tests."
    rules.update((name, ARROW) for top in TOPS for name in banned(room, top))
    lines = [
        f'extend = "{"../" * (room.count(".") + 1)}pyproject.toml"',
        "",
        "# Written by tests/project/lint_test.py.",
        "[lint.flake8-tidy-imports.banned-api]",
        *(f'"{name}".msg = "{message}"' for name, message in rules.items()),
    ]
    if room == "keras_an":
        lines += ["", "[lint.per-file-ignores]", '"backend.py" = ["TID251"]']
    return "\n".join(lines) + "\n"


def file_of(room):
    return ROOT / room.replace(".", os.sep) / "ruff.toml"


@pytest.mark.parametrize("room", ROOMS)
def test_lint_forbids_what_a_room_must_not_know(room):
    assert file_of(room).read_text(encoding="utf-8") == text_of(room)


def test_what_is_forbidden_is_what_lies_above():
    assert banned("trainers.data", "trainers")[:2] == ["trainers.compare", "trainers.comparison"]
    assert {"trainers.training", "trainers.evaluation"} <= set(banned("trainers.data", "trainers"))
    assert not {"trainers.configs", "trainers.cpu", "trainers.data"} & set(banned("trainers.data", "trainers"))
    assert banned("keras_an.layers", "trainers") == ["trainers"] and banned("trainers", "keras_an") == []
    assert "tools.sample" in banned("tools.page", "tools") and "tools.exported" not in banned("tools.page", "tools")


if __name__ == "__main__":
    for one in ROOMS:
        file_of(one).write_text(text_of(one), encoding="utf-8")
