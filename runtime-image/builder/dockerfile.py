"""Writes the Dockerfiles. Their first stage runs `build root`, so both ways make the same root.

A Dockerfile itself sets variables, user and entry point from the description. `archive` puts the same values
into an image's configuration.
"""

import json
from pathlib import Path

from .description import SOURCE, Image, description

FOLDER = SOURCE / "dockerfiles"

TEMPLATE = """\
# Made by `runtime-image/build dockerfiles` from images.toml; not edited by hand.
#
#   docker build -t NAME -f runtime-image/dockerfiles/{file} \\
#       --build-context programs=target/release {context}runtime-image
FROM {base} AS root
RUN apt-get update && apt-get install --yes --no-install-recommends {packages}
COPY build images.toml /source/
COPY builder /source/builder
COPY requirements /source/requirements
{copy}RUN /source/build root {name} /image
COPY --from=programs --chmod=755 {program} /image{entrypoint}

FROM scratch
COPY --from=root /image /
{environment}
USER {user}
WORKDIR {workdir}
ENTRYPOINT {exec}
"""


def place(image: Image) -> Path:
    return FOLDER / f"{image.name}.Dockerfile"


def text(image: Image) -> str:
    stage = description()["dockerfile"]
    return TEMPLATE.format(
        file=place(image).name,
        base=stage["base"],
        packages=" ".join([*stage["packages"], *image.needs]),
        context="--build-context runtimes=runtimes " if image.runtime else "",
        copy=f"COPY --from=runtimes {image.runtime} /runtimes/{image.runtime}\n" if image.runtime else "",
        name=image.name,
        program=image.program,
        entrypoint=image.entrypoint,
        environment="\n".join(f"ENV {key}={json.dumps(value)}" for key, value in image.environment.items()),
        user=image.user,
        workdir=image.workdir,
        exec=json.dumps([image.entrypoint]),
    )
