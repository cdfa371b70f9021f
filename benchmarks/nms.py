"""Times `nms` against torchvision: same machine, same boxes, alternating, warm.

    python benchmarks/nms.py                       # a minute; see --help
    python benchmarks/nms.py --tpu                 # compiles for TPUs instead

It prints these tables:

* all outputs of one image, then the first 1,000 of them;
* images under `vmap`, in five groups of 2,000 boxes;
* the bytes that the compiler plans for temporary arrays.

`random` boxes overlap little, so nearly all are kept. `clustered` boxes come in groups
of 20 per object, as an RPN makes them. The IoU threshold is 0.7. Every row checks that
both sides keep the same boxes.

A time is the median of single calls, and the sides alternate. On a CPU the process may
use `--threads` cores. If both sides see a GPU, both run there. Without torchvision,
only `rpn_jax` is timed.

With `--tpu`, libtpu compiles one image of 12,000 boxes for one chip of v5e, and 16
images of 5 x 2,000 boxes for two. One line of JSON per program says what it stores and
how often the chips communicate.
"""

import argparse
import functools
import importlib
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

THRESHOLD = 0.7
SIZES = (1000, 2000, 4000, 12_000)
KINDS = ("clustered", "random")
TPU_PROGRAMS = (((12_000,), 1), ((16, 5, 2000), 2))
COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute)")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="number of cores to use")
    parser.add_argument(
        "--repeats", type=int, default=21, help="number of calls per side"
    )
    parser.add_argument(
        "--tpu", action="store_true", help="compile for TPUs instead of timing"
    )
    options = parser.parse_args()
    if options.tpu:
        for shape, chips in TPU_PROGRAMS:
            print(json.dumps(compile_for_tpu(shape, chips)), flush=True)
        return
    use_cores(options.threads)
    time_pair = functools.partial(time_by_turns, repeats=options.repeats)

    print_header("boxes, all outputs", "kept", "torchvision ms", "rpn_jax ms", "ratio")
    for kind in KINDS:
        for n in SIZES:
            print_row(f"{kind} {n}", *compare(make_boxes(kind, n), n, time_pair))
    print_header(
        "boxes, 1,000 outputs", "kept", "torchvision ms", "rpn_jax ms", "ratio"
    )
    for kind in KINDS:
        print_row(f"{kind} 12000", *compare(make_boxes(kind, 12_000), 1000, time_pair))
    print_header("images of 5 x 2,000", "kept", "torchvision ms", "rpn_jax ms", "ratio")
    for images in (1, 2, 4, 8):
        print_row(str(images), *compare_levels(images, time_pair))
    print_header("boxes", "temporary MiB")
    for n in SIZES:
        print_row(str(n), f"{temporary_bytes(n) / 2**20:.2f}")


def use_cores(number: int) -> None:
    """Limits the cores of this process, before it loads JAX or PyTorch."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def make_boxes(kind: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of 16 to 512 pixels in an image of 1333 x 800, with distinct scores."""
    rng = np.random.default_rng(seed)
    objects = n // 20 if kind == "clustered" else n
    corner = rng.uniform(0, [1333, 800], (objects, 2))
    sides = np.exp(rng.uniform(np.log(16), np.log(512), (objects, 2)))
    boxes = np.concatenate([corner - sides / 2, corner + sides / 2], axis=1)
    if kind == "clustered":
        boxes = boxes[rng.integers(objects, size=n)]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = boxes + rng.normal(0, 0.08, (n, 4)) * sides
    scores = rng.permutation(n) / n
    return boxes.astype(np.float32), scores.astype(np.float32)


def compare(
    arrays: tuple[np.ndarray, np.ndarray], max_outputs: int, time_pair: Callable
) -> list[str]:
    """The cells of a row for one image."""
    import jax

    from rpn_jax.core.nms import nms

    keep = functools.partial(nms, iou_threshold=THRESHOLD, max_outputs=max_outputs)
    ours = functools.partial(keep, *map(jax.device_put, arrays))
    kept = ours()
    indices = np.asarray(kept.indices)[np.asarray(kept.valid)]
    peer = Peer.load()
    if peer is None:
        return cells(len(indices), time_pair(lambda: jax.block_until_ready(ours())))
    tensors = peer.tensors(*arrays)
    expected = peer.nms(*tensors)[:max_outputs].cpu().numpy()
    np.testing.assert_array_equal(indices, expected)
    times = time_pair(
        lambda: jax.block_until_ready(ours()),
        lambda: peer.wait(peer.nms(*tensors)[:max_outputs]),
    )
    return cells(len(indices), times)


