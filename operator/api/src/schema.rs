//! The schema of a Function's spec, with the rules that the API server enforces.
//!
//! States for `kubectl apply` the same rules as the types of `function`, `code` and `pod` for a file: it
//! refuses whatever those refuse, with the field and the remedy, so that no bad Function is ever stored.
//! Ranges and enumerations are native to the schema; everything else is a CEL rule with a message. Every text,
//! list and map is bounded, because the API server limits the cost of rules.

use std::borrow::Cow;

use pilotlight_core::function::RESERVED_VARIABLES;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::code::Layers;
use crate::destination_schema::destination;
use crate::function::FunctionSpec;
use crate::schema_parts::{SUBDOMAIN, number, object_name, object_ref, rule, text};

/// The rule for the name of a function, a warm pool or a schedule.
pub(crate) const NAME_RULE: &str = "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') \
                                    && size(self.metadata.name) <= 63";
pub(crate) const NAME_MESSAGE: &str = "metadata.name must be 1 to 63 characters: a-z, 0-9 and `-`, \
                                       with a letter or digit at both ends";

/// One character of a word: neither a space nor a control character, as Rust's `char` defines them.
const WORD: &str = r"[^\\p{Z}\\p{Cc}]";
/// The word of a label or a taint.
const LABEL: &str = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?";

/// Characters of inline source: `kubectl apply` keeps a copy in an annotation of 256 KiB.
const INLINE_LIMIT: u32 = 200_000;

impl JsonSchema for FunctionSpec {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("FunctionSpec")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(spec()).expect("a schema is an object")
    }
}

fn spec() -> Value {
    json!({
        "type": "object",
        "required": ["code", "runtime"],
        "properties": {
            // Which runtimes exist is data of the controller: the status reports an unknown one.
            "runtime": runtime(),
            "handler": text(128, "The entry point; absent: the runtime's default.", &[rule(
                &format!("self.matches('^{WORD}+$')"),
                "must be 1 to 128 characters without spaces, such as `app.handler`",
            )]),
            "description": text(256, "A line for people.", &[]),
            "memory": number(128, 10240, Some(128), "Memory of one instance, in MiB."),
            "timeout": number(1, 900, Some(3), "How long one invocation may run, in seconds."),
            "environment": environment(),
            "environmentFrom": environment_from(),
            "code": code(),
            "layers": {
                "type": "array",
                "maxItems": Layers::LIMIT,
                "items": archive(),
                "description": "Archives unpacked under `/opt`, in this order.",
            },
            "ephemeralStorage": number(512, 10240, Some(512), "Size of `/tmp`, in MiB."),
            "concurrency": {
                "type": "object",
                "default": {},
                "description": "How many events run and wait at a time.",
                "properties": {
                    "reserved": number(0, 10000, None, "Instances at most, one event each; 0 blocks all."),
                    "queue": number(0, 10000, Some(100), "Events that may wait; 0 answers 429 at once."),
                    "provisioned": number(0, 10000, None, "Instances that are kept initialised."),
                },
                "x-kubernetes-validations": [rule(
                    "!has(self.provisioned) || !has(self.reserved) || self.provisioned <= self.reserved",
                    "has `provisioned` above `reserved`: lower one or raise the other",
                )],
            },
            "keepAlive": number(0, 3600, Some(600), "How long an idle instance stays warm, in seconds."),
            "logging": {
                "type": "object",
                "default": {},
                "description": "What the function prints, and the platform's lines.",
                "properties": {
                    "format": { "type": "string", "enum": ["Text", "JSON"], "default": "Text" },
                    "level": {
                        "type": "string",
                        "enum": ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"],
                        "description": "What the function's logger writes, with the JSON format; absent: from INFO on.",
                    },
                    "retention": number(1, 3653, None, "How long records are kept, in days; absent: as long as the log store keeps any."),
                    "enabled": { "type": "boolean", "default": true },
                },
                "x-kubernetes-validations": [rule(
                    "!has(self.level) || self.format == 'JSON'",
                    "has a `level` without `format: JSON`: add the format, or remove the level",
                )],
            },
            "errors": {
                "type": "string",
                "enum": ["Full", "Sanitized"],
                "default": "Full",
                "description": "How much of a failure its caller is told.",
            },
            "async": {
                "type": "object",
                "description": "What becomes of the events of asynchronous calls.",
                "properties": {
                    "maxAge": number(60, 21600, None, "How old an event may be when an attempt begins, in seconds; absent: 21600."),
                    "retries": number(0, 2, None, "Attempts after one in which the function failed; absent: 2."),
                    "onSuccess": destination("What gets the record of each event that the function has answered."),
                    "onFailure": destination("What gets the record of each event that was given up."),
                },
            },
            "betweenEvents": {
                "type": "string",
                "enum": ["Run", "Freeze"],
                "description": "Whether the function's processes go on between events, or stand still; absent: Run.",
            },
            "recursiveLoop": {
                "type": "string",
                "enum": ["Terminate", "Allow"],
                "description": "Whether calls that go round in a circle are stopped; absent: Terminate.",
            },
            "pod": pod(),
        },
    })
}

