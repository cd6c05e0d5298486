"""Makes what the cluster's network cannot fetch: the image of Jaeger, and the first function with its libraries.

python -m tests.traces.pack
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.archives import zipped
from tests.harness.paths import REPOSITORY
from tests.traces import jaeger

FRONT = REPOSITORY / "tests/traces/front"
FUNCTION = REPOSITORY / "target/traces/front.zip"
PLAIN = 0o100644


def pack_function():
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        named = ["--requirement", FRONT / "requirements.txt", "boto3"]
        subprocess.run([sys.executable, *words, *named], check=True)
        shutil.copy2(FRONT / "lambda_function.py", folder)
        folder = Path(folder)
        files = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        contents = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    FUNCTION.parent.mkdir(parents=True, exist_ok=True)
    FUNCTION.write_bytes(zipped(contents, dict.fromkeys(contents, PLAIN)))


if __name__ == "__main__":
    pack_function()
    jaeger.build()
    jaeger.pack()
