import csv
import json
import math
import time

import keras
import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.metrics import GROUPS, MetricCard, Score, evaluate, evaluate_codes
from keras_provlae.metrics import classifiers as classifiers_module
from keras_provlae.metrics.groups import Scores
from keras_provlae.metrics.infomec import infomec
from tests.metrics.conftest import Blobs, Loader, Oracle

pytestmark = pytest.mark.usefixtures("few_trees")
QUICK = ["mig", "information_flow", "factor_vae_score"]
MIXING = np.array([[1.0, 0.4, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 1.0]])


def arrays(truth):
    factors = truth.factors(np.arange(len(truth)))
    return truth.images(factors), factors


@pytest.fixture(scope="module")
def computed():
    """The outputs of all groups, filled by `whole`."""
    return {}


@pytest.fixture(scope="module")
def whole(computed, few_trees):
    """The card of all scores of `Oracle` on `Blobs`."""

    def recorded(name, compute):
        def run(codes, size):
            computed[name] = compute(codes, size)
            return computed[name]

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name, group in GROUPS.items():
            patch.setitem(GROUPS, name, group._replace(compute=recorded(name, group.compute)))
        return evaluate(Oracle(), Blobs(), progress=False, seed=5)


def test_every_score_of_a_perfect_model(whole):
    assert not whole.skipped
    assert set(whole.results) >= {"mutual_information", "information_flow", "rung_factor_map"}
    for name in "mig", "mig_sup", "factor_vae_score", "modularity", "dci_disentanglement", "histogram_mig":
        assert float(whole[name]) == pytest.approx(1, abs=1e-3), name
    assert float(whole["mi_rung_2"]) == pytest.approx(math.log(20), abs=1e-3)
    assert float(whole["mi_rung_1"]) == pytest.approx(math.log(3), abs=1e-3)
    assert float(whole["mi_total"]) == pytest.approx(math.log(60), abs=1e-3)
    assert whole["mi_total"].note == "AT the ceiling ln N = 4.094"
    assert whole["rung_holds_size"].note == "most in rung 1"
    assert whole.results["rung_factor_map"].holders == {"x": 2, "y": 2, "size": 1}


def test_every_score_records_its_convention(whole):
    for name, score in whole.items():
        assert score.name == name
        assert score.convention["estimator"]
        assert score.convention["data"] == "blobs drawn"
        assert score.convention["factors"] == ["x (5)", "y (4)", "size (3)"]
        assert score.convention["rows"] == 60
        assert score.seconds > 0
    assert whole["mig"].seed is None
    assert whole["factor_vae_score"].seed == whole["mi_total"].seed == 5
    assert whole["mi_rung_2"].standard_error is not None
    assert whole["mi_rung_2"].unit == "nats"
    assert whole["mig_sup"].convention["active"] == "variance of the means > 0.01"
    assert whole["mig"].convention["active"] == "every latent counts"
    assert whole.about["model"] == "Oracle oracle"
    assert whole.about["versions"]["backend"]


