"""The figure of a locus: outliers are clipped and marked, panels fit the region, labels do not collide."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import dna

from zflipon.explain.figures import LEAST_EFFECT, MAX_TOKENIZED_BASES, locus_figure
from zflipon.explain.locus import LocusExplanation, LocusTrack
from zflipon.plots import figure_style

pytest.importorskip("logomaker")


def make_locus(bases=60, start=127_145_000, outlier=0.0, effect=0.3, tracks=()):
    rng = np.random.default_rng(2)
    attribution = rng.normal(0.2, 0.2, bases)
    attribution[10] = outlier or attribution[10]
    effects = rng.normal(0, 1, (4, bases)).clip(-1, 1) * effect
    called = np.zeros(bases, dtype=bool)
    called[20:40] = True
    return LocusExplanation(
        "chr8",
        start,
        start + bases,
        dna(bases, 4),
        0.4,
        np.where(called, 0.8, 0.01).astype(np.float32),
        attribution,
        effects.astype(np.float32),
        [(at, at + 4) for at in range(start - 2, start + bases, 4)],
        called,
        list(tracks),
        [],
        "compact",
        "hg38",
    )


def draw(locus):
    """Draw a locus; return its figure and the axes by their label on the y axis."""
    with figure_style():
        figure = locus_figure(locus)
        figure.canvas.draw()
    return figure, {axes.get_ylabel().split("\n")[0]: axes for axes in figure.axes}


def test_an_outlier_is_clipped_and_marked_with_its_height():
    _, panels = draw(make_locus(outlier=12.5))
    axes = panels["attribution"]
    assert axes.get_ylim()[1] < 3
    marks = [text for text in axes.texts if text.get_text() == "12"]
    assert [text.xy[0] for text in marks] == [127_145_010.5]


def test_without_an_outlier_nothing_is_clipped():
    locus = make_locus()
    axes = draw(locus)[1]["attribution"]
    assert not axes.texts
    assert axes.get_ylim() == (locus.attribution.min(), locus.attribution.max())


def test_the_title_names_region_assembly_and_model():
    axes = draw(make_locus())[1]["probability"]
    assert axes.get_title(loc="left") == "chr8:127,145,001-127,145,060, hg38, compact"
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["threshold 0.4", "10 bp"]  # a scale bar of a round length


@pytest.mark.parametrize(("bases", "shown"), [(MAX_TOKENIZED_BASES, True), (MAX_TOKENIZED_BASES + 1, False)])
def test_tokens_are_drawn_in_short_regions_only(bases, shown):
    assert ("tokens" in draw(make_locus(bases))[1]) == shown


@pytest.mark.parametrize(("effect", "strongest"), [(1e-8, LEAST_EFFECT), (0.6, 0.6)])
def test_the_scale_of_effects_has_a_floor(effect, strongest):
    (image,) = draw(make_locus(effect=effect))[1]["replaced by"].images
    assert image.get_clim() == pytest.approx((-strongest, strongest))


@pytest.mark.parametrize("bases", [20, 60, 400])
def test_labels_of_positions_do_not_collide(bases):
    _, panels = draw(make_locus(bases, start=247_145_000))
    boxes = [label.get_window_extent() for label in panels["replaced by"].get_xticklabels()]
    boxes = sorted((box.x0, box.x1) for box in boxes if box.width)
    assert len(boxes) > 1
    assert all(first[1] + 2 < second[0] for first, second in pairwise(boxes))


def test_rows_have_the_colour_of_their_kind_and_only_the_last_has_ticks():
    start = 127_145_000
    rows = [
        LocusTrack("peaks", intervals=np.array([[start + 5, start + 9]])),
        LocusTrack("height", values=np.ones(60, dtype=np.float32)),
        LocusTrack("nothing", intervals=np.empty((0, 2), dtype=np.int64)),
    ]
    _, panels = draw(make_locus(tracks=rows))
    colours = {
        name: panels[name].patches[0].get_facecolor()[:3] for name in ("peaks", "height", "probability")
    }
    assert len(set(colours.values())) == 3
    assert [text.get_text() for text in panels["nothing"].texts] == ["none in this region"]
    with_labels = [
        name
        for name, axes in panels.items()
        if any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks())
    ]
    assert [name for name in with_labels if name != "change of"] == ["nothing"]
    assert not len(panels["peaks"].get_yticks())
