"""Archives as users make them: links that lead outside, zips from Windows, unsupported formats."""

import io
import re
import stat
import tarfile
import warnings
import zipfile

import pytest

from tests.harness.endpoint import only_local
from tests.harness.local_server import pilotlight
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER
from tests.harness.web import Web

FINDS = """
import os, stat, subprocess
def lambda_handler(event, context):
    found = {}
    for folder, names, files in os.walk("."):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            place = os.path.relpath(path)
            if os.path.islink(path):
                found[place] = "-> " + os.readlink(path)
            elif os.path.isfile(path) and "__pycache__" not in path:
                found[place] = oct(stat.S_IMODE(os.stat(path).st_mode))
    if event.get("run"):
        found["said"] = subprocess.run([event["run"]], capture_output=True, text=True).stdout.strip()
    return found
"""
MODULE = "lambda_function.py"
LINKS = {
    "node_modules": "/opt/nodejs/node_modules",
    "lib/up": "../../../../etc/passwd",
    "lib/again": "../lambda_function.py",
    "absent": "nothing/here",
    "here": ".",
}


def zipped(*entries, system=3, compression=zipfile.ZIP_DEFLATED):
    """A zip of (name, content, mode); the mode's kind makes it a link."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, text, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.filename, entry.create_system = name, system
            # The bit marks a changed file. If all bits were 0, the library would set permissions.
            entry.external_attr = mode << 16 | 0x20
            entry.compress_type = compression
            with warnings.catch_warnings():
                # The library warns of two entries with one name, which are intended here.
                warnings.simplefilter("ignore")
                archive.writestr(entry, text)
    return content.getvalue()


def links():
    return zipped(
        (MODULE, FINDS, 0o100644), *((name, to, stat.S_IFLNK | 0o777) for name, to in LINKS.items())
    )


def tarred():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:

        def add(name, text="", **more):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            for field, value in more.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(text.encode()))

        add(MODULE, FINDS)
        for name, to in LINKS.items():
            add(name, type=tarfile.SYMTYPE, linkname=to)
        add("lib/copy.py", type=tarfile.LNKTYPE, linkname=MODULE)
    return content.getvalue()


def of_windows():
    """A zip as tools of .NET wrote it: `\\` for `/`, no permissions, folders as entries."""
    program = "#!/bin/sh\necho ran\n"
    return zipped(
        (MODULE, FINDS, 0),
        ("bin\\", "", 0),
        ("bin\\tool", program, 0),
        (".\\shop/deep\\a.txt", "a", 0),
        ("\\top.txt", "a", 0),
        system=0,
    )


def renamed(content, name, other):
    assert len(name) == len(other)
    return content.replace(name, other)


FUNCTIONS = {
    "links-zip": links(),
    "links-tar": tarred(),
    "windows": of_windows(),
    # A zip without permissions, as many libraries write it.
    "no-modes": zipped((MODULE, FINDS, 0), ("bin/tool", "#!/bin/sh\necho ran\n", 0)),
    "link-replaced": zipped(
        (MODULE, FINDS, 0o644),
        ("link", "lambda_function.py", stat.S_IFLNK | 0o777),
        ("same", "a file", 0o644),
        ("same", "absent", stat.S_IFLNK | 0o777),
    ),
    # A name in a code page of DOS, without the flag for UTF-8.
    "code-page": renamed(
        zipped((MODULE, FINDS, 0o644), ("gr_n.txt", "x", 0o644)), b"gr_n.txt", b"gr\x81n.txt"
    ),
    # An executable zip, as pex, shiv and zipapp write it.
    "executable": b"#!/usr/bin/env python3\n" + zipped((MODULE, FINDS, 0o644), ("bin/tool", "x", 0o755)),
    "folder-packed": zipped(("shop/" + MODULE, FINDS, 0o644)),
}
FUNCTIONS = {
    name: {"runtime": "python3.11", "timeout": LONGER, "code": {"packed": content}}
    for name, content in FUNCTIONS.items()
}


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_links_are_kept_wherever_they_lead(served, form):
    found = served.answer(f"links-{form}")
    assert {name: found[name] for name in LINKS} == {name: f"-> {to}" for name, to in LINKS.items()}


def test_a_hard_link_in_a_tar_becomes_a_copy_of_the_file(served):
    assert served.answer("links-tar")["lib/copy.py"] == "0o755"


def test_a_later_entry_replaces_a_file_or_link_of_the_same_name(served):
    assert served.answer("link-replaced")["same"] == "-> absent"


@pytest.mark.parametrize("name", ["windows", "no-modes"])
def test_a_program_of_a_zip_without_permissions_runs(served, name):
    found = served.answer(name, {"run": "bin/tool"})
    assert (found["bin/tool"], found["said"]) == ("0o755", "ran")


def test_a_zip_that_the_kernel_can_start_is_a_package(served):
    assert "bin/tool" in str(served.answer("executable"))


def test_backslashes_of_windows_are_folders(served):
    assert {"shop/deep/a.txt", "top.txt", "bin/tool"} <= set(served.answer("windows"))


def test_names_of_dos_are_decoded(served):
    assert "grün.txt" in served.answer("code-page")


@only_local("the advice is printed by the local server")
def test_an_archive_that_is_one_folder_is_reported_with_what_to_do(served):
    assert "FunctionError" in served.invoke("folder-packed")
    served.server.wait_for_line(r"warning: folder-packed: .*folder shop.* pack what the folder holds")


def flagged():
    """A zip whose first entry is marked as encrypted."""
    content = bytearray(zipped((MODULE, FINDS, 0o644)))
    content[6] |= 1
    content[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(content)


def deflate64():
    content = bytearray(zipped((MODULE, FINDS, 0o644)))
    content[8] = content[content.rindex(b"PK\1\2") + 10] = 9
    return bytes(content)


@only_local("a cluster tells it in the function's status")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped((MODULE, FINDS, 0), compression=zipfile.ZIP_LZMA), f"{MODULE} is compressed by LZMA"),
        (zipped((MODULE, FINDS, 0), compression=zipfile.ZIP_BZIP2), f"{MODULE} is compressed by bzip2"),
        (deflate64(), "deflate64 .* make the zip file again with deflate"),
        (flagged(), f"{MODULE} is encrypted: .* without a password"),
        (zipped(("C:\\work\\" + MODULE, FINDS, 0), system=0), "from inside of the code's folder"),
        (zipped(("..\\" + MODULE, FINDS, 0), system=0), "would land outside the code's directory"),
        (zipped(("up", "..", 0o120777), ("up/evil", "x", 0o644)), "up/evil lies below a link"),
        (b"Rar!\x1a\x07\x01\x00", "neither a zip nor a tar.gz"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_reported_with_advice(tmp_path, content, said):
    web = Web("127.0.0.1")
    spec = {"runtime": "python3.11", "code": web.archive("/code.zip", content)}
    manifest = tmp_path / "function.yaml"
    manifest.write_text(as_yaml([resource("Function", "shop", spec)]), encoding="utf-8")
    done = pilotlight("local", "--listen", "127.0.0.1:0", str(manifest))
    web.close()
    assert done.returncode != 0
    pattern = re.compile(f"shop: spec.code.archive: url: .*{said}")
    assert pattern.search(done.stderr), done.stderr
    assert not (tmp_path / "evil").exists()
