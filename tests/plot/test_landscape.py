"""Maps of a number over two settings."""

import numpy as np

from rpn_jax.plot.landscape import plot_landscapes


def test_a_landscape_shows_its_numbers_and_marks_the_lowest():
    values = np.array([[3.0, np.nan, 2.0], [4.0, 0.5, 9.0]])
    settings = {"rows": ("size, px", (8, 16)), "columns": ("ratio", (1.0, 1.5, 2.0))}
    figure = plot_landscapes({"loss": values, "missed": -values}, **settings)
    loss, missed = figure.axes[:2]
    shown = np.ma.filled(np.ma.asarray(loss.images[0].get_array()), np.nan)
    np.testing.assert_array_equal(shown, values)
    marks = [np.asarray(ax.collections[0].get_offsets()) for ax in (loss, missed)]
    np.testing.assert_array_equal(marks, [[[1.0, 1.0]], [[2.0, 1.0]]])
    assert [tick.get_text() for tick in loss.get_xticklabels()] == ["1", "1.5", "2"]
    assert (loss.get_title(), loss.get_ylabel()) == ("loss", "size, px")
    figure.draw_without_rendering()
