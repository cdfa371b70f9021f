"""What kind of file weights are in. Its first bytes tell, whatever its name is."""

import io
import re
import zipfile
from typing import BinaryIO, Literal

FileKind = Literal["safetensors", "npz", "archive", "stream", "pickle", "index"]

_HEAD = 512  # bytes that are looked at
# The magic number of PyTorch's stream, as an opcode of a pickle of any protocol.
_STREAM = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The first bytes of files that are often taken for weights, and what to do with them.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (
        rb"version https://git-lfs",
        "it is a pointer of Git LFS, not the file itself. Run git lfs pull.",
    ),
    (
        rb"\s*<(!doctype|html|\?xml)",
        "it is a web page. Download the file itself, not the page that shows it.",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd",
        "it is compressed. Unpack it first.",
    ),
    (
        rb"(?s).{257}ustar",
        "it is a tar archive. Unpack it first; if PyTorch wrote it before version 0.2, "
        "load it in PyTorch and save it again with torch.save.",
    ),
    (
        rb"\x89HDF",
        "it is an HDF5 file, which Keras writes. Save its arrays by name with "
        "numpy.savez.",
    ),
    (
        rb"\x93NUMPY",
        "it is one array without a name. Save arrays by name with numpy.savez.",
    ),
)


def kind_of(file: BinaryIO, suffix: str) -> FileKind:
    """The kind of a file of weights.

    Args:
        file: the file, opened for reading bytes.
        suffix: suffix of its name, which tells an old pickle from text.

    Returns:
        The kind. `"archive"` and `"stream"` are the formats of PyTorch, and `"index"`
        is a list of files in JSON.

    Raises:
        ValueError: it is no file of weights; the message says what to do.
    """
    head, size = file.read(_HEAD), file.seek(0, io.SEEK_END)
    file.seek(0)
    if not head:
        raise ValueError("it is empty.")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _kind_of_zip(file)
    if _STREAM in head[:64]:
        return "stream"
    # A safetensors file begins with the length of a header in JSON.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if head.lstrip()[:1] == b"{" and suffix == ".json":
        return "index"
    # Pickles of the protocols 0 and 1 have no mark.
    if re.match(rb"\x80[\x02-\x05]", head) or suffix in (".pkl", ".pickle"):
        return "pickle"
    _refuse_others(head)
    raise ValueError(
        "it is damaged, or no file of safetensors, NumPy (.npz), PyTorch or pickle."
    )


def _refuse_others(head: bytes) -> None:
    """Refuses what is often taken for weights, and says what to do with it."""
    for pattern, advice in _OTHERS:
        if re.match(pattern, head, re.IGNORECASE):
            raise ValueError(advice)


def _kind_of_zip(file: BinaryIO) -> FileKind:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    file.seek(0)
    # A TorchScript archive has its constants and code beside the pickle of its tensors.
    if any(re.fullmatch(r"([^/]+/)?(constants\.pkl|code/.*)", name) for name in names):
        raise ValueError(
            "it is a TorchScript archive, which is a program. Where PyTorch is "
            "installed, save its weights alone: "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth')."
        )
    if any(re.fullmatch(r"([^/]+/)?data\.pkl", name) for name in names):
        return "archive"
    if names and not any(name.endswith(".npy") for name in names):
        raise ValueError(
            "it is a zip archive without arrays and without tensors of PyTorch. Unpack "
            "it, and choose a file in it."
        )
    return "npz"
