"""Pictures do not depend on the user's matplotlib settings, write names literally, and display themselves."""

import functools
import io
import logging
import types

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.image import imread
from matplotlib.text import Text

from keras_provlae import metrics
from keras_provlae import visualization as v
from keras_provlae.visualization.picture import own_style
from keras_provlae.visualization.style import shorten, text_width
from keras_provlae.visualization.writers import rendered
from tests.visualization.conftest import Painter

NAMES = ["cost_$5", "a$b_c$d", "_<x>$ 100 %"]
SETTINGS = {  # each of them once spoiled a picture
    "figure.facecolor": "black",
    "savefig.facecolor": "black",
    "axes.facecolor": "black",
    "text.color": "white",
    "xtick.color": "white",
    "axes.labelcolor": "white",
    "image.origin": "lower",
    "font.size": 30,
    "font.family": "monospace",
    "figure.autolayout": True,
    "savefig.dpi": 20,
    "savefig.bbox": "tight",
    "text.usetex": True,
    "text.parse_math": True,
    "svg.fonttype": "none",
}


def pictures():
    """{name of a function: function that makes its figure}, with the names above."""
    painter = Painter((8, 8, 1), [2, 1])
    images = np.random.default_rng(0).random((12, 8, 8, 1)).astype("float32")
    images *= np.linspace(0, 1, 12, dtype="float32")[:, None, None, None]
    factors = np.arange(12)[:, None] // [1, 3, 6]
    mean, log_var = painter.encode(images)
    information = metrics.mutual_information(mean, log_var, factors, factor_names=NAMES)
    held = metrics.rung_factor_map(mean, log_var, factors, painter.rung_slices, 50, factor_names=NAMES)
    history = {"loss": [9.0, 8.0], "reconstruction": [8.0, 7.0], "kl_rung_1": [0, 1], "stage": [0, 1], "alpha": [1, 1]}
    shock = {"stage": 1, "iteration": 5, "fade_in_steps": 1, "before": 9.0, "after": [(1, 9.0), (100, 8.0)]}
    arrays = {"samples": np.zeros((2, 2, 8, 8, 1), "uint8"), "locked": np.array([False, True]), "mi": np.array([1, 0])}
    snapshot = v.Snapshot(0, 1.0, 5, np.array([2, 1]), mi_total=1.0, rows=12, **arrays)
    runs = [{"model": model, "beta": 1, "reconstruction": 1.0, "mig": 0.1, "mig_sup": 0.2} for model in NAMES]
    grid = {"factor_sizes": (2, 3, 2), "factor_names": NAMES, "images": lambda rows: images[: len(rows)]}
    settings = {
        "context_sweeps": (painter, types.SimpleNamespace(**grid), NAMES[1], 0, 2),
        "traversals": (painter, None, 3, 3.0, NAMES[0], images, None, "factor", information),
        "rung_samples": (painter, images[:1], 2, 0),
        "reconstructions": (painter, images[:2]),
        "rung_swaps": (painter, images[:1], images[1:2]),
        "manifold": (painter, 2, None, 2),
        "training_curves": (history,),
        "growth_timeline": (snapshot,),
        "growth_shocks": ([shock],),
        "mutual_information_heatmap": (information, painter.rung_slices),
        "rung_factor_heatmap": (held,),
        "latent_responses": (mean, log_var, factors, painter.rung_slices, NAMES),
        "reconstruction_against_scores": ([{name: run[name] for name in run if name != "mig_sup"} for run in runs],),
        "mig_against_mig_sup": (runs,),
    }
    data = {name: {} if name == "traversals" else {"data": NAMES[0]} for name in settings}
    return {name: functools.partial(getattr(v, name), *given, **data[name]) for name, given in settings.items()}


NO_PICTURES = {"Snapshot", "growth_gif", "traversals_gif", "write_gif", "write_png"}
DRAWN = ["traversals", "mutual_information_heatmap"]  # without and with a layout engine
OF_NAMES = ["mutual_information_heatmap", "rung_factor_heatmap", "latent_responses", "mig_against_mig_sup"]


def test_every_picture_has_its_own_style_and_literal_names(tmp_path):
    makers = pictures()
    expected = {name: rendered(makers[name](), 50) for name in DRAWN}
    with matplotlib.rc_context(SETTINGS):
        before = dict(matplotlib.rcParams)
        figures = {name: make() for name, make in makers.items()}
        for name in DRAWN:
            np.testing.assert_array_equal(rendered(figures[name], 50), expected[name])
        path = v.write_png(figures["traversals"], tmp_path / "a.png", dpi=50)
        figures["traversals"].savefig(tmp_path / "a.svg")
        assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(imread(path)[..., :3], expected["traversals"] / np.float32(255))
    assert ">cost_$5</text>" in (tmp_path / "a.svg").read_text()  # the user's choice for SVG text
    assert set(figures) == set(v.__all__) - NO_PICTURES
    for name, figure in figures.items():
        with own_style():  # tick labels are created here, as when drawing
            texts = figure.findobj(Text)
        assert figure.get_facecolor() == (1, 1, 1, 1), name
        assert not any(text.get_parse_math() or text.get_usetex() for text in texts), name
        assert all(image.origin == "upper" for axes in figure.axes for image in axes.images), name
        assert set(NAMES if name in OF_NAMES else NAMES[:1]) <= {text.get_text() for text in texts}, name


@pytest.fixture
def font(tmp_path):
    """Installs a font whose 中 and 文 are black squares."""
    pen = TTGlyphPen(None)
    for point, move in (
        ((0, 0), pen.moveTo),
        ((0, 1000), pen.lineTo),
        ((1000, 1000), pen.lineTo),
        ((1000, 0), pen.lineTo),
    ):
        move(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord("中"): "square", ord("文"): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "squares.ttf")
    yield
    fontManager.ttflist[:] = before
    fontManager._findfont_cached.cache_clear()


def title_ink(title):
    """Number of dark pixels in a picture's title, at 100 dots per inch."""
    history = {"loss": [9.0], "reconstruction": [8.0], "kl_rung_1": [0]}
    gray = rendered(v.training_curves(history, data=title))[:20].min(axis=-1)
    return (gray < 140).sum()


def test_another_font_fills_in_for_missing_characters(font):
    assert title_ink("中文中文") == pytest.approx(4 * (9 * 100 / 72) ** 2, rel=0.2)  # 9 points high and wide


def test_a_character_of_no_font_is_a_box_and_logged_once(caplog, monkeypatch):
    """Undecodable bytes, control characters, and a script without a font raise no warning."""
    monkeypatch.setattr(logging.getLogger("keras_provlae"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert title_ink("\udce9\t\x00 𒀀") > 0
    records = {id(record): record for record in caplog.records}.values()  # some versions of pytest hear each twice
    assert [record.getMessage().split(":")[0] for record in records] == ["No installed font has 𒀀 (U+12000)"]


def test_wide_letters_are_measured():
    assert text_width(["中文"]) > 1.5 * text_width(["ab"])
    assert shorten("中文" * 9, 1.0) == "中文中文中文…"


def test_a_figure_displays_itself():
    painter = Painter((8, 8, 1), [2, 1])
    figure = v.reconstructions(painter, np.zeros((2, 8, 8, 1), "float32"))
    png, size = figure._repr_png_()
    assert imread(io.BytesIO(png)).shape[1] / size["width"] == pytest.approx(1.3, rel=0.02)  # sharp
    assert size["width"] == round(100 * figure.get_figwidth())
    with pytest.warns(UserWarning, match=r"no window.*write_png\(figure"):
        figure.show()
    figure.show(warn=False)
