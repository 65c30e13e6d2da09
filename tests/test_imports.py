"""Imports go one way: what the design calls a leaf knows nothing of what is built on it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_provlae"
MAY_IMPORT = {
    "folders": set(),
    "replicas": set(),
    "layers": {"replicas"},
    "losses": set(),
    "growth": {"auto_growth", "guard"},
    "auto_growth": {"losses", "metrics"},
    "guard": {"metrics"},
    "html_table": set(),
    "datasets": {"html_table"},
    "presets": set(),
    "ladder": {"layers"},
    "stage_graphs": {"layers"},
    "optimizers": set(),
    "models": {"html_table", "ladder", "layers", "losses", "optimizers", "presets", "replicas", "stage_graphs"},
    "conversion": set(),
    "export": {"datasets", "models"},
    "metrics": {"html_table"},
    "visualization": {"guard", "losses", "metrics"},
    "callbacks": {"folders", "metrics", "visualization"},
    "report": {"export", "folders", "html_table", "metrics", "visualization"},
    "experiments": {"datasets", "folders", "growth", "metrics", "models", "presets", "visualization"},
}


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
    assert part in MAY_IMPORT, f"say in {Path(__file__).name} what {part} may import"
    assert set(imported_parts(path)) - {part} <= MAY_IMPORT[part]


def test_no_module_has_a_name_that_says_nothing():
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "base"}
