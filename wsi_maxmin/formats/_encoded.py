"""What every format gives."""

from typing import NamedTuple


class Encoded(NamedTuple):
    """A patch as the bytes of an image file.

    Attributes
    ----------
    data : bytes
    name : str
        How it is encoded, as the table's ``image_format`` says it.
    suffix : str
        Of a file that holds it.
    """

    data: bytes
    name: str
    suffix: str
