"""Objects of some categories: in training, in evaluation, and in every form of data."""

import json

import numpy as np
import pytest
from support.data_files import coco_record, coco_set, voc_set, voc_xml, yolo_set

from rpn_jax.data import (
    Scenes,
    check_categories,
    only_evaluated,
    only_seen,
    open_source,
    split_categories,
)
from rpn_jax.train import TrainConfig, open_sources

# The boxes of a cat, a dog and a bird, in images a.png and b.png; c.png has none.
CAT, DOG, BIRD = [5, 5, 15, 15], [20, 5, 30, 25], [40, 20, 55, 35]
IMAGES = {"a.png": {"cat": CAT, "dog": DOG}, "b.png": {"dog": BIRD}, "c.png": {}}


def coco(folder):
    ids = {"cat": 3, "dog": 7, "bird": 9}
    records = [
        coco_record(i, [x, y, u - x, v - y], category_id=ids[name])
        for i, boxes in enumerate(IMAGES.values(), start=1)
        for name, (x, y, u, v) in boxes.items()
    ]
    path = coco_set(folder, records, names=tuple(IMAGES))
    content = json.loads(path.read_text())
    content["categories"] = [{"id": i, "name": name} for name, i in ids.items()]
    path.write_text(json.dumps(content))
    return path


def voc(folder):
    files = {}
    for image, boxes in IMAGES.items():
        xml = voc_xml(*((x + 1, y + 1, u, v) for x, y, u, v in boxes.values()))
        for name in boxes:
            xml = xml.replace("<name>thing<", f"<name>{name}<", 1)
        files[image] = xml
    return voc_set(folder, files)


def yolo(folder):
    labels = {
        image: "".join(
            f"{['cat', 'dog'].index(name)} {(x + u) / 120} {(y + v) / 80} "
            f"{(u - x) / 60} {(v - y) / 40}\n"
            for name, (x, y, u, v) in boxes.items()
        )
        for image, boxes in IMAGES.items()
    }
    return yolo_set(folder, labels, content="{train: images, names: [cat, dog, bird]}")


def split_of(source, train, test=None):
    split = split_categories(source.categories, train, test)
    assert split is not None
    return split


def kinds_of(truth):
    assert truth.categories is not None
    return truth.categories.tolist()


def boxes_of(source):
    """The objects and the ignored regions of every image, by its name."""
    found = {}
    for truth in map(source.truth, range(len(source))):
        groups = (truth.boxes[~truth.is_ignored], truth.boxes[truth.is_ignored])
        name = truth.name.rpartition("/")[2]
        found[name] = tuple(np.rint(boxes).astype(int).tolist() for boxes in groups)
    return found


@pytest.mark.parametrize("write", [coco, voc, yolo])
def test_all_forms_of_data_have_categories(tmp_path, write):
    source = open_source(write(tmp_path))
    split = split_of(source, ("cat",))
    assert {source.categories[number] for number in split.seen} == {"cat"}
    assert "dog" in {source.categories[number] for number in split.unseen}
    # As in OLN, b.png is left out, and c.png stays as background.
    seen = only_seen(source, split, "background")
    assert boxes_of(seen) == {"a.png": ([CAT], []), "c.png": ([], [])}
    seen = only_seen(source, split, "ignored")
    assert boxes_of(seen) == {"a.png": ([CAT], [DOG]), "c.png": ([], [])}
    split = split_of(source, None, ("cat",))
    assert boxes_of(only_seen(source, split, "background")) == {
        "a.png": ([DOG], []),
        "b.png": ([BIRD], []),
        "c.png": ([], []),
    }
    split = split_of(source, ("bird",), ("dog",))
    assert boxes_of(only_evaluated(source, split)) == {
        "a.png": ([DOG], [CAT]),
        "b.png": ([BIRD], []),
        "c.png": ([], []),
    }


def test_categories_are_named_or_numbered():
    source = Scenes()
    source.categories = categories = {0: "zero", 1: "Cat", 2: "3", 3: "dog", 4: "dog"}
    wanted = {"cat": {1}, "3": {2}, "0": {0}, "dog": {3, 4}, "x": {}}
    for text, numbers in wanted.items():
        assert split_of(source, (text,)).seen == set(numbers)
    assert split_categories(categories, None, None) is None
    with pytest.raises(ValueError, match="share no category, got Cat in both"):
        split_categories(categories, ("Cat", "0"), ("1",))


def test_a_category_that_is_nowhere_is_refused(tmp_path):
    source = open_source(coco(tmp_path))
    check_categories(("cat", "7"), [source, Scenes()])
    with pytest.raises(ValueError, match=r"got 'cow'\. Choose one of cat, dog, bird"):
        check_categories(("dog", "cow"), [source])
    with pytest.raises(ValueError, match=r"Choose data that has any"):
        check_categories(("cow",), [])
    split = split_of(source, ("bird",))
    with pytest.raises(ValueError, match=r"one of \['bird'\], got none in 3 images"):
        only_seen(source, split, "background")


def test_shapes_are_the_categories_of_scenes():
    config = TrainConfig(train_categories=("star", "ellipse"))
    train, val = open_sources(config)
    whole = Scenes(config.seed)
    kept = 0
    for row in range(8):
        truth, of_all = train.truth(row), whole.truth(row)
        names = [train.categories[kind] for kind in kinds_of(of_all)]
        is_kept = np.array([name in ("star", "ellipse") for name in names], bool)
        np.testing.assert_array_equal(truth.boxes, of_all.boxes[is_kept])
        kept += int(is_kept.sum())
    assert 0 < kept < 60
    assert sum(len(val.truth(row).boxes) for row in range(8)) > 30
    with pytest.raises(ValueError, match="triangle, rectangle, polygon, star, ellipse"):
        open_sources(TrainConfig(test_categories=("circle",)))


def test_an_ellipse_fills_less_of_its_box_than_a_rectangle():
    """The kinds are those that are drawn: their shares of the box differ."""
    scenes, shares = Scenes(0), {}
    for truth in map(scenes.truth, range(40)):
        sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
        shares_of = truth.areas / sides.prod(axis=1)
        for kind, share in zip(kinds_of(truth), shares_of, strict=True):
            shares.setdefault(scenes.categories[kind], []).append(share)
    assert set(shares) == set(scenes.categories.values())
    medians = {name: np.median(values) for name, values in shares.items()}
    assert medians["star"] < medians["triangle"] + 0.1 < medians["ellipse"]
    assert max(shares["rectangle"]) > 0.99
    assert max(shares["ellipse"]) < 0.85
