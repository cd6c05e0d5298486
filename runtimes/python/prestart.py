"""Waits in an unclaimed instance. After the claim, this process is the function's runtime process.

Python imports this file as `sitecustomize`, from a separate folder, before it runs the program. So the waiting
process is `python bootstrap.py`, and after the claim the interpreter continues by itself, without a trace of
this file. This file first imports those modules of the client that read no variable when they are imported.
Then it reads a `Begin` (operator/wire/src/prestart.rs) from standard input.

The claim may bring code or layers with which a fresh process would load other files than this process has
loaded. Then this process replaces itself with a fresh one. runtime.toml names the variables that the
interpreter and the C library read only once.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
# The folder of the program. Python puts it on the path after this file has run.
RUNTIME = os.path.dirname(FOLDER)


def main():
    try:
        looked_in, names = loader_folders(), initial_names()
        load()
    except Exception:
        # The fresh process that is started for the function reports the error.
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
    """Takes over the variables. Returns whether a process that starts with them would be in the same state."""
    # Python may have added LC_CTYPE itself (PEP 538), and a fresh process would add it too.
    added = {name: value for name, value in os.environb.items() if name not in names}
    set_environment({**variables, **{name: added[name] for name in added.keys() - variables.keys()}})
    sys.path.remove(FOLDER)
    forget_absent_folders()
    return not (libraries_came(looked_in) or has_own_modules())


def load():
    """Imports what `bootstrap.py` imports before the function's folders are on the path."""
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
    """Makes /dev/null the standard input, as in any instance: the descriptor and the file object."""
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
    """The state of the loader's folders as the loader may remember it: names of files, or None if absent."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return {folder: names_in(folder) for folder in folders if folder}


def names_in(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return None


def libraries_came(looked_in):
    """Whether the claim brought libraries that a fresh process would load.

    The loader never looks again for a folder that was absent, or for a library that it has loaded.
    """
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
    """Whether HOME has a folder of modules, which a fresh process would add to its path."""
    import site

    site.USER_BASE = site.USER_SITE = None
    folder = site.getusersitepackages()
    return bool(site.ENABLE_USER_SITE) and os.path.isdir(folder)


def restart_log_clock():
    """`relativeCreated` of log records counts from the import of `logging`, which was before the claim."""
    import logging
    import time

    in_nanoseconds = isinstance(logging._startTime, int)
    logging._startTime = time.time_ns() if in_nanoseconds else time.time()


def start(command, folder, environment):
    """Replaces this process with a fresh one."""
    import _signal

    # Python ignores these signals, and the new process would inherit that.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode())
        os._exit(127)


def give_way():
    """Runs the `sitecustomize` that a process without this file would import, if there is one."""
    # Only modules that every Python has loaded, which `importlib.util` is not.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

    spec = PathFinder.find_spec(__name__)
    if not spec:
        raise ImportError(name=__name__)
    sys.modules[__name__] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


main()
