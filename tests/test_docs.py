"""The documentation is what the data says, and its links and commands lead somewhere."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import zoo
from training import recipe
from zoo import cli, registry

TREE = Path(__file__).parents[1]
PAGES = sorted([*TREE.glob("*.md"), *(TREE / "docs").glob("*.md")])


def test_tables_are_what_the_generator_writes():
    done = subprocess.run(
        [sys.executable, "-P", TREE / "docs" / "generate.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            target = child.attrs.get("href") if child.type == "link_open" else None
            if target and not target.startswith(("http", "#")):
                assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_functions_exist(page):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"^zoo (\w+)", text, re.MULTILINE):
        assert command in cli.COMMANDS
    for name in re.findall(r"\bzoo\.(\w+)\(", text):
        assert name in zoo.__all__, name
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", (TREE / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_training_have_such_flags(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for module, told in re.findall(r"python -m training\.(\w+) (-.*|\w\S* -.*)", text):
        found = importlib.import_module(f"training.{module}").FLAGS
        arguments = shlex.split(re.split('[`"]', told)[0].rstrip("'"), comments=True)
        for argument in arguments:
            if argument.startswith("--"):
                name = argument[2:].partition("=")[0]
                assert name in found or name.removeprefix("no") in found, argument
        for argument in arguments:
            if argument.startswith("--recipe="):
                recipe.load(argument.partition("=")[2])


def test_the_models_page_has_every_name():
    text = (TREE / "docs" / "models.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in registry.NAMES)


def test_python_of_the_readme_runs(monkeypatch, tmp_path, photos):
    """The README's Python, in order, with a photograph where it says cat.jpg."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").write_bytes((photos / "chelsea.png").read_bytes())
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (TREE / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert zoo.cost(names["big"]).macs <= 600_000_000
    assert names["embed"].output_shape == (None, 1280)
