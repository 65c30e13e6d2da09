"""Imports go one way: what the design calls a leaf knows nothing of what is built on it."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_provlae"
CHECKS = {"checks", "folders", "html_table", "thresholds"}  # leaves that any part may import
MAY_IMPORT = {
    "architecture": set(),
    "losses": set(),
    "optimizers": set(),
    "presets": set(),
    "pretrained": set(),
    "training": {"optimizers"},
    "layers": {"training"},
    "ladder": {"architecture", "layers"},
    "models": {"ladder", "layers", "losses", "optimizers", "presets", "pretrained", "training"},
    "acceleration": {"ladder", "layers", "models", "training"},
    "metrics": set(),
    "growth": {"metrics", "models", "training"},
    "conversion": {"models"},
    "datasets": set(),
    "export": {"datasets", "models", "training"},
    "visualization": {"growth", "losses", "metrics"},
    "callbacks": {"metrics", "models", "visualization"},
    "recipes": {"callbacks", "growth", "models", "optimizers"},
    "report": {"export", "metrics", "visualization"},
    "experiments": {"datasets", "growth", "metrics", "models", "presets", "recipes", "training", "visualization"},
}
READERS_PATH = [
    "losses", "layers", "ladder", "models/ladder_vae", "models/growing_vae", "models/progressive_vae", "growth/callback"
]  # fmt: skip


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(path):
    """Top-level parts of the package that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "keras_provlae":
                yield (*name.split("."), "")[1]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    part = part_of(path)
    if part in CHECKS:
        assert set(imported_parts(path)) <= {part}
        return
    assert part in MAY_IMPORT, f"say in {Path(__file__).name} what {part} may import"
    assert set(imported_parts(path)) - {part} <= MAY_IMPORT[part] | CHECKS


def test_no_module_has_a_name_that_says_nothing():
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "base"}


def test_the_path_of_a_reader_is_short_and_names_no_backend():
    """CONTRIBUTING.md promises it: the method in seven files, on `keras.ops` alone."""
    texts = [(PACKAGE / f"{name}.py").read_text() for name in READERS_PATH]
    assert sum(text.count("\n") for text in texts) <= 1500
    for name, text in zip(READERS_PATH, texts, strict=True):
        assert not re.search(r"acceleration|tensorflow|jax|torch", text, re.IGNORECASE), name


def test_nothing_but_the_package_itself_installs_the_acceleration():
    users = [path for path in MODULES if part_of(path) != "acceleration" and "acceleration" in imported_parts(path)]
    assert users == []
