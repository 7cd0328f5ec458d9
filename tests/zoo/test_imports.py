"""Listing is light, imports point one way, and a user's module that hides one of ours is named."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import zoo

HOME = Path(zoo.__file__).parent.parent
ORDER = ("scaling_rules", "weights", "zoo", "training")
HEAVY = ("tensorflow", "keras", "numpy", "scipy", "yaml", "jax", "PIL", "rich")


def python(script, cwd=None, **options):
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def test_listing_loads_nothing_heavy():
    done = python(f"""
        import sys, zoo
        assert len(zoo.list_models()) > 50
        assert zoo.list_models("ghost*", max_macs=2e8) == ["ghostnet-0.5x", "ghostnet-1.0x"]
        zoo.info("efficientnet-lite0"), zoo.cite("resnet-50"), zoo.cost("resnet-50")
        print([name for name in {HEAVY} if name in sys.modules])
        """)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "command", [["list", "--json"], ["info", "ghostnet-1.0x"], ["cost", "resnet-18"], ["cite", "resnet-18"]]
)
def test_commands_that_only_look_load_no_keras(command):
    done = python(f"""
        import sys
        from zoo import cli
        code = cli.run({command})
        assert not set(sys.modules) & {{"tensorflow", "keras", "numpy"}}
        sys.exit(code)
        """)
    assert done.returncode == 0, done.stderr


def imported(path):
    """Top-level names a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_one_way(package):
    later = set(ORDER[ORDER.index(package) + 1 :])
    forbidden = later | ({"tensorflow", "keras", "jax"} if package in ("scaling_rules", "weights") else set())
    if package == "zoo":
        forbidden |= {"tensorflow", "jax"}  # the other backend must do
    files = list((HOME / package).rglob("*.py"))
    assert files
    for path in files:
        assert not set(imported(path)) & forbidden, path


@pytest.mark.parametrize("name", ["weights", "training", "scaling_rules"])
@pytest.mark.parametrize("kind", ["module", "package", "folder"])
def test_a_users_module_of_our_name_is_named(tmp_path, name, kind):
    if kind == "module":
        (tmp_path / f"{name}.py").write_text("best = 1\n")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").touch()
    if kind == "package":
        (tmp_path / name / "__init__.py").touch()
    done = python("import zoo", cwd=tmp_path)
    if kind == "folder":  # a plain folder does not hide an installed package
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: zoo needs its own package '{name}', but Python finds {tmp_path}")
    assert "rename that" in last


def test_the_public_names():
    assert set(zoo.__all__) <= set(dir(zoo))
    for name in zoo.__all__:
        assert getattr(zoo, name).__doc__
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'lod'"):
        _ = zoo.lod
