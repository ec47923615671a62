"""Everything the exporter raises on purpose.

ExporterError                 base; its text is a complete message for the user
├── ConfigError               an option, environment variable or configuration file is wrong
├── EngineError               the engine cannot be asked
│   ├── EngineUnreachable     nobody answers at the address, or the connection broke
│   ├── EngineTimeout         the engine did not answer in time
│   ├── EngineRefused         it answered, and said no (HTTP 4xx, 5xx)
│   └── ForbiddenRequest      we were about to send something outside the allow-list: a defect
├── SystemShort               the system has no memory or no thread for us
├── ObservationError          a document is not what the API or the file format promises
├── PolicyError               what was seen does not tell what a policy asks for
├── UnknownContainer          a name or id that the snapshot does not hold
├── UnknownNetwork            the same for a network, or one that has no ICC
├── Unforeseeable             what would come of a change cannot be told
└── ProbeError                packets could not be sent
    └── ForbiddenProbe        we were about to send one to an address of no sandbox: a defect
"""

from __future__ import annotations


class ExporterError(Exception):
    """Base of all errors; `str(error)` names the thing and says what to do."""


class ConfigError(ExporterError):
    """An option, an environment variable or the configuration file is wrong."""


class EngineError(ExporterError):
    """The engine cannot be asked."""


class EngineUnreachable(EngineError):
    """Nobody answers at the engine's address, or the connection broke."""


class EngineTimeout(EngineError):
    """The engine did not answer in time."""


class EngineRefused(EngineError):
    """The engine, or a proxy before it, answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ForbiddenRequest(EngineError):
    """A request outside the allow-list was about to be sent; it was not."""


class SystemShort(ExporterError):
    """The system does not give us the memory or the thread that a look needs."""


class ObservationError(ExporterError):
    """A document is not what the Engine API or the observation file format promises."""


class PolicyError(ExporterError):
    """What was seen does not tell what a policy asks for, so that it is neither kept nor violated."""


class UnknownContainer(ExporterError):
    """No running container of the snapshot has this name or id."""


class UnknownNetwork(ExporterError):
    """No network of the snapshot has this name or id, or it has no ICC."""


class Unforeseeable(ExporterError):
    """What would come of a change cannot be told."""


class ProbeError(ExporterError):
    """Packets that put verdicts to the test could not be sent, or were not waited for."""


class ForbiddenProbe(ProbeError):
    """A packet to an address outside this engine's sandboxes was about to be sent; it was not."""


def message_of(error: Exception) -> str:
    """Return what users are told of an error: what we raised says it by itself, anything else is a defect of ours."""
    return str(error) if isinstance(error, ExporterError) else f"defect: {type(error).__name__}: {error}"
