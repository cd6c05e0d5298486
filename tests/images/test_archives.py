"""The content of the images, read from the archives."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.harness.paths import IMAGE_BUILD, REPOSITORY

INSTANCES = ["custom", "python3.11"]
IMAGES = [*INSTANCES, "pilotlight"]
DESCRIPTION = tomllib.loads((REPOSITORY / "runtime-image/images.toml").read_text())
# The largest size in megabytes, uncompressed, programs included: room for updates, not for a package manager. 30 of
# Python's are boto3, which describes each service; code for the original platform does not bring it. `pilotlight`
# contains the descriptions of all runtimes, and that of Node.js lists the AWS SDK's packages with their hashes. It is one
# program for clusters and laptops, so SQLite, for local logs and events, and the tables of regular expressions are in it.
LIMITS = {"custom": 48, "pilotlight": 48, "python3.11": 105}


def dockerfile(name):
    return (REPOSITORY / f"runtime-image/dockerfiles/{name}.Dockerfile").read_text()


def test_the_dockerfiles_match_the_description():
    done = subprocess.run(
        [sys.executable, IMAGE_BUILD, "dockerfiles", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", IMAGES)
def test_a_dockerfile_configures_what_the_archive_configures(name, archives):
    text, archive = dockerfile(name), archives[name]
    variables = dict(re.findall(r'^ENV (\w+)="(.*)"$', text, re.MULTILINE))
    assert variables == archive.environment
    assert f"USER {archive.config['User']}\n" in text
    assert f"WORKDIR {archive.config['WorkingDir']}\n" in text
    assert f'ENTRYPOINT ["{archive.config["Entrypoint"][0]}"]' in text
    assert f"RUN /source/build root {name} /image" in text


def test_client_and_sdk_are_the_versions_that_run_locally():
    local = tomllib.loads((REPOSITORY / "runtimes/python/runtime.toml").read_text())["runtime"]["python3.11"]
    requirements = (REPOSITORY / "runtime-image/requirements/python3.11.txt").read_text()
    for name, place in {"awslambdaric": "client", "boto3": "sdk", "botocore": "sdk"}.items():
        assert f"\n{name}=={local[place]} \\" in requirements


@pytest.mark.parametrize("name", IMAGES)
def test_packages_are_recorded_for_scanners(name, archives):
    folder = "/var/lib/dpkg/status.d/"
    recorded = {path.removeprefix(folder) for path in archives[name].entries if path.startswith(folder)}
    image = DESCRIPTION["image"][name]
    wanted = {
        *DESCRIPTION["all"]["packages"],
        *DESCRIPTION[image["kind"]]["packages"],
        *image.get("packages", []),
    }
    assert wanted <= recorded
    assert not recorded & set(DESCRIPTION["debian"]["left_out"])


@pytest.mark.parametrize("name", IMAGES)
def test_root_owns_everything_and_no_file_grants_rights(name, archives):
    for path, entry in archives[name].entries.items():
        assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0), path
        assert not entry.mode & 0o6000, path
        writable = entry.mode & 0o022 and not entry.issym()
        assert not writable or (path in ("/tmp", "/var/tmp") and entry.mode == 0o1777), path


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_of_the_building_machine_or_of_apt_is_left(name, archives):
    gone = [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/apt",
        "/var/lib/apt",
        "/usr/share/man",
        "/usr/share/locale",
    ]
    left = [path for path in archives[name].entries if path.startswith(tuple(gone))]
    assert not left
    assert archives[name].bytes < LIMITS[name] * 1e6


@pytest.mark.parametrize("name", INSTANCES)
def test_the_layout_is_that_of_the_original_platform(name, archives):
    entries = archives[name].entries
    for folder in ("/var/task", "/var/runtime", "/opt"):
        assert entries[folder].isdir() and entries[folder].mode == 0o755, folder
    assert entries["/tmp"].mode == 0o1777
    assert archives[name].config["User"] == "993:990"
    assert archives[name].config["WorkingDir"] == "/var/task"


def test_python_modules_come_with_byte_code(archives):
    entries = archives["python3.11"].entries
    sources = [path for path in entries if re.match(r"/(usr/lib/python3.11|var/runtime)/[\w/]+\.py$", path)]
    assert len(sources) > 300
    for path in sources:
        folder, _, name = path.rpartition("/")
        assert f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc" in entries, path


def test_python_has_its_waiting_program_in_a_folder_of_its_own(archives):
    entries = archives["python3.11"].entries
    assert entries["/var/runtime/prestart/sitecustomize.py"].mode == 0o644
    assert "/var/runtime/prestart.py" not in entries


def test_python_has_the_client_its_start_and_the_sdk(archives):
    entries = archives["python3.11"].entries
    for file in ("bootstrap.py", "boto3/__init__.py", "botocore/data/lambda/2015-03-31/service-2.json.gz"):
        assert entries[f"/var/runtime/{file}"].mode == 0o644, file
