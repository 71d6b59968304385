"""Figures: formats, atomic writing, repeatable bytes, inline SVG, shared panels, missing packages."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from zflipon import plots
from zflipon.errors import MissingExtraError, OutputError


def line_figure():
    with plots.figure_style():
        figure = plots.new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], **plots.series_style(0))
        axes.set_xlabel("a < b & c")
    return figure


@pytest.mark.parametrize(
    ("extension", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")]
)
def test_a_figure_is_saved_in_the_format_of_its_extension(tmp_path, extension, start):
    first, second = tmp_path / f"a{extension}", tmp_path / f"b{extension}"
    plots.save_figure(line_figure(), first)
    plots.save_figure(line_figure(), second)
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unknown_figure_format_is_refused(tmp_path):
    with pytest.raises(
        OutputError, match=r"figure\.gif: unknown figure format; expected .*\.png, \.svg, \.pdf"
    ):
        plots.save_figure(line_figure(), tmp_path / "figure.gif")
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        plots.save_figure(line_figure(), tmp_path / "missing" / "figure.png")


def test_inline_svg_is_well_formed_and_its_identifiers_are_unique():
    first = plots.figure_svg(line_figure(), "plot-1", 'says "a" & <b>')
    second = plots.figure_svg(line_figure(), "plot-2", "second")
    identifiers = []
    for text in (first, second):
        element = ElementTree.fromstring(text)
        identifiers += [each.get("id") for each in element.iter() if each.get("id")]
    assert ElementTree.fromstring(first).get("aria-label") == 'says "a" & <b>'
    assert len(identifiers) == len(set(identifiers))
    assert "<metadata>" not in first
    assert "a &lt; b &amp; c" in first


def test_letters_are_drawn_at_their_positions_with_their_heights():
    heights = np.zeros((4, 3))
    heights[0, 0], heights[2, 1], heights[3, 2] = 1.0, 2.0, -1.5
    with plots.figure_style():
        axes = plots.new_figure(3, 2).subplots()
        plots.draw_letters(axes, heights, 10)
    boxes = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    boxes = [box for box in boxes if abs(box.height) > 1e-6]
    assert [round(box.x0 + box.width / 2, 3) for box in boxes] == pytest.approx([10.5, 11.5, 12.5], abs=0.01)
    assert [round(box.height, 2) for box in boxes] == pytest.approx([1.0, 2.0, 1.5], abs=0.05)
    assert max(box.y1 for box in boxes) == pytest.approx(2.0, abs=0.05)
    assert min(box.y0 for box in boxes) == pytest.approx(-1.5, abs=0.05)


def test_ticks_of_a_region_are_round_one_based_positions():
    with plots.figure_style():
        axes = plots.new_figure(3, 2).subplots()
        plots.position_axis(axes, "chr1", 1_999, 3_000)
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "2,000",
        "2,200",
        "2,400",
        "2,600",
        "2,800",
        "3,000",
    ]
    assert axes.get_xticks()[0] == 1_999.5
    assert axes.get_xlim() == (1_999, 3_000)


@pytest.mark.parametrize(
    ("length", "steps", "step"),
    [(1, 6, 1), (6, 6, 1), (7, 6, 2), (1000, 6, 200), (249_250_621, 400, 1_000_000)],
)
def test_round_steps(length, steps, step):
    assert plots.round_step(length, steps) == step


def test_series_differ_without_colour():
    styles = [plots.series_style(number) for number in range(28)]
    assert len({(style["linestyle"], style["marker"]) for style in styles}) == 28


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*zflipon\[plot\]"):
        plots.new_figure(3, 2)
