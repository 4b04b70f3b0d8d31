"""The codecs that batches may be compressed with. A producer, a topic's setting or the broker's default chooses one.

So every reader of Kafka needs all of them: a reader without one cannot go past the first batch that uses it.
"""

from typing import Final

import aiokafka.codec
import kafka.codec

#: By codec, the packages that decode it for aiokafka and for kafka-python; gzip comes with Python.
_PACKAGES: Final = {
    "snappy": ("cramjam", "python-snappy"),
    "lz4": ("cramjam", "lz4"),
    "zstd": ("cramjam", "zstandard"),
}


class CodecMissing(Exception):
    """A codec's package is not installed; the message names both."""


def missing() -> list[str]:
    """The codecs that cannot be read, each with the package that it lacks: `lz4 (needs cramjam)`."""
    return [
        f"{codec} (needs {package})"
        for codec, packages in _PACKAGES.items()
        for library, package in zip((aiokafka.codec, kafka.codec), packages, strict=True)
        if not getattr(library, f"has_{codec}")()
    ]


def check() -> None:
    """Make sure that batches of every codec can be read.

    Raises:
        CodecMissing: a package is not installed. The process would end at the first batch of that codec.
    """
    lacking = missing()
    if lacking:
        raise CodecMissing(
            f"Kafka batches of these codecs cannot be read: {', '.join(lacking)}. "
            "Install the packages at the versions of requirements.txt"
        )
