"""Records what the assigners of mmdetection 3.3 do, for `test_golden_rules.py`.

It needs PyTorch and the unpacked package of mmdetection, but neither mmcv nor mmengine:

    python tests/golden/assigners/record.py FOLDER_THAT_HOLDS_MMDET

The files of the assigners run unchanged. What they import of mmengine, and of other
parts of mmdetection, are the stand-ins below: a container of attributes, a registry
that returns classes as they are, and `BboxOverlaps2D` without half precision. One more
file, `bbox_overlaps.py`, is mmdetection's own.
"""

import importlib
import importlib.util
import pathlib
import sys
import types

import numpy as np

HERE = pathlib.Path(__file__).parent
SHAPES = [(12, 16), (6, 8), (3, 4)]
STRIDES = (8, 16, 32)
SCALE = 4  # side of a square anchor in strides
IMAGE = (96, 128)


class InstanceData(types.SimpleNamespace):
    """Stands in for the class of this name of mmengine."""

    def __contains__(self, name):
        return hasattr(self, name)

    def __len__(self):
        return len(next(iter(vars(self).values())))


class Registry:
    """Stands in for a registry: classes are returned, and built by name."""

    def register_module(self):
        return lambda kind: kind

    def build(self, config):
        overlaps = sys.modules["mmdet.structures.bbox"].bbox_overlaps
        assert config["type"] == "BboxOverlaps2D"
        return lambda a, b, mode="iou": overlaps(a, b, mode)


def load_assigners(folder):
    """The assigners by the name of their file."""
    root = pathlib.Path(folder) / "mmdet"

    def stand_in(name, **attributes):
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = []
        vars(module).update(attributes)

    def read(name, path):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    nice = types.SimpleNamespace(NiceRepr=object)
    stand_in("mmengine")
    stand_in("mmengine.structures", InstanceData=InstanceData)
    stand_in("mmdet")
    stand_in("mmdet.registry", TASK_UTILS=Registry())
    stand_in("mmdet.utils", ConfigType=dict, util_mixins=nice)
    overlaps = read("overlaps", root / "structures/bbox/bbox_overlaps.py")
    boxes = {"BaseBoxes": type("BaseBoxes", (), {})}
    stand_in("mmdet.structures")
    stand_in("mmdet.structures.bbox", bbox_overlaps=overlaps.bbox_overlaps, **boxes)
    package = "mmdet.models.task_modules"
    tasks = root / "models/task_modules"
    for name in ("mmdet.models", package, f"{package}.assigners"):
        stand_in(name)
    flags = read(f"{package}.utils", tasks / "prior_generators/utils.py")
    stand_in(
        f"{package}.prior_generators", anchor_inside_flags=flags.anchor_inside_flags
    )
    names = ("assign_result", "base_assigner", "max_iou_assigner", "atss_assigner")
    names += ("task_aligned_assigner", "sim_ota_assigner", "region_assigner")
    return {
        name: read(f"{package}.assigners.{name}", tasks / f"assigners/{name}.py")
        for name in names
    }


def make_anchors():
    """One square anchor per cell, with its centre on the cell's corner."""
    levels = []
    for (height, width), stride in zip(SHAPES, STRIDES, strict=True):
        y, x = np.mgrid[:height, :width] * float(stride)
        half = SCALE * stride / 2
        corners = [x - half, y - half, x + half, y + half]
        levels.append(np.stack(corners, -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def make_scene(seed):
    """Boxes and predictions of an image, without exact ties."""
    rng = np.random.default_rng(seed)
    number = 2 + seed
    corner = rng.uniform(0, 80, (number, 2))
    sides = np.exp(rng.uniform(np.log(12), np.log(90), (number, 2)))
    boxes = np.concatenate([corner, np.minimum(corner + sides, IMAGE[::-1])], 1)
    anchors = make_anchors()
    logits = rng.normal(size=len(anchors))
    deltas = rng.normal(size=(len(anchors), 4)) * 0.15
    arrays = {"boxes": boxes, "logits": logits, "deltas": deltas}
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def decode(anchors, deltas):
    """Predicted boxes, as `DeltaXYWHBBoxCoder` decodes deltas of these sizes."""
    sides = anchors[:, 2:] - anchors[:, :2]
    center = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] * sides
    half = sides * np.exp(deltas[:, 2:]) / 2
    return np.concatenate([center - half, center + half], 1)


def record(folder):
    """Writes one file for all rules and scenes."""
    torch = importlib.import_module("torch")
    assigners = load_assigners(folder)
    tensor, anchors, out = torch.from_numpy, make_anchors(), {}
    sizes = [height * width for height, width in SHAPES]
    strides = np.repeat(STRIDES, sizes).astype(np.float32)
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    points = np.concatenate([middles, np.stack([strides] * 2, 1)], 1)
    for seed in range(4):
        scene = make_scene(seed)
        predicted = {
            "bboxes": tensor(decode(anchors, scene["deltas"])),
            "scores": tensor(1 / (1 + np.exp(-scene["logits"])))[:, None],
        }
        truth = InstanceData(
            bboxes=tensor(scene["boxes"]),
            labels=torch.zeros(len(scene["boxes"]), dtype=torch.long),
        )
        ignored = InstanceData(bboxes=truth.bboxes[:1])
        rest = InstanceData(bboxes=truth.bboxes[1:], labels=truth.labels[1:])
        plain = InstanceData(priors=tensor(anchors))
        full = InstanceData(priors=tensor(anchors), **predicted)
        located = InstanceData(priors=tensor(points), **predicted)
        flagged = InstanceData(
            priors=tensor(anchors), valid_flags=torch.ones(len(anchors)).bool()
        )
        atss = assigners["atss_assigner"].ATSSAssigner
        task = assigners["task_aligned_assigner"].TaskAlignedAssigner
        ota = assigners["sim_ota_assigner"].SimOTAAssigner
        region = assigners["region_assigner"].RegionAssigner
        overlap = assigners["max_iou_assigner"].MaxIoUAssigner
        oln = overlap(pos_iou_thr=0.3, neg_iou_thr=0.1, min_pos_iou=0.3)
        found = {
            "atss": atss(topk=9).assign(plain, sizes, truth),
            "atss_ignored": atss(topk=4, ignore_iof_thr=0.5).assign(
                plain, sizes, rest, ignored
            ),
            "task_aligned": task(topk=13).assign(full, truth),
            "sim_ota": ota().assign(located, truth),
            "region": region().assign(
                flagged, truth, {"img_shape": IMAGE}, SHAPES, sizes, SCALE, STRIDES
            ),
            "centerness": oln.assign(plain, truth),
        }
        for name, value in scene.items():
            out[f"{seed}/{name}"] = value
        for name, result in found.items():
            out[f"{seed}/{name}"] = result.gt_inds.numpy().astype(np.int16)
    np.savez_compressed(HERE / "mmdetection.npz", **out)


if __name__ == "__main__":
    record(sys.argv[1])