def compare_levels(images: int, time_pair: Callable) -> list[str]:
    """The cells of a row for a batch, whose boxes only compete within their level."""
    import jax

    from rpn_jax.core.nms import nms

    made = [make_boxes("clustered", 10_000, seed) for seed in range(images)]
    boxes = np.stack([boxes for boxes, _ in made]).reshape(images, 5, 2000, 4)
    scores = np.stack([scores for _, scores in made]).reshape(images, 5, 2000)
    keep = functools.partial(nms, iou_threshold=THRESHOLD, max_outputs=2000)
    batched = jax.jit(jax.vmap(jax.vmap(keep)))
    ours = functools.partial(batched, *map(jax.device_put, (boxes, scores)))
    number = int(ours().valid.sum())
    peer = Peer.load()
    if peer is None:
        return cells(number, time_pair(lambda: jax.block_until_ready(ours())))
    levels = np.repeat(np.arange(5), 2000)
    tensors = [
        peer.tensors(b.reshape(-1, 4), s.reshape(-1), levels)
        for b, s in zip(boxes, scores, strict=True)
    ]

    def theirs() -> list[Any]:
        return [peer.batched_nms(*image) for image in tensors]

    assert sum(map(len, theirs())) == number
    times = time_pair(
        lambda: jax.block_until_ready(ours()), lambda: peer.wait(theirs())
    )
    return cells(number, times)


def temporary_bytes(n: int) -> int:
    """Bytes that one image of `n` boxes needs besides its input and output."""
    import jax

    from rpn_jax.core.nms import nms

    keep = functools.partial(nms, iou_threshold=THRESHOLD, max_outputs=n)
    compiled = jax.jit(keep).lower(*make_boxes("random", n)).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def compile_for_tpu(shape: tuple[int, ...], chips: int) -> dict[str, Any]:
    """Compiles `nms` for boxes of this shape. Several chips share the first axis."""
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from rpn_jax.core.nms import nms

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    mesh = Mesh(np.array(topology.devices[:chips]), ("images",))
    sharding = NamedSharding(mesh, PartitionSpec("images" if chips > 1 else None))
    keep = functools.partial(nms, iou_threshold=THRESHOLD, max_outputs=1000)
    for _ in shape[1:]:
        keep = jax.vmap(keep)
    arguments = [
        jax.ShapeDtypeStruct(dimensions, np.float32, sharding=sharding)
        for dimensions in ((*shape, 4), shape)
    ]
    compiled = jax.jit(keep, out_shardings=sharding).lower(*arguments).compile()
    analysis, program = compiled.memory_analysis(), compiled.as_text()
    assert analysis is not None
    assert program is not None
    return {
        "shape": shape,
        "chips": chips,
        "temp_bytes": analysis.temp_size_in_bytes,
        "loops": program.count(" while("),
        "collectives": COLLECTIVE.findall(program),
    }


class Peer:
    """The side of torchvision, on the device that JAX uses."""

    @classmethod
    @functools.cache
    def load(cls) -> "Peer | None":
        """Returns None if torchvision is not installed."""
        try:
            return cls()
        except ImportError:
            return None

    def __init__(self) -> None:
        import jax

        torch = importlib.import_module("torch")  # by name, because both are optional
        torchvision = importlib.import_module("torchvision")
        on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
        self._torch, self._device = torch, "cuda" if on_gpu else "cpu"
        self._ops = torchvision.ops
        if not on_gpu:
            torch.set_num_threads(len(os.sched_getaffinity(0)))

    def tensors(self, *arrays: np.ndarray) -> list[Any]:
        """Puts the arrays on the device."""
        return [self._torch.tensor(x, device=self._device) for x in arrays]

    def nms(self, boxes: Any, scores: Any) -> Any:
        """Indices of the boxes that are kept."""
        return self._ops.nms(boxes, scores, THRESHOLD)

    def batched_nms(self, boxes: Any, scores: Any, levels: Any) -> Any:
        """Indices of the boxes that are kept, over all levels."""
        return self._ops.batched_nms(boxes, scores, levels, THRESHOLD)

    def wait(self, result: Any) -> Any:
        """Waits until the device has computed the result, and returns it."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()
        return result


def time_by_turns(*sides: Callable[[], Any], repeats: int) -> list[float]:
    """Median milliseconds per call of each side, after one call as a warm-up."""
    times: list[list[float]] = [[] for _ in sides]
    for round_ in range(repeats + 1):
        for side, measured in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if round_ > 0:
                measured.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(measured) for measured in times]


def cells(kept: int, times: list[float]) -> list[str]:
    """Number of kept boxes, both times, and how many times faster `rpn_jax` is."""
    ours, *theirs = times
    if not theirs:
        return [str(kept), "", f"{ours:.2f}", ""]
    return [str(kept), f"{theirs[0]:.2f}", f"{ours:.2f}", f"{theirs[0] / ours:.1f}"]


def print_header(*titles: str) -> None:
    """Prints the head of a table."""
    print()
    print_row(*titles)
    print("|" + "---|" * len(titles))


def print_row(*texts: str) -> None:
    """Prints a row of a table."""
    print(f"| {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
