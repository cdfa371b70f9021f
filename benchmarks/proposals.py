"""Times `propose` against torchvision: same machine, same predictions, warm.

    python benchmarks/proposals.py                 # a minute; see --help

The proposal step decodes, selects the best 2,000 boxes per level, suppresses at an IoU
of 0.7 and keeps the best 1,000 boxes per image. One row uses 12,000 and 2,000, as
py-faster-rcnn does in training.

Sizes: S is one level of stride 16 with 9 anchors per cell, 600 x 1000 pixels, 1 image.
M is P2 to P6 with 3 anchors per cell, 800 x 1344 pixels, 2 images. L has 8 images.

Each row checks that both sides propose the same number of boxes with the same scores.
torchvision runs the part of `RegionProposalNetwork.forward` after the head:
`box_coder.decode` of all anchors, and `filter_proposals`. The sides alternate;
`nms.py` explains the timing.
"""

import argparse
import functools
import importlib
import os
from typing import Any

import numpy as np
from nms import print_header, print_row, time_by_turns, use_cores

PYRAMID = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
ONE_LEVEL = {"sizes": ((128, 256, 512),), "strides": (16,)}
CASES = {
    "S 2000/1000": (ONE_LEVEL, [(38, 63)], (600, 1000), 1, 2000, 1000),
    "S 12000/2000": (ONE_LEVEL, [(38, 63)], (600, 1000), 1, 12_000, 2000),
    "M 2000/1000": ({}, PYRAMID, (800, 1344), 2, 2000, 1000),
    "L 2000/1000": ({}, PYRAMID, (800, 1344), 8, 2000, 1000),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="number of cores to use")
    parser.add_argument(
        "--repeats", type=int, default=11, help="number of calls per side"
    )
    options = parser.parse_args()
    use_cores(options.threads)
    print_header("size", "torchvision ms", "rpn_jax ms", "ratio", "temporary MiB")
    for name, case in CASES.items():
        print_row(name, *compare(*case, repeats=options.repeats))


def compare(
    anchors: dict[str, Any],
    shapes: list[tuple[int, int]],
    image_size: tuple[int, int],
    batch: int,
    pre: int,
    post: int,
    *,
    repeats: int,
) -> list[str]:
    """The cells of a row."""
    import jax

    import rpn_jax
    from rpn_jax.core.proposals import propose

    grid = rpn_jax.make_anchors(rpn_jax.AnchorConfig(**anchors), shapes)
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (batch, len(grid))).astype(np.float32)
    deltas = rng.normal(0, 0.3, (batch, len(grid), 4)).astype(np.float32)
    config = rpn_jax.ProposalConfig(
        pre_nms_top_k=pre, post_nms_top_k=post, min_size=1e-3, exclusive_min_size=False
    )
    output = jax.device_put(rpn_jax.RPNOutput(logits, deltas))
    step = functools.partial(propose, config=config)
    ours = functools.partial(step, output, grid, image_size)
    analysis = jax.jit(step).lower(output, grid, image_size).compile().memory_analysis()
    assert analysis is not None
    memory = f"{analysis.temp_size_in_bytes / 2**20:.1f}"
    sides = [lambda: jax.block_until_ready(ours())]
    theirs = torchvision_step(grid, logits, deltas, image_size, pre, post)
    if theirs is None:
        return ["", f"{time_by_turns(*sides, repeats=repeats)[0]:.2f}", "", memory]
    check_same(ours(), theirs())
    us, them = time_by_turns(*sides, theirs, repeats=repeats)
    return [f"{them:.2f}", f"{us:.2f}", f"{them / us:.1f}", memory]


def torchvision_step(
    grid: Any,
    logits: np.ndarray,
    deltas: np.ndarray,
    image_size: tuple[int, int],
    pre: int,
    post: int,
) -> Any:
    """The step of torchvision's RPN after its head; None without torchvision."""
    import jax

    try:
        torch = importlib.import_module("torch")  # by name, because both are optional
        detection = importlib.import_module("torchvision.models.detection.rpn")
    except ImportError:
        return None
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    if not on_gpu:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    unused: Any = torch.nn.Identity()
    rpn: Any = detection.RegionProposalNetwork(
        anchor_generator=unused,
        head=unused,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": pre, "testing": pre},
        post_nms_top_n={"training": post, "testing": post},
        nms_thresh=0.7,
    )
    batch = len(logits)
    anchors = [torch.tensor(np.asarray(grid.boxes), device=device)] * batch
    objectness = torch.tensor(logits, device=device).reshape(-1, 1)
    flat = torch.tensor(deltas, device=device).reshape(-1, 4)

    @torch.no_grad()
    def step() -> Any:
        boxes = rpn.box_coder.decode(flat, anchors).view(batch, -1, 4)
        sizes = [image_size] * batch
        result = rpn.filter_proposals(boxes, objectness, sizes, list(grid.level_sizes))
        if on_gpu:
            torch.cuda.synchronize()
        return result

    return step


def check_same(ours: Any, theirs: Any) -> None:
    """Checks that both sides propose boxes with the same scores for every image."""
    for i, scores in enumerate(theirs[1]):
        valid = np.asarray(ours.valid[i])
        expected = scores.cpu().numpy()
        np.testing.assert_allclose(np.asarray(ours.scores[i])[valid], expected, 1e-5)


if __name__ == "__main__":
    main()
