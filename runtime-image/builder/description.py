"""Reads images.toml: what an image holds, with what all images and all of its kind hold.

Fed by nothing else, and decides nothing: `root`, `archive` and `dockerfile` take an `Image` each.
"""

import json
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
DESCRIPTION = SOURCE / "images.toml"


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
    packages: list[str]
    links: dict[str, str]
    folders: list[str]
    python: str | None
    requirements: str | None
    environment: dict[str, str]
    user: User
    workdir: str
    program: str
    program_folder: str

    @property
    def entrypoint(self) -> str:
        return f"{self.program_folder}/{self.program}"

    def as_text(self) -> str:
        """The same for the same image, whatever the order in the file."""
        return json.dumps(asdict(self), sort_keys=True)


@cache
def description() -> dict:
    return tomllib.loads(DESCRIPTION.read_text())


def names() -> list[str]:
    return sorted(description()["image"])


def image(name: str) -> Image:
    whole = description()
    own = whole["image"][name]
    kind, every = whole[own["kind"]], whole["all"]
    parts = (every, kind, own)
    return Image(
        name=name,
        suite=whole["debian"]["suite"],
        left_out=whole["debian"]["left_out"],
        packages=sorted({package for part in parts for package in part.get("packages", [])}),
        links=merged("links", parts),
        folders=kind["folders"],
        python=own.get("python"),
        requirements=own.get("requirements"),
        environment=merged("environment", parts),
        user=User(**whole["user"]),
        workdir=kind["workdir"],
        program=kind["program"],
        program_folder=kind["program_folder"],
    )


def merged(table: str, parts: tuple[dict, ...]) -> dict[str, str]:
    return dict(sorted({key: value for part in parts for key, value in part.get(table, {}).items()}.items()))
