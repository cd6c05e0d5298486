"""Reads the content of an image: its own, that of its kind, and that of all images.

The sources are images.toml and, for most runtimes, the `image.contents` of their description in ../runtimes.
This module only reads: `root`, `archive` and `dockerfile` get an `Image` and act on it.
"""

import json
import re
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
DESCRIPTION = SOURCE / "images.toml"
RUNTIMES = SOURCE.parent / "runtimes"
# The names of architectures in npm's packages.
ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True)
class Image:
    name: str
    suite: str
    left_out: list[str]
    # The packages of every image, and all packages of this one.
    common: list[str]
    packages: list[str]
    links: dict[str, str]
    folders: list[str]
    python: str | None
    requirements: str | None
    # `runtime` is a folder. `root` copies its files to /var/runtime, then runs the commands of `make` on the
    # building machine, which needs the packages in `needs`, then deletes `remove` and compares `sha256`.
    runtime: str | None
    make: list[list[str]]
    needs: list[str]
    remove: list[str]
    sha256: dict[str, str]
    environment: dict[str, str]
    user: User
    workdir: str
    program: str
    program_folder: str

    @property
    def entrypoint(self) -> str:
        return f"{self.program_folder}/{self.program}"

    def as_text(self) -> str:
        """A text that is equal for equal images, whatever the order in the file."""
        return json.dumps(asdict(self), sort_keys=True)


@cache
def description() -> dict:
    return tomllib.loads(DESCRIPTION.read_text())


@cache
def images() -> dict[str, dict]:
    """Each image's own table."""
    found = dict(description()["image"])
    for file in sorted(RUNTIMES.glob("*/runtime.toml")):
        runtime = tomllib.loads(file.read_text())
        if contents := runtime["image"].get("contents"):
            for name, values in runtime["runtime"].items():
                if values.get("image") == "none":
                    continue
                own = {**contents, "kind": "instance", "runtime": file.parent.name}
                own["environment"] = variables(runtime)
                found[name] = filled(
                    own, {**values, "code": "/var/task", "opt": "/opt", "runtime": "/var/runtime"}
                )
    return found


def variables(runtime: dict) -> dict[str, str]:
    """The variables of an image's environment in the description of its runtime."""
    own = {**runtime.get("environment", {}), **runtime["image"].get("environment", {})}
    return {name: ":".join(value) if isinstance(value, list) else value for name, value in own.items()}


def filled(value, values: dict[str, str]):
    """Replaces placeholders, as operator/runtimes/src/template.rs does. `root` replaces the rest."""
    match value:
        case str():
            return re.sub(r"(?<!\$)\{([a-z_]+)\}", lambda found: values.get(found[1], found[0]), value)
        case list():
            return [filled(item, values) for item in value]
        case dict():
            return {filled(key, values): filled(item, values) for key, item in value.items()}
    return value


def names() -> list[str]:
    return sorted(images())


def image(name: str) -> Image:
    whole = description()
    own = images()[name]
    kind, every = whole[own["kind"]], whole["all"]
    parts = (every, kind, own)
    return Image(
        name=name,
        suite=whole["debian"]["suite"],
        left_out=whole["debian"]["left_out"],
        common=sorted(every["packages"]),
        packages=sorted({package for part in parts for package in part.get("packages", [])}),
        links=merged("links", parts),
        folders=kind["folders"],
        python=own.get("python"),
        requirements=own.get("requirements"),
        runtime=own.get("runtime"),
        make=own.get("make", []),
        needs=own.get("needs", []),
        remove=own.get("remove", []),
        sha256=own.get("sha256", {}),
        environment=merged("environment", parts),
        user=User(**whole["user"]),
        workdir=kind["workdir"],
        program=kind["program"],
        program_folder=kind["program_folder"],
    )


def merged(table: str, parts: tuple[dict, ...]) -> dict[str, str]:
    return dict(sorted({key: value for part in parts for key, value in part.get(table, {}).items()}.items()))
