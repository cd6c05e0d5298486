"""Measured memory is anonymous and shared pages, each counted once, without pages of files."""

import re

from tests.faithful.served import python

# Each function holds some memory, does something else at the same time, and returns the result of that.
BEGINS = """
import mmap, os, subprocess, sys, tempfile

MIB = 1 << 20


def held(mebibytes):
    return bytearray(os.urandom(1024)) * (mebibytes * 1024)


def forked(work):
    # The child's id, and what is written to once it has done its work; it stays until it is killed.
    done, tell = os.pipe()
    wait, stay = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stay)
        kept = work()
        os.write(tell, b"x")
        os.read(wait, 1)
        os._exit(0 if kept is not None else 1)
    os.close(tell)
    os.close(wait)
    return child, done, stay


def ended(child):
    # The signal that ended it, or 0.
    return os.WTERMSIG(os.waitpid(child, 0)[1])
"""

PROGRAMS = """
KEPT = held(150)


def lambda_handler(event, context):
    run = lambda **how: subprocess.run(["/bin/true"], check=True, **how).returncode
    # With `preexec_fn` Python forks; without it Python uses vfork, and the child shares all memory.
    return [run() for _ in range(10)] + [run(preexec_fn=lambda: None) for _ in range(10)]
"""

FILES = """
KEPT = held(150)


def lambda_handler(event, context):
    size = event["mebibytes"] * MIB
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as view:
            return sum(view[:: mmap.PAGESIZE])
"""

WORKERS = """
KEPT = held(110)


def lambda_handler(event, context):
    read = lambda: sum(sum(KEPT[:: mmap.PAGESIZE]) for _ in range(10))
    children = [forked(read) for _ in range(event["children"])]
    done = [os.read(done, 1) for _, done, _ in children]
    for _, _, stay in children:
        os.close(stay)
    return [ended(child) for child, _, _ in children]
"""

CHILDREN = """
def lambda_handler(event, context):
    children = [forked(lambda: held(event["each"])) for _ in range(event["children"])]
    gone, status = os.wait()
    for _, _, stay in children:
        os.close(stay)
    for child, _, _ in children:
        if child != gone:
            ended(child)
    return os.WTERMSIG(status)
"""

SHARED = """
KEPT = []


def lambda_handler(event, context):
    if event.get("own"):
        KEPT.append(held(event["own"]))
    if event.get("shared"):
        shared = mmap.mmap(-1, event["shared"] * MIB)
        KEPT.append(shared)
        page = b"x" * mmap.PAGESIZE
        for at in range(0, len(shared), mmap.PAGESIZE):
            shared[at : at + mmap.PAGESIZE] = page
        read = lambda: sum(sum(shared[:: mmap.PAGESIZE]) for _ in range(10))
        children = [forked(read) for _ in range(3)]
        done = [os.read(done, 1) for _, done, _ in children]
        for _, _, stay in children:
            os.close(stay)
        for child, _, _ in children:
            ended(child)
    if event.get("file"):
        with tempfile.TemporaryFile() as file:
            file.truncate(event["file"] * MIB)
            while file.read(MIB):
                pass
    return len(KEPT)
"""

FUNCTIONS = {
    f"memory-{name}": python(BEGINS + source, memory=memory)
    for name, source, memory in [
        ("programs", PROGRAMS, 256),
        ("files", FILES, 256),
        ("workers", WORKERS, 256),
        ("children", CHILDREN, 256),
        ("shared", SHARED, 512),
        ("figures", SHARED, 512),
    ]
}


def max_used(answer):
    assert "FunctionError" not in answer, answer["Body"]
    return int(re.search(r"Max Memory Used: (\d+) MB", answer["Log"])[1])


def test_programs_that_a_function_starts_do_not_count_its_memory_again(served):
    assert served.answer("memory-programs") == [0] * 20
    assert served.answer("memory-programs") == [0] * 20


def test_a_file_may_be_mapped_that_is_larger_than_the_functions_memory(served):
    assert served.answer("memory-files", {"mebibytes": 512}) == 0


def test_memory_that_forked_workers_only_read_counts_once(served):
    answer = served.invoke("memory-workers", {"children": 4}, LogType="Tail")
    assert answer["Body"] == [0] * 4
    assert 110 <= max_used(answer) < 220


def test_a_child_that_uses_too_much_is_killed_and_the_handler_continues(served):
    assert served.answer("memory-children", {"children": 1, "each": 600}) == 9
    assert served.answer("memory-children", {"children": 1, "each": 600}) == 9


def test_one_of_several_children_that_use_too_much_together_is_killed(served):
    assert served.answer("memory-children", {"children": 5, "each": 80}) == 9


def test_a_function_that_uses_too_much_is_killed_and_the_next_event_gets_a_fresh_process(served):
    answer = served.invoke("memory-shared", {"own": 700}, LogType="Tail")
    assert answer["Body"] == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer['RequestId']} Error: Runtime exited with error: signal: killed",
    }
    assert "Status: error\tError Type: Runtime.OutOfMemory" in answer["Log"]
    assert int(re.search(r"Max Memory Used: (\d+) MB", answer["Log"])[1]) >= 512
    assert served.answer("memory-shared", {"own": 1}) == 1


def test_the_report_counts_private_and_shared_memory_once_and_no_files(served):
    small = max_used(served.invoke("memory-figures", {}, LogType="Tail"))
    assert 0 < small < 60
    own = max_used(served.invoke("memory-figures", {"own": 100}, LogType="Tail"))
    assert 100 <= own < 100 + 60
    files = max_used(served.invoke("memory-figures", {"file": 300}, LogType="Tail"))
    assert own <= files < 100 + 60
    shared = max_used(served.invoke("memory-figures", {"shared": 90}, LogType="Tail"))
    assert 190 <= shared < 190 + 60
