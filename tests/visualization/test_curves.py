import keras
import pytest

from keras_provlae.visualization import training_curves
from keras_provlae.visualization.style import rung_color

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
    assert [list(line.get_xdata()) for line in alpha.lines[:2]] == [[1, 2], [3, 4]]
    assert [line.get_color() for line in alpha.lines[:2]] == [line.get_color() for line in kl.lines[:2]]
    assert [list(line.get_xdata()) for line in kl.lines[:2]] == [[1, 2, 3, 4]] * 2
    assert [text.get_text() for text in loss.texts] == ["stage 0", "stage 1"]
    assert [text.get_position()[0] for text in loss.texts] == [1.5, 3.5]
    for axes in figure.axes:
        unlock = axes.lines[-1]
        assert list(unlock.get_xdata()) == [2.5, 2.5]  # before the third epoch
        assert unlock.get_color() == kl.lines[1].get_color()  # that of rung 1
    figure.savefig(tmp_path / "curves.png")


def test_information_of_every_rung_and_the_total():
    measured = {"mi_rung_2": [0.5, 0.5, 1.0, 1.5], "mi_rung_1": [0.0, 0.0, 0.1, 0.2], "mi_total": [0.5, 0.5, 1.1, 1.6]}
    information = training_curves({**HISTORY, **measured}).axes[2]
    assert information.get_ylabel() == "I(x; z) in nats"
    expected = {"total": measured["mi_total"], "rung 2": measured["mi_rung_2"], "rung 1": measured["mi_rung_1"]}
    assert lines(information) == expected
    for line in information.lines[:3]:  # stairs, with a dot where something was measured
        assert (line.get_drawstyle(), line.get_markevery()) == ("steps-post", [0, 2, 3])
    del measured["mi_total"]
    assert list(lines(training_curves({**HISTORY, **measured}).axes[2])) == ["rung 2", "rung 1"]


def test_two_rungs_unlocked_at_once_are_both_marked():
    history = {**HISTORY, "kl_rung_3": HISTORY["kl"], "stage": [0, 0, 2, 2]}
    marks = [line for line in training_curves(history).axes[0].lines if line.get_linestyle() == ":"]
    assert [(list(line.get_xdata()), line.get_color()) for line in marks] == [
        ([2.5, 2.5], rung_color(3, 2)), ([2.5, 2.5], rung_color(3, 1)),
    ]  # fmt: skip


def test_epochs_are_those_of_the_training():
    history = keras.callbacks.History()
    history.history, history.epoch = HISTORY, [3, 4, 5, 6]  # `initial_epoch=3`
    loss, _, alpha = training_curves(history).axes
    assert list(loss.lines[0].get_xdata()) == [4, 5, 6, 7]
    assert list(loss.lines[-1].get_xdata()) == [5.5, 5.5]  # the unlock
    assert alpha.get_xlim()[0] > 3
    assert list(alpha.lines[1].get_xdata()) == [6, 7]
    every_second = training_curves({**HISTORY, "val_loss": [9.5, 7.5]}).axes[0]  # `validation_freq=2`
    assert [list(line.get_xdata()) for line in every_second.lines if line.get_label() == "val_loss"] == [[2, 4]]


@pytest.mark.parametrize(
    ("first", "count", "values", "expected"), [(1, 11, 2, [4, 8]), (4, 5, 3, [4, 6, 8]), (1, 5, 4, [])]
)
def test_validation_stands_at_its_epochs(first, count, values, expected):
    """Keras validates where the number of the epoch is a multiple of `validation_freq`."""
    history = {name: [1.0] * count for name in ("loss", "reconstruction", "kl_rung_1")}
    history |= {"epoch": list(range(first - 1, first - 1 + count)), "val_loss": [1.0] * values}
    (line,) = (one for one in training_curves(history).axes[0].lines if one.get_label() == "val_loss")
    assert list(line.get_xdata()) == expected


def test_a_second_training_in_the_same_file(tmp_path):
    path = tmp_path / "history.csv"
    losses = enumerate([10, 9, 8, 7])
    rows = [f"{epoch},{loss},{loss},1" for epoch, loss in [*losses, (0, 100), (1, 99)]]
    path.write_text("\n".join(["epoch,loss,reconstruction,kl_rung_1", *rows, "2,98,97,1,2,96"]) + "\n")
    assert lines(training_curves(path).axes[0])["loss"] == [100.0, 99.0]


def test_a_file_of_a_training_that_was_killed(tmp_path):
    """An epoch that was replayed counts once, a half-written line not at all, and NA is no number."""
    path = tmp_path / "history.csv"
    rows = [
        "epoch,loss,reconstruction,kl_rung_1,val_loss",
        "0,2,1,0.5,NA",
        "1,9,9,0.6,1.9",
        "1,1.5,0.9,0.6,1.8",
        "2,1.4,0.",
    ]
    path.write_text("\n".join(rows))
    shown = lines(training_curves(path).axes[0])
    assert shown == {"loss": [2.0, 1.5], "reconstruction": [1.0, 0.9], "val_loss": [1.8]}


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
