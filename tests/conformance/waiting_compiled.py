"""The waiting runtimes whose functions are compiled. `waiting` owns the instances."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.waiting import FINDS, Waiting, asked
from tests.harness.paths import REPOSITORY


@dataclass(frozen=True)
class Assemblies(Waiting):
    # What local mode has compiled.
    made: str = ""

    @property
    def finds(self):
        return assembly((FINDS / "Finds.cs").read_text())

    def lay_out(self, root):
        shutil.copytree(self.made, root / "var/runtime")


@dataclass(frozen=True)
class Classes(Waiting):
    # What local mode has installed, with the archive of classes, which fits this place alone; and what waits.
    made: str = ""
    library: str = ""

    @property
    def finds(self):
        return classes("Finds", (FINDS / "Finds.java").read_text(), self.made)["shop/Finds.class"]

    def lay_out(self, root):
        (root / "var").mkdir(parents=True)

    def placed(self, text, root):
        text = text.replace("/var/runtime/waiting.so", self.library).replace("/var/runtime", self.made)
        return super().placed(text, root)


@cache
def assembly(source, name="Finds"):
    """Compiled C#."""
    with tempfile.TemporaryDirectory() as folder:
        file, made = Path(folder, "source.cs"), Path(folder, f"{name}.dll")
        file.write_text(source)
        subprocess.run(["mcs", "-optimize", "-target:library", f"-out:{made}", file], check=True)
        return made.read_bytes()


@cache
def classes(name, source, made):
    """Compiled Java: class files by their places. `name`: of the public class."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{name}.java")
        file.write_text(source)
        subprocess.run(["javac", "-proc:none", "-cp", f"{made}/lib/*", "-d", folder, file], check=True)
        return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*.class")}


def dotnet(folder):
    code = (
        "namespace Example { public class Function { public string FunctionHandler() {"
        " return System.AppDomain.CurrentDomain.BaseDirectory; } } }\n"
    )
    return Assemblies(
        name="dotnet",
        folder="dotnet",
        interpreter="",
        handler="Finds::Finds.Handler::Handle",
        code="Finds.dll",
        loaded="bootstrap.exe",
        made=asked("dotnet", {"Function.cs": code}, folder),
    )


def java(folder):
    code = (
        "package example; public class Hello { public String handleRequest(Object event) {"
        ' return System.getenv("LAMBDA_RUNTIME_DIR"); } }\n'
    )
    made, library = asked("java17", {"Hello.java": code}, folder), str(folder / "waiting.so")
    subprocess.run(["sh", "-e", REPOSITORY / "runtimes/java/waiting.sh", library, "javac"], check=True)
    return Classes(
        name="java17",
        folder="java",
        interpreter=shutil.which("java"),
        handler="shop.Finds::handle",
        code="shop/Finds.class",
        loaded="waiting.so",
        made=made,
        library=library,
    )


COMPILED = {"dotnet": dotnet, "java17": java}
