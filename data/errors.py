"""The errors of the project, one small tree.

    HdacError (Exception)
    +-- InputError (also ValueError)          a clip, folder, manifest or setting that cannot be used
    +-- BitstreamError (also ValueError)      a stream that is damaged or not one of ours
    |   +-- TruncatedBitstream                it ends too early
    |   +-- UnsupportedVersion                a newer or unknown format version
    |   +-- WeightsMismatch                   it was made with other network weights
    +-- ExternalCodecError                    an encoder or decoder binary failed; holds its last words
    +-- CodecUnavailable                      a tool, library or weights file is not installed here
    +-- WeightsUnavailable                    pretrained weights of a metric or loss network are not here
    +-- DownloadError                         a file could not be fetched

Libraries raise these; only a `main()` turns them into one line on stderr and exit code 1 (`data.cli.run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class HdacError(Exception):
    """Base of every error that a user of this project can cause or meet."""


class InputError(HdacError, ValueError):
    """Input that cannot be used; the message names the file or the value."""


class BitstreamError(HdacError, ValueError):
    """A bitstream that is damaged, or not what it was said to be."""


class TruncatedBitstream(BitstreamError):
    """A bitstream that ends before its last element."""


class UnsupportedVersion(BitstreamError):
    """A bitstream of a format version that this code does not know."""


class WeightsMismatch(BitstreamError):
    """A bitstream made with other network weights than the ones at hand."""


class CodecUnavailable(HdacError):
    """A codec whose tool, library or weights are not installed on this machine."""


class WeightsUnavailable(HdacError):
    """Pretrained weights that are not on this machine; the message names the file and the ways to get it."""


class DownloadError(HdacError):
    """A file that could not be fetched: no network, no such address, or contents other than expected."""


class ExternalCodecError(HdacError):
    """An external encoder or decoder that failed.

    command: what was run, argument by argument.
    code:    its exit status, or None where it was stopped at a time limit.
    tail:    the end of what it wrote to stderr.
    """

    def __init__(self, command: Sequence[str], code: int | None, tail: str) -> None:
        self.command = list(command)
        self.code = code
        self.tail = tail
        what = "ran into its time limit" if code is None else f"failed with exit code {code}"
        super().__init__(f"{Path(self.command[0]).name} {what}: {tail.strip()[-600:] or 'it said nothing'}")

    def __reduce__(self) -> tuple[type[ExternalCodecError], tuple[list[str], int | None, str]]:
        return type(self), (self.command, self.code, self.tail)  # crosses process borders whole
