"""What can go wrong with sessions, in words for the person who caused it.

    SessionError
    ├── HomeUnusable        the folder that holds sessions cannot be used
    ├── SessionNotFound     no session answers to that id
    ├── AmbiguousSession    several sessions answer to that prefix
    ├── SchemaTooNew        written by a newer version than this one
    ├── SchemaTooOld        written by an older version, in a folder that cannot be written
    ├── StoreDamaged        the session's database cannot be read
    ├── NothingToResume     there is no checkpoint, or no ended run, to go on from
    ├── SessionLive         a session that is being trained, which is not to be taken away
    ├── NotDeleted          a session or its checkpoints that could not be deleted
    ├── InvalidName         a name that a session cannot have, or that could not be written
    ├── NoSuchMetrics       no such run or metric, or nothing was recorded
    ├── NotWritten          an output that cannot be written
    ├── BundleRefused       a bundle that is damaged, was altered, or holds what none may hold
    ├── BundleTooNew        a bundle that only a newer version than this one can read
    ├── SessionExists       the session that a bundle carries is there already
    ├── NotImported         a bundle that is sound, and cannot be taken in here
    ├── NotVerified         a bundle or session that cannot be looked at as a whole
    ├── NotExported         a bundle that cannot be made
    ├── Cancelled           long work that whoever asked for it broke off
    └── InvalidPort         a port that is no port

The message of each says what happened, why, and what to do next.
"""


class SessionError(Exception):
    """The root of this package's errors: its message is meant for the user."""


class HomeUnusable(SessionError):
    """The folder that holds sessions cannot be created, read or written."""


class SessionNotFound(SessionError):
    """No session answers to the id that was given."""


class AmbiguousSession(SessionError):
    """Several sessions begin with the prefix that was given."""


class SchemaTooNew(SessionError):
    """The session was written by a newer version of OnTheFly."""


class SchemaTooOld(SessionError):
    """The session was written by an older version, and cannot be brought up to date in its place."""


class StoreDamaged(SessionError):
    """The session's database is not one, or is cut short."""


class NothingToResume(SessionError):
    """What was named cannot be resumed: no such run or checkpoint, or it is still training."""


class SessionLive(SessionError):
    """The session is being trained right now, or is being changed by another command."""


class NotDeleted(SessionError):
    """A session, or some of its checkpoints, could not be deleted."""


class InvalidName(SessionError):
    """A session cannot have this name, or the name could not be written."""


class NoSuchMetrics(SessionError):
    """The session has no such run or metric, or none at all."""


class NotWritten(SessionError):
    """An output could not be written; nothing of it was left behind."""


class BundleRefused(SessionError):
    """A bundle is damaged, was altered, or holds what no bundle may hold; nothing was imported."""


class BundleTooNew(SessionError):
    """A bundle was made by a newer version of OnTheFly, in a way that this one does not know."""


class SessionExists(SessionError):
    """The session that a bundle carries is in this home already."""


class NotImported(SessionError):
    """A bundle cannot be taken in: no room, no rights, or no such file."""


class NotVerified(SessionError):
    """A bundle or session cannot be looked at as a whole: no rights, or no such file."""


class NotExported(SessionError):
    """A bundle cannot be made: no such run, a file in its place, or no room."""


class Cancelled(SessionError):
    """Long work was broken off by whoever had asked for it; nothing is left of it."""


class InvalidPort(SessionError):
    """A port outside 1 to 65535, or no number at all."""
