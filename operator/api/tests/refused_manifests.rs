//! What a person is told about a manifest that is wrong: the exact line, for each kind of mistake.
//!
//! Feeds `read` with text; the accepted ones are in `accepted_manifests`. Each case breaks one
//! thing in a manifest that is otherwise valid.

use std::path::Path;

use pilotlight_api::read;

const HEAD: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata:
  name: hello
spec:
  runtime: python3.11
";
const CODE: &str = "  code:\n    path: ./hello\n";

fn told(text: &str) -> Vec<String> {
    let errors = read(Path::new("f.yaml"), text).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// Each case's text follows `prefix`; its single error follows `f.yaml:`.
fn check(prefix: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(
            told(&format!("{prefix}{text}\n")),
            [format!("f.yaml:{expected}")],
            "{text}"
        );
    }
}

const SPEC: &[(&str, &str)] = &[
    (
        "  memory: 64",
        "9:11: spec.memory: must be between 128 and 10240 MiB, got 64",
    ),
    (
        "  memory: 10241",
        "9:11: spec.memory: must be between 128 and 10240 MiB, got 10241",
    ),
    (
        "  memory:\n    -1",
        "10:5: spec.memory: must be between 128 and 10240 MiB, got -1",
    ),
    (
        "  memory: 128Mi",
        "9:11: spec.memory: must be a whole number of MiB between 128 and 10240, \
         got the text \"128Mi\"",
    ),
    (
        "  memory: \"128\"",
        "9:11: spec.memory: must be a whole number of MiB between 128 and 10240, \
         got the text \"128\"",
    ),
    (
        "  timeout: 1.5",
        "9:12: spec.timeout: must be a whole number of seconds between 1 and 900, got 1.5",
    ),
    (
        "  timeout:",
        "9:10: spec.timeout: must be a whole number of seconds between 1 and 900, got nothing",
    ),
    (
        "  timeout: [3]",
        "9:12: spec.timeout: must be a whole number of seconds between 1 and 900, got a list",
    ),
    (
        "  timeout: {s: 3}",
        "9:12: spec.timeout: must be a whole number of seconds between 1 and 900, \
         got a mapping",
    ),
    (
        "  timeout: true",
        "9:12: spec.timeout: must be a whole number of seconds between 1 and 900, got true",
    ),
    (
        "  timeout: 0",
        "9:12: spec.timeout: must be between 1 and 900 seconds, got 0",
    ),
    (
        "  keepAlive: 3601",
        "9:14: spec.keepAlive: must be between 0 and 3600 seconds, got 3601",
    ),
    (
        "  ephemeralStorage: 511",
        "9:21: spec.ephemeralStorage: must be between 512 and 10240 MiB, got 511",
    ),
    (
        "  concurrency: {reserved: -1}",
        "9:27: spec.concurrency.reserved: must be between 0 and 10000 instances, got -1",
    ),
    (
        "  concurrency:\n    queue: 10001",
        "10:12: spec.concurrency.queue: must be between 0 and 10000 events, got 10001",
    ),
    (
        "  concurrency: 5",
        "9:16: spec.concurrency: must be a mapping: lines of `name: value`, or {} for none",
    ),
    (
        "  logging: {format: json}",
        "9:21: spec.logging.format: must be Text or JSON, got `json`",
    ),
    (
        "  logging: {format: JSON, level: info}",
        "9:34: spec.logging.level: must be TRACE or DEBUG or INFO or WARN or ERROR or FATAL, got `info`",
    ),
    (
        "  logging: {level: INFO}",
        "9:12: spec.logging: has a `level` without `format: JSON`: add the format, or remove the level",
    ),
    (
        "  logging: {retention: 0}",
        "9:24: spec.logging.retention: must be between 1 and 3653 days, got 0",
    ),
    (
        "  logging: {retention: 7d}",
        "9:24: spec.logging.retention: must be a whole number of days between 1 and 3653, got the text \"7d\"",
    ),
    (
        "  logging: {enabled: 5}",
        "9:22: spec.logging.enabled: must be true or false",
    ),
    (
        "  logging: {enabled: \"no\"}",
        "9:22: spec.logging.enabled: must be true or false",
    ),
    (
        "  errors: full",
        "9:11: spec.errors: must be Full or Sanitized, got `full`",
    ),
    (
        "  betweenEvents: freeze",
        "9:18: spec.betweenEvents: must be Run or Freeze, got `freeze`",
    ),
    (
        "  recursiveLoop: Deny",
        "9:18: spec.recursiveLoop: must be Terminate or Allow, got `Deny`",
    ),
    (
        "  errors:",
        "9:9: spec.errors: has no value: give it one or remove it",
    ),
    (
        "  errors: [Full]",
        "9:11: spec.errors: must be a single word",
    ),
    (
        "  handler: app handler",
        "9:12: spec.handler: must be 1 to 128 characters without spaces, \
         such as `app.handler`, got `app handler`",
    ),
    (
        "  handler: 5",
        "9:12: spec.handler: `5` is not text: put it in quotes, \"5\"",
    ),
    (
        "  handler: [a]",
        "9:12: spec.handler: must be text, not a list or a mapping",
    ),
    (
        "  timeout: &limit 100\n  memory: *limit",
        "10:11: spec.memory: must be between 128 and 10240 MiB, got 100",
    ),
];

