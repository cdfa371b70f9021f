"""The layouts of real YOLO sets, their `data.yaml`, and how data is recognized."""

import pathlib

import pytest
from support import data_files
from support.data_files import coco_record, coco_set, voc_set, voc_xml, yolo_set

from rpn_jax.data import Problem, data_splits, open_source, read_yolo, yolo_splits

LINE = "0 0.5 0.5 0.5 0.5"


def write(root, *paths, content=None):
    """Writes labels and images by their paths, and a `data.yaml`."""
    for path in paths:
        if pathlib.Path(path).suffix == ".txt":
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(LINE)
        else:
            data_files.save(root / path, data_files.noise(40, 60))
    if content is not None:
        (root / "data.yaml").write_text(content)
    return root


def names(source):
    return [source.truth(row).name for row in range(len(source))]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        # The layouts of Ultralytics, Roboflow, darknet and CVAT.
        ("images/{0}/a.png labels/{0}/a.txt", "{train: images/train, val: images/val}"),
        ("images/{0}/a.png labels/{0}/a.txt", "{path: ., train: [images/train]}"),
        ("images/{0}/a.png labels/{0}/a.txt", "{path: gone, train: images/train}"),
        ("images/{0}/a.png labels/{0}/a.txt", r"{path: C:\set, train: images\train}"),
        ("images/{0}/a.png labels/{0}/a.txt", None),
        ("{0}/images/a.png {0}/labels/a.txt", "{train: ../train/images}"),
        ("{0}/images/a.png {0}/labels/a.txt", "{train: /content/set/train/images}"),
        ("{0}/images/a.png {0}/labels/a.txt", "{train: train}"),
        ("{0}/images/a.png {0}/labels/a.txt", None),
        ("{0}/a.png {0}/a.txt", "{train: ./train/}"),
        ("{0}/a.png {0}/a.txt", None),
        ("set/images/{0}/a.png set/labels/{0}/a.txt", None),
        (
            "set/images/{0}/a.png set/labels/{0}/a.txt",
            "{path: set, train: images/train}",
        ),
        ("JPEGImages/{0}/a.png labels/{0}/a.txt", "{train: JPEGImages/train}"),
    ],
)
def test_the_layouts_of_real_sets_are_found(tmp_path, form, content):
    for split in ("train", "val"):
        write(tmp_path, *form.format(split).split(), content=content)
    assert "train" in data_splits(tmp_path)
    source = open_source(tmp_path, split="train")
    (name,) = names(source)
    assert "train" in name
    assert source.truth(0).boxes.tolist() == [[15, 10, 45, 30]]
    assert set(source.problems.counts) <= {Problem.OTHER_PATH}
    if content is not None:
        assert names(open_source(tmp_path / "data.yaml", split="train")) == [name]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{train: train.txt}", "./images/a.png"),
        ("{train: train.txt}", "images/a.png"),
        ("{train: train.txt}", "  images\\a.png\r"),
        ("{train: train.txt}", "data/obj/images/a.png"),
        ("{train: train.txt}", "/home/other/set/images/a.jpg"),
        ("{train: [train.txt, train.txt]}", "FOLDER/images/a.png"),
        ("{path: .., train: FOLDER/train.txt}", "images/a.png"),
        (None, "images/a.png"),
    ],
)
def test_lists_hold_paths_of_many_kinds(tmp_path, content, line):
    write(tmp_path, "images/a.png", "labels/a.txt", "images/b.png", "labels/b.txt")
    content = content and content.replace("FOLDER", str(tmp_path))
    write(tmp_path, content=content)
    line = line.replace("FOLDER", str(tmp_path))
    (tmp_path / "train.txt").write_bytes(f"\ufeff{line}\n\n{line}\n".encode())
    source = read_yolo(tmp_path, "train")
    (name,) = names(source)
    assert name.endswith("images/a.png")
    assert source.problems.counts[Problem.REPEATED_IMAGE] >= 1
    assert source.problems.lost_boxes.total() == 0


def test_names_in_lists_that_are_not_utf8_are_kept(tmp_path):
    folder = yolo_set(tmp_path, {"a.png": LINE}, content="train: list.txt")
    for place, suffix in (("images", ".png"), ("labels", ".txt")):
        path = folder / place / f"a{suffix}"
        path.rename(path.with_name(b"\xe4".decode(errors="surrogateescape") + suffix))
    (folder / "list.txt").write_bytes(b"images/\xe4.png\n")
    assert open_source(folder).num_boxes.tolist() == [1]


def test_names_in_lists_cannot_lead_out_of_the_folder(tmp_path):
    write(tmp_path, "images/x.png", "labels/x.txt")
    folder = write(tmp_path / "set", "images/a.png", "labels/a.txt")
    lines = [
        "images/a.png",
        "../images/x.png",
        str(tmp_path / "images/x.png"),
        "no.png",
    ]
    (folder / "train.txt").write_text("\n".join([*lines, "https://a.b/c.png"]))
    source = read_yolo(folder, "train")
    assert names(source) == ["images/a.png"]
    assert source.problems.counts == {
        Problem.OUTSIDE_FOLDER: 2,
        Problem.MISSING_FILE: 1,
        Problem.URL_NAME: 1,
    }


