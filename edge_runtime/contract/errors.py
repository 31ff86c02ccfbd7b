"""The errors this project raises on purpose; each message says where, what was found, what was wanted.

EdgeError
├── SettingsError    an option, URL or settings file is wrong
├── SourceError      a sensor or record cannot be read, or is not what it claims to be
│   └── SourceLost       a source that was open went away                (edge_runtime/sensors/lost.py)
├── BundleError      a bundle is damaged, incomplete, or newer than this reader
├── EngineError      the inference engine is missing or refuses the model
├── ParityError      two forms of one model disagree
├── ReportError      a report is damaged, contradicts itself, or is newer than this reader
└── ShipError        shipping stopped; what was active before is active still  (host_tools/ship/errors.py)
    └── LinkError        the link to the target was cut
"""

from __future__ import annotations

import errno


class EdgeError(Exception):
    """Base of all expected failures: the command line prints it as one line and exits with 1."""


class SettingsError(EdgeError):
    """An option, URL or settings file is wrong."""


class SourceError(EdgeError):
    """A sensor or record cannot be read, or is not what it claims to be."""


class BundleError(EdgeError):
    """A bundle is damaged, incomplete, or newer than this reader."""


class EngineError(EdgeError):
    """The inference engine is missing or refuses the model."""


class ParityError(EdgeError):
    """Two forms of one model disagree."""


class ReportError(EdgeError):
    """A report is damaged, contradicts itself, or is newer than this reader."""


ADVICE = {
    errno.ENOSPC: "free some space, or choose another place",
    errno.EDQUOT: "free some space, or choose another place",
    errno.EACCES: "choose a place that this user may use, or mend its permissions",
    errno.EPERM: "choose a place that this user may use, or mend its permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "is the path right, and is its folder there?",
    errno.ENOTDIR: "choose another place",
    errno.EISDIR: "name a file",
    errno.EEXIST: "remove it, or choose another place",
}


def one_line(error: OSError) -> str:
    """`FILE: REASON (what to do)` of what the system refused; without FILE or advice where there is none."""
    file = error.filename if error.filename2 is None else error.filename2
    text = " ".join((error.strerror or str(error) or type(error).__name__).split())
    where = "" if file is None else f"{file}: "
    advice = ADVICE.get(error.errno or 0)
    return f"{where}{text} ({advice})" if advice else where + text


class NotNumbers(Exception):
    """Samples that a stage cannot take; it took none of them. Whoever feeds it cuts them out."""
