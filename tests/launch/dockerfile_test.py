"""The image's recipe: what it holds, who runs it, and its steps tried in a clean folder without Docker."""

import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def instructions():
    """Pairs of instruction and arguments, continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def of_kind(name):
    return [arguments for kind, arguments in instructions() if kind == name]


def ignored(path):
    """Whether .dockerignore leaves out a path of the clone; of its patterns those that the file uses."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    tops = [pattern for pattern in patterns if not pattern.startswith("**/")]
    anywhere = [pattern[3:] for pattern in patterns if pattern.startswith("**/")]
    return any(fnmatch.fnmatch(path.parts[0], pattern) for pattern in tops) or any(
        fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in anywhere
    )


def test_image_is_not_roots_and_works_in_the_clone():
    assert of_kind("USER") == ["1000"] and [kind for kind, _ in instructions()].index("USER") > 0
    assert of_kind("WORKDIR") == ["/keras_an"]
    assert "useradd --create-home --uid=1000 keras_an" in of_kind("RUN")
    assert any("'.[train,gpu]'" in command for command in of_kind("RUN"))


def test_context_holds_sources_and_nothing_that_runs_leave():
    for kept in ("keras_an/__init__.py", "trainers/launch/slurm.sbatch", "setup.py", "README.md", "docs/index.md"):
        assert (ROOT / kept).is_file() and not ignored(pathlib.PurePath(kept))
    for left in (".git/HEAD", ".venv-jax/bin/python", "runs/demo/params.yaml", "a/__pycache__/b.pyc", ".gpu/kit/x"):
        assert ignored(pathlib.PurePath(left))
    for name in (ROOT / ".gitignore").read_text().split():
        if name != "MODULE.bazel.lock":  # a file of bytes
            assert ignored(pathlib.PurePath(name.replace("*", "x").rstrip("/"))), name


@pytest.mark.slow
def test_steps_make_a_folder_that_trains(tmp_path):
    """The same commands in an empty folder, with what is installed in place of what an image would download."""
    environment = {**os.environ, "PYTHONUSERBASE": str(tmp_path / "user"), "PIP_NO_INDEX": "1"}
    folder = tmp_path / "image"

    def run(*command):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def copy(source, target):
        if source != ".":
            (folder / target).mkdir(exist_ok=True)
            shutil.copy(ROOT / source, folder / target)
            return
        shutil.copytree(
            ROOT,
            folder / target,
            dirs_exist_ok=True,
            ignore=lambda at, names: [
                name for name in names if ignored(pathlib.PurePath(os.path.relpath(os.path.join(at, name), ROOT)))
            ],
        )

    for kind, arguments in instructions():
        if kind == "WORKDIR":
            folder.mkdir()
        elif kind == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                copy(source, target)
        elif kind == "RUN" and "pip install" in arguments:
            command = shlex.split(arguments.split("&&")[0])[1:]
            # Not into the tests' own environment, and nothing downloaded.
            command = [word for word in command if word not in ("--no-deps", "--editable")]
            where = ["--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), "--upgrade"]
            run(sys.executable, *command[:3], *where, *command[3:])
    assert (tmp_path / "site" / "keras_an" / "layers" / "__init__.py").is_file()
    ((executable, *command),) = [json.loads(arguments) for arguments in of_kind("CMD")]
    assert executable == "python"
    help_text = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    ).stdout
    assert "--model_dir" in help_text and "trainers/train_gan.py" in help_text
