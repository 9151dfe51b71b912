"""Pictures: what a panel's axes show."""

import pytest
from matplotlib.figure import Figure

from diffmamba.document import Chart, Document, Panel, Series
from diffmamba.reports import render
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


def test_a_map_is_drawn_from_top_to_bottom_and_is_a_picture_on_every_page():
    shades, axes = ((0.0, 0.1), (0.7, 1.0)), Figure().subplots()
    draw(axes, Panel("panel", (), shades=shades))
    (image,) = axes.get_images()
    assert image.get_array().tolist() == [list(row) for row in shades]
    assert image.get_clim() == (0, 1)
    low, high = axes.get_ylim()
    assert low > high  # the first row is at the top
    chart = Chart("maps", "Maps", ((Panel("panel", (), shades=shades),),), "a map")
    page = render.html(Document("A page", (chart,), {}))
    assert '<img src="data:image/svg+xml;base64,' in page
    assert 'class="chart"' not in page
