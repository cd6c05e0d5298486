"""The Debian packages that a cluster on this machine is made with, and those of the tests beside it.

They are installed in one call, and only if one is missing.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .progress import Failed, stage

# The program or file that is needed → its package.
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
# The same for the images' root file systems, a shifted clock, the fuzz targets, the runtimes of local mode, and what reads
# the metrics.
TESTS = {
    "mmdebstrap": "mmdebstrap",
    "prometheus": "prometheus",
    "/usr/lib/*/faketime/libfaketimeMT.so.1": "libfaketime",
    "g++": "g++",
    "make": "make",
    "cmake": "cmake",
    "go": "golang",
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "ruby": "ruby",
    "/usr/share/rubygems-integration/all/specifications/kramdown-[0-9]*.gemspec": "ruby-kramdown",
    "mono": "mono-runtime",
    "mcs": "mono-mcs",
    "/usr/lib/mono/4.5/System.Net.Http.dll": "libmono-cil-dev",
    "/usr/lib/cli/Newtonsoft.Json-5.0": "libnewtonsoft-json5.0-cil",
}


def missing(wanted: dict[str, str]) -> list[str]:
    return sorted({package for thing, package in wanted.items() if not present(thing)})


def present(wanted: str) -> bool:
    """A program on the PATH, or a file that matches a pattern."""
    if wanted.startswith("/"):
        return any(Path("/").glob(wanted[1:]))
    return shutil.which(wanted) is not None


def require() -> None:
    if packages := missing(WANTED):
        raise Failed(f"missing packages: {' '.join(packages)}; `tests/cluster/cluster setup` installs them")


def install(tests: bool) -> None:
    """Those of the cluster; with `tests` also what the tests beside it need."""
    wanted = WANTED | TESTS if tests else WANTED
    packages = missing(wanted)
    if not packages:
        return
    with stage(f"install {' '.join(packages)}"):
        # A machine may have no package list yet, or one too old to fetch by.
        if not apt_get("install", "--no-install-recommends", *packages):
            if not apt_get("update") or not apt_get("install", "--no-install-recommends", *packages):
                raise Failed(f"apt-get cannot install {' '.join(packages)}")
    if packages := missing(wanted):
        raise Failed(f"apt-get installed {' '.join(packages)}, which did not bring what they are wanted for")


def apt_get(command: str, *arguments: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "--quiet", "--yes", command, *arguments], env=environment)
    return done.returncode == 0
