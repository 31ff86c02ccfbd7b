"""The errors this project raises on purpose; each message says where, what was found, what was wanted.

EdgeError
├── SettingsError    an option, URL or settings file is wrong
├── SourceError      a sensor or record cannot be read, or is not what it claims to be
├── BundleError      a bundle is damaged, incomplete, or newer than this reader
├── EngineError      the inference engine is missing or refuses the model
└── ParityError      two forms of one model disagree
"""


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
