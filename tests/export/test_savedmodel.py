import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_provlae as kp
from keras_provlae.export import savedmodel
from keras_provlae.export.savedmodel import EXAMPLES_FILE


@pytest.fixture
def quick(monkeypatch):
    """Exports write a file with the model's name instead of a graph: these tests look at folders alone."""

    def write(model, folder):
        folder.mkdir()
        (folder / "saved_model.pb").write_text(model.name)

    monkeypatch.setattr(savedmodel, "write_savedmodel", write)
    monkeypatch.setattr(savedmodel, "check_model", lambda model: None)
    return lambda name, *args, **kwargs: kp.export.export_savedmodel(keras.Model(name=name), *args, **kwargs)


def content(folder):
    """Text of every export in a folder, by the name of its version; hidden files as well."""
    return {child.name: (child / "saved_model.pb").read_text() for child in folder.iterdir()}


def test_the_layout_is_tensorflow_serving_s(exported):
    assert exported.name == "1"
    assert [child.name for child in exported.parent.iterdir()] == ["1"]
    assert {child.name for child in exported.iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}


def test_every_variable_is_stored_once(exported, growing_model):
    parameters = growing_model.count_params()
    size = (exported / "variables/variables.data-00000-of-00001").stat().st_size
    assert 4 * parameters <= size < 4 * parameters + 10_000  # besides the graph of objects


def test_the_next_free_version_is_the_default(quick, tmp_path):
    assert quick("a", tmp_path / "m") == tmp_path / "m/1"
    assert quick("b", str(tmp_path / "m/7")) == tmp_path / "m/7"
    assert quick("c", tmp_path / "m") == tmp_path / "m/8"
    assert quick("d", tmp_path / "m", version=3) == tmp_path / "m/3"
    (tmp_path / "m/notes").mkdir()
    (tmp_path / "m/notes/saved_model.pb").write_text("no version")
    assert quick("e", tmp_path / "m") == tmp_path / "m/9"
    assert content(tmp_path / "m") == {"1": "a", "7": "b", "8": "c", "3": "d", "9": "e", "notes": "no version"}


def test_an_existing_version_is_replaced_only_when_asked(quick, tmp_path):
    quick("a", tmp_path / "m")
    with pytest.raises(FileExistsError, match="m/1 exists. Leave out the version to get the next free one, or pass"):
        quick("b", tmp_path / "m/1")
    assert content(tmp_path / "m") == {"1": "a"}
    assert quick("b", tmp_path / "m/1", overwrite=True) == tmp_path / "m/1"
    assert content(tmp_path / "m") == {"1": "b"}
    quick("c", tmp_path / "m", overwrite=True)
    assert content(tmp_path / "m") == {"1": "b", "2": "c"}


def test_a_failed_export_leaves_nothing_and_takes_nothing(quick, tmp_path, monkeypatch):
    quick("a", tmp_path / "m")

    def fail(model, folder):
        folder.mkdir()
        (folder / "saved_model.pb").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(savedmodel, "write_savedmodel", fail)
    for arguments in {}, {"version": 1, "overwrite": True}:
        with pytest.raises(OSError, match="disk full"):
            quick("b", tmp_path / "m", **arguments)
        assert content(tmp_path / "m") == {"1": "a"}


def test_the_folder_appears_when_it_is_complete(quick, tmp_path, monkeypatch):
    seen = []

    def write(model, folder):
        folder.mkdir()
        seen.extend(child.name for child in (tmp_path / "m").iterdir())
        (folder / "saved_model.pb").write_text(model.name)

    monkeypatch.setattr(savedmodel, "write_savedmodel", write)
    quick("a", tmp_path / "m")
    assert len(seen) == 1
    assert not seen[0].isdigit()


def test_who_is_slower_takes_the_next_number(quick, tmp_path, monkeypatch):
    def write(model, folder):
        folder.mkdir()
        (folder / "saved_model.pb").write_text(model.name)
        if model.name == "slow":
            quick("fast", tmp_path / "m")

    monkeypatch.setattr(savedmodel, "write_savedmodel", write)
    assert quick("slow", tmp_path / "m") == tmp_path / "m/2"
    assert content(tmp_path / "m") == {"1": "fast", "2": "slow"}


