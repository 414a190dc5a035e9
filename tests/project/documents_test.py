"""The documents: commands that they name run, files that they link are there, and the README is a front door."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = ROOT / "README.md"
# Whatever may name a command: documents, launch files, the Makefile, and docstrings.
PLACES = ["*.md", "Makefile", "docs/**/*.md", "pretrained/**/*.md", "Dockerfile", "trainers/launch/*"]
PLACES += [f"{folder}/**/*.py" for folder in ("keras_an", "trainers", "tools", "examples")]
TEXTS = {path: path.read_text(encoding="utf-8") for place in PLACES for path in sorted(ROOT.glob(place))}
NAMED = re.compile(r"-m[ \",\\\n]+((?:trainers|tools|examples)(?:\.\w+)+)")
COMMANDS = sorted({name for text in TEXTS.values() for name in NAMED.findall(text)})


@pytest.mark.parametrize("name", [name for name in COMMANDS if not name.startswith("examples.")])
def test_every_command_that_a_document_names_tells_its_flags(name):
    """A process each, two seconds long: a main that only another one imported would pass as well."""
    done = subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr[-2000:]  # as absl ends a --help
    assert f"{name.split('.')[-1]}.py:" in done.stdout or "flags:" in done.stdout


def test_every_main_is_named_and_every_example_there():
    mains = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("trainers", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if '\nif __name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    started_by_others = {
        "tools.exporting.fresh_process",
        "tools.benchmarks.training_steps",
        "tools.benchmarks.pytorch_step",
    }
    assert mains - started_by_others <= set(COMMANDS)
    assert [name for name in COMMANDS if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


@pytest.mark.parametrize("path", [path for path in TEXTS if path.suffix == ".md"], ids=lambda path: path.name)
def test_links_lead_to_files(path):
    links = re.findall(r"\]\(([^)#\s]+)", TEXTS[path])
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_the_readme_is_two_screens_long():
    lines = TEXTS[README].splitlines()
    assert len(lines) <= 140
    assert [line for line in lines if len(line) > 100] == []


def test_every_row_of_results_in_the_readme_has_its_figures_in_the_docs():
    pages = "\n".join(text for path, text in TEXTS.items() if path.parent == ROOT / "docs")
    rows = [line for line in TEXTS[README].splitlines() if re.match(r"\|.*\d\.\d+ [|/]", line)]
    assert len(rows) >= 5
    for row in rows:
        figures = re.findall(r"(?<![\d.,])\d[\d.,]*(?= [|/]|\b)", row)
        lines = [line for line in pages.splitlines() if all(figure in line for figure in figures)]
        assert lines, f"No line of docs/ holds {figures} of the README"
