"""Notebook cells display pictures and tables, without `%matplotlib inline` and pyplot."""

import base64
import io
import re
import sys
import warnings
from html import unescape

import pytest
from matplotlib.image import imread

CELLS = """
import numpy as np, keras_provlae as kp
figure = kp.visualization.training_curves({"loss": [2.0], "reconstruction": [1.0], "kl_rung_1": [0.5]})
figure
---
figure.show()
---
model.grow(fade_in_steps=10)
model.iteration_variable.assign(5)
model
---
images = np.linspace(0, 1, 16)[:, None, None] * np.ones((8, 8))
factors = [[hue, shape] for hue in np.arange(8) / 3 for shape in ("<cube>", "ball")]
kp.datasets.GroundTruth.from_arrays(images, factors, ["hue", "a$b & c"], name="rooms", source="<own>")
---
score = kp.metrics.Score("mi_total", 0.5, {"estimator": "quadrature", "rows": 16}, unit="nats", standard_error=0.01)
kp.metrics.MetricCard({"mi_total": score}, {"data": "<rooms>"}, {"dci": "scikit-learn is missing"})
"""


@pytest.fixture
def run_cell(monkeypatch, tmp_path, make_model):
    """Returns a function that runs a cell in an in-process Jupyter kernel and returns its outputs."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the kernel replaces it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Jupyter's own packages
        from ipykernel.inprocess import InProcessKernelManager
        from traitlets.config import Config

        manager = InProcessKernelManager(config=Config(HistoryManager={"enabled": False}))
        manager.start_kernel()
    client = manager.client()
    client.start_channels()
    shell = manager.kernel.shell
    shell.push({"model": make_model(num_rungs=2, latent_dim=(1, 3), name="small")})

    def run(code):
        client.execute(code)
        reply = client.get_shell_msg()["content"]
        assert reply["status"] == "ok", reply
        messages = client.iopub_channel.get_msgs()
        return [one["content"] for one in messages if one["msg_type"] in ("execute_result", "display_data")]

    yield run
    client.stop_channels()
    manager.kernel.iopub_thread.stop()
    manager.shutdown_kernel()
    shell.clear_instance()


def table(html):
    """Returns the cells of all rows, and the text before the table."""
    rows = re.findall("<tr>(.*?)</tr>", html)
    cells = [[unescape(cell) for cell in re.findall("<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]
    return cells, unescape(re.sub("<.*?>", "", html.partition("<table")[0]))


def test_a_notebook_displays_pictures_and_tables(run_cell):
    outputs = [run_cell(cell) for cell in CELLS.split("---")]
    assert [len(output) for output in outputs] == [1] * len(outputs)
    figure, shown, model, truth, card = (output[0] for output in outputs)
    for output in figure, shown:
        assert output["metadata"]["image/png"]["width"] == 830
        png = output["data"]["image/png"]  # base64, as in a notebook file
        png = base64.b64decode(png) if isinstance(png, str) else png
        assert imread(io.BytesIO(png)).shape[1] == 1079

    rows, about = table(model["data"]["text/html"])
    assert rows == [
        ["rung", "state", "latents (columns)", "feature map", "encoder gate", "decoder gate", "KL weight"],
        ["2", "open", "3 (0 .. 2)", "2 x 2 x 4", "1", "1", "1"],
        ["1", "fading in", "1 (3 .. 3)", "4 x 4 x 4", "0.5", "0.5", "1"],
    ]
    assert re.fullmatch(
        r"ProgressiveVAE small: images 8 x 8 x 1; [\d,]+ parameters; stage 1 of 0 .. 1, alpha 0.5", about
    )

    rows, about = table(truth["data"]["text/html"])
    assert about == "rooms <own>: 16 images of 8 x 8 x 1"
    assert rows[1:] == [["hue", "8", "0, 0.3333, 0.6667, 1, .., 2.333"], ["a$b & c", "2", "<cube>, ball"]]

    rows, _ = table(card["data"]["text/html"])
    assert rows == [
        ["score", "value", "±", "rows", "how"],
        ["mi_total", "0.5000 nats", "0.01", "16", "quadrature"],
        ["data", "<rooms>"],
        ["left out", "why"],
        ["dci", "scikit-learn is missing"],
    ]
    assert card["data"]["text/plain"].startswith("data: <rooms>\nscore")