@pytest.mark.parametrize(
    ("path", "version", "error", "message"),
    [
        ("m", -1, ValueError, "`version` must not be negative. Received: version=-1"),
        ("m", "2", TypeError, "`version` must be an integer. Received: version='2'"),
        ("m", True, TypeError, "`version` must be an integer"),
        ("m/1", 2, ValueError, "`path` ends with another version than `version`"),
    ],
)
def test_bad_versions_are_refused(quick, tmp_path, path, version, error, message):
    with pytest.raises(error, match=message):
        quick("a", tmp_path / path, version=version)
    assert list(tmp_path.iterdir()) == []


def test_a_growing_model_is_refused_only_when_asked(tmp_path, growing_model, exported):
    with pytest.raises(ValueError, match="still growing: stage 1 of 0 .. 2, alpha 0.5. Train it on, or export it as"):
        kp.export.export_savedmodel(growing_model, tmp_path / "m", require_grown=True)
    assert not (tmp_path / "m").exists()
    assert exported.is_dir()  # the same model, not asked


def test_other_models_are_refused(tmp_path):
    for export in kp.export.export_savedmodel, kp.export.export_onnx, kp.export.export_litert:
        with pytest.raises(TypeError, match="`model` must be a LadderVAE, such as .* Received: Sequential"):
            export(keras.Sequential(), tmp_path / "m")


def test_metadata_say_what_it_is(exported, growing_model):
    for folder in exported, exported.parent, str(exported.parent):
        metadata = kp.export.read_metadata(folder)
    assert metadata["image_shape"] == [8, 8, 1]
    assert (metadata["num_rungs"], metadata["num_latents"]) == (3, 6)
    assert metadata["rungs"] == [
        {"rung": 3, "start": 0, "stop": 3, "unlocked": True},
        {"rung": 2, "start": 3, "stop": 5, "unlocked": True},
        {"rung": 1, "start": 5, "stop": 6, "unlocked": False},
    ]
    assert [metadata[name] for name in ("stage", "alpha", "iteration", "grown")] == [1, 0.5, 5, False]
    assert metadata["versions"]["keras_provlae"] == kp.__version__
    assert metadata["versions"]["keras"] == keras.__version__
    assert metadata["versions"]["tensorflow"] == tf.__version__
    model = metadata["model"]
    assert (model["class"], model["preset"]) == ("ProgressiveVAE", None)
    again = kp.ProgressiveVAE.from_config(model["config"])
    assert again.spec == growing_model.spec


def test_metadata_list_the_signatures_that_are_there(exported, loaded):
    signatures = kp.export.read_metadata(exported)["signatures"]
    assert set(signatures) == set(loaded.signatures)
    assert signatures["sample_rung_uint8"] == {
        "inputs": {
            "images": {"dtype": "uint8", "shape": [None, 8, 8, 1]},
            **{name: {"dtype": "int32", "shape": []} for name in ("rung", "n", "seed")},
        },
        "outputs": {"images": {"dtype": "float32", "shape": [None, 8, 8, 1]}},
    }
    assert signatures["encode"]["outputs"]["mean_rung_2"] == {"dtype": "float32", "shape": [None, 2]}


def test_a_model_remembers_its_preset(tmp_path):
    model = kp.VLAE.from_preset("mnist", beta=4.0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.preset, again.beta) == ("mnist", 4.0)
    assert again.get_config() == model.get_config()


def test_there_may_be_no_metadata(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(FileNotFoundError, match="no assets.extra/keras_provlae.json in it or in its newest version"):
        kp.export.read_metadata(tmp_path)


def test_example_images_travel_with_the_export(exported, eight, growing_model, tmp_path):
    assert np.array_equal(np.load(exported / EXAMPLES_FILE), np.rint(eight[:5] * 255).astype("uint8"))
    with pytest.raises(ValueError, match="Images must have the shape"):
        kp.export.export_savedmodel(growing_model, tmp_path / "m", example_images=np.zeros((1, 9, 9, 1), "uint8"))
    assert not (tmp_path / "m").exists()


def test_metadata_are_plain_json(exported):
    assert json.loads((exported / "assets.extra/keras_provlae.json").read_text())["format"] == 1