#[test]
fn a_value_of_the_spec_is_refused_at_its_place_with_what_it_may_be() {
    check(&format!("{HEAD}{CODE}"), SPEC);
}

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "    A: 5",
        "10:8: spec.environment.A: `5` is not text: put it in quotes, \"5\"",
    ),
    (
        "    A: 1.5",
        "10:8: spec.environment.A: `1.5` is not text: put it in quotes, \"1.5\"",
    ),
    (
        "    A: true",
        "10:8: spec.environment.A: `true` is not text: put it in quotes, \"true\"",
    ),
    (
        "    A: no",
        "10:8: spec.environment.A: `no` is not text: put it in quotes, \"no\"",
    ),
    (
        "    A:",
        "10:6: spec.environment.A: must be text, got nothing: write \"\" for an empty text",
    ),
    (
        "    A: [b]",
        "10:8: spec.environment.A: must be text, not a list or a mapping",
    ),
    (
        "    A: \"\\0\"",
        "10:8: spec.environment.A: must not contain a NUL character: \
         a process cannot be given one",
    ),
    (
        "    ON: a",
        "10:5: spec.environment: `ON` is not text: put it in quotes, \"ON\"",
    ),
    (
        "    A: a\n    B: b\n    A: c",
        "12:5: spec.environment.A: is set twice: remove one of them",
    ),
    (
        "    A-B: a",
        "10:5: spec.environment.A-B: `A-B` cannot be a variable: use letters, digits and `_`, \
         and no digit at the start",
    ),
    (
        "    AWS_LAMBDA_RUNTIME_API: a",
        "10:5: spec.environment.AWS_LAMBDA_RUNTIME_API: `AWS_LAMBDA_RUNTIME_API` is set by \
         the platform: remove it or rename it",
    ),
    (
        "",
        "9:14: spec.environment: must be a mapping: lines of `name: value`, or {} for none",
    ),
    (
        "    - A",
        "10:5: spec.environment: must be a mapping: lines of `name: value`, or {} for none",
    ),
];

#[test]
fn an_environment_holds_text_under_names_of_its_own() {
    check(&format!("{HEAD}{CODE}  environment:\n"), ENVIRONMENT);
}

const FORMS: &[(&str, &str)] = &[
    (
        " {}",
        "7:9: spec.code: must have one of inline, path, archive, configMap, image",
    ),
    (
        " ./hello",
        "7:9: spec.code: must be a mapping: lines of `name: value`, or {} for none",
    ),
    (
        "\n    image: a\n    path: b",
        "8:5: spec.code: has both `path` and `image`: keep one of them",
    ),
    (
        "\n    git: a",
        "8:5: spec.code.git: is not a field: the fields here are inline, path, archive, \
         configMap, image",
    ),
    (
        "\n    configmap: a",
        "8:5: spec.code.configmap: is not a field: did you mean `configMap`? \
         The fields here are inline, path, archive, configMap, image",
    ),
    (
        "\n    inline: {}",
        "8:13: spec.code.inline: must hold at least one file, such as `lambda_function.py: |`",
    ),
    (
        "\n    inline:\n      ../a.py: pass",
        "9:7: spec.code.inline.../a.py: `../a.py` must be a relative file name, with `/` \
         between and without `.` or `..` parts",
    ),
    (
        "\n    inline:\n      /a.py: pass",
        "9:7: spec.code.inline./a.py: `/a.py` must be a relative file name, with `/` between \
         and without `.` or `..` parts",
    ),
    (
        "\n    inline:\n      a: pass\n      a-b: pass\n      a/b/c: pass",
        "9:7: spec.code.inline: `a` is a file and the directory of `a/b/c`: \
         rename one of them",
    ),
    (
        "\n    path: \"\"",
        "8:11: spec.code.path: must be a directory relative to the manifest, such as `./hello`",
    ),
    (
        "\n    archive: {url: https://a/b.zip}",
        "8:15: spec.code.archive.sha256: is missing: add it",
    ),
    (
        "\n    archive: {url: ftp://a}",
        "8:20: spec.code.archive.url: must be an https:// or http:// address without spaces, \
         got `ftp://a`",
    ),
    (
        "\n    archive: {url: \"https://me:pw@a/b\", sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"}",
        "8:20: spec.code.archive.url: must not have a user name or a password: name a Secret \
         in `secretRef` instead",
    ),
    (
        "\n    archive: {sha256: ABC}",
        "8:23: spec.code.archive.sha256: must be 64 characters 0-9 and a-f, as `sha256sum` \
         prints them, got `ABC`",
    ),
    (
        "\n    configMap: a_b",
        "8:16: spec.code.configMap: must be 1 to 253 characters: a-z, 0-9, `-` and `.`, \
         got `a_b`",
    ),
    (
        "\n    image: a b",
        "8:12: spec.code.image: must be an image such as `registry/name:tag`, without spaces, \
         got `a b`",
    ),
];

