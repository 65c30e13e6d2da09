"""A training step without the decoder's locked rungs does what the step with them, multiplied by 0, does."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_provlae as kp
from keras_provlae.acceleration import step_networks as stage_graphs
from keras_provlae.acceleration.step_networks import StageGraphs, stage_decoder, step_encoder
from keras_provlae.models.growing_vae import GrowingVAE

GROW_EACH_EPOCH = {"batch_size": 20, "epochs": 3, "shuffle": False, "verbose": 0}


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


def with_other_values(network):
    """Its variables, with nothing left that is 0 or 1 at first: biases, gains and offsets."""
    random = np.random.default_rng(1)
    for variable in network.trainable_variables:
        variable.assign(numpy(variable) + random.uniform(0.2, 0.6, variable.shape))
    return network


def called_layers(monkeypatch):
    """Names of the dense layers and transposed convolutions, as they are called."""
    names = []
    for cls in keras.layers.Dense, keras.layers.Conv2DTranspose:
        call = cls.call

        @functools.wraps(call)
        def note(self, *args, call=call, **kwargs):
            names.append(self.name)
            return call(self, *args, **kwargs)

        monkeypatch.setattr(cls, "call", note)
    return names


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 7, 2)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("way", "affine"),
    [("transposed", True), ("convolutions", True), ("logits forward", True), ("logits forward", False)],
)
def test_the_decoder_of_a_stage_is_the_gated_one(make_model, monkeypatch, shape, dtype, way, affine):
    slow, on_cpu = way == "convolutions", way == "logits forward"
    monkeypatch.setattr(stage_graphs, "transposes_slowly", lambda: slow)
    monkeypatch.setattr(stage_graphs, "tensorflow_on_cpu", lambda: on_cpu)
    model = make_model(image_shape=shape, latent_dim=(1, 2, 3), dtype=dtype, decoder_affine=affine)
    with_other_values(model.decoder)
    codes = np.random.default_rng(0).standard_normal((5, 6)).astype("float32")
    for stage in range(3):
        gates = np.array([1.0, 0.6, 0.3], "float32") * (np.arange(3) <= stage)
        inputs = [ops.convert_to_tensor(codes), ops.convert_to_tensor(gates)]
        of_stage = stage_decoder(model.decoder, num_rungs=3, stage=stage)
        convolutions = [layer for layer in of_stage.layers if getattr(layer, "as_convolution", False)]
        assert len(convolutions) == (3 if slow else 0)
        assert of_stage.get_layer("logits_of_step").forward_as_convolution == (on_cpu and shape == (8, 8, 1))
        tolerance = 1e-5 if dtype == "float32" else 0.05
        np.testing.assert_allclose(numpy(of_stage(inputs)), numpy(model.decoder(inputs)), rtol=tolerance)


@pytest.mark.parametrize(
    ("head_convs", "together"),
    [
        (None, [["h_2", "head_1_conv_1"], ["h_3", "head_2_conv_1"], ["head_3_conv_1"]]),
        ((((6, 2), (6, 1)), (), ((4, 1),)), [["h_2", "head_1_conv_1"], ["head_3_conv_1"]]),
        ((((4, 1),), ((7, 2),), ()), [["head_1_conv_1"], ["h_3", "head_2_conv_1"]]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_encoder_of_a_step_is_the_gated_one(make_model, head_convs, together, dtype):
    model = make_model(dtype=dtype, head_convs=head_convs)
    with_other_values(model.encoder)
    of_step, tolerance = step_encoder(model.encoder), 1e-5 if dtype == "float32" else 0.05
    groups = [[conv.name for conv in layer.convs] for layer in of_step.layers if hasattr(layer, "convs")]
    assert sorted(groups) == sorted(together)
    assert {variable.path for variable in of_step.variables} == {variable.path for variable in model.encoder.variables}
    images = ops.convert_to_tensor(np.random.default_rng(0).random((5, *model.image_shape), "float32"))
    ungated = numpy(model.encoder([images, ops.ones(3)])[0])
    for gates in [1.0, 0.0, 0.4], [0.0, 0.7, 1.0]:
        inputs = [images, ops.convert_to_tensor(np.array(gates, "float32"))]
        for ours, theirs in zip(of_step(inputs), model.encoder(inputs), strict=True):
            np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=tolerance)
        assert np.abs(numpy(of_step(inputs)[0]) - ungated).max() > 0.1


def test_gates_of_groups_of_latents_stay_where_they_are(make_model):
    """Those of a `TeacherStudentVAE` multiply means and log variances: no convolution sees what they do."""
    encoder = with_other_values(make_model(kp.TeacherStudentVAE, stem=(4,)).encoder)
    images = ops.convert_to_tensor(np.random.default_rng(0).random((5, 8, 8, 1), "float32"))
    for gates in [1.0, 0.0, 0.0], [0.2, 0.5, 1.0]:
        inputs = [images, ops.convert_to_tensor(np.array(gates, "float32"))]
        for ours, theirs in zip(step_encoder(encoder)(inputs), encoder(inputs), strict=True):
            np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-5)


def test_a_transposed_convolution_is_a_convolution_with_its_places_in_order():
    random = np.random.default_rng(0)
    g, kernel = random.normal(size=(2, 3, 5, 4)), random.normal(size=(4, 4, 6, 4))
    g, kernel = g.astype("float32"), kernel.astype("float32")
    expected = ops.conv_transpose(g, kernel, 2, "same", data_format="channels_last")
    np.testing.assert_allclose(stage_graphs.doubled(g, kernel), expected, atol=1e-4)


def test_the_gradients_of_the_convolution_are_those_of_the_transposed_one():
    random = np.random.default_rng(0)
    shapes = (2, 3, 5, 4), (4, 4, 3, 4), (2, 6, 10, 3)
    g, kernel, upstream = (tf.Variable(random.normal(size=shape), dtype="float32") for shape in shapes)
    ways = []
    for way in stage_graphs._doubled_forward, lambda g, kernel: tf.nn.conv2d_transpose(g, kernel, upstream.shape, 2):
        with tf.GradientTape() as tape:
            y = way(g.value(), kernel.value())
        ways.append([y, *tape.gradient(y, [g, kernel], upstream)])
    for ours, theirs in zip(*ways, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_a_stage_leaves_out(make_model):
    model = make_model()
    graphs = StageGraphs(model.encoder, model.decoder, num_rungs=3)
    left_out = {}
    for stage in range(3):
        graphs.stage = stage
        left_out[stage] = {variable.path.split("/")[-2] for variable in graphs.unused}
        assert {layer.name for layer in graphs.of_stage.layers}.isdisjoint(left_out[stage])
    of_rung = {rung: {f"m_{rung}", f"m_{rung}_affine"} for rung in (1, 2)}
    hidden = {rung: {f"m_{rung}_dense_1", f"m_{rung}_dense_1_affine"} for rung in (1, 2)}
    assert left_out == {0: of_rung[1] | hidden[1] | of_rung[2] | hidden[2], 1: of_rung[1] | hidden[1], 2: set()}


OPTIMIZERS = {
    "the paper's Adam": lambda: None,
    "weight decay": lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.1),
    "momentum and clipping": lambda: keras.optimizers.SGD(1e-4, momentum=0.9, global_clipnorm=10.0),
    "accumulated gradients": lambda: keras.optimizers.Adam(1e-3, gradient_accumulation_steps=3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_what_the_whole_graph_gives(make_model, images, monkeypatch, optimizer):
    def train():
        keras.utils.set_random_seed(0)
        model = make_model(num_rungs=2)
        model.compile(OPTIMIZERS[optimizer](), run_eagerly=True)  # a few steps take less time than two graphs
        history = model.fit(images, **{**GROW_EACH_EPOCH, "epochs": 2}, callbacks=[kp.GrowthCallback()])
        return history.history, model

    history, model = train()
    with monkeypatch.context() as whole:
        whole.setattr(GrowingVAE, "_networks_of_step", lambda self: (self.encoder, self.decoder))
        expected, whole_model = train()
    assert history["stage"] == expected["stage"] == [0, 1]
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for ours, theirs in zip(model.variables, whole_model.variables, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-4, atol=1e-5, err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, whole_model.optimizer.variables, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-3, atol=1e-4, err_msg=ours.path)


def test_a_locked_rung_is_not_computed_and_an_unlock_is_one_retrace(make_model, images, monkeypatch):
    model = make_model()
    model.compile()
    names, seen = called_layers(monkeypatch), []

    class Called(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({name for name in names if name.startswith("m_")})
            names.clear()

    model.fit(images, **{**GROW_EACH_EPOCH, "epochs": 6}, callbacks=[kp.GrowthCallback(), Called()])
    deep, middle, shallow = ({f"m_{rung}", f"m_{rung}_dense_1"} for rung in (3, 2, 1))
    # what is not listed was computed without Python: nothing was traced again
    assert seen == [deep, set(), deep | middle, set(), deep | middle | shallow, set()]


def test_what_is_no_training_step_uses_the_whole_decoder(make_model, images, monkeypatch):
    model = make_model()
    model.compile()
    model.train_on_batch(images)
    names = called_layers(monkeypatch)
    for use in model, model.test_on_batch, model.reconstruct:
        names.clear()
        use(images)
        assert "m_1" in names


def test_the_step_follows_weights_of_another_stage(make_model, images, monkeypatch):
    """Restored by a callback between two epochs, or between two calls of `train_on_batch`."""
    grown = make_model()
    grown.grow(fade_in_steps=0)
    weights = grown.get_weights()
    names = called_layers(monkeypatch)

    class Restore(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            assert ("m_2" in names) == (epoch == 2), names

        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights(weights)

    model = make_model()
    model.compile()
    names.clear()
    model.fit(images, batch_size=20, epochs=3, verbose=0, callbacks=[Restore()])
    assert model.stage == 1

    model = make_model()
    model.compile()
    names.clear()
    model.train_on_batch(images)
    assert "m_2" not in names
    names.clear()
    model.set_weights(weights)
    before = numpy(model.decoder.get_layer("m_2").kernel)
    model.train_on_batch(images)
    assert "m_2" in names
    assert np.abs(numpy(model.decoder.get_layer("m_2").kernel) - before).max() > 0


def test_files_know_nothing_of_it(make_model, images, tmp_path):
    model = make_model()
    model.compile()
    before = [variable.path for variable in model.variables]
    model.fit(images, batch_size=20, verbose=0)
    assert [variable.path for variable in model.variables] == before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in model, loaded:
        one.grow(fade_in_steps=4)
    first, second = (one.train_on_batch(images, return_dict=True) for one in (model, loaded))
    assert first == second
    for ours, theirs in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs), err_msg=ours.path)
