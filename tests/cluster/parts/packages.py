"""The Debian packages that a cluster on this machine is made with; installed only if one is missing."""

import os
import shutil
import subprocess
from pathlib import Path

from .progress import Failed, stage

# What a package is wanted for → the package.
WANTED = {
    "busybox": "busybox-static",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "ip": "iproute2",
    "ipset": "ipset",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "unshare": "util-linux",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}


def missing() -> list[str]:
    def present(wanted: str) -> bool:
        return Path(wanted).exists() if wanted.startswith("/") else shutil.which(wanted) is not None

    return sorted({package for wanted, package in WANTED.items() if not present(wanted)})


def require() -> None:
    if packages := missing():
        raise Failed(f"missing packages: {' '.join(packages)}; `tests/cluster/cluster setup` installs them")


def install() -> None:
    packages = missing()
    if not packages:
        return
    with stage(f"install {' '.join(packages)}"):
        # A machine may have no package list yet, or one too old to fetch by.
        if not apt_get("install", "--no-install-recommends", *packages):
            if not apt_get("update") or not apt_get("install", "--no-install-recommends", *packages):
                raise Failed(f"apt-get cannot install {' '.join(packages)}")
    require()


def apt_get(command: str, *arguments: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "--quiet", "--yes", command, *arguments], env=environment)
    return done.returncode == 0
