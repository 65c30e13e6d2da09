import keras
import numpy as np
import pytest

from keras_provlae import metrics

CLASSES = [
    metrics.MIG,
    metrics.MIGSup,
    metrics.FactorVAEScore,
    metrics.BetaVAEScore,
    metrics.DCI,
    metrics.SAP,
    metrics.Explicitness,
    metrics.Modularity,
    metrics.HistogramMIG,
    metrics.IRS,
    metrics.InfoMEC,
    metrics.GaussianTotalCorrelation,
    metrics.WassersteinCorrelation,
    metrics.LatentInformation,
]


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    factors = np.stack(np.meshgrid(range(3), range(4), range(5)), axis=-1).reshape(-1, 3)[:, :2]
    mean = factors + 0.1 * rng.standard_normal((60, 2))
    return factors, mean.astype("float32"), np.full((60, 2), -4.0, "float32")


def numbers(result):
    values = result if isinstance(result, dict) else {"": result}
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("cls", CLASSES)
def test_batches_add_up_to_the_function_and_survive_a_config(cls, codes):
    factors, mean, log_var = codes
    metric = cls()
    for rows in slice(0, 25), slice(25, 60):
        metric.update_state(factors[rows], (mean[rows], log_var[rows]))
    found = numbers(metric.result())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    again.update_state(keras.ops.convert_to_tensor(factors), [keras.ops.convert_to_tensor(p) for p in (mean, log_var)])
    assert type(again) is cls
    assert again.name == metric.name == cls.score_name
    assert numbers(again.result()) == pytest.approx(found, abs=1e-6)


def test_values_are_those_of_the_functions(codes):
    factors, mean, log_var = codes
    information = metrics.mutual_information(mean, log_var, factors)
    expected = {
        metrics.MIG: metrics.mig(information.normalized),
        metrics.MIGSup: metrics.mig_sup(information.normalized, information.active),
        metrics.FactorVAEScore: metrics.factor_vae_score(mean, factors),
        metrics.IRS: metrics.irs(mean, factors),
    }
    for cls, value in expected.items():
        metric = cls()
        metric.update_state(factors, {"mean": mean, "log_var": log_var, "logits": None})
        assert float(metric.result()) == pytest.approx(value, abs=1e-6)
    metric = metrics.DCI()
    metric.update_state(factors, (mean, log_var))
    found = metrics.dci(mean, factors)
    assert numbers(metric.result()) == pytest.approx(
        {f"dci_{name}": getattr(found, name) for name in ("disentanglement", "completeness", "informativeness")},
        abs=1e-6,
    )


def test_reset_state_forgets(codes):
    factors, mean, log_var = codes
    metric = metrics.MIG()
    metric.update_state(factors, (np.zeros_like(mean), log_var))
    metric.reset_state()
    metric.update_state(factors, (mean, log_var))
    assert float(metric.result()) > 0.8


def test_settings_reach_the_function(codes):
    factors, mean, log_var = codes
    metric = metrics.FactorVAEScore(seed=3, num_train=50, num_eval=20, name="score")
    assert metric.get_config()["num_train"] == 50
    metric.update_state(factors, (mean, log_var))
    expected = metrics.factor_vae_score(mean, factors, seed=3, num_train=50, num_eval=20)
    assert float(metric.result()) == pytest.approx(expected)
    with pytest.raises(
        TypeError, match=r"no argument votes. It has batch_size, num_eval, num_train, seed, std_threshold"
    ):
        metrics.FactorVAEScore(votes=3)


def test_factors_may_be_integral_floats(codes):
    factors, mean, log_var = codes
    values = []
    for kind in "int64", "float32":
        metric = metrics.IRS()
        for rows in slice(0, 1), slice(1, 60):
            metric.update_state(factors[rows].astype(kind), (mean[rows], log_var[rows]))
        values.append(float(metric.result()))
    assert values[0] == values[1]


def test_settings_of_mig_reach_the_estimator(codes):
    factors, mean, log_var = codes
    for cls in metrics.MIG, metrics.MIGSup:
        values = []
        for settings in {}, {"method": "sample", "seed": 1}, {"method": "sample", "seed": 2}:
            metric = cls(**settings)
            metric.update_state(factors, (mean, log_var + 3))
            values.append(float(metric.result()))
        assert len(set(values)) == 3
        assert values == pytest.approx(values[:1] * 3, abs=0.15)


def test_clear_errors(codes):
    factors, mean, log_var = codes
    metric = metrics.MIG()
    with pytest.raises(ValueError, match="has no rows yet"):
        metric.result()
    with pytest.raises(TypeError, match=r"must be \(mean, log_var\)"):
        metric.update_state(factors, mean)
    with pytest.raises(ValueError, match="leave out `sample_weight`"):
        metric.update_state(factors, (mean, log_var), sample_weight=np.ones(60))
    for posterior in {"mean": mean}, (mean, log_var, mean):
        with pytest.raises(TypeError, match=r"Received: (dict of 1|tuple of 3)"):
            metric.update_state(factors, posterior)
    for batch in (factors[:50], (mean, log_var)), (factors[None], (mean, log_var)), (3, (mean, log_var)):
        with pytest.raises(ValueError, match=r"Received: the shapes \("):
            metric.update_state(*batch)
    with pytest.raises(ValueError, match="0.5 in row 0 of column 0"):  # at once, not at the end
        metric.update_state(factors + 0.5, (mean, log_var))
    metric.update_state(factors, (mean, log_var))
    with pytest.raises(ValueError, match="as many factors and latents as the first"):
        metric.update_state(factors[:, :1], (mean, log_var))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function is TensorFlow's")
def test_inside_a_compiled_function(codes):
    import tensorflow as tf

    metric = metrics.MIG()

    @tf.function
    def step(factors, mean, log_var):
        metric.update_state(factors, (mean, log_var))

    with pytest.raises(RuntimeError, match="call `update_state` eagerly"):
        step(*map(tf.constant, codes))
