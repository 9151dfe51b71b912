"""Pictures: what a panel's axes show."""

import pytest
from matplotlib.figure import Figure

from diffmamba.document import Panel, Series
from diffmamba.reports.pictures import draw


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_axes_without_a_range_fit_what_they_show(scale):
    """The limits of a linear axis, which begin below 0, once stayed on a logarithmic one: all points at its edge."""
    axes = Figure().subplots()
    draw(
        axes,
        Panel(
            "panel",
            (Series(label="one", x=(1.0, 10.0, 100.0), y=(2.0, 20.0, 200.0), colour="#000000"),),
            x_scale=scale,
            y_scale=scale,
        ),
    )
    for (low, high), (first, last) in ((axes.get_xlim(), (1, 100)), (axes.get_ylim(), (2, 200))):
        assert first / 2 < low < first or (scale == "linear" and -20 < low < first)
        assert last < high < 2 * last


def test_a_range_is_kept():
    axes = Figure().subplots()
    draw(axes, Panel("panel", (Series(label="one", x=(1.0, 2.0), y=(1.0, 2.0), colour="#000000"),), y_range=(0.5, 9.0)))
    assert axes.get_ylim() == (0.5, 9.0)
