"""What went wrong, in upstream's words: `StatusNotOk`, whose `status` has a code and a message.

Each code has an exception of its own, which is a `StatusNotOk` and also what Python has for such a case: `FileNotFoundError`, `PermissionError`, ...
"""

import enum


class StatusCode(enum.IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Status:
    def __init__(self, code, message=""):
        self._code = StatusCode(code)
        self._message = message

    def ok(self):
        return self._code == StatusCode.OK

    def code(self):
        return self._code

    def code_int(self):
        return int(self._code)

    def message(self):
        return self._message

    def to_string(self):
        return str(self)

    def __str__(self):
        return "OK" if self.ok() else f"{self._code.name}: {self._message}"

    def __repr__(self):
        return f"<Status {self}>"

    def __eq__(self, other):
        if not isinstance(other, Status):
            return NotImplemented
        return (self._code, self._message) == (other._code, other._message)

    def __hash__(self):
        return hash((self._code, self._message))


class StatusNotOk(Exception):
    """Something failed; its `status` says how."""

    def __init__(self, status):
        super().__init__(str(status))
        self.status = status

    @property
    def code(self):
        return self.status.code()

    @property
    def message(self):
        return self.status.message()

    def __str__(self):
        return str(self.status)

    def __reduce__(self):
        return error, (self.status.code().name, self.status.message())


class InvalidArgument(StatusNotOk, ValueError):
    pass


class NotFound(StatusNotOk, FileNotFoundError):
    pass


class AlreadyExists(StatusNotOk, FileExistsError):
    pass


class PermissionDenied(StatusNotOk, PermissionError):
    pass


class ResourceExhausted(StatusNotOk, OSError):
    pass


class FailedPrecondition(StatusNotOk, OSError):
    pass


class Aborted(StatusNotOk, OSError):
    """Somebody else has changed it meanwhile: read again, decide again."""


class Unimplemented(StatusNotOk, NotImplementedError):
    pass


class Unavailable(StatusNotOk, ConnectionError):
    pass


class DataLoss(StatusNotOk, OSError):
    """Nobody has the content any more."""


class Unauthenticated(StatusNotOk, PermissionError):
    pass


_CLASSES = {
    StatusCode.INVALID_ARGUMENT: InvalidArgument,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: AlreadyExists,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    StatusCode.ABORTED: Aborted,
    StatusCode.UNIMPLEMENTED: Unimplemented,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DATA_LOSS: DataLoss,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def error(code, message):
    """The exception for a code, by its name."""
    code = StatusCode[code]
    return _CLASSES.get(code, StatusNotOk)(Status(code, message))
