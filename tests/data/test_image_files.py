"""Image files of every kind, and file names that lead out of the folder."""

import importlib.util
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps
from support import data_files

from rpn_jax.data import ImageError, Problem, image_files
from rpn_jax.data.image_files import Header, decode_image, open_image, read_headers
from rpn_jax.data.image_folder import ImageFolder


def header_of(path):
    (header,) = read_headers([path])
    assert isinstance(header, Header), header
    return header


def decode(path):
    return decode_image(path, header_of(path))


def refusal(path):
    (problem,) = read_headers([path])
    return problem


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_turns_size_and_pixels_upright(
    tmp_path, orientation, extension
):
    path = tmp_path / f"a.{extension}"
    data_files.save_turned(path, data_files.smooth(20, 32), orientation)
    header = header_of(path)
    assert header.size == (20, 32)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode_image(path, header).pixels, expected)
    difference = expected.astype(int) - data_files.smooth(20, 32)
    assert np.abs(difference).mean() < 12  # the file holds the image that was saved


def test_bytes_decide_the_format_whatever_the_name_says(tmp_path):
    pixels = data_files.noise(9, 12)
    path = data_files.save(tmp_path / "photo.jpg", pixels, format="PNG")
    np.testing.assert_array_equal(decode(path).pixels, pixels)


def test_grey_images_repeat_their_channel(tmp_path):
    pixels = data_files.noise(9, 12, channels=1)
    path = data_files.save(tmp_path / "grey.png", pixels)
    np.testing.assert_array_equal(decode(path).pixels, pixels[..., None].repeat(3, 2))


def test_black_and_white_images_are_read(tmp_path):
    pixels = data_files.noise(9, 12, channels=1) > 128
    Image.fromarray(pixels).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "bits.png").pixels[..., 1], pixels * np.uint8(255)
    )


def test_sixteen_bits_become_eight(tmp_path):
    values = np.linspace(0, 65535, 108).reshape(9, 12).astype(np.uint16)
    path = data_files.save(tmp_path / "deep.png", values)
    np.testing.assert_array_equal(decode(path).pixels[..., 0], values // 257)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_more_bits_are_stretched_over_the_range(tmp_path, kind):
    values = np.array([[-100, 0], [50, 100_000]], kind)
    pixels = decode(data_files.save(tmp_path / "deep.tiff", values)).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)
    constant = data_files.save(tmp_path / "flat.tiff", np.full((2, 2), 7, kind))
    assert not decode(constant).pixels.any()


def test_transparent_pixels_become_white(tmp_path):
    pixels = data_files.noise(9, 12, channels=4)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    actual = decode(data_files.save(tmp_path / "clear.png", pixels)).pixels
    assert (actual[:4] == 255).all()
    np.testing.assert_array_equal(actual[4:], pixels[4:, :, :3])


def test_a_palette_is_looked_up_and_its_transparent_colours_are_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=bytes([0, 255, 255]))
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]])
    np.testing.assert_array_equal(decode(tmp_path / "plain.png").pixels, expected)
    expected[0, 0] = expected[1, 1] = 255
    np.testing.assert_array_equal(decode(tmp_path / "clear.png").pixels, expected)


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.fromarray(data_files.smooth(16, 16)).convert("CMYK")
    image.save(tmp_path / "print.jpg", quality=95)
    difference = decode(tmp_path / "print.jpg").pixels.astype(int)
    difference -= data_files.smooth(16, 16)
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_what_is_there_of_a_truncated_image_is_kept(tmp_path, extension):
    path = tmp_path / f"cut.{extension}"
    data_files.save(path, data_files.noise(200, 100))
    whole = decode(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    cut = decode(path)
    assert (whole.truncated, cut.truncated) == (False, True)
    np.testing.assert_array_equal(cut.pixels[:120], whole.pixels[:120])
    assert not np.array_equal(cut.pixels, whole.pixels)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_less_than_half_of_an_image_is_refused(tmp_path, extension):
    path = tmp_path / f"cut.{extension}"
    data_files.save(path, data_files.noise(200, 100))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.4)])
    header = header_of(path)
    with pytest.raises(ImageError, match=f"cut.{extension} cannot be decoded"):
        decode_image(path, header)