def test_folders_of_images_may_be_links_and_lie_elsewhere(tmp_path):
    write(tmp_path / "store", "a.png")
    folder = write(tmp_path / "set", "labels/a.txt", content="train: images")
    (folder / "images").symlink_to(tmp_path / "store")
    assert read_yolo(folder).num_boxes.tolist() == [1]
    content = f"train: [{folder}/images, ../more/images]"
    other = yolo_set(tmp_path / "other", {"a.png": LINE}, content=content)
    write(tmp_path / "more", "images/b.png", "labels/b.txt")
    source = read_yolo(other)
    assert sorted(names(source)) == ["more/images/b.png", "store/a.png"]
    assert source.num_boxes.tolist() == [1, 1]
    assert read_yolo(other, images=folder).num_boxes.tolist() == [1, 1]


def test_a_data_yaml_in_capitals_is_not_passed_by(tmp_path):
    write(tmp_path / "set", "images/a.png", "labels/a.txt")
    (tmp_path / "DATA.YAML").write_text("train: set/images")
    assert yolo_splits(tmp_path) == ("train",)


def test_splits_that_are_missing_or_the_same_are_said(tmp_path):
    content = "{train: images, val: images, test: gone, nc: 2, names: [a], download: x}"
    folder = yolo_set(tmp_path, {"a.png": LINE}, content=content)
    assert yolo_splits(folder) == ("train", "val")
    assert set(read_yolo(folder, "val").problems.counts) == {
        Problem.MISSING_SPLIT,
        Problem.SAME_SPLIT,
        Problem.DOWNLOAD,
        Problem.OTHER_COUNT,
    }
    with pytest.raises(ValueError, match=r"one of the splits train, val of .*'test'"):
        read_yolo(folder, "test")


@pytest.mark.parametrize(
    ("names", "unknown"),
    [
        ("names: [cat, no]", 1),
        ("names: {0: cat, 1: no}", 1),
        ("names: {cat: 0, no: 1}", 1),
        ("names: {'0': cat, 7: no}", 0),
        ("nc: 2", 1),
        ("names: cat", 1),
        ("names: []", 0),
        ("nc: many", 0),
    ],
)
def test_names_may_be_a_list_or_a_dictionary(tmp_path, names, unknown):
    text = f"{LINE}\n7 0.2 0.2 0.2 0.2"
    folder = yolo_set(tmp_path, {"a.png": text}, content=f"train: images\n{names}\n")
    assert read_yolo(folder).problems.counts[Problem.UNKNOWN_CLASS] == unknown


@pytest.mark.parametrize(
    "content",
    [
        "train: [images",
        "!!python/object/apply:os.system ['touch /tmp/x']",
        "train: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\ntrain: images",
        "[" * 3000,
        "just text",
        "{nc: 3}",
        "\n",
        "train: images\n" + "#" * 2**20,
        "\0\x01",
    ],
)
def test_a_yaml_that_is_damaged_or_dangerous_is_refused_in_one_line(tmp_path, content):
    folder = yolo_set(tmp_path, {"a.png": LINE}, content=content)
    with pytest.raises(ValueError, match="read_yolo needs a") as error:
        open_source(folder)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "content", ["train: gone", "train: /nowhere/x", "train: [a, b]"]
)
def test_a_yaml_whose_folders_are_gone_names_them(tmp_path, content):
    folder = yolo_set(tmp_path, {"a.png": LINE}, content=content)
    with pytest.raises(
        ValueError, match=r"needs the folders or lists of .*got none of"
    ):
        read_yolo(folder)
    (folder / "gone").mkdir()
    write(folder, content="train: gone")
    with pytest.raises(ValueError, match=rf"Images were seen in {folder}/images \(1\)"):
        read_yolo(folder)


def test_data_is_recognized_by_its_content(tmp_path):
    yolo = yolo_set(tmp_path / "yolo", {"a.png": LINE}, content="")
    assert names(open_source(yolo)) == ["images/a.png"]
    (yolo / "coco.cfg").write_text("train: images\nnames: [a]\n")
    assert names(open_source(yolo / "coco.cfg")) == ["images/a.png"]
    voc = voc_set(tmp_path / "voc", {"b.png": voc_xml((1, 1, 9, 9))})
    (voc / "JPEGImages/b.txt").write_text("a note beside the image")
    assert names(open_source(voc)) == ["b.png"]
    coco = coco_set(tmp_path / "coco", [coco_record(1, [1, 1, 9, 9])])
    assert names(open_source(coco)) == ["a.png"]
    # XML and a `data.yaml` in one folder: the file says what to read.
    data_files.save(voc / "images/c.png", data_files.noise(40, 60))
    write(voc, "labels/c.txt", content="train: images")
    assert names(open_source(voc)) == ["images/c.png"]
    assert names(open_source(voc / "Annotations")) == ["b.png"]


def test_of_several_files_that_describe_a_set_one_has_to_be_named(tmp_path):
    folder = yolo_set(tmp_path, {"a.png": LINE}, content="")
    for name in ("a.yaml", "b.yml"):
        (folder / name).write_text("train: images")
    (folder / "other.yaml").write_text("learning_rate: 0.1")
    with pytest.raises(ValueError, match=r"got a\.yaml, b\.yml\. Name one of them"):
        open_source(folder)
    assert len(open_source(folder / "b.yml")) == 1
