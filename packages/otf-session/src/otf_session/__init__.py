"""What a session is: its vocabulary (events, commands, frames), its store, its shell commands."""

from importlib.metadata import version as _version


def package_version() -> str:
    """This package's version, which all packages of OnTheFly share."""
    return _version("otf-session")
