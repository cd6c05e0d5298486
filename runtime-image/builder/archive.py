"""Makes docker-archives under target/images without Docker; nothing is made twice.

The name of a kept root has a hash of its inputs; an archive has them in a record beside it. `description` and
`root` supply the content, and tests/cluster/image packs it. A lock makes concurrent runs wait for each other.
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
# The domain is reserved, so a cluster that lacks an image cannot pull another image of that name.
PREFIX = "pilotlight.test/"
BLOCK = 1 << 20


def tag(image: Image) -> str:
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]
    return f"{PREFIX}{image.name}:{workspace['package']['version']}"


def make(image: Image, program: Path) -> dict:
    """Makes the archive unless it is up to date. Returns its record."""
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
    """Makes the root that `make` needs, for use before the program is built."""
    OUT.mkdir(parents=True, exist_ok=True)
    with alone(OUT / ".lock"):
        kept_root(image)


def kept_root(image: Image) -> Path:
    """The root file system. It is made now unless one with the same inputs exists."""
    inputs = [image.as_text(), platform.machine(), Path(root.__file__)]
    if image.requirements:
        inputs.append(SOURCE / image.requirements)
    if image.runtime:
        # `image` has the description's settings for images. A change of the others must not make a new root.
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
        # A failed build leaves this folder, and the loop above removes it with the old roots.
        fresh = roots / f"{place.name}.part"
        make(fresh)
        fresh.rename(place)
    return place


def pack(image: Image, base: Path, program: Path, archive: Path) -> None:
    """Packs two layers. The program changes often, so a separate layer keeps the load of a node small."""
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
    """The size on a node's disk, and about the size that a registry would send."""
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
