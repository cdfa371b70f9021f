"""XML of strangers: encodings, namespaces, case, number formats, other formats."""

import pytest
from support import data_files
from support.data_files import voc_set, voc_xml

from rpn_jax.data import Problem, open_source, read_voc

BOX = (11, 6, 20, 30)  # `KEPT` in VOC's convention
KEPT = [10.0, 5.0, 20.0, 30.0]


def read(folder, content, name="a.png"):
    """The first boxes of a set of one XML, and what the reader met."""
    folder = voc_set(folder, {name: voc_xml(BOX)})
    (folder / f"Annotations/{name[:-4]}.xml").write_bytes(content)
    source = read_voc(folder)
    return source.truth(0).boxes.tolist(), source.problems.counts


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("GB2312", "gb18030"),
        ("gbk", "gbk"),
        ("Big5", "big5"),
        ("Shift_JIS", "cp932"),
        ("utf-16", "utf-16"),
        ("UTF8", "utf-8"),
        ("utf-16", "utf-8"),
        ("ISO-8859-1", "utf-8"),
        (None, "utf-8-sig"),
    ],
)
def test_xml_in_any_declared_encoding_is_read(tmp_path, declared, written):
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    xml = head + voc_xml(BOX, filename="\u6c34.png")
    assert read(tmp_path, xml.encode(written)) == ([KEPT], {})


@pytest.mark.parametrize("written", ["latin-1", "gbk", "cp932"])
@pytest.mark.parametrize("head", ["", '<?xml version="1.0" encoding="utf-8"?>\n'])
def test_xml_in_an_undeclared_encoding_is_read_and_said(tmp_path, written, head):
    name = "café.png" if written == "latin-1" else "\u753b\u50cf.png"
    xml = (head + voc_xml(BOX, filename=name)).encode(written)
    assert read(tmp_path, xml) == ([KEPT], {Problem.UNKNOWN_ENCODING: 1})


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace("<annotation>", '<annotation xmlns="http://x.org/v">'),
        lambda xml: xml.replace("annotation>", "Annotation>"),
        lambda xml: xml.upper().replace("A.PNG", "a.png"),
        lambda xml: xml.replace("bndbox>", "BndBox>"),
        lambda xml: "<!DOCTYPE annotation>" + xml,
        lambda xml: '<!DOCTYPE annotation SYSTEM "voc.dtd">' + xml,
        lambda xml: f"\n\n<?xml version='1.0'?>\n{xml}",
        lambda xml: f"<annotations>{xml}</annotations>",
        lambda xml: xml.replace("<object>", "<objects><object>").replace(
            "</object>", "</object></objects>"
        ),
        lambda xml: xml.replace("11<", "11,0<").replace("6<", "6,0<"),
        lambda xml: xml.replace("11<", " 11 <"),
    ],
)
def test_other_forms_of_the_same_xml_give_the_same_boxes(tmp_path, change):
    assert read(tmp_path, change(voc_xml(BOX)).encode()) == ([KEPT], {})


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (("11,5", "6,25", "20,0", "30,0"), [10.5, 5.25, 20.0, 30.0]),
        (("2,500", "3,250", "20,125", "30,750"), [1.5, 2.25, 20.125, 30.75]),
        (("11,5", "6", "20", "30"), [10.5, 5, 20, 30]),
        (("987", "6", "1,234", "30"), None),  # a thousand, or one and a bit
    ],
)
def test_decimal_commas_are_read_unless_they_may_separate_thousands(
    tmp_path, box, expected
):
    boxes, counts = read(tmp_path, voc_xml(box, BOX).encode())
    assert boxes == ([KEPT] if expected is None else [expected, KEPT])
    assert counts.get(Problem.BAD_BOX, 0) == int(expected is None)


@pytest.mark.parametrize("value", ["1", "true", "True", " yes ", "1.0"])
def test_a_difficult_object_may_be_marked_in_words(tmp_path, value):
    files = {
        "a.png": voc_xml(BOX, extra=f"<difficult>{value}</difficult>"),
        "b.png": voc_xml(BOX, extra="<difficult>false</difficult>"),
    }
    source = read_voc(voc_set(tmp_path, files))
    assert source.truth(0).is_ignored.tolist() == [True]
    assert source.truth(1).is_ignored.tolist() == [False]


CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.png" width="60" '
    'height="40"><box label="x" xtl="1" ytl="2" xbr="9" ybr="9"/></image></annotations>'
)
DLIB = (
    "<dataset><images><image file='a.png'><box top='1' left='1' width='9' height='9'/>"
    "</image></images></dataset>"
)


@pytest.mark.parametrize(
    "xml", [CVAT, DLIB, f"<annotations>{voc_xml(BOX)}{voc_xml(BOX)}</annotations>"]
)
def test_one_xml_for_many_images_gets_a_message_of_its_own(tmp_path, xml):
    with pytest.raises(ValueError, match="export the data as PASCAL VOC") as error:
        read(tmp_path / "alone", xml.encode())
    assert "1 x XML describes many images" in str(error.value)
    files = {"a.png": xml, "b.png": voc_xml(BOX)}
    source = read_voc(voc_set(tmp_path / "among", files))
    assert source.problems.counts == {Problem.MANY_IMAGES: 1}
    assert sum(source.problems.lost_boxes.values()) in (1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CVAT, "it is XML; name the folder"),
        ("PK\3\4 and more", "it is an archive; unpack it"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_not_json_is_recognized(tmp_path, content, message):
    path = data_files.write_json(tmp_path / "set.json", content)
    with pytest.raises(ValueError, match=message):
        open_source(path)


def test_a_pointer_of_git_lfs_is_recognized_in_place_of_xml_and_images(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    files = {"a.png": voc_xml(BOX), "b.png": pointer, "c.png": voc_xml(BOX)}
    folder = voc_set(tmp_path, files)
    (folder / "JPEGImages/c.png").write_text(pointer)
    source = read_voc(folder)
    assert source.problems.counts == {Problem.LFS_POINTER: 2}
    (folder / "JPEGImages/a.png").write_text(pointer)
    with pytest.raises(ValueError, match="Fetch the files with `git lfs pull`"):
        read_voc(folder)
