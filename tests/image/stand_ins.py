"""Images by the names that deploy/ pins, made of what Debian has: nothing can be pulled here."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.image.build import IMAGE
from tests.lab.packages import unpacked

if TYPE_CHECKING:
    from tests.lab import Engine

_PROXY: Final = f"""
FROM {IMAGE}
USER 0
COPY socket_proxy.py /socket_proxy.py
COPY healthcheck /healthcheck
WORKDIR /
HEALTHCHECK NONE
ENTRYPOINT ["python3", "/socket_proxy.py"]
"""

_SERVER: Final = f"""
FROM {IMAGE}
USER 0
COPY program /program
COPY wget /bin/wget
COPY share /usr/share
RUN mkdir {{data}} && chown 65534:65534 {{data}}
USER 65534
VOLUME {{data}}
HEALTHCHECK NONE
ENTRYPOINT ["/program"]
"""

_HEALTHCHECK: Final = "#!/bin/sh\nexec python3 /socket_proxy.py --check\n"


def make(engine: Engine, images: dict[str, str]) -> None:
    """Give an engine the images of these services, by the names they are pinned to."""
    wget = (unpacked("common") / "bin/busybox").read_bytes()
    proxy = Path(__file__).with_name("socket_proxy.py").read_bytes()
    _build(engine, images["socket-proxy"], _PROXY, {"socket_proxy.py": proxy, "healthcheck": _HEALTHCHECK.encode()})
    prometheus = unpacked("prometheus-3.5") / "usr/bin/prometheus"
    files = {"program": prometheus.read_bytes(), "wget": wget, "share/nothing": b""}
    _build(engine, images["prometheus"], _SERVER.format(data="/prometheus"), files)
    root = unpacked("alertmanager")
    templates = {
        f"share/{path.relative_to(root / 'usr/share')}": path.read_bytes()
        for path in (root / "usr/share/prometheus").rglob("*.tmpl")
    }
    files = {"program": (root / "usr/bin/prometheus-alertmanager").read_bytes(), "wget": wget, **templates}
    _build(engine, images["alertmanager"], _SERVER.format(data="/alertmanager"), files)


def _build(engine: Engine, tag: str, dockerfile: str, files: dict[str, bytes]) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in {"Dockerfile": dockerfile.encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    engine.docker("build", f"--tag={tag}", "-", stdin=context.getvalue())
