"""The images of the Dockerfile, built on a small Debian where the machine's network can be reached."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import __version__
from tests.lab import engine
from tests.lab.packages import python_root

if TYPE_CHECKING:
    from tests.lab import Engine

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = f"docker-icc-exporter:{__version__}"
KERNEL_IMAGE: Final = f"{IMAGE}-kernel"
PACKAGES: Final = "iptables nftables ipset"

_BUILDER = "28.5"
_BASE = "debian-with-python"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PASSED_ON = ("PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def build_images(file: Path) -> None:
    """Build both images on an engine in the machine's own network, and save them."""
    with engine(_BUILDER, connected=True) as made:
        import_base(made)
        arguments = [f"--build-arg=BASE={_BASE}", f"--build-arg=PIP_CERT={_CERTIFICATES}"]
        arguments += [f"--build-arg={name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
        build = ("build", "--network=host", *arguments)
        made.docker(*build, f"--tag={IMAGE}", str(ROOT), timeout=300)
        made.docker(*build, f"--tag={KERNEL_IMAGE}", f"--build-arg=PACKAGES={PACKAGES}", str(ROOT), timeout=300)
        part = file.with_suffix(".part")
        made.docker("save", f"--output={part}", IMAGE, KERNEL_IMAGE)
    part.rename(file)


def import_base(made: Engine) -> None:
    """Give the engine a base image; it trusts whom this machine trusts."""
    made.docker("import", str(python_root()), f"{_BASE}:plain")
    bundle = Path(os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in (
            ("Dockerfile", f"FROM {_BASE}:plain\nCOPY bundle {_CERTIFICATES}\n".encode()),
            ("bundle", bundle.read_bytes() if bundle.exists() else b""),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    made.docker("build", f"--tag={_BASE}", "-", stdin=context.getvalue())