pub(crate) fn runtime() -> Value {
    text(
        63,
        "The language environment; `custom` runs any `bootstrap`.",
        &[rule(
            "self.matches('^[a-z][a-z0-9.-]*$')",
            "must be a runtime's name such as `python3.11`: a-z, 0-9, `.` and `-`, a letter first",
        )],
    )
}

fn environment() -> Value {
    let reserved = RESERVED_VARIABLES.map(|name| format!("'{name}'"));
    let reserved = format!("k in [{}]", reserved.join(", "));
    json!({
        "type": "object",
        "maxProperties": 200,
        "additionalProperties": text(32768, "", &[rule(
            "!self.contains('\\u0000')",
            "must not contain a NUL character: a process cannot be given one",
        )]),
        "description": "Variables of the runtime process, besides the platform's own.",
        "x-kubernetes-validations": [
            rule(
                "self.all(k, k.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
                "each name must be a variable's: letters, digits and `_`, and no digit at the start",
            ),
            rule(
                &format!("!self.exists(k, {reserved})"),
                "AWS_EXECUTION_ENV, AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION, \
                 AWS_LAMBDA_FUNCTION_MEMORY_SIZE, AWS_LAMBDA_INITIALIZATION_TYPE, \
                 AWS_LAMBDA_LOG_GROUP_NAME, AWS_LAMBDA_LOG_STREAM_NAME, AWS_LAMBDA_RUNTIME_API, \
                 LAMBDA_RUNTIME_DIR, LAMBDA_TASK_ROOT, _HANDLER, _LAMBDA_TELEMETRY_LOG_FD and \
                 _X_AMZN_TRACE_ID are set by the platform: remove or rename them",
            ),
            rule(
                "!('AWS_LAMBDA_MAX_CONCURRENCY' in self)",
                "AWS_LAMBDA_MAX_CONCURRENCY would make the runtime take several events at a time, and \
                 an instance has one: remove it",
            ),
        ],
    })
}

pub(crate) fn environment_from() -> Value {
    json!({
        "type": "array",
        "maxItems": 20,
        "description": "More variables: each key of these objects; a later one wins, `environment` \
                        over all of them.",
        "items": {
            "type": "object",
            "x-kubernetes-validations": [rule(
                "has(self.secretRef) != has(self.configMapRef)",
                "must have exactly one of secretRef, configMapRef",
            )],
            "properties": {
                "secretRef": object_ref("A secret of the namespace."),
                "configMapRef": object_ref("A config map of the namespace."),
            },
        },
    })
}

fn pod() -> Value {
    json!({
        "type": "object",
        "description": "Where the pods run and as whom; local mode has none.",
        "properties": {
            "serviceAccount": service_account(),
            "imagePullSecrets": image_pull_secrets(),
            "nodeSelector": node_selector(),
            "tolerations": tolerations(),
            "runtimeClassName": runtime_class_name(),
        },
    })
}

pub(crate) fn service_account() -> Value {
    object_name("The pods' account; absent: none, and no token.")
}

pub(crate) fn runtime_class_name() -> Value {
    object_name("What runs the containers, such as a sandbox; absent: the installation's default.")
}

pub(crate) fn image_pull_secrets() -> Value {
    json!({
        "type": "array",
        "maxItems": 10,
        "items": object_ref("A secret of the namespace."),
        "description": "Credentials for the image's registry.",
    })
}

pub(crate) fn node_selector() -> Value {
    json!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": label_value(),
        "description": "Labels that a node must have.",
        "x-kubernetes-validations": [rule(
            &format!("self.all(k, {})", is_label_key("k")),
            "each name must be a label's: letters, digits, `-`, `_` and `.`, after a domain \
             and `/` or none",
        )],
    })
}

pub(crate) fn tolerations() -> Value {
    json!({ "type": "array", "maxItems": 20, "items": toleration() })
}

