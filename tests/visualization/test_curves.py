import pytest

from keras_provlae.visualization import training_curves

HISTORY = {
    "loss": [9.0, 8.0, 7.0, 6.0],
    "reconstruction": [8.0, 7.0, 6.0, 5.0],
    "kl": [1.0, 1.0, 2.0, 2.0],
    "kl_rung_1": [0.0, 0.0, 0.5, 1.0],
    "kl_rung_2": [1.0, 1.0, 1.5, 1.0],
    "stage": [0.0, 0.0, 1.0, 1.0],
    "alpha": [1.0, 1.0, 0.5, 1.0],
}


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_show_the_history_and_mark_the_unlocks(tmp_path):
    figure = training_curves({**HISTORY, "val_loss": [10.0, 9.0, 8.0, 7.0]})
    loss, kl, alpha = figure.axes
    assert lines(loss) == {
        "loss": HISTORY["loss"],
        "reconstruction": HISTORY["reconstruction"],
        "val_loss": [10, 9, 8, 7],
    }
    assert lines(kl) == {"rung 2": HISTORY["kl_rung_2"], "rung 1": HISTORY["kl_rung_1"]}
    assert [list(line.get_ydata()) for line in alpha.lines[:2]] == [[1.0, 1.0], [0.5, 1.0]]  # the line breaks
    assert [text.get_text() for text in loss.texts] == ["stage 0", "stage 1"]
    assert [text.get_position()[0] for text in loss.texts] == [1.5, 3.5]
    for axes in figure.axes:
        unlock = axes.lines[-1]
        assert list(unlock.get_xdata()) == [3, 3]
        assert unlock.get_color() == kl.lines[1].get_color()  # that of rung 1
    figure.savefig(tmp_path / "curves.png")


def test_information_of_every_rung_and_the_total():
    measured = {"mi_rung_2": [0.5, 0.5, 1.0, 1.5], "mi_rung_1": [0.0, 0.0, 0.1, 0.2], "mi_total": [0.5, 0.5, 1.1, 1.6]}
    information = training_curves({**HISTORY, **measured}).axes[2]
    assert information.get_ylabel() == "I(x; z) in nats"
    expected = {"total": measured["mi_total"], "rung 2": measured["mi_rung_2"], "rung 1": measured["mi_rung_1"]}
    assert lines(information) == expected


def test_what_fit_returns_is_taken_as_it_is(make_model, images):
    model = make_model(num_rungs=1)
    model.compile()
    assert len(training_curves(model.fit(images, epochs=1, verbose=0)).axes) == 3


def test_a_model_that_does_not_grow_has_no_alpha():
    assert len(training_curves({k: v for k, v in HISTORY.items() if k not in ("alpha", "stage")}).axes) == 2


def test_another_history_is_refused():
    with pytest.raises(ValueError, match=r"ladder model.*Received: \['accuracy', 'loss'\]"):
        training_curves({"loss": [1.0], "accuracy": [0.5]})


def test_curves_name_their_data():
    history = {"loss": [2.0], "reconstruction": [1.0], "kl_rung_1": [0.5]}
    assert training_curves(history, data="rooms procedural").get_suptitle() == "rooms procedural"


def test_curves_of_a_file(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,reconstruction,kl_rung_1,data,val_loss\n0,2,1,0.5,rooms,NA\n1,1.5,0.9,0.6,rooms,NA\n")
    panels = training_curves(path).axes
    expected = training_curves({"loss": [2.0, 1.5], "reconstruction": [1.0, 0.9], "kl_rung_1": [0.5, 0.6]}).axes
    assert [lines(axes) for axes in panels] == [lines(axes) for axes in expected]
    assert training_curves(str(path)).axes
