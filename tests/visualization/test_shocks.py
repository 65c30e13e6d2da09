import pytest

from keras_provlae.visualization import growth_shocks
from keras_provlae.visualization.style import ink, rung_color

AFTER = [(1, 109.0), (2, 103.0), (64, 104.0), (128, 98.0)]
SHOCK = {"stage": 1, "iteration": 1500, "fade_in_steps": 100, "before": 100.0, "after": AFTER}


def test_a_panel_per_unlock_shows_the_loss_before_and_after():
    second = {**SHOCK, "stage": 2, "iteration": 3000, "before": 90.0, "after": [(1, 90.9)]}
    first_axes, second_axes = growth_shocks([SHOCK, second], data="drawn digits").axes
    assert first_axes.get_title() == "rung 2, step 1,500: +4.0%"
    assert second_axes.get_title() == "rung 1, step 3,000: +1.0%"
    before, after = first_axes.lines
    assert list(before.get_ydata()) == [100.0, 100.0]
    assert list(zip(*after.get_data(), strict=True)) == AFTER
    assert after.get_color() == ink(rung_color(3, 2))
    assert first_axes.get_xscale() == "log"


def test_an_undone_attempt_says_why():
    problem = "the negative ELBO rose from 100.0 to 131.0 nats, by 31% (more than 20%): a growth shock"
    (axes,) = growth_shocks([{**SHOCK, "problem": problem}], num_rungs=4).axes
    assert axes.get_title() == "rung 3, step 1,500: undone: a growth shock"


def test_only_unlocks_with_a_known_loss_before_are_drawn():
    unknown = {**SHOCK, "before": None}
    assert len(growth_shocks([unknown, SHOCK]).axes) == 1
    with pytest.raises(ValueError, match="must have an unlock with a loss before and after it.*Received: 1 unlocks"):
        growth_shocks([unknown])
