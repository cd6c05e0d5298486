"""The account of lines, without a cluster."""

import json

from tests.chaos.lines import account

FAULT = [{"record": "fault", "fault": "x", "at": 100}, {"record": "over", "fault": "x", "at": 200}]


def run(tmp_path, printed, missing, dropped=0):
    """`printed`: pairs of an instance and a time; the line of each has its number. `missing`: such numbers."""
    (tmp_path / "driver.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FAULT))
    began = [
        {"record": "began", "id": str(number), "instance": instance, "at": at}
        for number, (instance, at) in enumerate(printed)
    ]
    torn = '{"record": "beg'
    (tmp_path / "handlers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in began) + torn)
    lines = {f"began {number}" for number in range(len(printed)) if number not in missing}
    return account(tmp_path, lines, dropped)


def test_every_line_is_found(tmp_path):
    found = run(tmp_path, [("a", 50), ("b", 150), ("a", 250)], missing=[])
    assert (found.printed, found.found, found.with_instance, found.unexplained) == (3, 3, 0, [])
    assert found.is_well


def test_the_last_lines_of_an_instance_may_go_with_it_while_a_fault_is_on(tmp_path):
    found = run(tmp_path, [("a", 110), ("a", 120), ("a", 130), ("b", 120)], missing=[1, 2, 3])
    assert (found.found, found.with_instance, found.is_well) == (1, 3, True)


def test_without_a_fault_no_line_may_be_missing(tmp_path):
    found = run(tmp_path, [("a", 50), ("a", 60), ("b", 250)], missing=[1, 2])
    assert found.unexplained == ["began 1 of a", "began 2 of b"]
    assert not found.is_well


def test_a_line_before_one_that_was_handed_over_is_not_gone_with_its_instance(tmp_path):
    found = run(tmp_path, [("a", 110), ("a", 120), ("a", 130)], missing=[1])
    assert (found.unexplained, found.is_well) == (["began 1 of a"], False)
    # The log says that it was dropped.
    assert run(tmp_path, [("a", 110), ("a", 120), ("a", 130)], missing=[1], dropped=1).is_well
