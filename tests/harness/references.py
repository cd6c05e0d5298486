"""What Functions, WarmPools and Schedules refer to: each field of their definitions, and what its author needs.

The chart's policy (templates/authors.yaml) has a rule for each. `tests/chart/test_authors.py` compares this table with
the definitions, so that a new field is either here or there said to be plain; `tests/e2e/test_authors.py` tries each one.
"""

from dataclasses import dataclass
from typing import Any

ARCHIVE = {"url": "https://archives.invalid/code.zip", "sha256": "0" * 64}
SOURCE = {"lambda_function.py": "def lambda_handler(event, context):\n    return event\n"}
# The kinds of destinations with a Secret, and what else each has to have.
DESTINATIONS = {
    "http": {"url": "https://receiver.invalid/"},
    "nats": {"url": "nats://receiver.invalid", "subject": "done"},
    "sqs": {"queueUrl": "https://receiver.invalid/0/done"},
    "s3": {"bucket": "done"},
}


@dataclass(frozen=True)
class Reference:
    """A field that names an object of the namespace."""

    kind: str  # of Pilotlight's
    field: str  # with `[]` for each entry of a list
    resource: str  # of the object
    verbs: tuple[str, ...]  # one of them is enough

    def at(self, index=0):
        """How a message calls the field, without the name in it."""
        return self.field.removesuffix(".name").replace("[]", f"[{index}]")

    def spec(self, *names):
        """A spec that names these objects."""
        return spec_with(self.kind, self.field, *names)


REFERENCES = [
    Reference("Function", "spec.environmentFrom[].secretRef.name", "secrets", ("get",)),
    Reference("Function", "spec.environmentFrom[].configMapRef.name", "configmaps", ("get",)),
    Reference("Function", "spec.code.configMap", "configmaps", ("get",)),
    Reference("Function", "spec.code.archive.secretRef.name", "secrets", ("get", "use")),
    Reference("Function", "spec.layers[].secretRef.name", "secrets", ("get", "use")),
    Reference("Function", "spec.pod.imagePullSecrets[].name", "secrets", ("get", "use")),
    Reference("Function", "spec.pod.serviceAccount", "serviceaccounts", ("use", "impersonate")),
    *(
        Reference("Function", f"spec.async.{end}.{form}.secretRef.name", "secrets", ("get",))
        for end in ("onSuccess", "onFailure")
        for form in DESTINATIONS
    ),
    Reference("Function", "spec.async.onSuccess.function", "functions", ("invoke",)),
    Reference("Function", "spec.async.onFailure.function", "functions", ("invoke",)),
    Reference("WarmPool", "spec.environmentFrom[].secretRef.name", "secrets", ("get",)),
    Reference("WarmPool", "spec.environmentFrom[].configMapRef.name", "configmaps", ("get",)),
    Reference("WarmPool", "spec.imagePullSecrets[].name", "secrets", ("get", "use")),
    Reference("WarmPool", "spec.serviceAccount", "serviceaccounts", ("use", "impersonate")),
    Reference("Schedule", "spec.function", "functions", ("invoke",)),
]

# Fields with an allow-list: list of the chart's `authors.allow`.
LISTED = {
    ("Function", "spec.code.image"): "images",
    ("Function", "spec.pod.nodeSelector"): "nodeSelectors",
    ("Function", "spec.pod.tolerations"): "tolerations",
    ("Function", "spec.pod.runtimeClassName"): "runtimeClasses",
    ("WarmPool", "spec.nodeSelector"): "nodeSelectors",
    ("WarmPool", "spec.tolerations"): "tolerations",
    ("WarmPool", "spec.runtimeClassName"): "runtimeClasses",
}

# Fields that refer to nothing of the cluster.
PLAIN = {
    "Function": """
        async.maxAge async.onFailure.http.url async.onFailure.nats.subject async.onFailure.nats.url
        async.onFailure.s3.bucket async.onFailure.s3.endpoint async.onFailure.s3.prefix async.onFailure.s3.region
        async.onFailure.sqs.queueUrl async.onFailure.sqs.region async.onSuccess.http.url async.onSuccess.nats.subject
        async.onSuccess.nats.url async.onSuccess.s3.bucket async.onSuccess.s3.endpoint async.onSuccess.s3.prefix
        async.onSuccess.s3.region async.onSuccess.sqs.queueUrl async.onSuccess.sqs.region async.retries betweenEvents code.archive.sha256 code.archive.url code.inline code.path
        concurrency.provisioned concurrency.queue concurrency.reserved description environment ephemeralStorage errors
        handler keepAlive layers[].sha256 layers[].url logging.enabled logging.format logging.level logging.retention memory
        recursiveLoop runtime timeout
        """,
    "WarmPool": "ephemeralStorage max memory runtime size",
    "Schedule": "async.maxAge async.retries end input jitter schedule start suspend timeZone",
}


def fields(definition):
    """The fields of a definition's spec that hold values: `spec.layers[].url`. What has an allow-list is one field."""

    def below(schema, path):
        if (kind, path) in LISTED:
            yield path
        elif schema.get("type") == "array":
            yield from below(schema["items"], f"{path}[]")
        elif "properties" in schema:
            for name, one in schema["properties"].items():
                yield from below(one, f"{path}.{name}")
        else:
            yield path

    kind = definition["spec"]["names"]["kind"]
    [version] = definition["spec"]["versions"]
    return set(below(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"))


def spec_with(kind, field, *values):
    """The smallest spec whose `field` has the value, or one entry for each value if it is in a list."""
    if kind == "Schedule":
        return put({"schedule": "rate(1 day)"}, field.removeprefix("spec."), values[0])
    spec: dict[str, Any] = {"runtime": "python3.11"}
    spec |= {"size": 0} if kind == "WarmPool" else {"code": {"inline": SOURCE}}
    if field.startswith("spec.code."):
        spec["code"] = {"archive": dict(ARCHIVE)} if ".archive." in field else {}
    for form, needed in DESTINATIONS.items():
        if f".{form}." in field:
            put(spec, field.removeprefix("spec.").removesuffix(".secretRef.name"), dict(needed))
    head, _, tail = field.removeprefix("spec.").partition("[]")
    if tail:
        beside = ARCHIVE if head == "layers" else {}
        put(spec, head, [put(dict(beside), tail.removeprefix("."), value) for value in values])
    else:
        [value] = values
        put(spec, head, value)
    return spec


def put(spec, path, value):
    """`spec` with the value at a path of names with dots between."""
    *outer, last = path.split(".")
    inner = spec
    for name in outer:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return spec
