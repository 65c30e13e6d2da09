import json
import math
import time

import numpy as np
import pytest

import keras_provlae as kp
from keras_provlae.metrics import GROUPS, MetricCard, Score, evaluate, evaluate_codes
from keras_provlae.metrics import classifiers as classifiers_module

QUICK = ["mig", "information_flow", "factor_vae_score"]


def arrays(truth):
    factors = truth.factors(np.arange(len(truth)))
    return truth.images(factors), factors


def test_every_score_of_a_model_that_knows_the_factors(oracle, blobs):
    card = evaluate(oracle, blobs, progress=False)
    assert not card.skipped
    assert set(card.results) >= {"mutual_information", "information_flow", "rung_factor_map"}
    for name in "mig", "mig_sup", "factor_vae_score", "modularity", "dci_disentanglement", "histogram_mig":
        assert float(card[name]) == pytest.approx(1, abs=1e-3), name
    assert float(card["mi_rung_2"]) == pytest.approx(math.log(20), abs=1e-3)
    assert float(card["mi_rung_1"]) == pytest.approx(math.log(3), abs=1e-3)
    assert float(card["mi_total"]) == pytest.approx(math.log(60), abs=1e-3)
    assert card["mi_total"].note == "AT the ceiling ln N = 4.094"
    assert card["rung_holds_size"].note == "most in rung 1"
    assert card.results["rung_factor_map"].holders == {"x": 2, "y": 2, "size": 1}


def test_every_number_says_how_it_was_computed(oracle, blobs):
    card = evaluate(oracle, blobs, progress=False, seed=5)
    for name, score in card.items():
        assert score.name == name
        assert score.convention["estimator"]
        assert score.convention["data"] == "blobs drawn"
        assert score.convention["factors"] == ["x (5)", "y (4)", "size (3)"]
        assert score.convention["rows"] == 60
        assert score.seconds > 0
    assert card["mig"].seed is None
    assert card["factor_vae_score"].seed == card["mi_total"].seed == 5
    assert card["mi_rung_2"].standard_error is not None
    assert card["mi_rung_2"].unit == "nats"
    assert card["mig_sup"].convention["active"] == "variance of the means > 0.01"
    assert card["mig"].convention["active"] == "every latent counts"
    assert card.about["model"] == "Oracle oracle"
    assert card.about["versions"]["backend"]


def test_the_functions_give_the_same_numbers(oracle, blobs):
    images, factors = arrays(blobs)
    mean, log_var = oracle.encode(images)
    mean = mean @ np.array([[1.0, 0.4, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 1.0]])
    card = evaluate_codes(mean, log_var, factors, oracle.rung_slices)
    information = kp.metrics.mutual_information(mean, log_var, factors)
    flow = kp.metrics.information_flow(mean, log_var, oracle.rung_slices)
    dci = kp.metrics.dci(mean, factors)
    assert float(card["mig"]) == kp.metrics.mig(information.normalized)
    assert float(card["mig_sup"]) == kp.metrics.mig_sup(information.normalized, information.active)
    assert float(card["i_over"]) == flow.i_over
    assert float(card["factor_vae_score"]) == kp.metrics.factor_vae_score(mean, factors)
    assert float(card["sap"]) == kp.metrics.sap(mean, factors)
    assert float(card["irs"]) == kp.metrics.irs(mean, factors)
    assert float(card["dci_completeness"]) == dci.completeness
    assert float(card["infomec_compactness"]) == kp.metrics.infomec(mean, factors).compactness


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


def test_a_real_model_and_what_the_card_says_of_it(make_model, blobs, capsys):
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


def test_the_card_prints_as_a_table(oracle, blobs):
    card = evaluate(oracle, blobs, progress=False, include=QUICK)
    text = str(card)
    assert "data: blobs drawn" in text
    assert "factors: x (5), y (4), size (3)" in text
    line = next(line for line in text.splitlines() if line.startswith("mi_rung_2"))
    assert line.split()[1:3] == ["2.9957", "nats"]
    assert line.endswith("exact density at sampled codes, control variates; draws 10000")


def test_a_card_goes_through_json(oracle, blobs):
    card = evaluate(oracle, blobs, progress=False, include=QUICK)
    again = MetricCard.from_dict(json.loads(json.dumps(card.to_dict())))
    assert set(again.compare(card).values()) == {0.0}
    assert str(again) == str(card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "another"}, r"mig: data 'blobs drawn' against 'another'"),
        ({"factor_names": ["x", "y", "z"]}, r"factors \['x \(5\)'"),
        ({"rows": 30}, r"factors .*; rows 60 against 30"),
    ],
)
def test_cards_of_different_conventions_do_not_compare(oracle, blobs, change, message):
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