def test_scores_equal_those_of_the_functions(blobs):
    factors = blobs.factors(np.arange(24))  # 2 values of x, 4 of y and 3 of the size
    mean, log_var = factors @ MIXING, np.full((24, 3), -6.0)
    slices = Oracle.rung_slices
    card = evaluate_codes(mean, log_var, factors, slices)
    information = kp.metrics.mutual_information(mean, log_var, factors)
    flow = kp.metrics.information_flow(mean, log_var, slices)
    dci = kp.metrics.dci(mean, factors)
    assert float(card["mig"]) == kp.metrics.mig(information.normalized)
    assert float(card["mig_sup"]) == kp.metrics.mig_sup(information.normalized, information.active)
    assert float(card["i_over"]) == flow.i_over
    assert float(card["mi_total"]) == flow.total
    assert float(card["factor_vae_score"]) == kp.metrics.factor_vae_score(mean, factors)
    assert float(card["beta_vae_score"]) == kp.metrics.beta_vae_score(mean, factors)
    assert float(card["sap"]) == kp.metrics.sap(mean, factors)
    assert float(card["explicitness"]) == kp.metrics.explicitness(mean, factors)
    assert float(card["irs"]) == kp.metrics.irs(mean, factors)
    assert float(card["histogram_mig"]) == kp.metrics.histogram_mig(mean, factors)
    assert float(card["modularity"]) == kp.metrics.modularity(mean, factors)
    assert float(card["latent_information"]) == kp.metrics.latent_information(mean)
    assert float(card["wasserstein_correlation"]) == kp.metrics.wasserstein_correlation(mean)
    assert float(card["wasserstein_correlation_normalized"]) == kp.metrics.wasserstein_correlation(mean, True)
    assert float(card["gaussian_total_correlation"]) == kp.metrics.gaussian_total_correlation(mean)
    for name in "disentanglement", "completeness", "informativeness":
        assert float(card[f"dci_{name}"]) == getattr(dci, name)
    scores = infomec(mean, factors)
    for name in "modularity", "explicitness", "compactness":
        assert float(card[f"infomec_{name}"]) == getattr(scores, name)
    assert len({scores.modularity, scores.explicitness, scores.compactness}) == 3
    rungs = kp.metrics.rung_factor_map(mean, log_var, factors, slices, draws=2000)
    held = card["rung_holds_factor 2"]
    assert float(held) == rungs.normalized[:, 2].max()
    assert held.standard_error == pytest.approx(rungs.standard_error[rungs.normalized[:, 2].argmax(), 2] / math.log(3))


def test_an_inactive_latent_counts_only_for_mig(oracle, blobs):
    images, factors = arrays(blobs)
    mean, log_var = oracle.encode(images)
    mean, log_var = mean * [1, 1, 0.001], log_var - np.array([0, 0, 16.0])  # the third still holds the size
    mean = mean + 0.001 * factors[:, [0]] * [0, 0, 1]  # and some of x
    card = evaluate_codes(mean, log_var, factors, include=["mig"])
    information = kp.metrics.mutual_information(mean, log_var, factors)
    assert information.active.tolist() == [True, True, False]
    assert float(card["active_latents"]) == 2
    assert float(card["mig_sup"]) == pytest.approx(1, abs=1e-3)
    assert kp.metrics.mig_sup(information.normalized) < 0.99  # over all latents


def test_the_same_data_in_four_forms(oracle, blobs):
    import tensorflow as tf

    images, factors = arrays(blobs)
    data = tf.data.Dataset.from_tensor_slices((images, factors)).batch(7)
    cards = [
        evaluate(oracle, truth, progress=False, include=QUICK, factor_names=blobs.factor_names, data="blobs")
        for truth in (blobs, (images, factors), data, [(images[:30], factors[:30]), (images[30:], factors[30:])])
    ]
    for card in cards[1:]:
        assert set(cards[0].compare(card).values()) == {0.0}


def test_the_card_of_a_real_model(make_model, blobs, capsys):
    model = make_model(kp.ProgressiveVAE, num_rungs=2)
    model.grow(fade_in_steps=0)
    card = evaluate(model, blobs, include=["mutual_information"], batch_size=16)
    assert card.about["stage"] == 1
    assert card.about["model"].startswith("ProgressiveVAE")
    images, factors = arrays(blobs)
    mean, log_var = model.encode(images)
    assert card.results["mutual_information"].mi == pytest.approx(
        kp.metrics.mutual_information(mean, log_var, factors).mi, abs=1e-5
    )
    output = capsys.readouterr().out
    assert "60/60" in output
    assert "mutual_information: mig 0." in output


def test_the_card_prints_as_a_table(whole):
    text = str(whole)
    assert "data: blobs drawn" in text
    assert "factors: x (5), y (4), size (3)" in text
    line = next(line for line in text.splitlines() if line.startswith("mi_rung_2"))
    assert line.split()[1:3] == ["2.9957", "nats"]
    assert line.endswith("exact density at sampled codes, control variates; draws: 10000")


