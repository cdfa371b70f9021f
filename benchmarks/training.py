"""Trains the RPN of this library and torchvision's on the same batches.

    python benchmarks/training.py --data set.json --test test.json --weights w.npz
    python benchmarks/training.py --data scenes --weights w.npz --rules pyramid atss

Both have a MobileNetV2 with a pyramid, started from the same weights. They get the same
images in the same order, and have the same optimizer, schedule and anchors. They run
one after the other on the CPU.

torchvision follows its rules (positive from an IoU of 0.7, smooth L1), and this library
follows each of `--rules` in turn: `presets.pyramid`, or that with changes. The same
function counts the recall of all. Speed is the median over steps, including reading but
not compilation. Rows of each seed come first, and then means over the seeds with the
half of their 95 % interval.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from training_torchvision import torch, train_theirs

from rpn_jax import RPNConfig, presets
from rpn_jax.data import ImageSource, PipelineConfig, open_source
from rpn_jax.evaluate import Report, evaluate
from rpn_jax.evaluate.over_seeds import mean_interval
from rpn_jax.predict import predict
from rpn_jax.train import ResolvedConfig, Run, TrainConfig, resolve

# What each of `--rules` changes in `presets.pyramid`, by the part of `RPNConfig`.
Changes = Mapping[str, Mapping[str, Any]]
_SOFT = {"iou_threshold": 0.7, "soft_iou_threshold": 0.9, "soft_factor": 0.03}
_GREEDY = {
    "iou_threshold": 0.7,
    "soft_iou_threshold": None,
    "vote_iou_threshold": None,
}
_UNIFORM = {"positive_sampler": "uniform", "negative_sampler": "uniform"}


def _alone(
    targets: Mapping[str, Any] = _UNIFORM, **losses: Any
) -> dict[str, Mapping[str, Any]]:
    """One rule; else labels, 256 uniform samples and the first soft suppression."""
    sampled = {"num_samples": 256, **_UNIFORM, **targets}
    learned = {"objectness": "label", **losses}
    return {"targets": sampled, "losses": learned, "proposals": _SOFT}


_BALANCED = {
    "positive_sampler": "instance_balanced",
    "negative_sampler": "iou_balanced",
}
CHANGES: Mapping[str, Changes] = {
    "pyramid": {},
    "label": {"losses": {"objectness": "label"}},
    "greedy": _alone() | {"proposals": _GREEDY},
    "uniform": _alone(),
    "balanced": _alone(_BALANCED),
    "iou": _alone(objectness="iou"),
    "varifocal": _alone(objectness="iou", quality_loss="varifocal"),
    "oln_iou": _alone(objectness="oln_iou"),
    "oln": _alone({"assigner": "centerness"}, objectness="oln_centerness"),
    "atss": _alone({"assigner": "atss"}),
    "atss_balanced": _alone({"assigner": "atss"} | _BALANCED),
    "task_aligned": _alone({"assigner": "task_aligned"}),
    "sim_ota": _alone({"assigner": "sim_ota"}),
    "hardest": _alone({"negative_sampler": "hardest"}),
}
CASCADE = "cascade_rpn"  # the preset, with the proposals of `presets.pyramid`


def train_ours(config: ResolvedConfig, test: ImageSource) -> tuple[float, Report]:
    """Trains this library. Returns images per second, and the recall."""
    run = Run(config)
    speeds = [progress.metrics["images_per_second"] for progress in run.steps()]
    found = dict(
        predict(run.model, test, pipeline=config.pipeline, config=run.config.rpn)
    )
    run.close()
    truths = [test.truth(row) for row in found]
    return statistics.median(speeds), evaluate(truths, list(found.values()))


def measure(report: Report) -> list[float]:
    """The numbers of a row of the table."""
    numbers = [report.coco.average(limit) for limit in (100, 300, 1000)]
    return numbers + [report.coco.average(limit, iou=0.5) for limit in (100, 1000)]


def print_means(found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Prints the mean over seeds of every column, with half of its interval."""
    print("\n| side | images/s | AR@100 | AR@300 | AR@1000 | R50@100 | R50@1000 |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in found.items():
        speeds, *columns = zip(*rows, strict=True)
        cells = [f"{np.mean(speeds):.1f}"]
        for column in columns:
            mean, half = mean_interval(column)
            # A single seed has no interval.
            cells.append(
                f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
            )
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Trains both sides with every seed and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="COCO file, or scenes")
    parser.add_argument(
        "--test", help="COCO file to measure recall on; none for scenes"
    )
    parser.add_argument(
        "--weights", help=".npz of MobileNetV2, with torchvision's names"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--min-side", type=int, default=320)
    parser.add_argument("--fpn-features", type=int, default=64)
    parser.add_argument(
        "--rules",
        nargs="+",
        choices=[*CHANGES, CASCADE, "torchvision"],
        default=["pyramid", "torchvision"],
        help="the sides, in turns; CHANGES in this file has what each of them is",
    )
    options = parser.parse_args()
    torch.set_num_threads(2)
    # Scenes have their own validation images, and need no file for them.
    test = open_source(
        options.test or options.data, split=None if options.test else "val"
    )
    found: dict[str, list[list[float]]] = {name: [] for name in options.rules}
    print("| side | seed | images/s | AR@100 | AR@300 | AR@1000 | R50@100 | R50@1000 |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as out:
        # Runs that differ in their seed alone share their programs.
        jax.config.update("jax_compilation_cache_dir", f"{out}/programs")
        for seed in options.seeds:
            for name in options.rules:
                speed, report = train(name, seed, f"{out}/{name}-{seed}", options, test)
                found[name].append([speed, *measure(report)])
                cells = " | ".join(f"{number:.3f}" for number in measure(report))
                print(f"| {name} | {seed} | {speed:.2f} | {cells} |", flush=True)
    print_means(found)


def train(
    name: str, seed: int, out: str, options: argparse.Namespace, test: ImageSource
) -> tuple[float, Report]:
    """Trains one side with one seed. Returns images per second, and the recall."""
    if name == "torchvision":
        config = make_config(options, seed, out, presets.pyramid())
        split = "train" if options.data == "scenes" else None
        source = open_source(options.data, split=split, seed=seed)
        return train_theirs(config, source, test)
    return train_ours(make_config(options, seed, out, make_rules(name)), test)


def make_rules(name: str) -> RPNConfig:
    """The rules of this library that a side follows."""
    base = presets.pyramid()
    if name == CASCADE:
        return dataclasses.replace(presets.cascade_rpn(), proposals=base.proposals)
    changed = {
        part: dataclasses.replace(getattr(base, part), **fields)
        for part, fields in CHANGES[name].items()
    }
    return dataclasses.replace(base, **changed)


def make_config(
    options: argparse.Namespace, seed: int, out: str, rules: RPNConfig
) -> ResolvedConfig:
    """Makes the settings of a side."""
    min_side = options.min_side
    base = TrainConfig(
        pipeline=PipelineConfig(min_side=min_side, max_side=min_side * 5 // 3),
        data=options.data,
        val_data=options.test,
        rpn=rules,
        backbone="mobilenet_v2_fpn",
        init_weights=options.weights,
        fpn_features=options.fpn_features,
        steps=options.steps,
        batch_size=options.batch_size,
        seed=seed,
        out=out,
        checkpoint_every=options.steps,
    )
    return resolve(base)


if __name__ == "__main__":
    main()
