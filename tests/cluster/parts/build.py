"""Builds the programs and images under target/cluster, once: each has a stamp with a hash of its inputs.

Go finds out for itself that nothing changed, but takes seconds to; `up` should not.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import layout, packages
from .layout import (
    BASE_IMAGE,
    BIN,
    HOME,
    IMAGES,
    NATS_IMAGE,
    PAUSE_IMAGE,
    RUNSC_SHIM,
    SOURCE,
    VICTORIA_LOGS_IMAGE,
    inside,
)
from .progress import Failed, exclusive, stage

KUBERNETES = "v1.34.4"
HELM = "v3.22.0"


@dataclass(frozen=True)
class Server:
    """A server that the chart installs."""

    name: str
    package: str
    version: str
    program: str
    # The name that the program has in the server's own image.
    entrypoint: str
    image: Path


VICTORIA_LOGS = Server(
    "victoria-logs",
    "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",
    "v1.52.1",
    "victoria-logs",
    "victoria-logs-prod",
    VICTORIA_LOGS_IMAGE,
)
NATS = Server(
    "nats", "github.com/nats-io/nats-server/v2", "v2.15.3", "nats-server", "nats-server", NATS_IMAGE
)
# Where gVisor's shim sets its OOM score.
OOM_SCORE = "if err := sys.SetOOMScore(cmd.Process.Pid, oomScoreMax); err != nil"
SHIM_OF_CONTAINERD_1_6 = f"""\
#!/bin/sh
# containerd 1.6 reads the address of a new shim, and gVisor's prints it within JSON, as containerd 1.7 wants it.
shim={inside(BIN / "gvisor-shim")}
case " $* " in
*" start "*) said=$("$shim" "$@") || exit; echo "$said" | sed 's/.*"address":"\\([^"]*\\)".*/\\1/' | tr -d '\\n' ;;
*) exec "$shim" "$@" ;;
esac
"""
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
GVISOR = "v0.0.0-20260905035102-160fafc42237"
KUBERNETES_NAMES = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
]
STRIP = "-s -w"
BUSYBOX = "busybox"


def build_cluster() -> None:
    packages.require()
    go = go_version()
    for folder in (BIN, IMAGES):
        folder.mkdir(parents=True, exist_ok=True)
    made("pause", [go, *sources("pause")], lambda: go_build("pause", "pause", STRIP))
    made("coredns", [go, *sources("dns")], lambda: go_build("dns", "coredns", STRIP))
    made("kubernetes", [go, *sources("node")], build_kubernetes)
    policies = [go, *sources("policies")]
    made("network-policies", policies, lambda: go_build("policies", "network-policies", STRIP))
    made("pause-image", [SOURCE / "image", BIN / "pause"], pack_pause)
    build_base_image()


def build_base_image() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    made("base-image", [SOURCE / "image", Path(which(BUSYBOX))], pack_base)


def build_helm() -> None:
    # It needs no root and nothing of the cluster: charts are rendered without one.
    BIN.mkdir(parents=True, exist_ok=True)
    made("helm", [go_version()], install_helm)


def build_versitygw() -> None:
    """A server of S3's protocol, for tests of destinations."""
    BIN.mkdir(parents=True, exist_ok=True)
    command = ["go", "install", "-trimpath", f"-ldflags={STRIP}", VERSITYGW]
    made("versitygw", [go_version()], lambda: run_go(command, HOME))


def build_gvisor() -> None:
    """The sandbox's runtime and its shim for containerd. Nodes that start afterwards have the handler `runsc`."""
    BIN.mkdir(parents=True, exist_ok=True)
    made("gvisor", [go_version()], install_gvisor)


def build_server(server: Server) -> None:
    """The program, which tests also start by themselves, and its image."""
    for folder in (BIN, server.image.parent):
        folder.mkdir(parents=True, exist_ok=True)
    made(server.name, [go_version(), SOURCE / "image"], lambda: install_server(server))
    if not server.image.exists():
        pack_server(server)


def build(part: str | None) -> None:
    """One part, or all that a cluster needs."""
    for name in [part] if part else ("kubernetes", "helm"):
        PARTS[name]()


def made(name: str, inputs: list[str | Path], make: Callable[[], None]) -> None:
    """Runs `make` unless it has run with the same inputs: texts, files by their content, and this file."""
    digest = hashlib.sha256()
    for item in [*inputs, Path(__file__), Path(layout.__file__)]:
        content = item.read_bytes() if isinstance(item, Path) else item.encode()
        digest.update(hashlib.sha256(content).digest())
    stamp = HOME / "stamps" / name
    with exclusive(f"{name}.build"):
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        with stage(f"build {name}"):
            make()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest.hexdigest())


def sources(module: str) -> list[Path]:
    return sorted(file for file in (SOURCE / module).iterdir() if file.is_file())