#[test]
fn code_has_exactly_one_form_that_can_be_fetched() {
    check(&format!("{HEAD}  code:"), FORMS);
}

const DESTINATIONS: &[(&str, &str)] = &[
    (
        "  async: {onSuccess: {}}",
        "9:22: spec.async.onSuccess: must have exactly one of function, http, nats, sqs, s3",
    ),
    (
        "  async: {onSucces: {}}",
        "9:11: spec.async.onSucces: is not a field: did you mean `onSuccess`? The fields here are maxAge, retries, onSuccess, onFailure",
    ),
    (
        "  async:\n    onFailure: {function: hello}",
        "10:27: spec.async.onFailure.function: must be another function: this one would be called with its own records again and \
         again",
    ),
    (
        "  async:\n    onFailure: {http: {url: \"https://me:hunter2@host/?key=5ecret\"}}",
        "10:29: spec.async.onFailure.http.url: must be an https:// or http:// address such as https://host/path, without user, \
         password, fragment and spaces, got `https://host/`",
    ),
    (
        "  async:\n    onFailure: {sqs: {queueUrl: \"https://host/0/a.fifo\"}}",
        "10:33: spec.async.onFailure.sqs.queueUrl: must be a standard queue: the name of a FIFO queue ends in .fifo, and none can be a \
         destination",
    ),
    (
        "  async:\n    onFailure: {nats: {url: \"nats://host\"}}",
        "10:24: spec.async.onFailure.nats.subject: is missing: add it",
    ),
];

#[test]
fn a_destination_has_exactly_one_form_that_can_be_sent_to() {
    check(&format!("{HEAD}{CODE}"), DESTINATIONS);
}

const POD: &[(&str, &str)] = &[
    (
        "  environmentFrom: app",
        "9:20: spec.environmentFrom: must be a list: lines of `- value`, or [] for none",
    ),
    (
        "  environmentFrom:\n  - {}",
        "10:5: spec.environmentFrom[0]: must have exactly one of secretRef, configMapRef",
    ),
    (
        "  environmentFrom:\n  - secretRef: {name: A}",
        "10:23: spec.environmentFrom[0].secretRef.name: must be 1 to 253 characters: a-z, 0-9, \
         `-` and `.`, got `A`",
    ),
    (
        "  pod: {serviceAccountName: a}",
        "9:9: spec.pod.serviceAccountName: is not a field: the fields here are serviceAccount, \
         imagePullSecrets, nodeSelector, tolerations, runtimeClassName",
    ),
    (
        "  pod: {runtimeClassName: g_visor}",
        "9:27: spec.pod.runtimeClassName: must be 1 to 253 characters: a-z, 0-9, `-` and `.`, got \
         `g_visor`",
    ),
    (
        "  pod: {nodeSelector: {a/b/c: d}}",
        "9:24: spec.pod.nodeSelector.a/b/c: `a/b/c` cannot be a key: use letters, digits, `-`, \
         `_` and `.`, after a domain and `/` or none",
    ),
    (
        "  pod: {nodeSelector: {a: b-}}",
        "9:27: spec.pod.nodeSelector.a: must be at most 63 characters: letters, digits, `-`, `_` \
         and `.`, got `b-`",
    ),
    (
        "  pod:\n    tolerations: [{effect: NoSchedule}]",
        "10:19: spec.pod.tolerations[0]: needs a `key`, or `operator: Exists` to tolerate every \
         taint",
    ),
    (
        "  pod:\n    tolerations: [{key: a, operator: Exists, value: b}]",
        "10:19: spec.pod.tolerations[0]: has a `value` with `operator: Exists`: remove one of them",
    ),
    (
        "  pod:\n    tolerations: [{key: a, tolerationSeconds: 5}]",
        "10:19: spec.pod.tolerations[0]: has `tolerationSeconds`, which works only with \
         `effect: NoExecute`: add that or remove it",
    ),
];

