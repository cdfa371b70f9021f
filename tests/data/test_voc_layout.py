"""The layouts of real VOC sets, their splits, and pixels that count from 0."""

import pytest
from support import data_files
from support.data_files import coco_record, coco_set, voc_set, voc_xml

from rpn_jax.data import Problem, read_voc, voc_splits

BOX = (11, 6, 20, 30)


def write(root, *paths):
    """Writes XML files and images, by their paths."""
    for path in paths:
        if path.lower().endswith(".xml"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(voc_xml(BOX))
        else:
            data_files.save(root / path, data_files.noise(40, 60))
    return root


def names(source):
    return [source.truth(row).name for row in range(len(source))]


@pytest.mark.parametrize(
    "paths",
    [
        ("annots/a.xml", "images/a.png"),
        ("Annotations/a.XML", "JPEGImages/a.png"),
        ("Annotations/deep/a.xml", "JPEGImages/deep/a.png"),
        ("Annotations/deep/a.xml", "JPEGImages/a.png"),
        ("Annotations/a.xml", "JPEGImages/deep/a.png"),
        ("xmls/a.xml", "imgs/a.png"),
        ("labels/a.xml", "photos/a.png"),
        ("anything/a.xml", "else/a.png"),
        ("a.xml", "a.png"),
        ("a.xml", "photos/a.png"),
        ("train/a.xml", "train/a.png"),
        ("train/annotations/a.xml", "train/images/a.png"),
        ("annotations/train/a.xml", "images/train/a.png"),
        ("VOC2007/Annotations/a.xml", "VOC2007/JPEGImages/a.png"),
        ("set/set/train/a.xml", "set/set/train/a.png"),
    ],
)
@pytest.mark.parametrize("more", ["", "__MACOSX/._a.xml", ".git/x.xml"])
def test_the_layouts_of_real_sets_are_found(tmp_path, paths, more):
    source = read_voc(write(tmp_path / "set", *paths, *([more] if more else [])))
    assert len(source) == 1
    assert source.truth(0).boxes.tolist() == [[10, 5, 20, 30]]
    assert set(source.problems.counts) <= {Problem.MOVED_FILE}


def test_the_folder_of_xml_may_be_given_with_images_beside_it(tmp_path):
    root = write(tmp_path, "set/xml/a.xml", "set/pictures/a.png", "set/pictures/b.png")
    with pytest.raises(ValueError, match="Name their folder with `images`") as error:
        read_voc(root / "set/xml")
    assert f"Images were seen in {root}/set/pictures (2)" in str(error.value)
    assert len(read_voc(root / "set/xml", images=root / "set/pictures")) == 1


@pytest.mark.parametrize(
    "form",
    ["{}/a.xml {}/a.png", "{}/xml/a.xml {}/images/a.png", "ann/{}/a.xml im/{}/a.png"],
)
def test_folders_are_splits_where_there_are_no_lists(tmp_path, form):
    form = form.replace("ann/", "annotations/").replace("im/", "images/")
    x0 = {"train": 11, "valid": 12, "test": 13}
    for split in x0:
        xml, image = form.replace("{}", split).split()
        write(tmp_path, xml, image)
        (tmp_path / xml).write_text(voc_xml((x0[split], 6, 20, 30)))
    assert voc_splits(tmp_path) == ("test", "train", "valid")
    for split in x0:
        source = read_voc(tmp_path, split)
        assert source.truth(0).boxes.tolist() == [[x0[split] - 1, 5, 20, 30]]
        assert not source.problems.counts
    assert len(read_voc(tmp_path)) == 3
    with pytest.raises(ValueError, match="one of the splits test, train, valid"):
        read_voc(tmp_path, "val")


def test_equal_names_in_two_folders_keep_their_own_boxes(tmp_path):
    write(tmp_path, "train/a.png", "valid/a.png")
    (tmp_path / "train/a.xml").write_text(voc_xml((2, 2, 9, 9)))
    (tmp_path / "valid/a.xml").write_text(voc_xml((3, 3, 8, 8)))
    source = read_voc(tmp_path)
    assert names(source) == ["train/a.png", "valid/a.png"]
    assert source.truth(0).boxes.tolist() == [[1, 1, 9, 9]]
    assert source.truth(1).boxes.tolist() == [[2, 2, 8, 8]]


def test_two_xml_files_of_one_name_do_not_share_one_image(tmp_path):
    write(tmp_path, "Annotations/x/a.xml", "Annotations/y/a.xml", "images/a.png")
    write(tmp_path, "Annotations/b.xml", "images/b.png")
    source = read_voc(tmp_path)
    assert names(source) == ["b.png"]
    assert source.problems.lost_boxes == {Problem.SHARED_FILE: 2}


def test_an_outdated_name_in_the_xml_does_not_take_the_image_of_another(tmp_path):
    write(tmp_path, "a.png")
    for stem in ("a", "b", "c"):
        (tmp_path / f"{stem}.xml").write_text(voc_xml(BOX, filename="a.png"))
    source = read_voc(tmp_path)
    assert names(source) == ["a.png"]
    assert source.problems.lost_boxes == {Problem.MISSING_FILE: 2}


@pytest.mark.parametrize(
    "line", ["a", "a.png", "JPEGImages/a.png", "/data/set/a.jpg", "a.xml", "a 1"]
)
def test_lists_may_hold_names_of_files_and_whole_paths(tmp_path, line):
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX)}, split=f"{line}\n")
    assert names(read_voc(folder, "train")) == ["a.png"]


