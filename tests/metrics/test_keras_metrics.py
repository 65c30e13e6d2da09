import keras
import numpy as np
import pytest

from keras_provlae import metrics
from keras_provlae.metrics.infomec import infomec
from keras_provlae.metrics.mig import mig, mig_sup

pytestmark = pytest.mark.usefixtures("few_trees")


def information(mean, log_var, factors):
    return metrics.mutual_information(mean, log_var, factors)


def without_importance(scores):
    return {f"dci_{name}": value for name, value in scores._asdict().items() if name != "importance"}


FUNCTIONS = {
    metrics.MIG: lambda m, v, f: mig(information(m, v, f).normalized),
    metrics.MIGSup: lambda m, v, f: mig_sup(information(m, v, f).normalized, information(m, v, f).active),
    metrics.FactorVAEScore: lambda m, v, f: metrics.factor_vae_score(m, f),
    metrics.BetaVAEScore: lambda m, v, f: metrics.beta_vae_score(m, f),
    metrics.DCI: lambda m, v, f: without_importance(metrics.dci(m, f)),
    metrics.SAP: lambda m, v, f: metrics.sap(m, f),
    metrics.Explicitness: lambda m, v, f: metrics.explicitness(m, f),
    metrics.Modularity: lambda m, v, f: metrics.modularity(m, f),
    metrics.HistogramMIG: lambda m, v, f: metrics.histogram_mig(m, f),
    metrics.IRS: lambda m, v, f: metrics.irs(m, f),
    metrics.InfoMEC: lambda m, v, f: dict(
        zip(("infomec_modularity", "infomec_explicitness", "infomec_compactness"), infomec(m, f)[:3], strict=True)
    ),
    metrics.GaussianTotalCorrelation: lambda m, v, f: metrics.gaussian_total_correlation(m),
    metrics.WassersteinCorrelation: lambda m, v, f: metrics.wasserstein_correlation(m),
    metrics.LatentInformation: lambda m, v, f: metrics.latent_information(m),
}


@pytest.fixture
def codes():
    """24 rows of two factors; a third, inactive latent holds the first factor, too."""
    rng = np.random.default_rng(0)
    factors = np.stack(np.meshgrid(range(3), range(4), range(2)), axis=-1).reshape(-1, 3)[:, :2]
    mean = factors @ [[1.0, 0.7], [-0.6, 1.0]] + 0.8 * rng.standard_normal((24, 2))
    mean = np.concatenate([mean, 0.05 * factors[:, :1]], axis=1)
    return factors, mean.astype("float32"), np.full((24, 3), -9.0, "float32")


def numbers(result):
    values = result if isinstance(result, dict) else {"": result}
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("cls", FUNCTIONS)
def test_batches_add_up_to_the_function(cls, codes):
    factors, mean, log_var = codes
    metric = cls()
    metric.update_state(factors[:9], (mean[:9], log_var[:9]))
    metric.update_state(factors[9:], {"mean": mean[9:], "log_var": log_var[9:], "logits": None})
    expected = FUNCTIONS[cls](mean, log_var, factors)
    expected = expected if isinstance(expected, dict) else {"": expected}
    assert numbers(metric.result()) == pytest.approx(expected, abs=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is cls
    assert again.name == metric.name == cls.score_name


def test_a_restored_metric_takes_tensors(codes):
    factors, mean, log_var = codes
    metric = metrics.MIG(seed=2)
    metric.update_state(factors, (mean, log_var))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    again.update_state(keras.ops.convert_to_tensor(factors), [keras.ops.convert_to_tensor(p) for p in (mean, log_var)])
    assert again.get_config() == metric.get_config()
    assert float(again.result()) == float(metric.result())


def test_reset_state_removes_all_rows(codes):
    factors, mean, log_var = codes
    metric = metrics.MIG()
    metric.update_state(factors, (np.zeros_like(mean), log_var))
    metric.reset_state()
    metric.update_state(factors, (mean, log_var))
    assert float(metric.result()) == pytest.approx(FUNCTIONS[metrics.MIG](mean, log_var, factors))


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
        for rows in slice(0, 1), slice(1, 24):
            metric.update_state(factors[rows].astype(kind), (mean[rows], log_var[rows]))
        values.append(float(metric.result()))
    assert values[0] == values[1]


def test_settings_of_mig_reach_the_estimator(codes):
    factors, mean, log_var = (np.repeat(array, 40, axis=0) for array in codes)
    for cls in metrics.MIG, metrics.MIGSup:
        values = []
        for settings in {}, {"method": "sample", "seed": 1}, {"method": "sample", "seed": 2}:
            metric = cls(**settings)
            metric.update_state(factors, (mean, log_var + 3))
            values.append(float(metric.result()))
        assert len(set(values)) == 3
        assert values == pytest.approx(values[:1] * 3, abs=0.15)


def test_bad_batches(codes):
    factors, mean, log_var = codes
    metric = metrics.MIG()
    with pytest.raises(ValueError, match="has no rows yet"):
        metric.result()
    with pytest.raises(TypeError, match=r"must be \(mean, log_var\)"):
        metric.update_state(factors, mean)
    with pytest.raises(ValueError, match="leave out `sample_weight`"):
        metric.update_state(factors, (mean, log_var), sample_weight=np.ones(24))
    for posterior in {"mean": mean}, (mean, log_var, mean):
        with pytest.raises(TypeError, match=r"Received: (dict of 1|tuple of 3)"):
            metric.update_state(factors, posterior)
    for batch in (factors[:20], (mean, log_var)), (factors[None], (mean, log_var)), (3, (mean, log_var)):
        with pytest.raises(ValueError, match=r"Received: the shapes \("):
            metric.update_state(*batch)
    with pytest.raises(ValueError, match="0.5 in row 0 of column 0"):  # raised by `update_state`, not by `result`
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
