"""What `kubectl apply` says of a Function that is wrong: the field and the reason.

Each case changes one field of a manifest that is otherwise valid. The file
reader's own table is operator/api/tests/refused_manifests.rs; what it refuses is
refused here as well.
"""

import json

import pytest

LABEL = "must be 1 to 63 characters: a-z, 0-9 and `-`"
ONE_FORM = "must have exactly one of inline, archive, configMap, image"
RELATIVE = "each file name must be relative"
VARIABLE = "each name must be a variable's"
PLATFORM = "are set by the platform: remove or rename them"
SHA256 = "must be 64 characters 0-9 and a-f"
URL = "must be an https:// or http:// address without spaces"
ARCHIVE = {"url": "https://host/a.zip", "sha256": "0" * 64}


def manifest(field=None, value=None):
    function = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "tested"},
        "spec": {
            "runtime": "python3.11",
            "code": {"inline": {"lambda_function.py": "def lambda_handler(e, c): return e"}},
        },
    }
    if field:
        *path, last = field.split(".")
        place = function
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return json.dumps(function)


REFUSED = [
    # field, value, the field that is named, the reason
    ("metadata.name", "Hello", "metadata.name", "RFC 1123"),
    ("metadata.name", "a.b", "metadata.name", LABEL),
    ("metadata.name", "a" * 64, "metadata.name", LABEL),
    ("metadata.name", "a_b", "metadata.name", "RFC 1123"),
    ("spec.runtime", "python2", "spec.runtime", 'supported values: "python3.10"'),
    ("spec.runtime", None, "spec.runtime", "Required value"),
    ("spec.runtime", 3, "spec.runtime", "must be of type string"),
    ("spec.handler", "app handler", "spec.handler", "without spaces, such as `app.handler`"),
    ("spec.handler", "", "spec.handler", "without spaces, such as `app.handler`"),
    ("spec.handler", "app.handler\n", "spec.handler", "without spaces, such as `app.handler`"),
    ("spec.handler", "h" * 129, "spec.handler", "may not be more than 128"),
    ("spec.description", "x" * 257, "spec.description", "may not be more than 256"),
    ("spec.memory", 64, "spec.memory", "greater than or equal to 128"),
    ("spec.memory", 10241, "spec.memory", "less than or equal to 10240"),
    ("spec.memory", "128Mi", "spec.memory", "must be of type integer"),
    ("spec.memory", 128.5, "spec.memory", "must be of type integer"),
    ("spec.timeout", 0, "spec.timeout", "greater than or equal to 1"),
    ("spec.timeout", 901, "spec.timeout", "less than or equal to 900"),
    ("spec.timeout", [3], "spec.timeout", "must be of type integer"),
    ("spec.keepAlive", -1, "spec.keepAlive", "greater than or equal to 0"),
    ("spec.keepAlive", 3601, "spec.keepAlive", "less than or equal to 3600"),
    ("spec.ephemeralStorage", 511, "spec.ephemeralStorage", "greater than or equal to 512"),
    ("spec.ephemeralStorage", 10241, "spec.ephemeralStorage", "less than or equal to 10240"),
    ("spec.concurrency.reserved", -1, "spec.concurrency.reserved", "greater than or equal to 0"),
    ("spec.concurrency.reserved", 10001, "spec.concurrency.reserved", "less than or equal to"),
    ("spec.concurrency.queue", 10001, "spec.concurrency.queue", "less than or equal to 10000"),
    ("spec.concurrency", 5, "spec.concurrency", "must be of type object"),
    ("spec.logging.format", "json", "spec.logging.format", 'supported values: "Text", "JSON"'),
    ("spec.logging.enabled", "yes", "spec.logging.enabled", "must be of type boolean"),
    ("spec.errors", "full", "spec.errors", 'supported values: "Full", "Sanitized"'),
    ("spec.environment", {"A": 5}, "spec.environment.A", "must be of type string"),
    ("spec.environment", {"A-B": "a"}, "spec.environment", VARIABLE),
    ("spec.environment", {"1A": "a"}, "spec.environment", VARIABLE),
    ("spec.environment", {"AWS_LAMBDA_RUNTIME_API": "a"}, "spec.environment", PLATFORM),
    ("spec.environment", {"_HANDLER": "a"}, "spec.environment", PLATFORM),
    ("spec.environment", ["A"], "spec.environment", "must be of type object"),
    ("spec.memroy", 128, "spec.memroy", "unknown field"),
    ("spec.code.git", "a", "spec.code.git", "unknown field"),
    ("spec.code", None, "spec.code", "Required value"),
    ("spec.code", {}, "spec.code", ONE_FORM),
    ("spec.code", {"image": "a", "configMap": "b"}, "spec.code", ONE_FORM),
    ("spec.code", {"path": "./hello"}, "spec.code", "`path` is for local mode"),
    ("spec.code", {"inline": {}}, "spec.code.inline", "at least 1 properties"),
    ("spec.code", {"inline": {"../a.py": "1"}}, "spec.code.inline", RELATIVE),
    ("spec.code", {"inline": {"/a.py": "1"}}, "spec.code.inline", RELATIVE),
    ("spec.code", {"inline": {"a//b.py": "1"}}, "spec.code.inline", RELATIVE),
    ("spec.code", {"inline": {"./a.py": "1"}}, "spec.code.inline", RELATIVE),
    ("spec.code", {"inline": {"a\\b.py": "1"}}, "spec.code.inline", RELATIVE),
    ("spec.code", {"inline": {"a": "1", "a/b": "1"}}, "spec.code.inline", "another file's directory"),
    ("spec.code", {"inline": {"a": "x" * 120_000, "b": "x" * 100_000}}, "spec.code.inline",
     "at most 200,000 characters together"),
    ("spec.code", {"archive": {"url": "https://host/a.zip"}}, "spec.code.archive.sha256", "Required value"),
    ("spec.code", {"archive": ARCHIVE | {"url": "ftp://host/a"}}, "spec.code.archive.url", URL),
    ("spec.code", {"archive": ARCHIVE | {"url": "https:///a"}}, "spec.code.archive.url", URL),
    ("spec.code", {"archive": ARCHIVE | {"sha256": "ABC"}}, "spec.code.archive.sha256", SHA256),
    ("spec.code", {"configMap": "a_b"}, "spec.code.configMap", "must be 1 to 253 characters"),
    ("spec.code", {"image": "a b"}, "spec.code.image", "without spaces"),
]

ACCEPTED = [
    (None, None),
    ("metadata.name", "a" * 63),
    ("spec.memory", 10240),
    ("spec.handler", "example.Hello::handleRequest"),
    ("spec.environment", {"TABLE_NAME": "orders", "AWS_REGION": "eu-central-1", "_": ""}),
    ("spec.concurrency.reserved", 0),
    ("spec.keepAlive", 0),
    ("spec.code", {"archive": ARCHIVE}),
    ("spec.code", {"configMap": "code.of-tested"}),
    ("spec.code", {"image": "registry/name:tag"}),
    ("spec.code", {"inline": {"lib/deep/a.py": "1", "a-b": "", "..a": "", "grüße.txt": ""}}),
]


@pytest.mark.parametrize(("field", "value", "named", "reason"), REFUSED)
def test_a_bad_field_is_refused_with_its_name_and_the_reason(dry_run, field, value, named, reason):
    applied = dry_run(manifest(field, value))
    assert applied.returncode != 0, applied.stdout
    assert named in applied.stderr and reason in applied.stderr, applied.stderr


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_a_good_one_is_taken(dry_run, field, value):
    applied = dry_run(manifest(field, value))
    assert applied.returncode == 0, applied.stderr
