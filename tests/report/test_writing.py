import base64
import io
import re
import types
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from matplotlib.image import imread

import keras_provlae as kp
from keras_provlae.metrics import evaluate
from keras_provlae.report import measurements, sections, write_report
from keras_provlae.visualization import Snapshot
from tests.metrics.conftest import Blobs

NAME = "blo$b_$ <drawn> 100 % \udce9"  # no formula, no element; the last is a byte of a file name that is no text
SHOWN = NAME.replace("\udce9", r"\udce9")


class Page(HTMLParser):
    """What a page holds: headings, cells of tables by section, pictures with their texts, and every address."""

    def __init__(self, path):
        super().__init__()
        self.sections, self.pictures, self.addresses, self.rows = {}, {}, [], {}
        self.open, self.section = [], None
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "section":
            self.section = attrs["id"]
            self.sections[self.section] = ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if tag == "img":
            self.pictures[attrs["alt"]] = attrs
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.section is not None:
            self.sections[self.section] += text
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[self.section][-1][-1] += text


@pytest.fixture(scope="module")
def truth():
    return Blobs()


@pytest.fixture(scope="module")
def trained(truth, tmp_path_factory):
    """A trained model, its history, the folder of its snapshots."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("snapshots")
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=(1, 2), channels=4, dense=8, beta=0.1)
    model.compile(kp.optimizers.adam(0.02))
    images = truth.images(truth.factors(np.arange(len(truth))))
    callbacks = [
        kp.GrowthCallback(fade_in_steps=2),
        kp.callbacks.TraversalSnapshots(folder, images, every=9, n=2, draws=20),
    ]
    history = model.fit(images, batch_size=30, epochs=30, verbose=0, callbacks=callbacks)
    return model, history, folder


@pytest.fixture(scope="module")
def page(truth, trained, tmp_path_factory):
    model, history, folder = trained
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    facts = {"seed of the training": 17, "command": "make <blobs>"}
    assert write_report(model, truth, history, path, folder, facts=facts, data_name=NAME, draws=200) == path
    return Page(path)


def test_it_has_every_section_and_links_to_it(page):
    assert list(page.sections) == [
        "warnings", "what-was-trained", "rungs", "training", "growth", "latents", "samples", "reconstructions",
        "factors", "metric-card",
    ]  # fmt: skip
    assert [address for address in page.addresses if address.startswith("#")] == [f"#{name}" for name in page.sections]


def test_it_needs_nothing_but_itself(page):
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)


def test_pictures_are_whole(page):
    assert len(page.pictures) == 10
    for alt, attrs in page.pictures.items():
        pixels = 255 * imread(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(
            int(attrs["width"]) / int(attrs["height"]), rel=0.02
        ), alt
        assert int(attrs["width"]) <= 830, alt
        assert pixels.std() > 5, alt


def test_it_says_what_was_trained(page, trained):
    facts = dict(row for row in page.rows["what-was-trained"] if len(row) == 2)
    assert facts["model"] == "ProgressiveVAE"
    assert facts["preset"] == "none"
    assert facts["data"] == SHOWN
    assert facts["image shape"] == "8 x 8 x 1"
    assert (facts["beta"], facts["gamma"], facts["precision"]) == ("0.1", "0.5", "float32")
    assert facts["growth"] == "stage 1 of 0 to 1, alpha 1"
    assert (facts["steps"], facts["last fade-in"]) == ("60", "2 steps")
    assert facts["latents per rung"] == "rung 2: 2, rung 1: 1"
    assert facts["optimizer"] == "FusedAdam, learning rate 0.02"
    assert facts["parameters"] == f"{trained[0].count_params():,}"
    assert facts["measured on"] == "60 images of 60, seed 0 (of choice and draws)"
    assert facts["seed of the training"] == "17"
    assert facts["command"] == "make <blobs>"  # escaped in the file
    assert f"keras_provlae {kp.__version__}" in facts["versions"]
    assert f"keras {keras.__version__}" in facts["versions"]


def test_a_line_for_each_rung(page, trained, truth):
    model = trained[0]
    images = truth.images(truth.factors(np.arange(len(truth))))
    flow = kp.metrics.information_flow(*model.encode(images), model.rung_slices, draws=200)
    scores = model.evaluate(images, verbose=0, return_dict=True)
    header, two, one, total = page.rows["rungs"]
    assert header[:4] == ["rung", "active latents", "I(x; z) in nats", "KL in nats"]
    active = kp.metrics.active_latents(np.asarray(model.encode(images)[0]))
    assert [two[1], one[1], total[1]] == [
        f"{active[:2].sum()} of 2",
        f"{active[2:].sum()} of 1",
        f"{active.sum()} of 3",
    ]
    for row, value, error in ((two, 0, 0), (one, 1, 1)):
        assert row[2] == f"{round(flow.mi[value], 3) + 0.0:.3f} ± {flow.standard_error[error]:.3f}"
    assert total[2] == f"{flow.total:.3f} ± {flow.total_standard_error:.3f}"
    assert f"at once: {flow.i_over:.3f} ± {flow.i_over_standard_error:.3f} nats" in page.sections["rungs"]
    assert float(total[3]) == pytest.approx(scores["kl"], abs=2e-3)
    held = kp.metrics.rung_factor_map(
        *model.encode(images), truth.factors(np.arange(60)), model.rung_slices, 2000, factor_names=truth.factor_names
    )
    for row, rung in ((two, 2), (one, 1)):
        names = [name for name, holder in held.holders.items() if holder == rung]
        assert [word.split(" ")[0] for word in row[4].split(", ")] == (names or ["-"])
    assert (two[0], one[0], total[0]) == ("2", "1", "all")
    assert float(two[3]) == pytest.approx(scores["kl_rung_2"], abs=2e-3)
    assert "cannot exceed ln 60 = 4.09 nats" in page.sections["rungs"]


def test_the_card_is_in_it(page, trained, truth):
    cells = {row[0]: row[1] for row in page.rows["metric-card"] if len(row) == 5}
    card = evaluate(trained[0], truth, include=["mig"], progress=False)
    assert float(cells["mig"]) == pytest.approx(float(card["mig"]), abs=1e-3)
    assert {"mig_sup", "mi_total", "factor_vae_score"} <= set(cells)
    assert ["data", SHOWN] in page.rows["metric-card"]


def test_a_card_that_is_given_is_taken(trained, truth, tmp_path, monkeypatch):
    card = evaluate(trained[0], truth, include=["mig", "irs"], progress=False)
    asked = []
    traversals, reconstructions, shown = sections.visualization.traversals, sections.visualization.reconstructions, []
    spy = lambda model, images, data: shown.append(images) or reconstructions(model, images, data)  # noqa: E731
    monkeypatch.setattr(sections.visualization, "reconstructions", spy)
    monkeypatch.setattr(
        sections.visualization, "traversals", lambda *args, **how: asked.append(how) or traversals(*args, **how)
    )
    page = Page(write_report(trained[0], truth, path=tmp_path / "a.html", card=card, draws=100))
    cells = {row[0]: row[1] for row in page.rows["metric-card"] if len(row) == 5}
    assert set(cells) == {"score", *card}
    assert "factors" in page.sections
    assert len(np.unique(shown[0], axis=0)) == 12  # different images
    assert asked[0]["order"] == "factor"
    assert asked[0]["information"] is card.results["mutual_information"]
    plain = kp.metrics.MetricCard.from_dict(card.to_dict())  # of a file: without the matrices
    plain.skipped["dci"] = "no time was left"
    page = Page(write_report(trained[0], truth, path=tmp_path / "b.html", card=plain, draws=100))
    assert "mig" in page.sections["metric-card"]
    assert ["dci", "no time was left"] in page.rows["metric-card"]


def test_images_alone_and_a_model_that_does_not_grow(make_model, images, tmp_path):
    page = Page(write_report(make_model(kp.VLAE), images, path=tmp_path / "report.html", draws=100))
    assert {"training", "factors", "metric-card"}.isdisjoint(page.sections)
    assert "The model as it is" in page.sections["information"]
    assert ["data", "unnamed images"] in page.rows["what-was-trained"]
    assert not any(row[0] == "growth" for row in page.rows["what-was-trained"])
    assert len([alt for alt in page.pictures if "swept over the prior; the other" in alt]) == 3  # manifolds


def test_a_file_of_the_history(trained, images, tmp_path):
    rows = ["epoch,loss,reconstruction,kl_rung_1,kl_rung_2", "0,9,8.5,0.5,0", "1,8,7.25,0.5,0", "2,7,6,0.5,0,0.1"]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    page = Page(write_report(trained[0], images, tmp_path / "log.csv", tmp_path / "report.html", draws=100))
    assert ["last epoch", "2; loss 8.00, reconstruction 7.25 nats per image"] in page.rows["what-was-trained"]
    assert "log.csv: 1 of 3 rows (line 4) do not have the 5 values of the header" in page.sections["warnings"]


def _card(latents, rungs):
    results = {
        "mutual_information": types.SimpleNamespace(active=np.ones(latents, bool)),
        "rung_factor_map": types.SimpleNamespace(rungs=rungs),
    }
    return kp.metrics.MetricCard(results=results)


def _not_yet(*args):
    raise AssertionError("what was given is checked before anything is measured")


def test_unfit_arguments_are_refused_and_leave_no_file(trained, images, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    with pytest.raises(TypeError, match="`model` must be a LadderVAE"):
        write_report(keras.Sequential(), images, path=path)
    with pytest.raises(TypeError, match="`card` must be what `metrics.evaluate` returns"):
        write_report(trained[0], images, path=path, card={"mig": 1.0})
    with pytest.raises(ValueError, match="`history` must be that of a ladder model"):
        write_report(trained[0], images, {"accuracy": [1.0]}, path)
    with pytest.raises(ValueError, match="Images must"):
        write_report(trained[0], images * 2, path=path)
    with pytest.raises(ValueError, match="There is no snapshot"):
        write_report(trained[0], images, path=path, snapshots=tmp_path / "nothing", draws=100)
    history = {"reconstruction": [1.0], **{f"kl_rung_{rung}": [1.0] for rung in (1, 2, 3)}}
    with pytest.raises(ValueError, match="`history` must be that of this model, of 2 rungs. Received: 3 rungs"):
        write_report(trained[0], images, history, path)
    other = Snapshot.of(kp.VLAE((8, 8, 1), 1, 2, channels=4, dense=8), images, draws=20)
    with pytest.raises(ValueError, match="`snapshots` must be those of this model: 2 rungs.*Received: 1 rungs"):
        write_report(trained[0], images, path=path, snapshots=other)
    with pytest.raises(ValueError, match="`history` must be what `fit` returns, or the CSV file"):
        write_report(trained[0], images, path)
    with pytest.raises(TypeError, match="`facts` must be a dict"):
        write_report(trained[0], images, path=path, facts=["seed"])
    for unfit, error, message in [
        ({"draws": 1}, ValueError, "`draws` must be at least 2"),
        ({"num_images": 1.5}, TypeError, "`num_images` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"snapshots": [1]}, TypeError, "`snapshots` must be what `TraversalSnapshots` keeps, .* Received: int"),
        ({"path": None}, TypeError, "`path` must be a path"),
        (
            {"path": trained[2] / "step_0000060_stage_1.png" / "a.html"},
            OSError,
            "The report cannot be written to .*png",
        ),
        ({"data": (images, np.zeros((40, 2), int)), "factor_names": ["x"]}, ValueError, "must name 2 factors"),
        ({"data": (images, np.ones((40, 2)) / 2)}, ValueError, "`factors` must be integers"),
        ({"card": _card(3, (1, 2))}, ValueError, r"with the rungs \[2, 1\]. Received: \[1, 2\]"),
        ({"card": _card(4, (2, 1))}, ValueError, "with 3 latents. Received: 4"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(measurements, "encode_all", _not_yet)
            with pytest.raises(error, match=message):
                write_report(**{"model": trained[0], "data": images, "path": path, **unfit})
    with pytest.raises(IsADirectoryError, match="Received a folder"):
        write_report(trained[0], images, path=tmp_path)
    assert not path.exists()


def test_warnings_reach_the_page(trained, truth, tmp_path):
    """Of the measurements, of the history and of factors that do not vary, for which there is no card."""
    images = truth.images(truth.factors(np.arange(40)))
    history = {
        "reconstruction": np.ones(2),
        "kl_rung_1": np.ones(2),
        "kl_rung_2": np.ones(2),
        "loss": np.array([1, np.nan]),
    }
    page = Page(write_report(trained[0], (images, np.ones((40, 2), int)), history, tmp_path / "a.html", draws=100))
    for words in "Only 40 images", "The loss was not finite in epoch 2", "Every factor has one value":
        assert words in page.sections["warnings"]
    assert "metric-card" not in page.sections


def test_many_factors_and_long_lists(trained, truth, tmp_path):
    """Attributes as of CelebA: too many for responses; the table names the first."""
    images = truth.images(truth.factors(np.arange(60)))
    attributes = (np.arange(60)[:, None] >> np.arange(20) % 6) & 1
    data = images, attributes
    page = Page(write_report(trained[0], data, path=tmp_path / "a.html", draws=100, data_name="faces"))
    assert not any("answers to each factor" in alt for alt in page.pictures)
    assert any("matrix behind MIG" in alt for alt in page.pictures)


def test_snapshots_of_later_steps_are_left_out(trained, images, tmp_path):
    model = keras.models.clone_model(trained[0])
    model.iteration_variable.assign(30)
    model.stage_variable.assign(0)
    page = Page(write_report(model, images, path=tmp_path / "report.html", snapshots=trained[2], draws=100))
    assert "3 snapshots of steps after the model's 30 are left out" in page.sections["warnings"]


def test_snapshots_in_memory(trained, images, tmp_path):
    snapshots = [Snapshot.load(path) for path in sorted(trained[2].glob("*.npz"))]
    page = Page(write_report(trained[0], images, path=tmp_path / "report.html", snapshots=snapshots, draws=100))
    assert "At the end of every stage" in page.sections["growth"]
    assert not re.search("as it is", page.sections["growth"])
