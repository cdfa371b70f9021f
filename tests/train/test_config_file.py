"""Configuration files as editors and shells write them."""

import codecs

import pytest

from rpn_jax.train import TrainConfig, read_config

TEXT = '{"data": "söt.json", "seed": 3}'


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.encode(),
        TEXT.encode().replace(b" ", b"\r\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_configuration(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert read_config(TrainConfig, path) == TrainConfig(data="söt.json", seed=3)


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"needs a JSON file, got .*config\.json"):
        read_config(TrainConfig, path)
