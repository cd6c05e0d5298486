//! Conditions of a reader of logs, as a request to VictoriaLogs.
//!
//! A caller's text stays one literal, whatever it contains. A regular expression becomes one for Go's `regexp`, whose syntax
//! the crate `regex` knows as well, and which matches no less.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_logs::query::regex;
use pilotlight_logs::victoria::logsql::checks;
use regex::Regex;

fuzz_target!(|text: &str| {
    checks::text_stays_a_literal(text);
    // The last line is matched against the lines before it.
    let (pattern, sample) = text.rsplit_once('\n').unwrap_or((text, ""));
    let Ok(asked) = regex(pattern) else {
        return;
    };
    if let Some(sent) = checks::sent_regex(&asked) {
        // Limits of this crate are not Go's: an expression that is too large here says nothing.
        if let Ok(sent) = Regex::new(&sent) {
            for sample in [sample, text, ""] {
                assert!(
                    sent.is_match(sample) || !asked.is_match(sample),
                    "{pattern:?} {sample:?}"
                );
            }
        }
    }
});
