"""Times the core against torchvision: same machine, same input, interleaved, warm.

    python benchmarks/core.py                                # everything; some minutes
    python benchmarks/core.py --parts assign loss --sizes S M            # see --help

Each part is a table:

* `assign` matches, samples and encodes. `keep` does the same while glibc's malloc keeps
  its blocks, on both sides, because page faults take much of PyTorch's time.
* `loss` computes both losses and their gradients for all predictions, given the indices
  of the sample. In `loss_everywhere`, `rpn_jax` gets targets for all anchors instead.
* `step` is the head with 256 channels, assignment, losses, and gradients of weights and
  features. `rpn_jax` predicts only at the sample; in `step_everywhere` it predicts at
  all anchors.
* `head` is the head alone, at all anchors, with gradients; `head_forward` has none.
* `memory` is the memory that assignment adds to the peak of the process, or of the GPU.
* `scaling` varies the number of images and of boxes in `assign`.

Sizes: S is one level of stride 16 with 9 anchors per cell, 600 x 1000 pixels, 1 image
and 20 boxes. M is P2 to P6 with 3 anchors per cell, 800 x 1344 pixels, 2 images and 50
boxes per image. L is like M with 8 images and 200 boxes.

Each row runs in a separate process with two threads per side. A time is the median over
blocks of calls, and the two sides alternate. Without torchvision, only `rpn_jax` is
timed. If both see a GPU, both run there.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

SIZES = {
    "assign": ("S", "M", "L"),
    "keep": ("S", "M", "L"),
    "loss": ("S", "M", "L"),
    "loss_everywhere": ("S", "M", "L"),
    "step": ("S", "M"),
    "step_everywhere": ("S", "M"),
    "head": ("S", "M"),
    "head_forward": ("S", "M"),
    "memory": ("L",),
}
PARTS = (*SIZES, "scaling")
KEEP_BLOCKS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
USUAL, SMALL = (16.0, 512.0), (8.0, 32.0)  # range of the sides of boxes, in pixels
SCALING = (  # images, boxes, sides
    *((batch, 50, USUAL) for batch in (1, 2, 4, 8)),
    *((1, boxes, USUAL) for boxes in (25, 100, 200, 400)),
    *((1, boxes, SMALL) for boxes in (25, 50, 100, 200, 400)),
)
BLOCK_SECONDS = 0.05  # a block of calls lasts at least this long
MIN_BLOCKS, MAX_BLOCKS = 3, 51


def main() -> None:
    """Prints one table per part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", choices="SML", default=("S", "M", "L"))
    parser.add_argument("--threads", type=int, default=2, help="threads per side")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="longest time per row"
    )
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="default: gpu if both sides see one"
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(_measure(**json.loads(options.row))))
        return
    has_peer = _has_peer()
    device = options.device or ("gpu" if _both_see_a_gpu() else "cpu")
    run = functools.partial(
        _run_row, device=device, threads=options.threads, seconds=options.seconds
    )
    print(_machine(device, options.threads))
    if not has_peer:
        print("\nOnly rpn_jax is timed, since torch or torchvision is not installed.")
    for part in options.parts:
        if part == "memory":
            _print_memory(run, has_peer, options.sizes)
        elif part == "scaling":
            _print_scaling(run)
        else:
            _print_times(run, part, options.sizes)


def _print_times(run: Callable, part: str, sizes: Sequence[str]) -> None:
    is_assign = part in ("assign", "keep")
    notes = ("labels before sampling", "writing the results ms") if is_assign else ()
    _print_row(f"\n{part}", "torchvision ms", "rpn_jax ms", "ratio", *notes)
    _print_rule(4 + len(notes))
    environment = KEEP_BLOCKS if part == "keep" else {}
    for size in [size for size in SIZES[part] if size in sizes]:
        row = run({"work": "assign" if is_assign else part, "case": size}, environment)
        notes = (row["labels"], f"{row['floor']:.2f}") if is_assign else ()
        _print_row(size, *_times(row), *notes)


def _print_memory(run: Callable, has_peer: bool, sizes: Sequence[str]) -> None:
    _print_row("\nmemory", "side", "compilation adds MiB", "calls add MiB")
    _print_rule(4)
    for size in [size for size in SIZES["memory"] if size in sizes]:
        for side in ("torchvision", "rpn_jax")[not has_peer :]:
            row = run({"work": "memory", "case": size, "side": side})
            added = [f"{row[key] / 2**20:.0f}" for key in ("preparing", "calling")]
            _print_row(size, side, *added)


def _print_scaling(run: Callable) -> None:
    titles = ("images", "boxes", "sides px", "torchvision ms", "rpn_jax ms", "ratio")
    _print_row(f"\n{titles[0]}", *titles[1:])
    _print_rule(6)
    for batch, boxes, sides in SCALING:
        change = {"batch": batch, "boxes": boxes, "sides": sides}
        row = run({"work": "assign", "case": "M", "change": change})
        described = f"{sides[0]:.0f} to {sides[1]:.0f}"
        _print_row(str(batch), str(boxes), described, *_times(row))


def _print_row(*cells: str) -> None:
    line_break = "\n" * cells[0].startswith("\n")
    print(f"{line_break}| {' | '.join(cell.strip() for cell in cells)} |", flush=True)


def _print_rule(columns: int) -> None:
    print("|" + "---|" * columns)