def test_a_name_with_dots_is_not_taken_for_another(tmp_path):
    files = {f"frame.{i}.png": voc_xml(BOX) for i in (1, 2)}
    folder = voc_set(tmp_path, files, split="frame.2\nframe.3\n")
    source = read_voc(folder, "train")
    assert names(source) == ["frame.2.png"]
    assert source.problems.counts == {Problem.MISSING_XML: 1}


def test_an_image_without_xml_is_missing_and_not_damaged(tmp_path):
    root = write(tmp_path, "a.xml", "a.png", "b.png")
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    assert read_voc(root, "train").problems.counts == {Problem.MISSING_XML: 1}


@pytest.mark.parametrize("lines", ["\n \n", "\u3000\n\xa0\n"])
def test_an_empty_list_says_so(tmp_path, lines):
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX)}, split=lines)
    with pytest.raises(ValueError, match="got an empty list"):
        read_voc(folder, "train")


def test_a_list_that_git_lfs_has_not_fetched_says_how_to_fetch_it(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX)}, split=pointer)
    with pytest.raises(ValueError, match=r"train\.txt\. Fetch .* `git lfs pull`"):
        read_voc(folder, "train")


def test_a_folder_with_a_coco_file_says_to_name_the_file(tmp_path):
    path = coco_set(tmp_path / "coco", [coco_record(1, [1, 1, 9, 9])])
    with pytest.raises(ValueError, match="name it instead of the folder") as error:
        read_voc(tmp_path / "coco")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("boxes", "first"),
    [
        ([(0, 5, 20, 30), (10, 0, 20, 30)], [0, 5, 20, 30]),
        ([(0, 0, 60, 40)], [0, 0, 60, 40]),
        ([("0.25", 5, 20, 30)], [0.25, 5, 20, 30]),
        # A mistake among boxes that count from 1.
        ([(1, 5, 20, 30), (0, 9, 20, 30), (5, 1, 20, 30)], [0, 4, 20, 30]),
        ([(2, 5, 20, 30)], [1, 4, 20, 30]),
    ],
)
def test_boxes_that_count_from_zero_are_not_beyond_the_image(tmp_path, boxes, first):
    source = read_voc(voc_set(tmp_path, {"a.png": voc_xml(*boxes)}))
    assert source.truth(0).boxes.tolist()[0] == first
    is_zero_based = first == [float(number) for number in boxes[0]]
    counts = {Problem.ZERO_BASED: len(boxes)}
    if not is_zero_based:
        counts = {Problem.CLIPPED_BOX: 1} if len(boxes) > 1 else {}
    assert source.problems.counts == counts


def test_all_splits_of_a_set_count_pixels_alike(tmp_path):
    files = {"a.png": voc_xml((0, 5, 20, 30)), "b.png": voc_xml((5, 5, 20, 30))}
    source = read_voc(voc_set(tmp_path, files, split="b"), "train")
    assert source.truth(0).boxes.tolist() == [[5, 5, 20, 30]]
    assert source.problems.counts == {Problem.ZERO_BASED: 1}
