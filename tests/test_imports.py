"""Imports go one way: what the design calls a leaf knows nothing of what is built on it."""

import ast
import re
import sys
from pathlib import Path

import pytest

import keras_provlae as kp

PACKAGE = Path(__file__).resolve().parents[1] / "keras_provlae"
CHECKS = {
    "checks",
    "folders",
    "html_table",
    "lazy_tensorflow",
    "messages",
    "thresholds",
}  # leaves that any part may import
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


def imported_at_once(path):
    """Full names that a module imports when it is imported itself: not in functions, not for type checkers."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(name):
    """The file of a module, or of the module that has an object; `None` outside the package."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py", place.parent.with_suffix(".py")):
        if path.is_file() and path.is_relative_to(PACKAGE):
            return path
    return place.parent / "__init__.py" if name.startswith("keras_provlae.") else None


def test_the_package_imports_the_rest_when_it_is_used():
    """Only what registers classes with Keras is imported at once, and nothing but Keras and NumPy from outside."""
    seen, todo, outside = set(), [PACKAGE / "__init__.py"], set()
    while todo:
        path = todo.pop()
        for name in imported_at_once(path):
            found = file_of(name)
            if found is None:
                outside.add(name.split(".")[0])
            elif found not in seen:
                seen.add(found)
                todo += [found, found.parent / "__init__.py"] if found.parent != PACKAGE else [found]
    lazy = {"callbacks", "conversion", "datasets", "experiments", "export", "growth", "recipes", "report"}
    assert not {part_of(path) for path in seen} & (lazy | {"visualization"})
    assert {"models", "metrics", "acceleration", "optimizers", "layers"} <= {part_of(path) for path in seen}
    assert outside - sys.stdlib_module_names == {"keras", "numpy", "absl"}


def test_tensorflow_is_imported_when_it_is_used():
    """The graphs of an export are TensorFlow's own; `lazy_tensorflow` has it for everything else."""
    eager = {
        path.stem
        for path in MODULES
        if {name.split(".")[0] for name in imported_at_once(path)} & {"tensorflow", "tensorflow_datasets"}
    }
    assert eager == {"image_bytes", "signatures"}


def test_every_public_name_is_there():
    assert set(kp.__all__) <= set(dir(kp))
    assert all(getattr(kp, name) is not None for name in kp.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        kp.Missing  # noqa: B018