def test_a_card_survives_json(whole):
    again = MetricCard.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert set(again.compare(whole).values()) == {0.0}
    assert str(again) == str(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "another"}, r"mig: data 'blobs drawn' against 'another'"),
        ({"factor_names": ["x", "y", "z"]}, r"factors \['x \(5\)'"),
        ({"rows": 30}, r"factors .*; rows 60 against 30"),
    ],
)
def test_cards_with_different_conventions_cannot_be_compared(oracle, blobs, change, message):
    card = evaluate(oracle, blobs, progress=False, include=["mig"])
    settings = {"data": "blobs drawn", "factor_names": blobs.factor_names, "rows": None, **change}
    rows = slice(settings.pop("rows"))
    images, factors = (array[rows] for array in arrays(blobs))
    other = evaluate(oracle, (images, factors), progress=False, include=["mig"], **settings)
    with pytest.raises(ValueError, match=message):
        card.compare(other)
    for comparison in (lambda a, b: a - b, lambda a, b: a < b, lambda a, b: a >= b):
        with pytest.raises(ValueError, match="computed in different ways"):
            comparison(card["mig"], other["mig"])


def test_compare_subtracts_the_other_card(oracle, blobs):
    images, factors = arrays(blobs)
    mean, log_var = oracle.encode(images)
    better, worse = (evaluate_codes(m, log_var, factors, include=["mig"]) for m in (mean, mean * [1, 1, 0.0]))
    assert better.compare(worse)["mig"] == pytest.approx(1 / 3, abs=1e-3)
    assert better["mig"] - worse["mig"] == better.compare(worse)["mig"]


@pytest.mark.parametrize("name", ["factor_vae_score", "beta_vae_score", "dci", "sap", "explicitness", "infomec"])
def test_the_size_of_a_computation_is_part_of_its_convention(whole, oracle, blobs, monkeypatch, name):
    monkeypatch.setitem(GROUPS, name, GROUPS[name]._replace(size=24))
    card = evaluate(oracle, blobs, progress=False, include=[name])
    with pytest.raises(ValueError, match="computed in different ways"):
        card.compare(whole)


def test_num_images_are_drawn_with_the_seed(oracle, blobs):
    one, other = (evaluate(oracle, blobs, progress=False, include=["mig"], num_images=40, seed=3) for _ in range(2))
    assert one["mig"].convention["rows"] == 40
    assert one.compare(other)["mig"] == 0
    others = evaluate(oracle, blobs, progress=False, include=["mig"], num_images=40, seed=4)
    assert others.about["factor checksum"] != one.about["factor checksum"]
    assert evaluate(oracle, blobs, progress=False, include=["mig"], num_images=99)["mig"].convention["rows"] == 60
    pair = evaluate(oracle, arrays(blobs), progress=False, include=["mig"], num_images=40, seed=3, data="blobs drawn")
    assert pair.about["factor checksum"] == one.about["factor checksum"]
    with pytest.raises(ValueError, match="`num_images` needs data that can be indexed by row"):
        evaluate(oracle, [arrays(blobs)], progress=False, num_images=40)
    with pytest.raises(ValueError, match="`num_images` must be at least 2"):
        evaluate(oracle, blobs, progress=False, num_images=1)