def test_scores_compare_where_they_may():
    one, two = Score("mig", 0.5, {"rows": 3}), Score("mig", 0.75, {"rows": 3}, seed=2, seconds=4.0)
    assert one < two
    assert one <= two
    assert two > one
    assert two >= one
    assert two - one == 0.25
    with pytest.raises(ValueError, match="score 'mig' against 'mig_sup'"):
        one - Score("mig_sup", 0.1, {"rows": 3})
    with pytest.raises(TypeError, match=r"take float\(score\)"):
        one < 0.3  # noqa: B015
    with pytest.raises(TypeError, match="must be a MetricCard"):
        MetricCard({"mig": one}).compare({"mig": two})
    with pytest.raises(ValueError, match="share no score"):
        MetricCard({"mig": one}).compare(MetricCard())


def test_an_unknown_score_says_what_there_is():
    card = MetricCard({"mig": Score("mig", 0.5, {})}, skipped={"dci": "no time was left"})
    with pytest.raises(KeyError, match="no score 'dci'. It has mig. It was left out: no time was left"):
        card["dci"]


def test_little_time_takes_fewer_rows_and_says_so(oracle, blobs, monkeypatch):
    encode = oracle.encode

    def slow(images):
        time.sleep(0.01 * len(images))
        return encode(images)

    monkeypatch.setattr(oracle, "encode", slow)
    card = evaluate(oracle, blobs, max_seconds=0.5, progress=False, include=["mig"], batch_size=5)
    rows = card["mig"].convention["rows"]
    assert 10 <= rows < 40
    # a random subset of the grid, not its beginning
    assert len(set(card.results["mutual_information"].factor_entropy)) == 3
    assert card.results["mutual_information"].factor_entropy[0] > 0.9
    with pytest.raises(ValueError, match="rows 60 against"):
        evaluate(oracle, blobs, progress=False, include=["mig"]).compare(card)


def test_little_time_takes_fewer_draws_or_leaves_out(oracle, blobs, monkeypatch):
    images, factors = arrays(blobs)
    mean, log_var = (np.repeat(part, 50, axis=0) for part in oracle.encode(images))
    factors = np.repeat(factors, 50, axis=0)
    flow = GROUPS["information_flow"].compute
    sizes = []

    def slow(codes, draws):
        sizes.append(draws)
        time.sleep(draws * 1e-4)
        return flow(codes, draws)

    monkeypatch.setitem(GROUPS, "information_flow", GROUPS["information_flow"]._replace(compute=slow))
    card = evaluate_codes(mean, log_var, factors, max_seconds=0.3, include=["information_flow", "dci"])
    assert sizes[0] == GROUPS["information_flow"].least
    assert card["mi_total"].convention["draws"] == sizes[-1] < 10_000
    nothing = evaluate_codes(mean, log_var, factors, max_seconds=0.0)
    assert not nothing
    assert set(nothing.skipped) == set(GROUPS)
    assert "dci: left out, no time was left" in str(nothing)


def test_a_missing_extra_leaves_a_score_out_with_the_reason(oracle, blobs, monkeypatch):
    def missing(module, extra, package):
        raise ImportError(f'pip install "keras_provlae[{extra}]"')

    monkeypatch.setattr(classifiers_module, "optional", missing)
    card = evaluate(oracle, blobs, progress=False, include=["mig", "sap"])
    assert set(card) == {"mig", "mig_sup", "active_latents"}
    assert card.skipped == {"sap": 'pip install "keras_provlae[metrics]"'}


def test_one_factor_leaves_out_what_compares_factors(oracle, blobs):
    images, factors = arrays(blobs)
    card = evaluate(oracle, (images, factors[:, 0]), progress=False)
    assert "modularity" not in card
    assert float(card["mig"]) == pytest.approx(1, abs=1e-3)
    assert "needs at least two" in card.skipped["infomec"]


def test_batches_are_of_the_size_asked_for(oracle, blobs):
    evaluate(oracle, blobs, progress=False, include=["mig"], batch_size=25)
    assert oracle.batches == [25, 25, 10]


@pytest.mark.parametrize(
    ("truth", "settings", "error", "message"),
    [
        (3, {}, TypeError, "`ground_truth` must be a ground-truth data set"),
        ([np.zeros((4, 8, 8, 1))] * 3, {}, TypeError, r"batches of \(images, factors\). Received: ndarray"),
        ((np.zeros((4, 8, 8, 1)), np.zeros(3, int)), {}, ValueError, "as many rows. Received: 4 and 3"),
        ([], {}, ValueError, "at least one batch"),
        (None, {"include": ["mog"]}, ValueError, "`include` takes mutual_information, mig, .* Received: mog"),
        (None, {"include": "mig"}, TypeError, r"use \['mig'\]"),
        (None, {"include": []}, ValueError, "Received: none"),
        (None, {"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        (None, {"factor_names": ["x"]}, ValueError, "must name 3 factors"),
    ],
)
def test_bad_input(oracle, blobs, truth, settings, error, message):
    with pytest.raises(error, match=message):
        evaluate(oracle, blobs if truth is None else truth, progress=False, **settings)
