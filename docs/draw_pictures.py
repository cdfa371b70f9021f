"""Draws the pictures of the site with the library's own functions.

    python docs/draw_pictures.py

writes them into `docs/pictures`, where they are committed.
"""

import io
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import rpn_jax
from rpn_jax import plot
from rpn_jax.core.keys import random_priorities
from rpn_jax.core.matching.axes import fit_level, shared_sides
from rpn_jax.core.nms_kernels import TILE
from rpn_jax.data import GroundTruth, Scenes

FOLDER = pathlib.Path(__file__).parent / "pictures"
SCENE = 3
ANCHORS = rpn_jax.AnchorConfig(sizes=((24, 48),), strides=(16,))
SHAPE = (15, 20)  # the cells of stride 16 in a scene of 240 x 320 pixels
_COLORS = 128  # of a picture; with more, those with a scene exceed 100 kB
# Inches. On a phone a picture is 350 pixels wide, and text of 9 points 10 pixels high.
_WIDTH = 4.6


def scene() -> tuple[np.ndarray, GroundTruth]:
    """The pixels and the boxes of the scene that all pictures show."""
    source = Scenes(seed=0)
    return source.pixels(SCENE), source.truth(SCENE)


def anchors_of_a_cell() -> Figure:
    """The grid of cells, and the anchors of one of them."""
    pixels, _ = scene()
    figure, (ax,) = plot.image_axes([pixels], columns=1)
    plot.draw_anchors(ax, rpn_jax.make_anchors(ANCHORS, [SHAPE]))
    return _with_legend(figure)


def labels() -> Figure:
    """Which anchors learn what."""
    pixels, truth = scene()
    grid = rpn_jax.make_anchors(ANCHORS, [SHAPE])
    rules = rpn_jax.TargetConfig(positive_iou=0.5, negative_iou=0.3)
    valid = jnp.ones(len(truth.boxes), bool)
    matches = rpn_jax.match_anchors(grid, truth.boxes, valid, config=rules)
    key = jax.random.key(0)
    sampled = rpn_jax.sample_anchors(key, matches.labels, num_samples=64)
    figure, (ax,) = plot.image_axes([pixels], columns=1)
    plot.draw_labels(ax, grid, matches, truth.boxes, sampled=sampled)
    return _with_legend(figure)