def test_a_csv_file_names_the_data_in_every_line(whole, tmp_path):
    whole.write_csv(tmp_path / "card.csv")
    with open(tmp_path / "card.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["score"] for line in lines] == list(whole)
    assert {line["data"] for line in lines} == {"blobs drawn"}
    assert [float(line["value"]) for line in lines] == [float(score) for score in whole.values()]
    assert {line["rows"] for line in lines} == {"60"}
    assert [line["unit"] for line in lines] == [score.unit for score in whole.values()]
    assert [line["seed"] for line in lines] == ["" if score.seed is None else "5" for score in whole.values()]
    assert [line["note"] for line in lines] == [score.note for score in whole.values()]
    assert lines[0]["estimator"] == whole["mig"].convention["estimator"]
    line = next(line for line in lines if line["score"] == "i_over")
    assert float(line["standard_error"]) == whole["i_over"].standard_error


def test_other_rows_of_the_same_data_cannot_be_compared(oracle, blobs):
    images, factors = arrays(blobs)
    pairs = [(images[rows], factors[rows]) for rows in (slice(0, 40), slice(20, 60))]
    some = [evaluate(oracle, pair, progress=False, include=["mig"]) for pair in pairs]
    with pytest.raises(ValueError, match="factor checksum"):
        some[0].compare(some[1])
    other_order = evaluate(oracle, (images[40::-1][1:], factors[40::-1][1:]), progress=False, include=["mig"])
    assert list(other_order.compare(some[0]).values()) == pytest.approx([0, 0, 0], abs=1e-12)


def test_scores_of_one_convention_can_be_compared():
    one, two = Score("mig", 0.5, {"rows": 3}), Score("mig", 0.75, {"rows": 3}, seed=2, seconds=4.0)
    assert one < two
    assert one <= two
    assert two > one
    assert two >= one
    assert two - one == 0.25
    with pytest.raises(ValueError, match="score 'mig' against 'mig_sup'"):
        one - Score("mig_sup", 0.1, {"rows": 3})
    with pytest.raises(TypeError, match=r"use float\(score\)"):
        one < 0.3  # noqa: B015
    with pytest.raises(TypeError, match="must be a MetricCard"):
        MetricCard({"mig": one}).compare({"mig": two})
    with pytest.raises(ValueError, match="share no score"):
        MetricCard({"mig": one}).compare(MetricCard())


def test_an_unknown_score_lists_the_known_ones():
    card = MetricCard({"mig": Score("mig", 0.5, {})}, skipped={"dci": "no time was left"})
    with pytest.raises(KeyError, match="no score 'dci'. It has mig. Left out: dci .no time was left."):
        card["dci"]


def test_a_short_time_limit_reduces_the_rows(oracle, blobs, monkeypatch):
    encode = oracle.encode

    def slow(images):
        time.sleep(0.01 * len(images))
        return encode(images)

    monkeypatch.setattr(oracle, "encode", slow)
    monkeypatch.setattr("keras_provlae.metrics.encoding.FEWEST_ROWS", 2)
    card = evaluate(oracle, blobs, max_seconds=0.5, progress=False, include=["mig"], batch_size=5)
    rows = card["mig"].convention["rows"]
    assert 10 <= rows < 40
    # a random subset of the grid, not its first rows
    assert len(set(card.results["mutual_information"].factor_entropy)) == 3
    assert card.results["mutual_information"].factor_entropy[0] > 0.9
    with pytest.raises(ValueError, match="rows 60 against"):
        evaluate(oracle, blobs, progress=False, include=["mig"]).compare(card)


def test_slow_encoding_may_leave_no_time_for_scores(oracle, blobs):
    images, factors = arrays(blobs)
    card = evaluate(oracle, [(images, factors)], max_seconds=1e-4, progress=False, include=["mig"])
    assert not card
    assert card.skipped == {"mutual_information": "no time was left"}


def test_spent_time_counts_against_the_limit(oracle, blobs, monkeypatch):
    def slow(codes, size):
        time.sleep(0.2)
        return Scores([])

    for name in "mutual_information", "irs", "unsupervised":
        monkeypatch.setitem(GROUPS, name, GROUPS[name]._replace(compute=slow))
    images, factors = arrays(blobs)
    card = evaluate_codes(*oracle.encode(images), factors, max_seconds=0.3, include=["mig", "unsupervised", "irs"])
    assert set(card.skipped) == {"irs"}


def test_nan_becomes_none_in_json():
    card = MetricCard({"mig_sup": Score("mig_sup", math.nan, {"rows": 3})})
    text = json.dumps(card.to_dict(), allow_nan=False)
    assert math.isnan(float(MetricCard.from_dict(json.loads(text))["mig_sup"]))


def test_a_short_time_limit_reduces_the_draws(oracle, blobs, monkeypatch):
    images, factors = arrays(blobs)
    mean, log_var = (np.repeat(part, 10, axis=0) for part in oracle.encode(images))
    factors = np.repeat(factors, 10, axis=0)
    flow = GROUPS["information_flow"].compute
    sizes = []

    def slow(codes, draws):
        sizes.append(draws)
        time.sleep(draws * 1e-4)
        return flow(codes, draws)

    monkeypatch.setitem(GROUPS, "information_flow", GROUPS["information_flow"]._replace(compute=slow))
    card = evaluate_codes(mean, log_var, factors, max_seconds=0.3, include=["information_flow"])
    assert sizes[0] == GROUPS["information_flow"].least
    assert card["mi_total"].convention["draws"] == sizes[-1] < 10_000
    nothing = evaluate_codes(mean, log_var, factors, max_seconds=0.0)
    assert not nothing
    assert set(nothing.skipped) == set(GROUPS)
    assert "dci: left out, no time was left" in str(nothing)


def test_a_missing_extra_is_the_reason_a_score_is_left_out(oracle, blobs, monkeypatch):
    def missing(module, extra, package):
        raise ImportError(f'pip install "keras_provlae[{extra}]"')

    monkeypatch.setattr(classifiers_module, "optional", missing)
    card = evaluate(oracle, blobs, progress=False, include=["mig", "sap"])
    assert set(card) == {"mig", "mig_sup", "active_latents"}
    assert card.skipped == {"sap": 'pip install "keras_provlae[metrics]"'}


def test_a_single_factor_leaves_out_scores_that_compare_factors(oracle, blobs):
    images, factors = arrays(blobs)
    card = evaluate(oracle, (images, factors[:, 2]), progress=False)
    assert "modularity" not in card
    assert float(card["mig"]) == pytest.approx(1, abs=1e-3)
    assert "dci_informativeness" in card
    assert "needs at least 2 factors" in card.skipped["infomec"]
    for name in "factor_vae_score", "beta_vae_score", "dci_disentanglement":
        assert name not in card
        assert card.skipped[name] == "with a single factor it is 1 by definition"
    with pytest.raises(KeyError, match="it compares factors, but there is only one"):
        card["modularity"]


def test_constant_factors_are_left_out_and_named(whole, oracle, blobs):
    images, factors = arrays(blobs)
    settings = {"seed": 5, "data": "blobs drawn", "progress": False}
    settings["include"] = ["mig", "irs", "factor_vae_score", "histograms", "rung_holds_", "sap"]
    with_constant = np.concatenate([factors, np.full((60, 1), 7)], axis=1)
    with pytest.warns(UserWarning, match="shade: one value in all rows, so left out of every score") as caught:
        card = evaluate(oracle, (images, with_constant), factor_names=["x", "y", "size", "shade"], **settings)
    assert len(caught) == 1
    assert not card.skipped
    assert card["mig"].convention["factors"] == ["x (5)", "y (4)", "size (3)"]
    assert set(card.compare(whole).values()) == {0.0}
    oracle.batches.clear()
    with pytest.raises(ValueError, match="At least one factor must have two values. Received: one value of shade"):
        evaluate(oracle, (images, with_constant[:, 3]), factor_names=["shade"], **settings)
    assert oracle.batches == []


def test_scores_can_be_included_by_their_printed_names(whole, computed, oracle, blobs, monkeypatch):
    for name, group in GROUPS.items():
        monkeypatch.setitem(GROUPS, name, group._replace(compute=lambda codes, size, name=name: computed[name]))
    assert sum(len(output.scores) for output in computed.values()) == len(whole)
    for name in whole:
        card = evaluate(oracle, blobs, progress=False, include=[name])
        assert name in card
        assert set(card) in [{score.name for score in output.scores} for output in computed.values()]


def test_a_warning_about_the_codes_is_raised_once(oracle, blobs):
    images, factors = arrays(blobs)
    mean, _ = oracle.encode(images)
    with pytest.warns(UserWarning, match="`log_var` lies in") as caught:
        evaluate_codes(mean, np.full(mean.shape, 0.5), factors, include=["mig", "mi_total", "rung_holds_x"])
    assert len(caught) == 1


def test_tensors_and_lists_are_accepted(oracle, blobs):
    import tensorflow as tf

    images, factors = arrays(blobs)
    expected = evaluate(oracle, (images, factors), progress=False, include=["mig"])
    for pair in (tf.constant(images), tf.constant(factors)), (images.tolist(), factors.tolist()):
        assert set(evaluate(oracle, pair, progress=False, include=["mig"]).compare(expected).values()) == {0.0}


class Batches(keras.utils.PyDataset):
    def __init__(self, images, factors):
        super().__init__()
        self.images, self.factors = images, factors

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return self.images[30 * number : 30 * number + 30], self.factors[30 * number : 30 * number + 30]


@pytest.mark.parametrize("form", [lambda x, v: (x, v), Loader, Batches, lambda x, v: [(x[:9], v[:9]), (x[9:], v[9:])]])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "uint64"])
def test_factors_may_be_integral_numbers_of_any_dtype(oracle, blobs, form, dtype):
    images, factors = arrays(blobs)
    factors = factors % 2 if dtype == "bool" else factors
    card = evaluate(oracle, form(images, factors.astype(dtype)), progress=False, include=["irs"], data="blobs")
    expected = evaluate_codes(*oracle.encode(images), factors, oracle.rung_slices, include=["irs"], data="blobs")
    assert set(card.compare(expected).values()) == {0.0}


