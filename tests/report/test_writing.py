import base64
import dataclasses
import io
import types
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from matplotlib.image import imread

import keras_provlae as kp
from keras_provlae import metrics
from keras_provlae.report import measurements, sections, write_report
from keras_provlae.visualization import Snapshot
from tests.metrics.conftest import Blobs

NAME = "blo$b_$ <drawn> 100 % \udce9"  # not math text, not an element; ends with an undecodable byte of a file name
SHOWN = NAME.replace("\udce9", r"\udce9")
TRUTH = Blobs()
FACTORS = TRUTH.factors(np.arange(60))
IMAGES = TRUTH.images(FACTORS)
HISTORY = {
    "loss": [3.0, 2.0], "reconstruction": [2.5, 1.5], "kl_rung_2": [0.5, 0.5], "kl_rung_1": [0.0, 0.1],
    "stage": [0, 1], "alpha": [1.0, 1.0],
}  # fmt: skip


class Page(HTMLParser):
    """Parses a page: texts and table cells by section, pictures by their alt text, and all addresses."""

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
def trained(tmp_path_factory):
    """A grown model with active latents after 60 steps, and a folder of snapshots at steps 40 and 60."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("snapshots")
    model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=(1, 2), channels=4, dense=8, beta=0.1)
    model.encoder.set_weights([1.5 * weight for weight in model.encoder.get_weights()])  # so that latents are active
    model.compile(kp.optimizers.adam(0.02))
    for stage, iteration in (0, 40), (1, 60):
        if stage:
            model.grow(fade_in_steps=2)
        model.iteration_variable.assign(iteration)
        snapshot = Snapshot.of(model, IMAGES, n=2, draws=20)
        snapshot.save(folder / f"step_{iteration:07}_stage_{stage}.npz")
    return model, folder


@pytest.fixture(scope="module")
def found(trained):
    """The measurements of the model on all images."""
    return measurements.measure(trained[0], TRUTH, NAME, TRUTH.factor_names, None, 2000, 200, 0)


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    facts = {"seed of the training": 17, "command": "make <blobs>"}
    args = trained[0], TRUTH, HISTORY, path, trained[1]
    assert write_report(*args, facts=facts, data_name=NAME, draws=200) == path
    return Page(path)


def test_the_page_has_every_section_and_links_to_it(page):
    assert list(page.sections) == [
        "warnings", "what-was-trained", "rungs", "training", "growth", "latents", "samples", "reconstructions",
        "factors", "metric-card",
    ]  # fmt: skip
    assert [address for address in page.addresses if address.startswith("#")] == [f"#{name}" for name in page.sections]


def test_the_page_is_self_contained(page):
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)


def test_pictures_are_complete(page):
    assert len(page.pictures) == 10
    for alt, attrs in page.pictures.items():
        pixels = 255 * imread(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(
            int(attrs["width"]) / int(attrs["height"]), rel=0.02
        ), alt
        assert int(attrs["width"]) <= 830, alt
        assert pixels.std() > 5, alt


def test_the_page_describes_the_training(page, trained):
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
    assert facts["measured on"] == "60 images of 60, seed 0 (subset and draws)"
    assert facts["last epoch"] == "2; loss 2.00, reconstruction 1.50 nats per image"
    assert facts["seed of the training"] == "17"
    assert facts["command"] == "make <blobs>"  # escaped in the file
    assert f"keras_provlae {kp.__version__}" in facts["versions"]
    assert f"keras {keras.__version__}" in facts["versions"]


def test_the_table_has_a_row_per_rung(page, trained):
    model = trained[0]
    mean, log_var = map(np.asarray, model.encode(IMAGES))
    flow = metrics.information_flow(mean, log_var, model.rung_slices, draws=200)
    kl = 0.5 * (mean.astype("float64") ** 2 + np.exp(log_var) - 1 - log_var).mean(axis=0)
    active = mean.var(axis=0) > 0.01
    header, two, one, total = page.rows["rungs"]
    assert header == ["rung", "active latents", "I(x; z) in nats", "KL in nats", "main factors (I(z; v) / H(v))"]
    assert (two[0], one[0], total[0]) == ("2", "1", "all")
    for row, columns in (two, slice(0, 2)), (one, slice(2, 3)), (total, slice(0, 3)):
        assert row[1] == f"{active[columns].sum()} of {columns.stop - columns.start}"
        assert float(row[3]) == pytest.approx(kl[columns].sum(), abs=2e-3)
    for row, index in (two, 0), (one, 1):
        assert row[2] == f"{round(flow.mi[index], 3) + 0.0:.3f} ± {flow.standard_error[index]:.3f}"
    assert total[2] == f"{flow.total:.3f} ± {flow.total_standard_error:.3f}"
    note = page.sections["rungs"]
    assert f"share: {flow.i_over:.3f} ± {flow.i_over_standard_error:.3f} nats" in note
    assert "60 images and 200 draws: it cannot exceed ln 60 = 4.09 nats" in note
    held = metrics.rung_factor_map(mean, log_var, FACTORS, model.rung_slices, 2000, factor_names=TRUTH.factor_names)
    for row, rung in (two, 2), (one, 1):
        names = [name for name, holder in held.holders.items() if holder == rung]
        assert [word.split(" ")[0] for word in row[4].split(", ")] == (names or ["-"])


def test_the_page_has_a_metric_card(page, trained):
    cells = {row[0]: row[1] for row in page.rows["metric-card"] if len(row) == 5}
    mean, log_var = trained[0].encode(IMAGES)
    mig = metrics.mig(metrics.mutual_information(mean, log_var, FACTORS).normalized)
    assert float(cells["mig"]) == pytest.approx(mig, abs=1e-3)
    assert {"mig_sup", "mi_total", "factor_vae_score"} <= set(cells)
    assert ["data", SHOWN] in page.rows["metric-card"]


def test_a_given_card_is_used(trained, found):
    card = found.card
    again = measurements.measure(trained[0], (IMAGES, FACTORS), NAME, None, card, 2000, 100, 0)
    assert again.card is card
    assert (again.flow.draws, again.flow.rows) == (100, 60)
    active = np.array([False, True, False])
    other = types.SimpleNamespace(active=active, mi=np.ones((3, 3)))
    other = metrics.MetricCard(results={"mutual_information": other})
    again = measurements.measure(trained[0], IMAGES, NAME, None, other, 2000, 100, 0)
    assert again.use.active is active
    assert len(np.unique(again.pictured, axis=0)) == measurements.PICTURED  # different images


@pytest.fixture
def drawn(monkeypatch):
    """{caption: figure} of the sections that a test makes, which are not rendered."""
    figures = {}
    monkeypatch.setattr(sections, "picture", lambda figure, caption: figures.update({caption: figure}) or caption)
    return figures


def test_latents_are_ordered_by_their_factors(trained, found, drawn):
    information = found.card.results["mutual_information"]
    shares = np.array([[0.2, 0.3, 0.9], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]])
    information = dataclasses.replace(information, mi=shares, factor_entropy=np.ones(3))
    card = metrics.MetricCard(results={**found.card.results, "mutual_information": information})
    sections.latents(trained[0], found._replace(card=card), NAME)
    (figure,) = drawn.values()
    names = [text.get_text().rstrip(" *") for axes in figure.axes for text in axes.get_yticklabels()]
    assert names == ["z₂[1]", "z₂[0]", "z₁[0]"]
    assert [text.get_text().split("  ")[1] for text in figure.axes[0].texts[1:]] == ["x 0.30", "y 0.80"]


def test_many_factors_have_no_responses_and_a_short_list(trained, found, drawn):
    """As with the attributes of CelebA."""
    attributes = (np.arange(60)[:, None] >> np.arange(20) % 6) & 1
    many = measurements.measure(trained[0], (IMAGES, attributes), NAME, None, None, 2000, 200, 0)
    sections.factors(trained[0], many, NAME, None)
    assert [caption.split(" ")[0] for caption in drawn] == ["Information", "The"]
    held = many.card.results["rung_factor_map"]
    most = max(list(held.holders.values()).count(rung) for rung in (1, 2))
    assert f"and {most - 8} more" in sections.rungs(trained[0], many)
    drawn.clear()
    sections.factors(trained[0], found, NAME, TRUTH.factor_names)
    assert list(drawn)[-1].startswith("Response of each latent to each factor")


def test_images_only_with_a_log_file_and_a_card_of_a_file(found, tmp_path):
    """A model that does not grow, a log with a row cut off, and a card without matrices."""
    rows = ["epoch,loss,reconstruction,kl_rung_1", "0,9,8.5,0.5", "1,8,7.25,0.5", "2,7"]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    card = metrics.MetricCard.from_dict(found.card.to_dict())
    card.skipped["dci"] = "no time was left"
    model = kp.VLAE((8, 8, 1), num_rungs=1, latent_dim=2, channels=4, dense=8)
    path = write_report(model, IMAGES, tmp_path / "log.csv", tmp_path / "report.html", card=card, draws=100)
    page = Page(path)
    facts = page.rows["what-was-trained"]
    assert ["data", "unnamed images"] in facts
    assert ["last epoch", "2; loss 8.00, reconstruction 7.25 nats per image"] in facts
    assert not any(row[0] in ("growth", "last fade-in") for row in facts)
    assert "log.csv: left out 1 of 3 rows (line 4) without the 4 values of the header" in page.sections["warnings"]
    assert "The current model" in page.sections["information"]
    assert len([alt for alt in page.pictures if "swept over the prior; the other" in alt]) == 1  # a manifold
    assert "No pictures: the card was read from a file" in page.sections["factors"]
    cells = [row[0] for row in page.rows["metric-card"] if len(row) == 5]
    assert set(cells) == {"score", *card}
    assert ["dci", "no time was left"] in page.rows["metric-card"]


def test_warnings_reach_the_page(trained, tmp_path):
    """Warnings about the measurements, the history, later snapshots, and factors that do not vary."""
    model, folder = trained
    snapshots = [Snapshot.load(path) for path in sorted(folder.glob("*.npz"))]
    later = [dataclasses.replace(snapshots[1], iteration=iteration) for iteration in (61, 70)]
    history = {**HISTORY, "loss": [1.0, np.nan]}
    data = IMAGES[:40], np.ones((40, 2), int)
    path = write_report(model, data, history, tmp_path / "a.html", [*later, *snapshots], draws=100)
    page = Page(path)
    for words in (
        "Only 40 images",
        "The loss was not finite in epoch 2",
        "Every factor has one value",
        "2 snapshots after the model's step 60 are left out",
    ):
        assert words in page.sections["warnings"]
    assert "metric-card" not in page.sections
    assert "At the end of every stage" in page.sections["growth"]


def _card(latents, rungs):
    results = {
        "mutual_information": types.SimpleNamespace(active=np.ones(latents, bool)),
        "rung_factor_map": types.SimpleNamespace(rungs=rungs),
    }
    return metrics.MetricCard(results=results)


def _not_yet(*args):
    raise AssertionError("arguments are checked before anything is measured")


def test_invalid_arguments_are_rejected_and_leave_no_file(trained, images, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    with pytest.raises(TypeError, match="`model` must be a LadderVAE"):
        write_report(keras.Sequential(), images, path=path)
    with pytest.raises(TypeError, match="`card` must be the result of `metrics.evaluate`"):
        write_report(trained[0], images, path=path, card={"mig": 1.0})
    with pytest.raises(ValueError, match="`history` must be of a ladder model"):
        write_report(trained[0], images, {"accuracy": [1.0]}, path)
    with pytest.raises(ValueError, match="Images must"):
        write_report(trained[0], images * 2, path=path)
    with pytest.raises(ValueError, match="must have snapshots of `TraversalSnapshots`"):
        write_report(trained[0], images, path=path, snapshots=tmp_path / "nothing", draws=100)
    history = {"reconstruction": [1.0], **{f"kl_rung_{rung}": [1.0] for rung in (1, 2, 3)}}
    with pytest.raises(ValueError, match="`history` must be of this model, with 2 rungs. Received: 3 rungs"):
        write_report(trained[0], images, history, path)
    one = Snapshot.load(trained[1] / "step_0000060_stage_1.npz")
    other = dataclasses.replace(one, rungs=np.array([1]))
    with pytest.raises(ValueError, match="`snapshots` must be of this model: 2 rungs.*Received: 1 rungs"):
        write_report(trained[0], images, path=path, snapshots=other)
    with pytest.raises(ValueError, match="`history` must be what `fit` returns, or a CSV file"):
        write_report(trained[0], images, path)
    with pytest.raises(TypeError, match="`facts` must be a dict"):
        write_report(trained[0], images, path=path, facts=["seed"])
    for unfit, error, message in [
        ({"draws": 1}, ValueError, "`draws` must be at least 2"),
        ({"num_images": 1.5}, TypeError, "`num_images` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"snapshots": [1]}, TypeError, "`snapshots` must be those of a `TraversalSnapshots`, .* Received: int"),
        ({"path": None}, TypeError, "`path` must be a path"),
        (
            {"path": trained[1] / "step_0000060_stage_1.npz" / "a.html"},
            OSError,
            "The report cannot be written to .*npz",
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