def build_kubernetes() -> None:
    package = "k8s.io/component-base/version"
    _, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(f"-X {package}.{name}={value}" for name, value in values.items())
    go_build("node", "kubernetes", f"{STRIP} {stamps}")
    for name in KUBERNETES_NAMES:
        link = BIN / name
        link.unlink(missing_ok=True)
        link.symlink_to("kubernetes")


def go_build(module: str, program: str, linker_flags: str) -> None:
    flags = ["-buildvcs=false", "-trimpath", f"-ldflags={linker_flags}"]
    run_go(["go", "build", *flags, "-o", str(BIN / program), "."], SOURCE / module)


def install_helm() -> None:
    command = ["go", "install", "-trimpath", f"-ldflags={STRIP}", f"helm.sh/helm/v3/cmd/helm@{HELM}"]
    run_go(command, HOME)


def install_server(server: Server) -> None:
    package = f"{server.package}@{server.version}"
    run_go(["go", "install", "-trimpath", f"-ldflags={STRIP}", package], HOME)
    server.image.unlink(missing_ok=True)


def pack_server(server: Server) -> None:
    root = fresh_root(server.name)
    shutil.copy2(BIN / server.program, root / server.entrypoint)
    tag = f"pilotlight.test/{server.name}:{server.version}"
    options = ("--entrypoint", f"/{server.entrypoint}", "--user", "65534:65534")
    pack_as(server.image, tag, root, *options)


def install_gvisor() -> None:
    run_go(["go", "install", f"-ldflags={STRIP}", f"gvisor.dev/gvisor/runsc@{GVISOR}"], HOME)
    command = ["go", "mod", "download", "-json", f"gvisor.dev/gvisor@{GVISOR}"]
    module = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HOME).stdout
    source = HOME / "gvisor"
    shutil.rmtree(source, ignore_errors=True)
    # Without its modes: files of Go's cache are read-only.
    shutil.copytree(json.loads(module)["Dir"], source, copy_function=shutil.copyfile)
    manager = source / "pkg/shim/v1/manager.go"
    text = manager.read_text()
    if OOM_SCORE not in text:
        raise Failed(f"{manager} has changed: the shim's OOM score is set in another way")
    # Lowering it takes CAP_SYS_RESOURCE, which root may lack.
    manager.write_text(text.replace(OOM_SCORE, f"{OOM_SCORE} && !os.IsPermission(err)"))
    shim = str(BIN / "gvisor-shim")
    run_go(["go", "build", "-mod=mod", "-buildvcs=false", f"-ldflags={STRIP}", "-o", shim, "./shim"], source)
    shutil.rmtree(source)
    (BIN / RUNSC_SHIM).write_text(SHIM_OF_CONTAINERD_1_6)
    (BIN / RUNSC_SHIM).chmod(0o755)


def run_go(command: list[str], folder: Path) -> None:
    print(f"building: {' '.join(command)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(BIN)}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} failed in {folder}")


def go_version() -> str:
    try:
        return subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout
    except OSError as error:
        raise Failed(
            "the cluster's programs are built with Go 1.24 or newer; `go` is not on this machine"
        ) from error


def pack_pause() -> None:
    pause = fresh_root("pause")
    shutil.copy2(BIN / "pause", pause / "pause")
    pack("pause", PAUSE_IMAGE, pause, "--entrypoint", "/pause", "--user", "65535:65535")


def pack_base() -> None:
    base = fresh_root("base")
    for folder in ("bin", "etc", "tmp", "var", "root"):
        (base / folder).mkdir()
    (base / "tmp").chmod(0o1777)
    (base / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
    (base / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    shutil.copy2(which(BUSYBOX), base / "bin/busybox")
    listed = subprocess.run([which(BUSYBOX), "--list"], check=True, capture_output=True, text=True).stdout
    for applet in set(listed.split()) - {"busybox"}:
        (base / "bin" / applet).symlink_to("busybox")
    pack("base", BASE_IMAGE, base, "--entrypoint", "/bin/sh", "--env", "PATH=/bin")


def fresh_root(name: str) -> Path:
    root = IMAGES / f"{name}.root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    return root


def pack(name: str, tag: str, root: Path, *options: str) -> None:
    pack_as(IMAGES / f"{name}.tar", tag, root, *options)


def pack_as(archive: Path, tag: str, root: Path, *options: str) -> None:
    command = [
        sys.executable,
        str(SOURCE / "image"),
        "--tag",
        tag,
        "--layer",
        str(root),
        *options,
        str(archive),
    ]
    if subprocess.run(command).returncode != 0:
        raise Failed(f"the image {tag} cannot be made")
    shutil.rmtree(root)


def which(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise Failed(f"{program} is missing: run `tests/cluster/cluster setup`")
    return found


PARTS: dict[str, Callable[[], None]] = {
    "kubernetes": build_cluster,
    "helm": build_helm,
    "gvisor": build_gvisor,
    VICTORIA_LOGS.name: lambda: build_server(VICTORIA_LOGS),
    NATS.name: lambda: build_server(NATS),
    "versitygw": build_versitygw,
}