@pytest.mark.parametrize("form", [lambda x, v: (x, v), Loader])
def test_other_factors_are_rejected_before_encoding_with_a_fix(oracle, blobs, form):
    images, factors = arrays(blobs)
    factors = factors * [1, 0.25, 1] - [0, 0.25, 0]
    with pytest.raises(ValueError, match=r"-0.25 in row 0 of column 1.*factor 'y'") as caught:
        evaluate(oracle, form(images, factors), factor_names=["x", "y", "size"], progress=False)
    assert oracle.batches == []
    for column in 1, 0:  # the code in the message runs and gives valid factors
        fixes = [fix for fix in str(caught.value).replace("[:, 1]", f"[:, {column}]").split(": ") if "np." in fix]
        numbers = [eval(fix.split(". ")[0].rstrip("."), {"np": np, "factors": factors}) for fix in fixes]
        assert len(numbers) == 2
        for found in numbers:
            assert len(np.unique(found)) == len(np.unique(factors[:, column]))
            assert evaluate_codes(factors[:, :1], -4 + 0 * factors[:, :1], found, include=["irs"])


def test_a_batch_is_checked_before_it_is_encoded(oracle, blobs):
    images, factors = arrays(blobs)
    for second, message in (
        (factors[30:, :2], "Every batch must have 3 factors, as the first. Received: 2"),
        (
            factors[31:],
            "as many rows. Received: 30 and 29",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(oracle, [(images[:30], factors[:30]), (images[30:], second)], progress=False)
    assert oracle.batches == [30, 30]
    oracle.rung_slices = ((2, slice(0, 3)), (1, slice(2, 3)))
    with pytest.raises(ValueError, match="without overlap"):
        evaluate(oracle, blobs, progress=False, batch_size=20)
    assert oracle.batches == [30, 30, 20]


def test_a_constant_factor_is_reported_before_encoding(oracle, blobs, monkeypatch):
    images, factors = arrays(blobs)
    factors = np.concatenate([factors, np.full((60, 1), 7.0)], axis=1)
    monkeypatch.setattr(oracle, "encode", lambda images: 1 / 0)
    with (
        pytest.raises(ZeroDivisionError),
        pytest.warns(
            UserWarning, match="shade: one value in all rows.*Pass rows in which it varies, or leave"
        ) as caught,
    ):
        evaluate(oracle, (images, factors), factor_names=["x", "y", "size", "shade"], progress=False)
    assert caught[0].filename == __file__


def test_batches_of_constant_factors_leave_out_only_scores_that_need_factors(oracle, blobs, capsys):
    images, factors = arrays(blobs)
    include = ["mig", "mi_total", "wasserstein_", "dci"]
    with pytest.warns(UserWarning, match="factor 0: one value in all rows"):
        card = evaluate(oracle, Loader(images, 0 * factors[:, 0]), include=include)
    assert {"mi_total", "wasserstein_correlation"} < set(card)
    assert card.skipped == dict.fromkeys(["mutual_information", "dci"], "no factor has two values")
    assert "dci: left out, no factor has two values" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="one value"), pytest.raises(ValueError, match="no factor has two values"):
        evaluate(oracle, Loader(images, 0 * factors[:, 0]), include=["mig"], progress=False, strict=True)


def test_six_rows_have_the_scores_that_six_rows_allow():
    factors = np.array([[a, b] for a in range(3) for b in range(2)])
    card = evaluate_codes(factors * 1.0, np.full((6, 2), -4.0), factors, include=["mig", "infomec", "irs"])
    assert {"mig", "irs"} < set(card)
    assert card.skipped == {"infomec": "InfoMEC needs at least 12 rows. Received: 6."}
    with pytest.raises(ValueError, match="at least 12 rows") as caught:
        evaluate_codes(factors * 1.0, np.full((6, 2), -4.0), factors, include=["infomec"], strict=True)
    assert caught.value.__notes__ == ["`strict=True`: infomec of the card cannot be computed."]


def test_a_factor_that_numbers_the_rows(oracle, blobs):
    images, factors = arrays(blobs)
    factors = np.concatenate([0 * factors[:, :1], factors[:, :1], np.arange(60)[:, None]], axis=1)
    names = ["same", "x", "file"]
    with pytest.warns(UserWarning, match="same: one value"):
        card = evaluate_codes(
            *oracle.encode(images), factors, include=["mig", "infomec", "sap", "dci"], factor_names=names
        )
    assert "mig" in card
    assert "Two rows must share a value of file. Received: 60 values in 60 rows" in card.skipped["infomec"]
    for name in "sap", "dci":
        assert "The training and test rows must share a value of file" in card.skipped[name]


def test_most_rows_may_have_unique_values(oracle, blobs):
    """scikit-learn warns of so many classes."""
    images, _ = arrays(blobs)
    factors = np.stack([np.arange(60) % 2, np.maximum(np.arange(60), 20)], axis=1)
    card = evaluate_codes(*oracle.encode(images), factors, include=["infomec", "sap", "explicitness"])
    assert not card.skipped


@pytest.mark.parametrize(
    ("dtype", "include"), [("float32", ["histograms", "irs", "unsupervised"]), ("float64", ["unsupervised", "infomec"])]
)
def test_a_latent_that_is_constant_up_to_rounding_is_constant(oracle, blobs, dtype, include):
    images, factors = arrays(blobs)
    mean = (oracle.encode(images)[0] @ MIXING).astype(dtype)
    mean[:, 2] = 0.3
    noisy = mean.copy()
    noisy[:, 2] += np.random.default_rng(0).integers(3, size=60) * np.spacing(mean[0, 2])
    exact, rounded = (evaluate_codes(m, np.zeros((60, 3)), factors, include=include) for m in (mean, noisy))
    assert not rounded.skipped
    for name, score in exact.items():
        assert float(rounded[name]) == pytest.approx(float(score), abs=1e-9), name


@pytest.mark.parametrize("constant", [0.3 + np.spacing(0.3) * (np.arange(60) % 2), 5e-324 * (np.arange(60) % 2)])
def test_codes_that_vary_only_by_rounding_score_0(blobs, constant):
    mean, factors = np.stack([constant, constant], axis=1), arrays(blobs)[1]
    with pytest.warns(UserWarning, match="Every latent has one value"):
        card = evaluate_codes(mean, 0 * mean, factors, include=["histograms", "irs", "unsupervised", "infomec"])
    assert not card.skipped
    assert set(map(float, card.values())) == {0.0}


def test_an_unexpected_error_is_reported_and_spares_the_other_scores(oracle, blobs, monkeypatch, capsys):
    def broken(*_):
        raise AttributeError("no such\n thing")

    monkeypatch.setitem(GROUPS, "irs", GROUPS["irs"]._replace(compute=broken))
    monkeypatch.setattr("keras_provlae.metrics.binned.modularity", broken)
    card = evaluate(oracle, blobs, include=["irs", "histograms", "wasserstein_"])
    assert {"histogram_mig", "latent_information", "wasserstein_correlation"} < set(card)
    assert card.skipped == dict.fromkeys(["irs", "modularity"], "AttributeError: no such thing")
    output = capsys.readouterr().out
    assert "irs: left out, AttributeError: no such thing" in output
    assert ", modularity left out, AttributeError: no such thing" in output
    for name in "irs", "modularity":
        with pytest.raises(AttributeError, match="no such"):
            evaluate(oracle, blobs, include=[name], progress=False, strict=True)


def test_scores_format_and_round():
    score = Score("mig", 0.51239, {}, standard_error=0.01, unit="nats")
    assert f"{score:.2f}" == "0.51"
    assert f"{score}" == "0.5124 +- 0.01 nats"
    assert round(score, 3) == 0.512
    assert score == Score("mig", 0.51239, {}, standard_error=0.01, unit="nats")


@pytest.mark.parametrize("plain", ["{}", {}, [1]])
def test_from_dict_needs_the_dict_of_to_dict(plain):
    with pytest.raises(TypeError, match="`plain` must be the dict that `to_dict` returns"):
        MetricCard.from_dict(plain)


def test_batch_size_sets_the_encoding_batches(oracle, blobs):
    evaluate(oracle, blobs, progress=False, include=["mig"], batch_size=25)
    assert oracle.batches == [25, 25, 10]


@pytest.mark.parametrize(
    ("truth", "settings", "error", "message"),
    [
        (3, {}, TypeError, "`ground_truth` must be a ground-truth data set"),
        (
            [np.zeros((4, 8, 8, 1))] * 3,
            {},
            TypeError,
            r"batches of \(images, factors\), two arrays. Received: ndarray.* tuple",
        ),
        ((np.zeros((4, 8, 8, 1)), np.zeros(3, int)), {}, ValueError, "as many rows. Received: 4 and 3"),
        ([], {}, ValueError, "at least one batch"),
        (None, {"include": ["mog"]}, ValueError, "`include` takes mutual_information, mig.., .*Received: mog"),
        (None, {"include": "mig"}, TypeError, r"use \['mig'\]"),
        (None, {"include": []}, ValueError, "Received: none"),
        (None, {"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        (None, {"batch_size": 2.5}, TypeError, "`batch_size` must be an integer"),
        (None, {"factor_names": ["x"]}, ValueError, "must name 3 factors"),
        (None, {"factor_names": ["x", "y", "x"]}, ValueError, "each differently"),
        (None, {"factor_names": 5}, ValueError, "must name 3 factors"),
        (None, {"seed": -1}, ValueError, "`seed` must be at least 0"),
        (None, {"max_seconds": "5"}, TypeError, "`max_seconds` must be a number"),
        (None, {"max_seconds": math.nan}, ValueError, "`max_seconds` must be in"),
        ((np.zeros((4, 8, 8, 1)), {"x": [1]}), {}, TypeError, "stack the values of the dict"),
        ([({"image": 1}, 2)], {}, TypeError, "two arrays"),
        ([(np.zeros((4, 8, 8, 1)), np.arange(4))], {"factor_names": ["x", "y"]}, ValueError, "must name 1 factors"),
        ((np.zeros((1, 8, 8, 1)), np.zeros(1, int)), {}, ValueError, "at least two images. Received: 1"),
        (None, {"data": 5}, TypeError, "`data` must be the name of the data. Received: data=5"),
        ((np.zeros((4, 8, 8, 1)), np.array(list("abcd"))), {}, TypeError, "return_inverse"),
    ],
)
def test_bad_input_is_rejected_before_encoding(oracle, blobs, truth, settings, error, message):
    with pytest.raises(error, match=message):
        evaluate(oracle, blobs if truth is None else truth, progress=False, **settings)
    assert oracle.batches == []


def test_endless_data_is_rejected(oracle, blobs):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(arrays(blobs)).batch(7).repeat()
    with pytest.raises(ValueError, match=r"must have an end: leave out `.repeat\(\)`"):
        evaluate(oracle, data, progress=False)


def test_a_model_that_cannot_encode_is_rejected(blobs):
    with pytest.raises(TypeError, match="`model` must have `encode` and `rung_slices`.*Received: int"):
        evaluate(3, blobs)


def test_overlapping_rungs_are_rejected(oracle, blobs):
    images, factors = arrays(blobs)
    with pytest.raises(ValueError, match="without overlap"):
        evaluate_codes(*oracle.encode(images), factors, [(2, slice(0, 3)), (1, slice(2, 3))])


def test_the_progress_bar_ends_its_line_for_data_of_unknown_length(oracle, blobs, capsys):
    images, factors = arrays(blobs)
    evaluate(oracle, [(images[:50], factors[:50]), (images[50:], factors[50:])], include=["mig"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("mutual_information: mig")
    assert "60/Unknown" in lines[-2]
