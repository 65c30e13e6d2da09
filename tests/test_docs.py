"""Every Python block of the README and the documentation runs; the blocks of a page share their names, in order.

A training does one step per stage, in eager mode; everything else runs as it stands.
"""

import re
import socket
import sys

import mktestdocs
import pytest

import keras_provlae as kp
from keras_provlae.messages import LOGGER
from keras_provlae.training.trainer import ImageModel
from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [path for path in [README, *sorted(DOCS.rglob("*.md"))] if "```python" in path.read_text()]
FIRST = [README, DOCS / "get-started.md"]
SLOW = [DOCS / f"how-to/{name}.md" for name in ("pictures", "scale", "serve")]
OF_EXTRAS = ("mlxtend", "imageio", "sklearn", "tensorboard", "tf2onnx", "onnxruntime", "ai_edge_litert", "fastapi")


def named(paths):
    return [pytest.param(path, id=str(path.relative_to(REPOSITORY))) for path in paths]


@pytest.fixture(autouse=True)
def _short_trainings(monkeypatch, tmp_path):
    """Cuts trainings, keeps the files of a page in a folder of its own, and hides prepared data."""
    fit = ImageModel.fit

    def short_fit(model, *args, epochs=1, steps_per_epoch=1, **settings):
        model.run_eagerly = True
        return fit(model, *args, epochs=min(epochs, model.num_rungs), steps_per_epoch=1, **{**settings, "verbose": 0})

    monkeypatch.setattr(ImageModel, "fit", short_fit)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    level = LOGGER.level
    yield
    kp.acceleration.enable()
    LOGGER.setLevel(level)


def run(page):
    if "load_weights=True" in page.read_text() and "shapes3d_32" not in kp.pretrained.names():
        pytest.skip("the weights of this page are not in the package")
    name = f"<blocks of {page}>"
    mktestdocs.register_executor("python", lambda code: exec(compile(code, name, "exec"), {"__name__": "page"}))
    mktestdocs.check_md_file(page, memory=True)


@pytest.mark.parametrize("page", named(page for page in PAGES if page not in FIRST + SLOW))
def test_the_blocks_of_a_page_run(page):
    run(page)


@pytest.mark.docs
@pytest.mark.parametrize("page", named(SLOW))
def test_the_blocks_of_a_slow_page_run(page):
    run(page)


@pytest.fixture
def _base_install_without_a_network(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    imported = [name for name in sys.modules if name.split(".")[0] in OF_EXTRAS]
    for name in {*OF_EXTRAS, *imported}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_base_install_without_a_network")
@pytest.mark.parametrize("page", named(FIRST))
def test_the_first_examples_have_ten_lines_and_need_only_the_base_install(page, tmp_path):
    first = re.search("```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
    assert sum(bool(line.strip()) and "import" not in line for line in first.splitlines()) <= 10
    run(page)
    assert (tmp_path / "traversals.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("source", named(DOCS.glob("tutorials/*.py")))
def test_a_tutorial_is_a_notebook_and_listed(source):
    cells = re.split(r"^# %%(.*)\n", source.read_text(), flags=re.MULTILINE)
    assert cells[1] == " [markdown]"
    assert cells[2].startswith("# # ")  # the page's title
    compile(source.read_text(), source, "exec")
    assert f"]({source.name})" in (DOCS / "tutorials/index.md").read_text()
    assert f"tutorials/{source.stem}.md" in (REPOSITORY / "mkdocs.yml").read_text()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
