"""Waits in an unclaimed instance; from the claim on this process is the function's.

Python imports it as `sitecustomize`, from a folder of its own: between its own start and that of the
program. So it is `python bootstrap.py` that waits here, and goes on in the interpreter's own way with
nothing of this file left. It first imports what the client imports before the function's folders are
on the path, and what reads no variable as it is imported; then it reads a `Begin`
(operator/wire/src/prestart.rs) from standard input.

A process that starts only now might find something else than this one found, by code or layers that
came with the claim. Then it starts that process in its own place. runtime.toml names the variables
that the interpreter and the C library read once.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
# Where the program lies, which Python puts first on the path only after this.
RUNTIME = os.path.dirname(FOLDER)


def main():
    try:
        looked_in, names = loader_folders(), initial_names()
        load()
    except Exception:
        # What is wrong with the client shows when the function is known.
        looked_in = None
    text = read()
    if not text:
        os._exit(0)
    import json

    begin = json.loads(text)
    variables = {os.fsencode(name): os.fsencode(value) for name, value in begin["environment"]}
    command, folder = begin["command"], begin["taskRoot"]
    try:
        os.chdir(folder)
        replace_input()
        is_same = looked_in is not None and command == sys.orig_argv
        is_same = is_same and become(variables, names, looked_in)
    except Exception:
        is_same = False
    if not is_same:
        start(command, folder, variables)
    restart_log_clock()
    give_way()


def become(variables, names, looked_in):
    """Whether all is now as in a process that starts with these variables."""
    # Python itself may have added LC_CTYPE, and would again (PEP 538).
    added = {name: value for name, value in os.environb.items() if name not in names}
    set_environment({**variables, **{name: added[name] for name in added.keys() - variables.keys()}})
    sys.path.remove(FOLDER)
    forget_absent_folders()
    return not (libraries_came(looked_in) or has_own_modules())


def load():
    """What `bootstrap.py` imports before the function's folders are on the path."""
    sys.path.insert(0, RUNTIME)
    try:
        import awslambdaric
        import awslambdaric.lambda_config
        import awslambdaric.lambda_context
        import awslambdaric.lambda_runtime_client
        import awslambdaric.lambda_runtime_log_utils
        import awslambdaric.lambda_runtime_marshaller  # noqa: F401
    finally:
        sys.path.remove(RUNTIME)


def read():
    parts = []
    while part := os.read(0, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def replace_input():
    """As an instance has it: the descriptor and the file object."""
    import io

    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    old = sys.stdin
    stream = open(0, "rb", closefd=False)
    stream.raw.name = "<stdin>"
    sys.stdin = io.TextIOWrapper(stream, encoding=old.encoding, errors=old.errors, newline="\n")
    sys.stdin.mode = "r"
    sys.__stdin__ = sys.stdin


def initial_names():
    with open("/proc/self/environ", "rb") as file:
        return {variable.partition(b"=")[0] for variable in file.read().split(b"\0")}


def set_environment(variables):
    import time

    os.environb.clear()
    for name, value in variables.items():
        os.environb[name] = value
    time.tzset()


def loader_folders():
    """What the loader may know of its folders: names, or that there is no such folder."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return {folder: names_in(folder) for folder in folders if folder}


def names_in(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return None


def libraries_came(looked_in):
    """The loader looks no more for a folder that it has missed, nor for what it has loaded."""
    with open("/proc/self/maps") as file:
        loaded = {line.rstrip("\n").rpartition("/")[2] for line in file if "/" in line}
    for folder, before in looked_in.items():
        now = names_in(folder) or set()
        if before is None and any(".so" in name or name == "glibc-hwcaps" for name in now):
            return True
        if before is not None and (now - before) & {*loaded, "glibc-hwcaps"}:
            return True
    return False


def forget_absent_folders():
    cache = sys.path_importer_cache
    for folder in [folder for folder, finder in cache.items() if finder is None or folder == FOLDER]:
        del cache[folder]


def has_own_modules():
    """Whether HOME has a folder of modules, which Python would have added to its path."""
    import site

    site.USER_BASE = site.USER_SITE = None
    folder = site.getusersitepackages()
    return bool(site.ENABLE_USER_SITE) and os.path.isdir(folder)


def restart_log_clock():
    """`relativeCreated` of log records counts from when `logging` was imported."""
    import logging
    import time

    in_nanoseconds = isinstance(logging._startTime, int)
    logging._startTime = time.time_ns() if in_nanoseconds else time.time()


def start(command, folder, environment):
    """Another process in the place of this one."""
    import _signal

    # Python ignores these, and a new process would inherit that.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode())
        os._exit(127)


def give_way():
    """To the `sitecustomize` that there is besides, if any."""
    # From modules that every Python has loaded: `importlib.util` is not among them.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

    spec = PathFinder.find_spec(__name__)
    if not spec:
        raise ImportError(name=__name__)
    sys.modules[__name__] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


main()
