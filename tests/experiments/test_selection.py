"""Selection without labels, from saved models of known codes and results that no training made."""

import itertools
import json
import re

import keras
import numpy as np
import pytest
from scipy import stats

import keras_provlae as kp
from keras_provlae import datasets
from keras_provlae.experiments import runs, select, selection, sources
from keras_provlae.experiments.records import append_result

SIZES = (5, 4, 3)
RUN = {"model": "VLAE", "data": "shapes3d", "beta": 1, "L": 1, "latent_dim": 3, "iterations": 60, "size": 16, "seed": 0}
BETA_VAE = {**RUN, "model": "beta-VAE"}
IDENTITY = np.eye(3)
COPY = [[0.0, 0.0, 2.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
TURNED = [[1.0, 1.0, 0.0], [1.2, -0.8, 0.0], [0.0, 0.0, 1.0]]
MIXED = [[1.0, 1.0, 1.0], [1.2, -0.8, 0.0], [1.0, 0.5, -2.0]]


@keras.saving.register_keras_serializable("test_selection")
class Codes(keras.Model):
    """Encodes an image of three pixels, which are its factors, as a matrix times them."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.matrix = self.add_weight(shape=(3, 3))

    def build(self, input_shape=None):
        self.built = True

    def encode(self, images):
        mean = np.asarray(images).reshape(len(images), 3) @ keras.ops.convert_to_numpy(self.matrix)
        return mean, np.full_like(mean, -4.0)


@pytest.fixture
def images(monkeypatch):
    """60 images, one per combination of factors, in place of those of any data set."""
    factors = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
    pixels = (factors * 51).astype("uint8").reshape(60, 1, 3, 1)
    truth = datasets.GroundTruth.from_arrays(pixels, factors, ["x", "y", "z"], "blobs", "procedural")
    data = sources.Data(truth, None, truth.factor_names, "shapes3d, procedural", False)
    loaded = []

    def load(run, source=None):
        loaded.append(source)
        return data

    monkeypatch.setattr(selection, "load", load)
    return loaded


@pytest.fixture
def add(tmp_path, made_up):
    """Adds a run to `tmp_path`: its line of results and, for a matrix, its saved model."""

    def one(run, matrix=None, **scores):
        append_result(tmp_path, made_up(run, **scores))
        if matrix is not None:
            folder = tmp_path / "models" / runs.key(run)
            folder.mkdir(parents=True)
            model = Codes()
            model.build()
            model.matrix.assign(matrix)
            model.save(folder / "model.keras")

    return one


def table_of(page, heading):
    """Returns the cells of the table below a heading, without its header."""
    lines = page.split(f"{heading}\n")[1].strip().split("\n\n")
    rows = next(part for part in lines if part.startswith("|")).splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def title(run):
    return runs.title(runs.complete(run))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "select" / "select.jsonl").read_text().splitlines()]


def test_runs_are_ranked_by_their_similarity_to_the_other_seeds(images, add, tmp_path):
    matrices = {0: TURNED, 1: IDENTITY, 2: COPY, 3: MIXED}
    for seed, mig in enumerate([0.5, 0.8, 0.9, 0.1]):
        add({**RUN, "seed": seed}, matrices[seed], mig=mig, mig_sup=None if seed == 3 else 0.1 + seed)
    page = select(tmp_path, num_images=40, sources={"shapes3d": "a folder"})
    assert images == ["a folder"]
    rows = kp.metrics.encoding.random_rows(60, 40, 0)
    pixels = np.stack(np.unravel_index(rows, SIZES), axis=1) / 5
    codes = [pixels @ np.asarray(matrices[seed]) for seed in range(4)]
    expected = kp.metrics.udr([(mean, np.full_like(mean, -4.0)) for mean in codes])
    found = lines_of(tmp_path)
    assert [line["seed"] for line in found] == expected.order.tolist()
    assert [line["udr"] for line in found] == pytest.approx(expected.scores[expected.order], abs=1e-4)
    assert {(line["num_images"], line["method"], line["compared_with"]) for line in found} == {(40, "lasso", 3)}
    ranking = table_of(page, "## shapes3d, procedural")
    assert [row[0] for row in ranking] == ["1", "2", "3", "4"]
    assert ranking[-1][1:] == [title({**RUN, "seed": 3}), "1", f"{found[-1]['udr']:.3f}", "3", "0.100", "-"]
    assert (tmp_path / "select" / "README.md").read_text() == page


def test_groups_differ_in_the_seed_only_and_are_compared_with_the_labels_together(images, add, tmp_path):
    """Two groups of the same title; the better one in UDR is the worse one in MIG."""
    for seed, (matrix, longer) in enumerate([(IDENTITY, TURNED), (COPY, IDENTITY)]):
        add({**RUN, "seed": seed}, matrix, mig=0.2 + 0.01 * seed, mig_sup=None)
        add({**RUN, "seed": seed, "iterations": 90}, longer, mig=0.5 + 0.01 * seed, mig_sup=None)
    page = select(tmp_path, method="spearman")
    assert "encoded 60 images" in page  # all there are
    scores = {(line["group"], line["seed"]): line["udr"] for line in lines_of(tmp_path)}
    assert scores[1, 0] == scores[1, 1] == pytest.approx(1)
    assert scores[2, 0] == scores[2, 1] < 0.9
    assert "- group 1: iterations 60\n- group 2: iterations 90" in page
    correlation = stats.spearmanr([1, 1, 0, 0], [0.2, 0.21, 0.5, 0.51]).statistic
    assert table_of(page, "## UDR against the labels") == [
        ["shapes3d, procedural", f"{correlation:.2f} (4 runs; by chance 33 %)", "no run has this score"]
    ]
    assert "Not ranked" not in page


def test_a_beta_vae_is_ranked_as_well(images, add, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 8, 8, 1), dtype="uint8")
    truth = datasets.GroundTruth.from_arrays(pixels, np.arange(30)[:, None], ["image"], "faces", "30 images")
    data = sources.Data(truth, None, (), "shapes3d, procedural", False)
    monkeypatch.setattr(selection, "load", lambda run, source=None: data)
    codes = []
    for seed in range(2):
        add({**BETA_VAE, "seed": seed}, mig=None, mig_sup=None)
        model = kp.BetaVAE((8, 8, 1), latent_dim=3, channels=2, dense=4)
        model.set_weights([3 * weight for weight in model.get_weights()])
        path = tmp_path / "models" / runs.key({**BETA_VAE, "seed": seed}) / "model.keras"
        path.parent.mkdir(parents=True)
        model.save(path)
        codes.append([keras.ops.convert_to_numpy(part) for part in model.encode(pixels.astype("float32") / 255)])
    page = select(tmp_path, method="spearman")
    found = {line["seed"]: line["udr"] for line in lines_of(tmp_path)}
    expected = kp.metrics.udr(codes, "spearman").scores
    assert 0 < expected[0] < 1
    assert [found[0], found[1]] == pytest.approx(expected, abs=1e-3)
    assert "| no run has this score" in page


def test_runs_that_are_not_ranked_are_named_with_the_reason(images, add, tmp_path):
    for seed in range(5):
        add({**RUN, "seed": seed}, IDENTITY if seed in (0, 1) else None, finite=seed != 4)
    damaged = tmp_path / "models" / runs.key({**RUN, "seed": 3}) / "model.keras"
    damaged.parent.mkdir()
    damaged.write_bytes(b"PK cut off")
    add({**RUN, "model": "VLAE", "beta": 8})
    for seed in range(2):
        add({**BETA_VAE, "seed": seed}, IDENTITY if seed else None)
    page = select(tmp_path, method="spearman")
    assert [line["seed"] for line in lines_of(tmp_path)] == [0, 1]
    assert lines_of(tmp_path)[0]["compared_with"] == 1
    reasons = page.split("## Not ranked\n\n")[1].splitlines()
    assert len(reasons) == 6
    for run, reason in [
        ({**RUN, "seed": 2}, "no model at .* .the file is missing."),
        ({**RUN, "seed": 3}, "no model at .*model.keras .*"),
        ({**RUN, "seed": 4}, "its loss was not finite"),
        ({**RUN, "beta": 8}, "no other seed"),
        (BETA_VAE, "no model at .* .the file is missing."),
        ({**BETA_VAE, "seed": 1}, "no other model of its group"),
    ]:
        assert any(re.fullmatch(f"- {re.escape(title(run))}: {reason}", line) for line in reasons), (run, reasons)


def test_a_group_whose_images_are_gone_does_not_stop_the_others(images, add, tmp_path, monkeypatch):
    for seed in range(2):
        add({**RUN, "seed": seed}, IDENTITY)
        for data in "mnist", "dsprites":
            add({**RUN, "data": data, "size": 28 if data == "mnist" else 64, "seed": seed}, IDENTITY)
    there = selection.load

    def load(run, source):
        if run["data"] == "mnist":
            raise FileNotFoundError("No digits.")
        return there(run, source)

    monkeypatch.setattr(selection, "load", load)
    page = select(tmp_path, method="spearman")
    assert {line["data"] for line in lines_of(tmp_path)} == {"shapes3d, procedural"}
    reasons = page.split("## Not ranked\n\n")[1]
    assert reasons.count("No digits.") == 2
    assert reasons.count("trained on 'dsprites, procedural', but these images are 'shapes3d, procedural'") == 2


def test_nothing_to_choose_from_raises_before_any_model_is_read(images, add, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no finished run"):
        select(tmp_path)
    add(RUN)
    add({**RUN, "seed": 1, "beta": 2})
    with pytest.raises(ValueError, match=r"differ only in the seed.*Received: 2 runs.*seed 0: no other seed; VLAE"):
        select(tmp_path)
    with pytest.raises(ValueError, match='"lasso" or "spearman"'):
        select(tmp_path, method="pearson")
    with pytest.raises(ValueError, match="`num_images` must be at least 2"):
        select(tmp_path, num_images=1)
    assert not images
    add({**RUN, "seed": 1}, IDENTITY)
    with pytest.raises(FileNotFoundError, match="No two models of a group.*the file is missing"):
        select(tmp_path)
    assert not (tmp_path / "select" / "README.md").exists()


def test_the_command_prints_and_saves_the_page_or_says_what_is_missing(images, add, tmp_path, command):
    code, output = command("select", f"--output={tmp_path}")
    assert "select: " in str(code)
    assert "has no finished run" in str(code)
    for seed in range(2):
        add({**RUN, "seed": seed}, IDENTITY)
    code, output = command("select", f"--output={tmp_path}", "--num_images=30", "--method=spearman")
    assert not code
    assert (tmp_path / "select" / "README.md").read_text() in output
    assert {(line["num_images"], line["method"]) for line in lines_of(tmp_path)} == {(30, "spearman")}


def test_chance_is_the_share_of_orders_that_correlate_as_strongly():
    first, second = [0.3, 0.1, 0.9, 0.5, 0.7], [0.2, 0.1, 0.8, 0.9, 0.7]
    correlation = stats.spearmanr(first, second).statistic
    others = [abs(stats.spearmanr(first, order).statistic) for order in itertools.permutations(second)]
    share = np.mean(np.array(others) >= correlation - 1e-9)
    assert selection.described_correlation(
        first, second
    ) == f"{correlation:.2f} (5 runs; by chance {share:.0%})".replace("%", " %")
    many = np.arange(20.0)
    assert selection.described_correlation(many, -many) == "-1.00 (20 runs; by chance 0 %)"
    weak = stats.spearmanr(many, (7 * many) % 20)
    found = re.fullmatch(r"(.*) \(20 runs; by chance (\d+) %\)", selection.described_correlation(many, (7 * many) % 20))
    assert float(found[1]) == pytest.approx(weak.statistic, abs=0.01)
    assert float(found[2]) == pytest.approx(100 * weak.pvalue, abs=3)
    assert selection.described_correlation([1.0, 2.0], [0.5, 0.5]) == "undefined (2 runs, or all equal)"