def _times(row: dict[str, Any]) -> tuple[str, str, str]:
    ours, theirs = row["rpn_jax"], row.get("torchvision")
    if theirs is None:
        return "-", f"{ours:.2f}", "-"
    return f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.2f}"


def _run_row(
    what: dict[str, Any],
    environment: dict[str, str] | None = None,
    *,
    device: str,
    threads: int,
    seconds: float,
) -> dict[str, Any]:
    """Measures a row in a new process, so that rows do not influence each other."""
    what |= {"device": device, "threads": threads, "seconds": seconds}
    devices = {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
    devices |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # both sides share the GPU
    command = [sys.executable, __file__, "--row", json.dumps(what)]
    environment = dict(os.environ) | devices | (environment or {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(
    *,
    work: str,
    case: str,
    device: str,
    threads: int,
    seconds: float,
    change: dict[str, Any] | None = None,
    side: str | None = None,
) -> dict[str, Any]:
    """Measures a row, in the process of that row."""
    if device == "cpu":  # XLA starts one thread per core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    sides = importlib.import_module("core_sides")
    problem = dataclasses.replace(sides.CASES[case], **change or {})
    make_theirs = functools.partial(
        sides.Theirs, problem, device=device, threads=threads
    )
    if side:
        make = make_theirs if side == "torchvision" else lambda: sides.Ours(problem)
        return _memory(make, device)
    ours, theirs = sides.Ours(problem), make_theirs() if _has_peer() else None
    given = [ours.targets()] if work.startswith("loss") else []
    works = {"rpn_jax": getattr(ours, work)()}
    if theirs:
        works["torchvision"] = getattr(theirs, work)(*given)
    row: dict[str, Any] = _time_by_turns(works, seconds)
    if work == "assign":
        row["floor"] = _time_by_turns({"write": ours.write()}, 1.0)["write"]
        row["labels"] = _agreement(ours, theirs)
    elif work.startswith("loss") and theirs:
        _check_losses(*(float(run()[0]) for run in works.values()))
    return row


def _time_by_turns(
    works: dict[str, Callable[[], Any]], seconds: float
) -> dict[str, float]:
    """Median milliseconds per call of each side; blocks of the sides alternate."""
    calls = {}
    for name, work in works.items():
        work()
        once = _block_seconds(work, 1)
        calls[name] = max(1, round(BLOCK_SECONDS / once))
    blocks: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    for number in range(MAX_BLOCKS):
        if number >= MIN_BLOCKS and time.perf_counter() > end:
            break
        for name, work in works.items():
            time.sleep(0.02)  # lets the threads of the other side go to sleep
            blocks[name].append(_block_seconds(work, calls[name]) / calls[name])
    return {name: 1e3 * statistics.median(times) for name, times in blocks.items()}


def _block_seconds(work: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start


def _agreement(ours: Any, theirs: Any) -> str:
    """Describes the labels, and how many differ between the sides."""
    labels = ours.labels()
    counts = f"{(labels == 1).sum()} positive, {(labels == 0).sum()} negative"
    if theirs is None:
        return counts
    differ = int((labels != theirs.labels()).sum())
    return f"{counts}, {differ} of {labels.size} labels differ"


def _check_losses(ours: float, theirs: float) -> None:
    if abs(ours - theirs) > 1e-5 * abs(theirs):
        raise RuntimeError(
            f"core.py needs equal losses, got {ours} in rpn_jax and {theirs} in "
            "torchvision."
        )


def _memory(make: Callable[[], Any], device: str) -> dict[str, int]:
    """Bytes that preparing and calling add to the peak."""
    side = make()
    peak = _gpu_peak if device == "gpu" else _process_peak
    before = peak(side.name)
    work = side.assign()
    prepared = peak(side.name)
    for _ in range(3):
        work()
    called = peak(side.name)
    return {"preparing": prepared[1] - before[0], "calling": called[1] - prepared[0]}


def _process_peak(name: str) -> tuple[int, int]:
    """Resident bytes now, and their maximum since the last call of this function."""
    del name
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    now, most = (1024 * int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return now, most


def _gpu_peak(name: str) -> tuple[int, int]:
    if name == "torchvision":
        cuda = importlib.import_module("torch").cuda
        most = cuda.max_memory_allocated()
        cuda.reset_peak_memory_stats()
        return cuda.memory_allocated(), most
    stats = importlib.import_module("jax").devices()[0].memory_stats()
    return stats["bytes_in_use"], stats["peak_bytes_in_use"]


def _has_peer() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))


def _both_see_a_gpu() -> bool:
    code = "import jax; assert jax.default_backend() == 'gpu'"
    code += "; import torch; assert torch.cuda.is_available()" * _has_peer()
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _machine(device: str, threads: int) -> str:
    libraries = ("rpn-jax", "jax", "jaxlib", "torch", "torchvision")
    found = {d.name.lower(): d.version for d in importlib.metadata.distributions()}
    versions = [f"{name} {found[name]}" for name in libraries if name in found]
    where = [f"Python {platform.python_version()}", _processor()]
    where += [f"{threads} threads each"] if device == "cpu" else ["GPU"]
    return ", ".join(versions + where)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            names = [line for line in info if line.startswith("model name")]
        return f"{names[0].split(':')[1].strip()} ({len(names)} cores)"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
