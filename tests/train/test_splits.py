"""Which images a run trains on, evaluates on, and leaves alone; the log says so."""

import logging

import pytest
from support.data_files import coco_record, coco_set, voc_set, voc_xml

from rpn_jax.train import TrainConfig, open_sources

BOX = (11, 6, 20, 30)
NAMES = tuple("abcdefghij")


def tree(folder, **lists):
    """A VOC tree of ten images, and lists of their names."""
    files = {f"{name}.png": voc_xml(BOX) for name in NAMES}
    voc_set(folder, files)
    places = folder / "ImageSets" / "Main"
    places.mkdir(parents=True)
    for split, names in lists.items():
        (places / f"{split}.txt").write_text("\n".join(names))
    return folder


def names_of(source):
    return {source.truth(row).name[:-4] for row in range(len(source))}


def opened(caplog, data, **options):
    """The names of both parts, and the line of the log about them."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "rpn_jax"):
        sources = open_sources(TrainConfig(data=str(data), **options))
    (line,) = caplog.messages
    return *map(names_of, sources), line


def test_lists_of_both_parts_are_used_and_said(tmp_path, caplog):
    folder = tree(tmp_path, train="abcdef", val="gh", test="ij", trainval="abcdefgh")
    train, val, line = opened(caplog, folder)
    assert (train, val) == (set("abcdef"), set("gh"))
    assert "6 images of the split train" in line
    assert "2 images of the split val" in line
    assert line.endswith("Not used: test, trainval.")


def test_test_images_are_not_trained_on_without_a_list_train(tmp_path, caplog):
    train, val, line = opened(caplog, tree(tmp_path, trainval="abcdefgh", test="ij"))
    assert train | val == set("abcdefgh")
    assert len(val) == 1
    assert "1 of the 8 images of the split trainval" in line
    assert "a tenth, are set aside" in line
    assert line.endswith("Not used: test.")


def test_images_that_both_parts_use_are_counted(tmp_path, caplog):
    folder = tree(tmp_path, train="abcdef", val="fgh")
    *_, line = opened(caplog, folder)
    assert line.endswith(" Images in both: 1, so recall is too high.")


@pytest.mark.parametrize("options", [{}, {"split": "trainval"}])
def test_nobody_is_evaluated_on_images_that_trainval_holds(tmp_path, caplog, options):
    folder = tree(tmp_path, trainval="abcdefgh", val="gh")
    train, val, _ = opened(caplog, folder, **options)
    assert train | val == set("abcdefgh")
    assert not train & val


def test_a_choice_of_lists_is_followed(tmp_path, caplog):
    folder = tree(tmp_path, trainval="abcdefgh", test="ij")
    train, val, _ = opened(caplog, folder, split="trainval", val_split="test")
    assert (train, val) == (set("abcdefgh"), set("ij"))


def test_one_list_for_both_is_followed_and_said(tmp_path, caplog):
    folder = tree(tmp_path, train="abcdefgh")
    train, val, line = opened(caplog, folder, split="train", val_split="train")
    assert train == val == set("abcdefgh")
    assert "8 images" in line


@pytest.mark.parametrize("lists", [{"test": "ij"}, {"val": "ab"}, {"p": "a", "q": "b"}])
def test_lists_of_which_none_is_to_train_on_ask_for_a_choice(tmp_path, lists):
    folder = tree(tmp_path, **lists)
    with pytest.raises(ValueError, match=f"Choose it with --split: .*{min(lists)}"):
        open_sources(TrainConfig(data=str(folder)))


def test_a_single_list_of_another_name_holds_the_images(tmp_path, caplog):
    train, val, line = opened(caplog, tree(tmp_path, default="abcde"))
    assert train | val == set("abcde")
    assert "the split default" in line


@pytest.mark.parametrize("val_name", ["val", "valid", "Validation"])
def test_folders_are_used_like_lists(tmp_path, caplog, val_name):
    for split in ("train", val_name):
        folder = voc_set(tmp_path / "own", {f"{split}.png": voc_xml(BOX)})
        (tmp_path / "set" / split).mkdir(parents=True)
        for file in (*folder.glob("*/*.png"), *folder.glob("*/*.xml")):
            file.rename(tmp_path / "set" / split / file.name)
    train, val, _ = opened(caplog, tmp_path / "set")
    assert (train, val) == ({"train/train"}, {f"{val_name}/{val_name}"})


def test_data_that_is_named_for_validation_uses_its_own_part(tmp_path, caplog):
    train_folder = tree(tmp_path / "one", train="abc")
    val_folder = tree(tmp_path / "two", train="abcde", test="fg")
    train, val, line = opened(caplog, train_folder, val_data=str(val_folder))
    assert (train, val) == (set("abc"), set("fg"))
    assert "the split test of" in line


def test_a_coco_file_sets_a_tenth_aside_and_says_so(tmp_path, caplog):
    names = tuple(f"{name}.png" for name in NAMES)
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 9, 9])], names=names)
    train, val, line = opened(caplog, path)
    assert (len(train), len(val)) == (9, 1)
    assert "1 of the 10 images of" in line
    assert "Not used" not in line


def test_a_set_of_one_image_says_to_name_validation_data(tmp_path):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 9, 9])])
    with pytest.raises(ValueError, match="got 1 in .* with --val-data"):
        open_sources(TrainConfig(data=str(path)))
    same = open_sources(TrainConfig(data=str(path), val_data=str(path)))
    assert list(map(len, same)) == [1, 1]


def test_scenes_need_no_word_about_parts(caplog):
    with caplog.at_level(logging.INFO, "rpn_jax"):
        sources = open_sources(TrainConfig(data="scenes"))
    assert len(sources.val) == 200
    assert not caplog.messages
