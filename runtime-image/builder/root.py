"""Makes the root file system of an image: Debian's packages, unpacked and stripped, and the client.

`archive` and the Dockerfiles add the program. Packages are unpacked and never configured. This module does the
steps of their scripts that an image needs, with the same result on each machine. It runs as root and uses no
mount and no namespace, because a container's build cannot make them.
"""

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .description import ARCHITECTURES, RUNTIMES, SOURCE, Image, filled

PACKAGE_LISTS = "var/lib/dpkg/status.d"
JAVA_CERTIFICATES = "usr/share/ca-certificates-java/ca-certificates-java.jar"

# No program in an image reads these files. The copyright notices stay.
UNREAD = [
    "boot",
    "dev/*",
    "etc/apt",
    "etc/dpkg",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/cron*",
    "etc/default",
    "etc/fstab",
    "etc/init.d",
    "etc/logrotate.d",
    "etc/skel",
    "etc/systemd",
    "etc/update-motd.d",
    "lib32",
    "libo32",
    "libx32",
    "root/.[!.]*",
    "usr/lib/*-linux-gnu/gconv",
    "usr/lib/python*/*/_test*",
    "usr/lib/python*/idlelib",
    "usr/lib/python*/test",
    "usr/lib/python*/turtledemo",
    "usr/lib/systemd",
    "usr/lib/valgrind",
    "usr/lib32",
    "usr/libo32",
    "usr/libx32",
    "usr/share/applications",
    "usr/share/base-files",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/ca-certificates",
    "usr/share/doc-base",
    "usr/share/gcc",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    "var/backups",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg/[!s]*",
    "var/lib/dpkg/status",
    "var/lib/dpkg/status-old",
    "var/local",
    "var/lock",
    "var/log/*",
    "var/run",
    "var/spool",
]
# pip's names for the C library that a wheel needs. Debian's is newer than all of these.
WHEELS = ["manylinux2014", "manylinux_2_28"]


class Failed(Exception):
    """The build failed. The message is for its user."""


def make(image: Image, base: Path, root: Path) -> None:
    """Fills `root`, which must not exist or be empty, from what `make_base` has made."""
    if packages := [name for name in image.packages if name not in image.common]:
        unpack(image, root, packages, base)
    else:
        # `cp`, because Python would read the devices of /dev, which have no end.
        run("cp", "-aT", str(base), str(root))
    certificates(root)
    strip(root)
    accounts(image, root)
    folders(image, root)
    if image.requirements:
        install_client(image, root)
    if image.runtime:
        make_client(image, root)
    if image.python:
        compile_modules(image, root)
    run("ldconfig", "-r", str(root))
    shutil.rmtree(root / "var/cache/ldconfig", ignore_errors=True)
    check_libraries(root)


def make_base(image: Image, base: Path) -> None:
    """Unpacks the packages of every image. Each image begins with a copy of the result."""
    unpack(image, base, image.common)


def unpack(image: Image, root: Path, packages: list[str], base: Path | None = None) -> None:
    """Unpacks packages of Debian and their dependencies, in addition to the content of `base`."""
    present = [
        f"Package: {name}\nArchitecture: all\nMulti-Arch: foreign\nMaintainer: -\nVersion: 999\n"
        "Description: left out\n"
        for name in image.left_out
    ]
    # With their true versions, because packages of one source depend on exact versions of each other.
    present += [record.read_text() for record in sorted(base.glob(f"{PACKAGE_LISTS}/*"))] if base else []
    # /bin and similar folders become links to those in /usr, as Debian's installer makes them.
    merge = 'for d in bin lib lib64 sbin; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
    begin = f'cp -a {shlex.quote(str(base.absolute()))}/. "$1"' if base else merge
    # Scanners for known vulnerabilities read this folder.
    record = (
        f'mkdir -p "$1/{PACKAGE_LISTS}"; for d in "$1"/var/cache/apt/archives/*.deb; do '
        f'test ! -e "$d" || dpkg-deb -f "$d" > "$1/{PACKAGE_LISTS}/$(dpkg-deb -f "$d" Package)"; done'
    )
    with tempfile.NamedTemporaryFile("w", suffix=".status") as status:
        status.writelines(f"{one.rstrip()}\nStatus: install ok installed\n\n" for one in present)
        status.flush()
        pretend = f'mkdir -p "$1/var/lib/dpkg"; cp {status.name} "$1/var/lib/dpkg/status"'
        run(
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            "--mode=root",
            "--format=directory",
            f"--include={','.join(packages)}",
            f"--setup-hook={begin}; {pretend}",
            f"--extract-hook={record}",
            image.suite,
            str(root),
        )


def certificates(root: Path) -> None:
    """Writes one file with all authorities, as update-ca-certificates does."""
    parts = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    if not parts:
        raise Failed("ca-certificates holds no certificate")
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(part.read_text().rstrip("\n") + "\n" for part in parts))
    if (root / JAVA_CERTIFICATES).exists():
        java_certificates(root, parts)


def java_certificates(root: Path, parts: list[Path]) -> None:
    """Writes the same authorities in Java's format, with the program of Debian's package."""
    (root / "etc/ssl/certs/java").mkdir(exist_ok=True)
    java = next(root.glob("usr/lib/jvm/java-*-openjdk-*/bin/java"))
    lines = "".join(f"+/{part.relative_to(root)}\n" for part in parts)
    command = ["chroot", str(root), "/usr/bin/env", "-i", f"LD_LIBRARY_PATH={java_libraries(root)}"]
    command += [f"/{java.relative_to(root)}", "-jar", f"/{JAVA_CERTIFICATES}", "-storepass", "changeit"]
    done = subprocess.run(command, input=lines, text=True, capture_output=True)
    if done.returncode != 0 or not (root / "etc/ssl/certs/java/cacerts").exists():
        raise Failed(f"Java's certificates: {done.stdout}{done.stderr}")


def java_libraries(root: Path) -> str:
    """The folders of Java's libraries. Java would find them itself if there were a /proc."""
    found = [f"/{path.relative_to(root)}" for path in root.glob("usr/lib/jvm/java-*-openjdk-*/lib")]
    return ":".join(path + below for path in found for below in ("", "/server", "/jli"))


def strip(root: Path) -> None:
    for pattern in UNREAD:
        for path in root.glob(pattern):
            remove(path)
    for path in (root / "usr/share/doc").glob("*/*"):
        if path.name != "copyright":
            remove(path)
    for path in root.rglob("*"):
        # No program needs the rights of a file's owner or group.
        if not path.is_symlink() and path.stat().st_mode & 0o6000:
            path.chmod(path.stat().st_mode & 0o1777)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def accounts(image: Image, root: Path) -> None:
    user = image.user
    lines = [
        "root:x:0:0:root:/root:/usr/sbin/nologin",
        f"{user.name}:x:{user.uid}:{user.gid}::/tmp:/usr/sbin/nologin",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    ]
    (root / "etc/passwd").write_text("\n".join(lines) + "\n")
    (root / "etc/group").write_text(f"root:x:0:\n{user.name}:x:{user.gid}:\nnogroup:x:65534:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def folders(image: Image, root: Path) -> None:
    for folder in image.folders:
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for temporary in ("tmp", "var/tmp"):
        (root / temporary).chmod(0o1777)
    for link, target in image.links.items():
        place = root / link.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        # A package may have brought a file of this name as a dependency of another one.
        place.unlink(missing_ok=True)
        place.symlink_to(target)


def install_client(image: Image, root: Path) -> None:
    machine = platform.machine()
    version = image.python.removeprefix("python")
    run(
        sys.executable,
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"),
        *("--no-compile", "--no-deps", "--require-hashes", "--only-binary=:all:"),
        *("--implementation=cp", f"--python-version={version}"),
        *(f"--platform={wheels}_{machine}" for wheels in WHEELS),
        f"--target={root}{image.environment['LAMBDA_RUNTIME_DIR']}",
        f"--requirement={SOURCE / image.requirements}",
    )


def make_client(image: Image, root: Path) -> None:
    """Copies the files of the runtime's folder and runs the commands of `make`, without entering the root."""
    place = root / image.environment["LAMBDA_RUNTIME_DIR"].lstrip("/")
    for file in sorted((RUNTIMES / image.runtime).iterdir()):
        if file.name != "runtime.toml":
            shutil.copy(file, place)
    values = {"out": str(place), "root": str(root), "arch": ARCHITECTURES[platform.machine()]}
    for command in filled(image.make, values):
        run(*command)
    for pattern in image.remove:
        for path in place.glob(pattern):
            remove(path)
    for name, expected in image.sha256.items():
        got = hashlib.sha256((root / name.lstrip("/")).read_bytes()).hexdigest()
        if got != expected:
            raise Failed(f"{name} has SHA-256 {got}, not {expected}")


def compile_modules(image: Image, root: Path) -> None:
    """Compiles byte code, since an instance cannot write it. The packer changes times, so it depends on none."""
    where = [f"/usr/lib/{image.python}", image.environment["LAMBDA_RUNTIME_DIR"]]
    command = [image.python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *where]
    # With a fixed hash seed, equal sources give equal byte code.
    run("chroot", str(root), "/usr/bin/env", "-i", "PYTHONHASHSEED=0", "PATH=/usr/bin", *command)


def check_libraries(root: Path) -> None:
    """Fails if a program or a library needs a library that the image does not have."""
    loader = next(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    java = java_libraries(root)
    missing = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        inside = [f"/{file.relative_to(root)}" for file in (loader, path)]
        command = ["chroot", str(root), inside[0], "--library-path", java, "--list", inside[1]]
        listed = subprocess.run(command, capture_output=True, text=True)
        missing += [
            f"{inside[1]}: {line.strip()}" for line in listed.stdout.splitlines() if "not found" in line
        ]
        missing += [listed.stderr.strip()] if "cannot open shared object" in listed.stderr else []
    if missing:
        raise Failed("libraries are missing from the image:\n" + "\n".join(missing))


def run(*command: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is missing: install the Debian package that has it") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}")
