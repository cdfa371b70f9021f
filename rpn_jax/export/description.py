"""What an exported file says about itself."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax

from .. import __version__
from ..core.anchor_config import AnchorConfig
from ..core.config import ProposalConfig
from ..models import Preprocessing

FORMAT = 1  # rises when files change so that older versions cannot use them
LICENSE = "Apache-2.0 for the program; weights keep the license of their source"
Content = Literal["network", "core"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Array:
    """An input or an output of an exported program.

    Attributes:
        name: its name, which is also the name in an ONNX model.
        shape: its shape, in which `"b"` is the number of images.
        dtype: name of its dtype, as NumPy writes it.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.name} [{' '.join(map(str, self.shape))}] of {self.dtype}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What an exported file says about itself.

    Attributes:
        content: `"network"` for images to proposals, `"core"` for predictions to
            proposals.
        inputs: the inputs, in their order.
        outputs: the outputs, in their order.
        image_shape: `(height, width)` of the images with their padding.
        settings: `anchors` and `proposals`, the fields of the configurations, and
            `preprocessing` of a network. A limit of infinity is None.
        source: where the weights come from, or None.
        format: version of the file format.
        rpn_jax: version of this library that wrote the file.
        jax: version of JAX that wrote the file.
        license: the license of the program.
    """

    content: Content
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    image_shape: tuple[int, int]
    settings: Mapping[str, Mapping[str, Any]]
    source: str | None = None
    format: int = FORMAT
    rpn_jax: str = __version__
    jax: str = jax.__version__
    license: str = LICENSE

    def to_json(self) -> str:
        """The description as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)


def from_json(text: str, path: str) -> Description:
    """Reads a description.

    Args:
        text: the JSON in a file.
        path: the file, for the message of an error.

    Raises:
        ValueError: it is no description, or one of a later format.
    """
    try:
        found = json.loads(text)
        if int(found["format"]) <= FORMAT:
            return _description(found)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} has a description that cannot be read ({error!r}): the file is "
            "damaged. Export it again."
        ) from error
    raise ValueError(
        f"{path} has format {found['format']} of rpn_jax {found.get('rpn_jax')}, and "
        f"rpn_jax {__version__} reads formats up to {FORMAT}. Update rpn_jax, or "
        "export the file again with this version."
    )


def _description(found: dict[str, Any]) -> Description:
    """The description that JSON stands for."""
    # A later version of the same format may say more.
    known = {field.name for field in dataclasses.fields(Description)}
    values = {name: value for name, value in found.items() if name in known}
    for name in ("inputs", "outputs"):
        values[name] = tuple(
            Array(name=x["name"], shape=tuple(x["shape"]), dtype=x["dtype"])
            for x in found[name]
        )
    values["image_shape"] = tuple(found["image_shape"])
    return Description(**values)


def settings_of(
    anchors: AnchorConfig,
    proposals: ProposalConfig,
    preprocessing: Preprocessing | None = None,
) -> dict[str, dict[str, Any]]:
    """The fields of the configurations, for a `Description`."""
    parts = {"anchors": anchors, "proposals": proposals, "preprocessing": preprocessing}
    return {
        name: {
            field: None if value == math.inf else value
            for field, value in dataclasses.asdict(part).items()
        }
        for name, part in parts.items()
        if part is not None
    }
