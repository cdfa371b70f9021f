"""Evaluated images without a network, for the tests of pages."""

import json

import numpy as np

from rpn_jax.data import read_coco
from rpn_jax.evaluate import ImageProposals, evaluate, write_coco_results
from rpn_jax.train import TrainConfig, resolve, write_config

from . import data_files

BAD_NAME = "<img src=x onerror=alert(1)>.png"
SIZE = (200, 260)  # height and width of all images


def objects_on(folder, number=4, name=BAD_NAME):
    """Images with objects of all sizes, of which the first has a name with markup."""
    rng = np.random.default_rng(0)
    names = [name, *(f"{i}.png" for i in range(1, number))]
    records = [
        data_files.coco_record(i + 1, [x, y, side, side], area=float(side**2))
        for i in range(number)
        for side in (20, 32, 60, 120)
        for x, y in [rng.integers(0, 80, 2).tolist()]
    ]
    return read_coco(data_files.coco_set(folder, records, size=SIZE, names=names))


def guesses(source, seed=1, per_object=6):
    """Proposals near the objects, with corners on a grid, so that IoUs are often equal.

    Some scores are equal too.
    """
    rng, found = np.random.default_rng(seed), {}
    for row in range(len(source)):
        truth = source.truth(row)
        near = np.repeat(truth.boxes, per_object, axis=0)
        shift = rng.integers(-4, 5, near.shape) * 3
        low, high = near[:, :2] + shift[:, :2], near[:, 2:] + shift[:, 2:]
        boxes = np.concatenate([low, np.maximum(high, low + 1)], axis=1)
        scores = rng.integers(0, 21, len(boxes)) / 20
        found[row] = ImageProposals(
            truth.image_id, boxes.astype(np.float32), scores.astype(np.float32)
        )
    return found


def recall_of(source, proposals):
    truths = [source.truth(row) for row in range(len(source))]
    return evaluate(truths, list(proposals.values()))


def run_folder(folder, data, proposals, **settings):
    """Writes the files of a finished run, as `rpn-jax train` does."""
    folder.mkdir()
    config = TrainConfig(data=str(data), val_data=str(data), **settings)
    write_config(resolve(config), folder / "config.json")
    recall = recall_of(read_coco(data), proposals).as_dict()
    data_files.write_json(folder / "recall.json", recall)
    write_coco_results(folder / "proposals.json", list(proposals.values()))
    lines = [{"step": i, "loss": 1.0 / i, "lr": 0.1} for i in range(1, 6)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder
