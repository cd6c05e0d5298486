"""Libraries that a function's lists name indirectly: in folders, other lists, locks and workspaces.

The tests write all packages into one tree. They need only one package of the registry, in two versions.
The running server notices edits, and `pilotlight package` puts the installed libraries into an archive.
"""

import json
import re
import shutil
import subprocess
import zipfile

import pytest

from tests.faithful.served import serve
from tests.harness.endpoint import only_local
from tests.harness.local_server import pilotlight
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER, until

pytestmark = only_local("clusters get libraries in archives, which are packed here")

# A build backend that packs the modules beside it into a wheel and needs no tool.
BACKEND = """
import pathlib, tomllib, zipfile
def build_wheel(folder, settings=None, metadata=None):
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    needs = "".join(f"Requires-Dist: {one}\\n" for one in project.get("dependencies", []))
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, file), "w") as wheel:
        for module in pathlib.Path(".").glob("*.py"):
            if module.name != "backend.py":
                wheel.write(module)
        about = f"{name}-{version}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{needs}")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{about}/RECORD", "")
    return file
"""

PYTHON = """
import importlib, pathlib
def lambda_handler(event, context):
    def value(name):
        try:
            return importlib.import_module(name).VALUE
        except ImportError:
            return None
    return [value(name) for name in event]
"""

NODEJS = "exports.handler = async names => names.map(name => { try { return require(name) } catch { return null } })"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8", newline="")


def library(name, value, version="1.0", needs=()):
    """A folder's files: a Python library with one module."""
    project = f"name = {name!r}\nversion = {version!r}\ndependencies = {list(needs)!r}\n"
    system = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    return {
        "pyproject.toml": f"[project]\n{project}[build-system]\n{system}",
        "backend.py": BACKEND,
        f"{name}.py": f"VALUE = {value!r}\n",
    }


def package(name, value, **manifest):
    return {
        "package.json": {"name": name, "version": "1.0.0", **manifest},
        "index.js": f"module.exports = {value}",
    }


def below(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


VERSION = "require('ms/package.json').version"
HUSKY = {"prepare": "husky", "prepublish": "absent"}
UV_LOCK = """
version = 1
[[package]]
name = "app"
version = "0.1.0"
source = { virtual = "." }
dependencies = [{ name = "pl-direct" }, { name = "pl-pinned" }]
[[package]]
name = "pl-direct"
version = "1.0"
source = { editable = "../libs/direct" }
dependencies = [{ name = "pl-pinned" }]
[[package]]
name = "pl-pinned"
version = "1.0"
source = { registry = "../wheels" }
"""
POETRY_LOCK = """
[[package]]
name = "pl-direct"
version = "1.0"
[package.dependencies]
pl-pinned = ">=1"
[package.source]
type = "directory"
url = "../libs/direct"
[[package]]
name = "pl-pinned"
version = "1.0"
[package.source]
type = "legacy"
url = "../wheels"
"""


def tree(root):
    """Writes a folder for each function and for each package that a function refers to."""
    write(
        root,
        {
            # A list in a list, with Windows' line ends, a continued line, an editable library above, and pins.
            "nested/lambda_function.py": PYTHON,
            "nested/requirements.txt": "\ufeff-r lists/base.txt  # all\r\n",
            "nested/lists/base.txt": "-c ../../pins.txt\r\n./own/one; python_version \\\r\n  > '3'\r\n"
            "--find-links ../wheels\r\npl_pinned\r\n-e ../libs/two\r\n",
            "pins.txt": "pl_pinned==1.0\n",
            **below("nested/own/one", library("pl_one", "one")),
            **below("libs/two", library("pl_two", "two")),
            **below("libs/direct", library("pl_direct", "direct", needs=["pl-pinned>=1"])),
            "uv/lambda_function.py": PYTHON,
            "uv/pyproject.toml": "[project]\nname = 'app'\nversion = '0.1.0'\n",
            "uv/uv.lock": UV_LOCK,
            "poetry/lambda_function.py": PYTHON,
            "poetry/pyproject.toml": "[tool.poetry.dependencies]\npython = '*'\npl-direct = {path = '../libs/direct'}\n",
            "poetry/poetry.lock": POETRY_LOCK,
            # Packages that refer to each other and have development scripts.
            **below("linked", package("app", "0", scripts=HUSKY, dependencies={"shared": "file:../shared"})),
            "linked/index.js": NODEJS,
            **below(
                "shared",
                package(
                    "shared", "require('base') + 1", dependencies={"base": "link:../base"}, scripts=HUSKY
                ),
            ),
            **below("base", package("base", "6")),
            # A workspace with a lock, where the member and its neighbour want two versions of one package.
            "mono/package.json": {"private": True, "workspaces": ["packages/*"], "scripts": HUSKY},
            **below("mono/packages/app", package("app", "0", dependencies={"@x/shared": "*", "ms": "2.1.2"})),
            "mono/packages/app/index.js": NODEJS,
            **below("mono/packages/shared", package("@x/shared", VERSION, dependencies={"ms": "2.1.3"})),
            **below("mono/packages/other", package("other", "0", scripts={"postinstall": "absent"})),
            # Workspaces in the form of pnpm and Yarn, without a lock.
            "pnpm/pnpm-workspace.yaml": "packages:\n  - 'apps/*'\n",
            "pnpm/package.json": {"private": True},
            **below("pnpm/apps/app", package("app", "0", dependencies={"neighbour": "workspace:*"})),
            "pnpm/apps/app/index.js": NODEJS,
            **below("pnpm/apps/neighbour", package("neighbour", "5")),
            # A package that the user installed as a link to a neighbouring folder.
            "by-hand/index.js": NODEJS,
            "by-hand/package.json": {},
            # The function's own scripts run, and the installation continues after one that fails.
            "scripts/index.js": NODEJS,
            "scripts/made.txt": "3",
            "scripts/package.json": {
                "scripts": {
                    "install": "mkdir -p node_modules/made && echo module.exports=$(cat made.txt) >node_modules/made/index.js",
                    "postinstall": "husky-is-absent",
                },
                "dependencies": {"base": "../base"},
            },
        },
    )
    (root / "by-hand/node_modules").mkdir()
    (root / "by-hand/node_modules/shared").symlink_to("../../base")
    wheels = root / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        source = root / "made" / version
        write(source, library("pl_pinned", version, version))
        subprocess.run(["python3", "-c", f"{BACKEND}\nbuild_wheel({str(wheels)!r})"], cwd=source, check=True)
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--ignore-scripts"],
        cwd=root / "mono",
        check=True,
        capture_output=True,
    )


FOLDERS = {
    "nested": "python3.11",
    "uv": "python3.11",
    "poetry": "python3.11",
    "linked": "nodejs22",
    "mono/packages/app": "nodejs22",
    "pnpm/apps/app": "nodejs22",
    "by-hand": "nodejs22",
    "scripts": "nodejs22",
}


def name_of(folder):
    return folder.split("/", maxsplit=1)[0]


def functions(root):
    def spec(folder, runtime):
        return {"runtime": runtime, "timeout": LONGER, "code": {"path": str(root / folder)}}

    return {name_of(folder): spec(folder, runtime) for folder, runtime in FOLDERS.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    tree(root)
    return root


@pytest.fixture(scope="module")
def served(root):
    yield from serve(functions(root), root)


def test_a_list_in_a_list_brings_libraries_of_folders_as_pinned_elsewhere(served):
    assert served.answer("nested", ["pl_one", "pl_two", "pl_pinned"]) == ["one", "two", "1.0"]


@pytest.mark.parametrize("tool", ["uv", "poetry"])
def test_a_lock_of_python_decides_the_version(served, tool):
    assert served.answer(tool, ["pl_direct", "pl_pinned"]) == ["direct", "1.0"]


def test_packages_in_folders_bring_their_own_packages_and_need_no_development_tools(served):
    assert served.answer("linked", ["shared"]) == [7]


def test_members_of_a_workspace_find_each_other_and_their_own_versions(served):
    assert served.answer("mono", ["@x/shared", "ms/package.json"])[0] == "2.1.3"
    assert served.answer("mono", ["ms/package.json"])[0]["version"] == "2.1.2"
    assert served.answer("pnpm", ["neighbour"]) == [5]


def test_the_functions_own_install_scripts_run_and_may_fail(served):
    assert served.answer("scripts", ["made", "base"]) == [3, 6]
    assert served.server.wait_for_line(r"warning: scripts: the script postinstall of package.json failed")


def test_nothing_is_written_beside_the_code(served, root):
    made = {path.name for path in root.rglob("*") if path.is_dir()}
    assert not made & {"build", "dist"} and not [name for name in made if name.endswith(".egg-info")]
    assert [path.parent.name for path in root.rglob("node_modules")] == ["by-hand"]


def edited(served, root, file, text, name, event, answer):
    before = (root / file).read_text(encoding="utf-8")
    assert served.answer(name, event) != answer
    (root / file).write_text(text, encoding="utf-8")
    until(lambda: served.answer(name, event) == answer, f"{file} is taken up")
    (root / file).write_text(before, encoding="utf-8")
    until(lambda: served.answer(name, event) != answer, f"{file} is taken up again")


@pytest.mark.parametrize(
    ("file", "text", "name", "event", "answer"),
    [
        ("pins.txt", "pl_pinned==2.0\n", "nested", ["pl_pinned"], ["2.0"]),
        ("libs/two/pl_two.py", "VALUE = 2\n", "nested", ["pl_two"], [2]),
        ("base/index.js", "module.exports = 10", "linked", ["shared"], [11]),
        ("mono/packages/shared/index.js", "module.exports = 'new'", "mono", ["@x/shared"], ["new"]),
        ("base/index.js", "module.exports = 'live'", "by-hand", ["shared"], ["live"]),
    ],
)
def test_an_edit_of_a_referenced_file_is_noticed(served, root, file, text, name, event, answer):
    edited(served, root, file, text, name, event, answer)


def test_a_missing_file_is_named_with_its_place_and_noticed_when_it_appears(served, root):
    file = root / "nested/lists/base.txt"
    before = file.read_text(encoding="utf-8")
    file.write_text("./own/one\n\n-r absent.txt\n", encoding="utf-8")
    served.server.wait_for_line(r"nested: .*lists/base.txt:3: .*absent.txt is not there")
    assert served.answer("nested", ["pl_one"]) == ["one"]
    (root / "nested/lists/absent.txt").write_text(
        "../libs/direct\n--find-links ../wheels\n", encoding="utf-8"
    )
    until(lambda: served.answer("nested", ["pl_direct"]) == ["direct"], "the list is complete")
    file.write_text(before, encoding="utf-8")


def packaged(functions, folder):
    manifest = folder / "functions.yaml"
    manifest.write_text(as_yaml([resource("Function", *one) for one in functions.items()]), encoding="utf-8")
    return pilotlight("package", str(manifest), "--output", str(folder / "out"))


def test_archives_contain_copies_of_everything_that_is_linked(root, tmp_path):
    done = packaged(functions(root), tmp_path)
    assert done.returncode == 0, done.stderr
    for name, files in {
        "nested": ["lambda_function.py", "pl_one.py", "pl_two.py", "pl_pinned.py"],
        "linked": [
            "index.js",
            "node_modules/shared/index.js",
            "node_modules/shared/node_modules/base/index.js",
        ],
        "mono": ["node_modules/@x/shared/index.js", "node_modules/ms/index.js"],
        "by-hand": ["node_modules/shared/index.js"],
    }.items():
        with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
            names = set(archive.namelist())
            assert names >= set(files), names
            assert not [one for one in archive.infolist() if one.external_attr >> 28 == 0o12]
        at = tmp_path / name
        with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
            archive.extractall(at)
    assert required(tmp_path / "mono", "@x/shared") == "2.1.3"
    assert required(tmp_path / "linked", "shared") == "7"


def required(folder, name):
    done = subprocess.run(
        ["node", "-p", f"require({name!r})"], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


JAVA = """package shop;
public class Totals { public int handle(int n) { return Helper.twice(n); } }
"""
HELPER = "package shop; class Helper { static int twice(int n) { return 2 * n; } }"


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """Functions whose code is a jar, each in another layout."""
    root = tmp_path_factory.mktemp("java")
    write(root, {"src/Totals.java": JAVA, "src/Helper.java": HELPER})
    sources = [str(root / "src" / name) for name in ("Totals.java", "Helper.java")]
    subprocess.run(["javac", "-d", str(root / "classes"), *sources], check=True)
    jar = root / "app.jar"
    subprocess.run(["jar", "--create", "--file", str(jar), "-C", str(root / "classes"), "."], check=True)
    other = root / "other.jar"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("nothing.txt", "")
    for folder, files in {
        "top": {"app.jar": jar},
        "maven": {"target/app-1.0.jar": jar, "target/original-app-1.0.jar": other, "pom.xml": None},
        "gradle": {"build/libs/app-all.jar": jar, "build/libs/app.jar": other, "build.gradle.kts": None},
        "several": {"app.jar": jar, "other.jar": other},
        "unbuilt": {"build.gradle": None, "src/main/java/shop/Totals.java": root / "src/Totals.java"},
    }.items():
        for name, source in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path) if source else path.write_text("no build is needed", encoding="utf-8")
    # The jar is newer than the last change of the sources.
    (root / "maven/target/app-1.0.jar").touch()
    return root


def java_functions(root, *names):
    spec = {"runtime": "java17", "memory": 256, "timeout": LONGER, "handler": "shop.Totals::handle"}
    return {name: {**spec, "code": {"path": str(root / name)}} for name in names}


@pytest.fixture(scope="module")
def served_java(java):
    yield from serve(java_functions(java, "top", "maven", "gradle"), java)


@pytest.mark.parametrize("layout", ["top", "maven", "gradle"])
def test_one_jar_is_the_package(served_java, layout):
    assert served_java.answer(layout, 21) == 42


def test_a_jar_that_is_ambiguous_or_missing_is_reported_with_advice(java, tmp_path):
    done = packaged(java_functions(java, "several", "unbuilt"), tmp_path)
    assert done.returncode == 1
    assert re.search(r"several: .*several jars \(app.jar, other.jar\)", done.stderr, re.DOTALL), done.stderr
    assert re.search(r"unbuilt: .*build/libs/ has no jar.*gradle shadowJar", done.stderr, re.DOTALL)


def test_a_jar_is_unpacked_into_the_archive(java, tmp_path):
    done = packaged(java_functions(java, "top", "gradle"), tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("top", "gradle"):
        with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
            assert "shop/Totals.class" in archive.namelist()
            assert not [one for one in archive.namelist() if one.endswith(".jar")]
