"""Engines from Debian's archive, unpacked into a cache folder and never installed.

``apt-get`` with a private state folder fetches the packages of one suite by name: it checks the archive's
signature and each package's hash, honours the proxy settings of the machine, and leaves the system's own
package lists alone. ``dpkg -x`` unpacks without running maintainer scripts, so no service is started.
A folder appears under its final name only when it is complete (rename), so a killed download poisons nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError
from tests.lab.system import find_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterator

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Packages of one suite that belong into one folder."""

    suite: str
    packages: tuple[str, ...]


ENGINES = {
    "20.10": Bundle("bookworm", ("docker.io", "containerd")),
    "26.1": Bundle("trixie", ("docker.io", "docker-cli", "containerd")),
    "28.5": Bundle("forky", ("docker.io", "docker-cli", "containerd")),
}
# Newer runc want a newer C library; bookworm's serves every engine. The static busybox is the only image.
COMMON = Bundle("bookworm", ("runc", "busybox-static"))
PROMETHEUS = {
    "2.42": Bundle("bookworm", ("prometheus",)),
    "2.53": Bundle("trixie", ("prometheus", "promtool")),
    "3.5": Bundle("forky", ("prometheus", "promtool")),
}

# As old as the oldest Prometheus, and what checks compose files: not of the system, for bookworm's is another program.
ALERTMANAGER = Bundle("bookworm", ("prometheus-alertmanager",))
COMPOSE = Bundle("trixie", ("docker-compose",))
STRACE = Bundle("bookworm", ("strace",))
# htpasswd and chronic, which documents name, with the libraries that no other program here needs.
NAMED = Bundle(
    "bookworm", ("apache2-utils", "libapr1", "libaprutil1", "moreutils", "libipc-run-perl", "libio-pty-perl")
)

VERSIONS = tuple(ENGINES)
BUNDLES = {
    **ENGINES,
    "common": COMMON,
    **{f"prometheus-{version}": made for version, made in PROMETHEUS.items()},
    "alertmanager": ALERTMANAGER,
    "compose": COMPOSE,
    "strace": STRACE,
    "named": NAMED,
}

# Tool -> package. These come from the system: they must fit its kernel and its libraries.
TOOLS = {
    "ip": "iproute2",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "nft": "nftables",
    "ipset": "ipset",
    "faketime": "faketime",
    "ps": "procps",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "dpkg": "dpkg",
    "debootstrap": "debootstrap",
    "systemctl": "systemd",
    "git": "git",
}

# What the base image of the project's Dockerfile has to have.
PYTHON_PACKAGES = ("python3", "python3-venv")


def cache_folder() -> Path:
    """Where unpacked packages stay between runs."""
    default = Path.home() / ".cache" / "docker-icc-exporter" / "lab"
    return Path(os.environ.get("ICC_LAB_CACHE") or default)


def missing_packages() -> tuple[str, ...]:
    """Debian packages that provide the system tools which are not there."""
    wanted = {package for tool, package in TOOLS.items() if find_tool(tool) is None}
    if not KEYRING.exists():
        wanted.add("debian-archive-keyring")
    if not any(Path("/usr/lib").glob("python3*/ensurepip")):  # for who is on a host that systemd boots
        wanted.add("python3-venv")
    return tuple(sorted(wanted))


def install_tools() -> tuple[str, ...]:
    """Install the missing system tools and return the packages that were installed."""
    packages = missing_packages()
    if packages:
        run(["apt-get", "-q", "update"], timeout=300)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = ["-o", "DPkg::Lock::Timeout=300"]
        run(["apt-get", *wait, "install", "-q", "-y", "--no-install-recommends", *packages], env=quiet, timeout=600)
    return packages


def unpacked(name: str) -> Path:
    """Return the folder of a bundle; download it first when it is not there."""
    bundle = BUNDLES.get(name)
    if bundle is None:
        raise LabError(f"no bundle {name!r}: there are {', '.join(BUNDLES)}")
    folder = cache_folder() / f"{name}-{bundle.suite}"
    if not folder.exists():
        with _locked(cache_folder()):
            if not folder.exists():
                _fetch(bundle, folder)
    return folder


def python_root(suite: str = "trixie") -> Path:
    """Return a tar of a small Debian with Python, as `docker import` takes it; make it first when it is not there."""
    tar = cache_folder() / f"python-root-{suite}.tar"
    if not tar.exists():
        with _locked(cache_folder()):
            if not tar.exists():
                _bootstrap(suite, tar)
    return tar


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time fill the cache; what a killed one left half done is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob("part-*"):
            shutil.rmtree(leftover)
        yield


def _fetch(bundle: Bundle, folder: Path) -> None:
    """Download and unpack one bundle."""
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    apt = _private_apt(bundle.suite, part / "apt")
    run([*apt, "-q", "update"], timeout=300)
    debs = part / "debs"
    debs.mkdir()
    run(["sh", "-c", 'cd "$0" && exec "$@"', str(debs), *apt, "-q", "download", *bundle.packages], timeout=600)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(part / "root")])
    (part / "root").chmod(0o755)
    (part / "root").rename(folder)
    shutil.rmtree(part)


def _bootstrap(suite: str, tar: Path) -> None:
    """Install a Debian into a folder and pack it; its scripts run in a chroot with mounts that end with them."""
    part = Path(tempfile.mkdtemp(prefix="part-", dir=tar.parent))
    root = part / "root"
    include = f"--include={','.join(PYTHON_PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, f"--keyring={KEYRING}", suite, str(root), MIRROR]
    run(["unshare", "--mount", "--propagation=private", "--", *command], timeout=900)
    useless = ("var/cache/apt/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/locale/*", "dev/*")
    excluded = [f"--exclude=./{path}" for path in useless]
    run(["tar", "--numeric-owner", f"--directory={root}", *excluded, "-cf", str(part / "tar"), "."], timeout=300)
    (part / "tar").rename(tar)
    shutil.rmtree(part)


def _private_apt(suite: str, state: Path) -> list[str]:
    """Return an apt-get command that knows one suite only and keeps all its state in one folder."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": state / "parts",
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
        "Acquire::Languages": "none",
        "Acquire::Retries": "5",
    }
    return ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]
