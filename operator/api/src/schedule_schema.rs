//! The schema of a Schedule's spec, with the rules that the API server enforces.
//!
//! States for `kubectl apply` the same rules as the types of `schedule`. Whether an expression has a time, and whether a time
//! zone exists, only a gateway knows: it says so in the status.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::schedule::{InvalidSchedule, ScheduleSpec, ScheduleText};
use crate::schema_parts::{number, rule, text};

/// One field of an expression of cron.
const FIELD: &str = "[-0-9A-Za-z*,/?#]+";

impl JsonSchema for ScheduleSpec {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("ScheduleSpec")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(spec()).expect("a schema is an object")
    }
}

fn spec() -> Value {
    let forms = format!(
        "cron[(]{FIELD}( +{FIELD}){{5}}[)]|rate[(][1-9][0-9]{{0,8}} (minutes?|hours?|days?)[)]|\
         at[(][0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}[)]|{FIELD}( +{FIELD}){{4}}"
    );
    json!({
        "type": "object",
        "required": ["function", "schedule"],
        "x-kubernetes-validations": [rule(
            "!has(self.start) || !has(self.end) || self.end > self.start",
            "has `end` not after `start`: move one of them",
        )],
        "properties": {
            "function": text(512, "A function of the same namespace.", &[rule(
                "size(self) <= 63 && self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "must be the name of a function: 1 to 63 characters a-z, 0-9 and `-`, with a letter or digit at both ends",
            )]),
            "schedule": text(ScheduleText::LENGTH as u32, "When: cron(…), rate(…), at(…), or the five fields of Unix's cron.", &[rule(
                &format!("self.matches('^({forms})$')"),
                InvalidSchedule::FORM,
            )]),
            "timeZone": text(64, "The expression's time zone, a name of the IANA database; absent: UTC.", &[rule(
                "self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')",
                "must be a name of the IANA database with at most 64 characters, such as `Europe/Zurich` or `UTC`",
            )]),
            "jitter": number(0, 86400, None, "An event is sent up to this long after its time, in seconds; absent: 0."),
            "input": {
                "x-kubernetes-preserve-unknown-fields": true,
                "description": "What the function gets, any JSON; absent: {}.",
            },
            "start": time("There is no time before this one; absent: the schedule's creation."),
            "end": time("There is no time after this one."),
            "suspend": { "type": "boolean", "description": "Its times pass without events, and are not missed; absent: false." },
            "async": {
                "type": "object",
                "description": "What becomes of the schedule's events, in place of what the function declares.",
                "properties": {
                    "maxAge": number(60, 21600, None, "How old an event may be when an attempt begins, and how late it may be sent, in seconds."),
                    "retries": number(0, 2, None, "Attempts after one in which the function failed."),
                },
            },
        },
    })
}

fn time(description: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "maxLength": 64, "description": description })
}