fn toleration() -> Value {
    let key = text(
        317,
        "The taint's key; absent: every taint.",
        &[rule(
            &is_label_key("self"),
            "must be letters, digits, `-`, `_` and `.`, after a domain and `/` or none",
        )],
    );
    json!({
        "type": "object",
        "description": "A taint of nodes that does not keep the pods away.",
        "x-kubernetes-validations": [
            rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "needs a `key`, or `operator: Exists` to tolerate every taint",
            ),
            rule(
                "!(has(self.operator) && self.operator == 'Exists' && has(self.value) && size(self.value) > 0)",
                "has a `value` with `operator: Exists`: remove one of them",
            ),
            rule(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "has `tolerationSeconds`, which works only with `effect: NoExecute`: add that or remove it",
            ),
        ],
        "properties": {
            "key": key,
            "operator": { "type": "string", "enum": ["Equal", "Exists"], "default": "Equal" },
            "value": label_value(),
            "effect": {
                "type": "string",
                "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                "description": "Absent: every effect.",
            },
            "tolerationSeconds": number(0, 31_536_000, None, "How long; absent: for ever."),
        },
    })
}

fn code() -> Value {
    let forms = "[has(self.inline), has(self.archive), has(self.configMap), has(self.image)]\
                 .filter(form, form).size() == 1";
    json!({
        "type": "object",
        "description": "Where the code comes from: one of the forms.",
        "x-kubernetes-validations": [
            rule("!has(self.path)", "`path` is for local mode: `pilotlight package` makes an archive of it"),
            rule(
                &format!("has(self.path) || {forms}"),
                "must have exactly one of inline, archive, configMap, image",
            ),
        ],
        "properties": {
            "inline": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 100,
                "additionalProperties": { "type": "string", "maxLength": INLINE_LIMIT },
                "description": "Source text by file name.",
                "x-kubernetes-validations": [
                    rule(
                        "self.all(k, !k.startsWith('/') && !k.endsWith('/') && !k.contains('//') \
                         && !('/' + k + '/').contains('/./') && !('/' + k + '/').contains('/../') \
                         && !k.matches('[\\\\p{Cc}\\\\\\\\]') && size(k) > 0)",
                        "each file name must be relative, with `/` between and without `.` or `..` \
                         parts, backslashes or control characters",
                    ),
                    rule(
                        "self.all(k, !self.exists(other, other.startsWith(k + '/')))",
                        "a file cannot be another file's directory: rename one of them",
                    ),
                    rule(
                        &format!("self.map(k, size(self[k])).sum() <= {INLINE_LIMIT}"),
                        "the files must have at most 200,000 characters together: use archive or image",
                    ),
                ],
            },
            "path": text(4096, "A directory beside the manifest; local mode only.", &[]),
            "archive": archive(),
            "configMap": object_name("A config map of the namespace, each key a file."),
            "image": text(1024, "A container image that holds the code.", &[rule(
                &format!("self.matches('^{WORD}+$')"),
                "must be an image such as `registry/name:tag`, without spaces",
            )]),
        },
    })
}

fn archive() -> Value {
    json!({
        "type": "object",
        "description": "A zip or tar.gz file and what it must hash to.",
        "required": ["sha256", "url"],
        "properties": {
            "url": text(2048, "Its address.", &[
                rule(
                    &format!("self.matches('^https?://{WORD}+$') && !self.matches('^https?:///')"),
                    "must be an https:// or http:// address without spaces",
                ),
                rule(
                    "!self.matches('^[^:]*://[^/?#]*@')",
                    "must not have a user name or a password: name a Secret in `secretRef` instead",
                ),
            ]),
            "secretRef": object_ref(
                "A Secret of the namespace with the keys `hosts` and either `token` or `username` and `password`.",
            ),
            "sha256": text(256, "Its SHA-256, as `sha256sum` prints it.", &[rule(
                "self.matches('^[0-9a-f]{64}$')",
                "must be 64 characters 0-9 and a-f, as `sha256sum` prints them",
            )]),
        },
    })
}

/// The rule that the expression `key` is the key of a label: a domain of at most 253 characters and a word of
/// at most 63.
fn is_label_key(key: &str) -> String {
    format!(
        "{key}.matches('^({SUBDOMAIN}/)?{LABEL}$') && {key}.matches('^([^/]{{1,253}}/)?[^/]{{1,63}}$')"
    )
}

fn label_value() -> Value {
    text(
        63,
        "",
        &[rule(
            &format!("self.matches('^({LABEL})?$')"),
            "must be at most 63 characters: letters, digits, `-`, `_` and `.`",
        )],
    )
}
