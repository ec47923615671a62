"""docker compose on the files of deploy/, on an engine of the lab or on none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.deploy.rules import DEPLOY
from tests.image import stand_ins
from tests.lab.packages import unpacked
from tests.lab.system import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab import Engine

COMPOSE: Final = DEPLOY / "compose" / "compose.yaml"
PROFILES: Final = ("api", "kernel", "sandboxes")


def compose(*arguments: str, profile: str, environ: Mapping[str, str] | None = None, timeout: float = 120) -> str:
    """Run docker compose with a profile, and return what it prints."""
    program = unpacked("compose") / "usr/libexec/docker/cli-plugins/docker-compose"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    variables = {**kept, "DOCKER_GID": "999", "COMPOSE_PROFILES": profile, **(environ or {})}
    return run([str(program), f"--file={COMPOSE}", *arguments], env=variables, timeout=timeout)


def services(profile: str) -> dict[str, dict[str, Any]]:
    """Return the services of a profile as compose resolves them."""
    document = json.loads(compose("config", "--format=json", profile=profile))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def settle(made: Engine, saved: Path) -> None:
    """Give an engine the exporter's images, and its socket where a host has it."""
    made.docker("load", f"--input={saved}")
    made.on_host("ln", "-s", str(made.socket), "/run/docker.sock")


def furnish(made: Engine, saved: Path) -> None:
    """Give an engine the images of all services, its socket where a host has it, and a customer with a port."""
    settle(made, saved)
    stand_ins.make(made, {name: service["image"] for name, service in services("api").items()})
    labels = [f"--label={name}=shop" for name in ("com.docker.compose.project", "com.docker.stack.namespace")]
    # in the tier kernel it cannot be seen whose a docker-proxy is: those of other engines must not be for this port
    made.run("web", *labels, "--publish=18423:80")


def folder_of(volume: Mapping[str, Any]) -> Path | None:
    """Return the host's file that a mount is of, None for a volume."""
    return Path(volume["source"]) if volume["type"] == "bind" else None