#[test]
fn what_pods_are_given_is_refused_at_its_place() {
    check(&format!("{HEAD}{CODE}"), POD);
}

#[test]
fn a_text_too_long_for_its_field_is_refused() {
    let description = format!("  description: {}", "x".repeat(257));
    let handler = "h".repeat(129);
    let handler_told = format!(
        "9:12: spec.handler: must be 1 to 128 characters without spaces, such as `app.handler`, \
         got `{handler}`"
    );
    let cases = [
        (
            description.as_str(),
            "9:16: spec.description: must have at most 256 characters, got 257",
        ),
        (&format!("  handler: {handler}"), &handler_told),
    ];
    check(&format!("{HEAD}{CODE}"), &cases);
}

#[test]
fn a_field_is_neither_unknown_nor_missing_nor_set_twice() {
    let known = "The fields here are runtime, handler, description, memory, timeout, environment, \
                 environmentFrom, code, layers, ephemeralStorage, concurrency, keepAlive, logging, errors, async, betweenEvents, \
                 recursiveLoop, pod";
    let typo = format!("9:3: spec.memroy: is not a field: did you mean `memory`? {known}");
    let listed = known.trim_start_matches("The");
    let blank = format!("9:3: spec.\" \": is not a field: the{listed}");
    let cases = [
        ("  memroy: 128", typo.as_str()),
        (
            "  memory: 128\n  memory: 256",
            "10:3: spec.memory: is set twice: remove one of them",
        ),
        (
            "status: {}",
            "9:1: status: is not a field: the fields here are apiVersion, kind, metadata, spec",
        ),
        // A name that has nothing to see is shown in quotes.
        (
            "\"\": {}",
            "9:1: \"\": is not a field: the fields here are apiVersion, kind, metadata, spec",
        ),
        ("  \" \": 128", blank.as_str()),
        (
            "? \"\"\n: {}\n\"\": {}",
            "11:1: \"\": is set twice: remove one of them",
        ),
    ];
    check(&format!("{HEAD}{CODE}"), &cases);
    check(HEAD, &[("", "6:3: spec.code: is missing: add it")]);
}

#[test]
fn a_document_that_is_no_function_of_ours_is_told_so_before_its_fields() {
    let cases = [
        (
            "spec: {replicas: 3}\napiVersion: apps/v1\nkind: Deployment",
            "2:13: apiVersion: must be pilotlight.dev/v1alpha1, got `apps/v1`",
        ),
        (
            "apiVersion: pilotlight.dev/v1alpha1\nkind: WarmPool\nspec: {size: 3}",
            "2:7: kind: must be Function or Schedule, got `WarmPool`",
        ),
        ("kind: Function", "1:1: apiVersion: is missing: add it"),
        (
            "apiVersion: pilotlight.dev/v1alpha1",
            "1:1: kind: is missing: add it",
        ),
        (
            "- a",
            "1:1: must be a mapping: lines of `name: value`, or {} for none",
        ),
        (
            "hello",
            "1:1: must be a mapping: lines of `name: value`, or {} for none",
        ),
    ];
    check("", &cases);
    let header = "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\n";
    let cases = [
        (
            "spec: {runtime: custom, code: {path: a}}",
            "3:1: metadata: is missing: add it",
        ),
        ("metadata: {}", "3:11: metadata.name: is missing: add it"),
        (
            "metadata: {name: Hello}",
            "3:18: metadata.name: must be 1 to 63 characters: a-z, 0-9 and `-`, with a letter or \
             digit at both ends, got `Hello`",
        ),
        (
            "metadata: {name: 5}",
            "3:18: metadata.name: `5` is not text: put it in quotes, \"5\"",
        ),
        (
            "metadata: {name: \"a\\e[2J\\nb\"}",
            "3:18: metadata.name: must be 1 to 63 characters: a-z, 0-9 and `-`, with a letter or \
             digit at both ends, got `a\\u{1b}[2J\\nb`",
        ),
        (
            "metadata: {nmae: a}",
            "3:12: metadata.nmae: is not a field: did you mean `name`? \
             The fields here are name, namespace, labels, annotations",
        ),
        (
            "metadata: {name: a}\nspec: {runtime: Python 3}",
            "4:17: spec.runtime: must be a runtime's name such as `python3.11`: 1 to 63 characters \
             a-z, 0-9, `.` and `-`, a letter first, got `Python 3`",
        ),
    ];
    check(header, &cases);
}
