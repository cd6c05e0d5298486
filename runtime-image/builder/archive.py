"""Makes docker-archives under target/images without Docker; nothing is made twice.

A root is kept under a name that says what it was made of, an archive beside a record of that. Fed by
`description` and `root`; the packing itself is tests/cluster/image's. Two runs at once take turns.
"""

import fcntl
import hashlib
import json
import platform
import shutil
import sys
import time
import tomllib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import root
from .description import RUNTIMES, SOURCE, Image
from .root import Failed

REPOSITORY = SOURCE.parent
PACKER = REPOSITORY / "tests/cluster/image"
OUT = REPOSITORY / "target/images"
# Of a reserved domain: a cluster that lacks an image cannot find it anywhere else.
PREFIX = "pilotlight.test/"
BLOCK = 1 << 20


def tag(image: Image) -> str:
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]
    return f"{PREFIX}{image.name}:{workspace['package']['version']}"


def make(image: Image, program: Path) -> dict:
    """What `record` says: the archive is there and up to date."""
    if not program.is_file():
        raise Failed(f"{program} is missing: build it first (`make build`), or name another")
    OUT.mkdir(parents=True, exist_ok=True)
    with alone(OUT / ".lock"):
        started = time.monotonic()
        base = kept_root(image)
        archive, record = OUT / f"{image.name}.tar", OUT / f"{image.name}.json"
        made_of = digest(base.name, image.as_text(), tag(image), program, PACKER, Path(__file__))
        if archive.exists() and record.exists():
            known = json.loads(record.read_text())
            if known["madeOf"] == made_of:
                return {**known, "seconds": 0.0}
        record.unlink(missing_ok=True)
        pack(image, base, program, archive)
        known = {"madeOf": made_of, "image": tag(image), "archive": str(archive), **sizes(archive)}
        record.write_text(json.dumps(known, indent=2) + "\n")
        return {**known, "seconds": time.monotonic() - started}


def make_root(image: Image) -> None:
    """What `make` needs besides the program, which may not be built yet."""
    OUT.mkdir(parents=True, exist_ok=True)
    with alone(OUT / ".lock"):
        kept_root(image)


def kept_root(image: Image) -> Path:
    """The root file system, made now if none was made of the same before."""
    inputs = [image.as_text(), platform.machine(), Path(root.__file__)]
    if image.requirements:
        inputs.append(SOURCE / image.requirements)
    if image.runtime:
        # What its description says of images is in `image`; the rest of it makes none anew.
        inputs += sorted(file for file in (RUNTIMES / image.runtime).iterdir() if file.name != "runtime.toml")
    return kept(image.name, inputs, lambda fresh: root.make(image, kept_base(image), fresh))


def kept_base(image: Image) -> Path:
    inputs = [
        json.dumps([image.suite, image.left_out, image.common]),
        platform.machine(),
        Path(root.__file__),
    ]
    return kept("base", inputs, lambda fresh: root.make_base(image, fresh))


def kept(name: str, inputs: list[str | Path], make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled from these inputs, in this run or an earlier one."""
    roots = OUT / "roots"
    roots.mkdir(exist_ok=True)
    place = roots / f"{name}-{digest(*inputs)[:16]}"
    if not place.exists():
        for old in roots.glob(f"{name}-*"):
            shutil.rmtree(old)
        # A build that failed has left its part, which goes with the old ones.
        fresh = roots / f"{place.name}.part"
        make(fresh)
        fresh.rename(place)
    return place


def pack(image: Image, base: Path, program: Path, archive: Path) -> None:
    """Two layers: the program changes often, and then is all that a node must load again."""
    top = OUT / "program"
    shutil.rmtree(top, ignore_errors=True)
    place = top / image.entrypoint.lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copyfile(program, place)
    place.chmod(0o755)
    command = [sys.executable, str(PACKER), "--tag", tag(image), "--layer", str(base), "--layer", str(top)]
    command += ["--entrypoint", image.entrypoint, "--user", str(image.user), "--workdir", image.workdir]
    for name, value in image.environment.items():
        command += ["--env", f"{name}={value}"]
    root.run(*command, str(archive))
    shutil.rmtree(top)


def sizes(archive: Path) -> dict[str, int]:
    """As it lies on a node's disk, and about what a registry would send."""
    compressor, compressed = zlib.compressobj(6, wbits=31), 0
    with archive.open("rb") as stream:
        while block := stream.read(BLOCK):
            compressed += len(compressor.compress(block))
    return {"bytes": archive.stat().st_size, "gzipBytes": compressed + len(compressor.flush())}


def digest(*inputs: str | Path) -> str:
    whole = hashlib.sha256()
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) else item.encode()
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