def test_every_cut_of_a_file_is_decoded_or_refused(tmp_path):
    whole = data_files.save(tmp_path / "a.png", data_files.noise(12, 12)).read_bytes()
    jpeg = data_files.save(tmp_path / "a.jpg", data_files.noise(12, 12)).read_bytes()
    path = tmp_path / "cut"
    for content in (whole, jpeg):
        for length in range(0, len(content), 7):
            path.write_bytes(content[:length])
            (header,) = read_headers([path])
            if isinstance(header, Header):
                try:
                    assert decode_image(path, header).pixels.shape == (12, 12, 3)
                except ImageError:
                    continue
            else:
                assert header is Problem.BAD_FILE


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0"])
def test_files_that_are_no_images_are_refused(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert refusal(path) is Problem.BAD_FILE


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_and_not_opened(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    assert path.stat().st_size < 100_000
    filters = warnings.filters[:]
    assert refusal(path) is Problem.TOO_LARGE
    assert warnings.filters == filters


def test_damaged_exif_hinders_nobody_and_is_not_spoken_of(tmp_path, capfd):
    for name, exif in (("a.jpg", b"II*\0\x08\0\0\0\xff\xff"), ("b.jpg", b"junk")):
        pixels = data_files.smooth(16, 24)
        data_files.save(tmp_path / name, pixels, exif=b"Exif\0\0" + exif)
    spec = importlib.util.find_spec(image_files.__name__)
    assert spec is not None
    assert spec.loader is not None
    with warnings.catch_warnings():
        # As in a new process with `-W error`, instead of the filters of pytest: the
        # module sets its own when it is imported.
        warnings.resetwarnings()
        warnings.simplefilter("error")
        again = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(again)
        for path in sorted(tmp_path.iterdir()):
            (header,) = again.read_headers([path])
            assert again.decode_image(path, header).pixels.shape == (16, 24, 3)
    assert capfd.readouterr() == ("", "")


def test_an_image_that_changed_since_its_header_was_read_is_refused(tmp_path):
    path = data_files.save(tmp_path / "a.png", data_files.noise(8, 8))
    header = header_of(path)
    data_files.save(path, data_files.noise(8, 9))
    with pytest.raises(ImageError, match="size has changed"):
        decode_image(path, header)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("least", [(30, 48), (31, 48), (15, 24), (8, 12), (1, 1)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(
    tmp_path, orientation, least
):
    path, upright = tmp_path / "a.jpg", data_files.smooth(61, 97)
    data_files.save_turned(path, upright, orientation)
    opened = open_image(path, header_of(path), least)
    expected = {(30, 48): 2, (31, 48): 1, (15, 24): 4, (8, 12): 4, (1, 1): 8}[least]
    assert (opened.size, opened.reduction) == ((61, 97), expected)
    actual = np.asarray(opened.image)
    assert actual.shape[:2] == (-(-61 // expected), -(-97 // expected))
    assert (np.array(actual.shape[:2]) >= least).all()
    # Each pixel is near the mean of the block of the original that it stands for.
    whole = decode(path).pixels
    if orientation == 1 and expected < 8:
        for row, column in np.ndindex(61 // expected, 97 // expected):
            block = whole[
                row * expected : (row + 1) * expected,
                column * expected : (column + 1) * expected,
            ]
            error = actual[row, column].astype(int) - block.mean(axis=(0, 1))
            assert np.abs(error).max() < 16


@pytest.mark.parametrize("kind", ["L", "CMYK", "progressive", "png"])
def test_other_files_are_decoded_for_a_smaller_result_too(tmp_path, kind):
    path = tmp_path / ("a.png" if kind == "png" else "a.jpg")
    image = Image.fromarray(data_files.smooth(64, 96))
    if kind in ("L", "CMYK"):
        image = image.convert(kind)
    image.save(path, quality=95, progressive=kind == "progressive")
    opened = open_image(path, header_of(path), (16, 16))
    assert isinstance(opened.image, Image.Image)
    assert opened.reduction == (1 if kind == "png" else 4)
    assert (opened.image.mode, opened.size) == ("RGB", (64, 96))
    wanted = Image.fromarray(decode(path).pixels).resize(opened.image.size, 4)
    error = np.asarray(opened.image).astype(int) - np.asarray(wanted)
    assert np.abs(error).mean() < 3


def test_damage_is_found_at_a_reduced_scale_too(tmp_path):
    path = data_files.save(tmp_path / "cut.jpg", data_files.noise(200, 100))
    header, whole = header_of(path), path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.8)])
    assert open_image(path, header, (50, 25)).truncated
    path.write_bytes(whole[: int(len(whole) * 0.4)])
    with pytest.raises(ImageError, match=r"cut.jpg cannot be decoded"):
        open_image(path, header, (50, 25))
    data_files.save(path, data_files.noise(200, 101))
    with pytest.raises(ImageError, match="size has changed"):
        open_image(path, header, (50, 25))


def test_names_with_spaces_umlauts_and_backslashes_are_found(tmp_path):
    folder = ImageFolder(tmp_path)
    for name in ("a b.png", "größe 日本.png", "inner/deep.png"):
        data_files.save(tmp_path / name, data_files.noise(2, 2))
        assert folder.find(name) == (tmp_path / name, None)
    assert folder.find("inner\\deep.png") == (tmp_path / "inner/deep.png", None)


def test_another_extension_or_case_is_found_if_only_one_file_has_it(tmp_path):
    folder = ImageFolder(tmp_path)
    for name in ("a.PNG", "b.png", "b.tiff"):
        data_files.save(tmp_path / name, data_files.noise(2, 2))
    (tmp_path / "c.txt").write_text("no image")
    assert folder.find("A.jpg") == (tmp_path / "a.PNG", Problem.RENAMED_FILE)
    assert folder.find("b.jpg") == (None, Problem.MISSING_FILE)
    assert folder.find("c.jpg") == (None, Problem.MISSING_FILE)


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "inner/../../secret.png", "{}/secret.png", "..\\secret.png"],
)
def test_names_cannot_lead_out_of_the_folder(tmp_path, name):
    data_files.save(tmp_path / "secret.png", data_files.noise(2, 2))
    data_files.save(tmp_path / "images/inner/a.png", data_files.noise(2, 2))
    folder = ImageFolder(tmp_path / "images")
    assert folder.find(name.format(tmp_path)) == (None, Problem.OUTSIDE_FOLDER)


def test_links_cannot_lead_out_of_the_folder(tmp_path):
    secret = data_files.save(tmp_path / "secret.png", data_files.noise(2, 2))
    inside = data_files.save(tmp_path / "images/a.png", data_files.noise(2, 2))
    folder = ImageFolder(tmp_path / "images")
    (tmp_path / "images/out.png").symlink_to(secret)
    (tmp_path / "images/up").symlink_to(tmp_path)
    (tmp_path / "images/in.png").symlink_to(inside)
    assert folder.find("out.png") == (None, Problem.OUTSIDE_FOLDER)
    assert folder.find("up/secret.png") == (None, Problem.OUTSIDE_FOLDER)
    assert folder.find("OUT.jpg")[0] is None
    assert folder.find("in.png") == (tmp_path / "images/in.png", None)


def test_a_folder_that_is_a_link_itself_is_followed(tmp_path):
    data_files.save(tmp_path / "images/a.png", data_files.noise(2, 2))
    (tmp_path / "link").symlink_to(tmp_path / "images")
    path, problem = ImageFolder(tmp_path / "link").find("a.png")
    assert path == tmp_path / "images/a.png"
    assert problem is None


@pytest.mark.parametrize("name", ["", ".", "a\0b.png", "x" * 5000, "no/such/a.png"])
def test_names_that_no_file_can_have_are_missing(tmp_path, name):
    assert ImageFolder(tmp_path).find(name) == (None, Problem.MISSING_FILE)