def _with_legend(figure: Figure) -> Figure:
    """Puts the legend below, in two columns, because `legend_below` has four."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(_WIDTH, height * _WIDTH / width)
    entries = figure.axes[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": 2, "columnspacing": 1.0}
    figure.legend(*entries, **place, fontsize=9, frameon=False)
    return figure


def separable_grid() -> Figure:
    """The shared widths of columns, the shared heights of rows, and their product."""
    size, box = (12, 16), jnp.array([[84.0, 52.0, 190.0, 128.0]])
    one = rpn_jax.AnchorConfig(sizes=(96,), strides=(16,), aspect_ratios=(1.0,))
    (level,) = rpn_jax.make_anchors(one, [size]).levels
    everywhere = (jnp.ones((1, size[1]), bool), jnp.ones((1, size[0]), bool))
    fit = fit_level(level, everywhere, box, 0.0)
    shared = shared_sides(fit.edges, box, 0.0)
    width, height = (np.asarray(x[0, 0]) for x in shared)
    figure, ((top, corner), (middle, right)) = plt.subplots(
        2, 2, width_ratios=(3.4, 1.2), height_ratios=(1.2, 4), layout="constrained"
    )
    figure.set_size_inches(_WIDTH, 4.4)
    corner.axis("off")
    columns, rows = np.arange(size[1]), np.arange(size[0])
    top.bar(columns, width, color=_best_in_color(width))
    top.set(xlim=(-0.5, size[1] - 0.5), xticks=[])
    top.set_title("shared width of columns, px", size=9)
    right.barh(rows, height, color=_best_in_color(height))
    right.set(ylim=(size[0] - 0.5, -0.5), yticks=[])
    right.set_title("shared height\nof rows, px", size=9)
    middle.imshow(np.outer(height, width), cmap="viridis", aspect="auto")
    x, y = np.meshgrid(columns[width == width.max()], rows[height == height.max()])
    middle.scatter(x, y, s=40, color="C1", edgecolors="black", label="best anchors")
    middle.set(xlabel="column", ylabel="row")
    middle.set_title("overlap: width times height", size=9)
    middle.legend(loc="lower right")
    return figure


def _best_in_color(values: np.ndarray) -> list[str]:
    return ["C1" if x == values.max() else "C0" for x in values]


def sampling() -> Figure:
    """Random priorities of the negatives, and the eight highest of them."""
    number, wanted = 48, 8
    is_negative = np.arange(number) % 5 != 2
    priority = np.asarray(random_priorities(jax.random.key(0), number)) / 2.0**24
    masked = np.where(is_negative, priority, -1.0)
    chosen = np.asarray(jax.lax.top_k(jnp.asarray(masked), wanted)[1])
    figure, ax = plt.subplots(figsize=(_WIDTH, 2.4))
    place = np.arange(number)
    ax.vlines(place, 0, priority, color="0.8", linewidth=1)
    others = is_negative & ~np.isin(place, chosen)
    for mask, color, name in (
        (~is_negative, "0.75", "not a negative: never sampled"),
        (others, "C0", "negative, not sampled"),
        (np.isin(place, chosen), "C1", f"negative, one of the {wanted} highest"),
    ):
        ax.scatter(place[mask], priority[mask], s=28, color=color, label=name, zorder=2)
    ax.axhline(priority[chosen].min(), color="C1", linewidth=0.8, linestyle="--")
    ax.set(xlabel="anchor", ylabel="random priority", ylim=(0, 1.05))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)
    return figure


def suppression() -> Figure:
    """One tile of boxes: who would suppress whom, as bits, and who stays."""
    rng = np.random.default_rng(2)
    centers = rng.uniform(20, 80, (6, 2))[rng.integers(0, 6, TILE)]
    corner = centers + rng.normal(0, 3.0, (TILE, 2))
    boxes = np.concatenate([corner, corner + 20.0], axis=1).astype(np.float32)
    ranks = np.linspace(1, 0.1, TILE, dtype=np.float32)
    limit = 0.5
    kept = rpn_jax.nms(boxes, ranks, iou_threshold=limit, max_outputs=TILE)
    stays = np.zeros(TILE, bool)
    stays[np.asarray(kept.indices)[np.asarray(kept.valid)]] = True
    rivals = np.asarray(rpn_jax.pairwise_iou(boxes, boxes)) > limit
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(_WIDTH, 6.2), layout="constrained"
    )
    for box, stay in zip(boxes, stays, strict=True):
        side = {"color": "C1", "linewidth": 2.2} if stay else {"color": "0.7"}
        x, y = box[[0, 2, 2, 0, 0]], box[[1, 1, 3, 3, 1]]
        top.plot(x, y, zorder=2 + stay, **side)
    top.set(title=f"{TILE} boxes; {stays.sum()} stay", aspect="equal", xticks=[])
    top.set(yticks=[])
    # A bit counts only if its column is the bit of a better box that stays.
    decides = rivals & stays[None, :] & np.tril(np.ones((TILE, TILE), bool), -1)
    bottom.imshow(np.where(decides, 2, rivals), cmap="Greys", vmax=2)
    bottom.scatter(*[np.flatnonzero(stays)] * 2, s=14, color="C1", label="stays")
    bottom.set(xlabel="bit: box that suppresses", ylabel="word of box (the best first)")
    bottom.set_title("words of 32 bits; black bits decide", size=9)
    bottom.legend(loc="upper right")
    return figure


PICTURES = (anchors_of_a_cell, labels, separable_grid, sampling, suppression)


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as a small PNG with a white ground."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=220, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    picture = Image.open(memory).convert("RGB").quantize(_COLORS)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in PICTURES:
        save(draw(), FOLDER / f"{draw.__name__}.png")
