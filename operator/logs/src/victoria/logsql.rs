//! LogsQL, the language in which VictoriaLogs is asked: filters for the conditions of a reader.
//!
//! A filter admits all records that [`Selection::admits`](crate::query::Selection::admits) admits, and may admit others:
//! the reader applies that to each record it gets. A text that comes from a caller becomes a string literal, and nothing
//! that it contains is read as LogsQL. Nothing here sends anything.

use std::fmt::Write as _;

use jiff::Timestamp;
use pilotlight_core::ids::FunctionKey;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::level::Level;
use crate::query::{Field, Selection};
use crate::victoria::row::{APP, field};

/// The filters of one request, in bytes. VictoriaLogs takes 16 KiB (`-search.maxQueryLen`), with the rest of the query.
const FILTERS_LIMIT: usize = 12 * 1024;
/// The ranges of one class of characters. A class with more admits every character that is not ASCII.
const RANGES_LIMIT: usize = 32;
/// How often a part of an expression may be counted out. Go, in which VictoriaLogs is written, allows 1000 in all.
const REPEAT_LIMIT: u32 = 50;
/// How deeply an expression may be nested.
const DEPTH_LIMIT: u32 = 100;

/// A text as a literal of LogsQL, which Go reads with `strconv.Unquote`.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // A character that no font shows would be refused raw, or be taken for the end of a line.
            '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffd}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ if character.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The records of all functions, or those of one.
pub(super) fn streams(function: Option<&FunctionKey>, instance: Option<&str>) -> String {
    let mut streams = format!("{{{}={}", field::APP, quote(APP));
    let function = function.map(|key| (key.namespace.as_str(), key.name.as_str()));
    let labels =
        function.map(|(namespace, name)| [(field::NAMESPACE, namespace), (field::FUNCTION, name)]);
    for (name, value) in labels
        .into_iter()
        .flatten()
        .chain(instance.map(|one| (field::INSTANCE, one)))
    {
        let _ = write!(streams, ",{name}={}", quote(value));
    }
    streams.push('}');
    streams
}

/// The conditions of a selection, except for its times and its instance: each begins with a space.
pub(super) fn filters(selection: &Selection) -> String {
    let mut filters = String::new();
    if let Some(id) = &selection.request_id {
        let _ = write!(filters, " {}:={}", field::REQUEST_ID, quote(id));
    }
    if let Some(source) = selection.source {
        let _ = write!(filters, " {}:={}", field::SOURCE, quote(source.as_str()));
    }
    if let Some(least) = selection.level {
        let at_least = Level::ALL.into_iter().filter(|level| *level >= least);
        let levels: Vec<_> = at_least.map(|level| quote(level.as_str())).collect();
        let _ = write!(filters, " {}:in({})", field::LEVEL, levels.join(","));
    }
    // Each of these only narrows what is sent here, so one that would make the request too long is left out.
    let texts = selection.contains.iter().map(|text| contains(text));
    let fields = selection.fields.iter().flat_map(json_field);
    let regex = selection
        .regex
        .as_ref()
        .and_then(|regex| matches(regex.as_str()));
    for filter in texts.chain(fields).chain(regex) {
        if filters.len() + filter.len() < FILTERS_LIMIT {
            filters.push(' ');
            filters.push_str(&filter);
        }
    }
    filters
}

/// Records from `since` on and before `until`; begins with a space unless it is empty.
pub(super) fn times(since: Option<Timestamp>, until: Option<Timestamp>) -> String {
    let mut times = String::new();
    // With all nine digits: VictoriaLogs takes a shorter time for the whole of the second or day that it names.
    if let Some(since) = since {
        let _ = write!(times, " _time:>={since:.9}");
    }
    if let Some(until) = until {
        let _ = write!(times, " _time:<{until:.9}");
    }
    times
}

fn contains(text: &str) -> String {
    format!("_msg:*{}*", quote(text))
}

/// JSON can write each character as `\u` and digits, and some in yet another way. So only keys and values of letters and
/// digits are looked for, or else the sign of such an escape.
fn json_field(condition: &Field) -> impl Iterator<Item = String> {
    let is_plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' ');
        !text.is_empty() && text.bytes().all(plain)
    };
    let is_whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // A number with a fraction or an exponent can be written in several ways.
    let is_one_way = |text: &str| is_whole(text) || text.parse::<f64>().is_err();
    let keys = condition.path.split('.');
    // A number may be the place in an array.
    let keys = keys.filter(|key| is_plain(key) && !is_whole(key));
    let keys: Vec<_> = keys.map(|key| format!("\"{key}\"")).collect();
    let value = Some(condition.value.clone());
    let value = value.filter(|value| is_plain(value) && is_one_way(value));
    let escaped = contains("\\u");
    let parts = keys.into_iter().chain(value);
    parts.map(move |part| format!("({} or {escaped})", contains(&part)))
}

/// A filter for texts that match a regular expression of the crate `regex`. `None`: none narrows enough.
fn matches(regex: &str) -> Option<String> {
    let hir = regex_syntax::parse(regex).ok()?;
    let go = go_expression(&hir)?;
    let filter = format!("_msg:~{}", quote(&go));
    // A record without a text is stored with another one.
    let matches_nothing = hir.properties().minimum_len() == Some(0);
    Some(match matches_nothing {
        true => format!("({filter} or {}:=\"1\")", field::EMPTY),
        false => filter,
    })
}

fn go_expression(hir: &Hir) -> Option<String> {
    let mut go = String::new();
    write_go(hir, false, DEPTH_LIMIT, &mut go)?;
    Some(go)
}

/// Writes an expression for Go's `regexp` that matches at least what `hir` matches. The two languages differ in classes
/// such as `\d`, which are of ASCII in Go, so nothing but literals, ranges and repetitions is used. `counted`: within a
/// repetition that is counted out. `None`: it is nested too deeply.
fn write_go(hir: &Hir, counted: bool, depth: u32, go: &mut String) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match hir.kind() {
        HirKind::Empty => go.push_str("(?:)"),
        HirKind::Literal(literal) => {
            for character in std::str::from_utf8(&literal.0).ok()?.chars() {
                write_character(character, go);
            }
        }
        HirKind::Class(class) => write_class(class, go),
        HirKind::Look(look) => go.push_str(match look {
            Look::Start => "\\A",
            Look::End => "\\z",
            Look::StartLF => "(?m:^)",
            Look::EndLF => "(?m:$)",
            // An assertion that is left out only lets more match.
            _ => "(?:)",
        }),
        HirKind::Repetition(repetition) => {
            let counts = match (repetition.min, repetition.max) {
                (0, Some(1)) => Some("?".to_owned()),
                (0, None) => Some("*".to_owned()),
                (1, None) => Some("+".to_owned()),
                (min, None) if min <= REPEAT_LIMIT && !counted => Some(format!("{{{min},}}")),
                (min, Some(max)) if max <= REPEAT_LIMIT && !counted => {
                    Some(format!("{{{min},{max}}}"))
                }
                _ => None,
            };
            let counts =
                counts.unwrap_or_else(|| String::from(if repetition.min == 0 { "*" } else { "+" }));
            go.push_str("(?:");
            write_go(
                &repetition.sub,
                counted || counts.starts_with('{'),
                depth,
                go,
            )?;
            go.push(')');
            go.push_str(&counts);
        }
        HirKind::Capture(capture) => {
            go.push_str("(?:");
            write_go(&capture.sub, counted, depth, go)?;
            go.push(')');
        }
        HirKind::Concat(parts) => {
            for part in parts {
                write_go(part, counted, depth, go)?;
            }
        }
        HirKind::Alternation(parts) => {
            go.push_str("(?:");
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    go.push('|');
                }
                write_go(part, counted, depth, go)?;
            }
            go.push(')');
        }
    }
    Some(())
}

fn write_class(class: &Class, go: &mut String) {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .map(|range| (range.start().into(), range.end().into()))
            .collect(),
        // Bytes that are no characters do not occur in texts.
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .map(|range| (range.start().into(), range.end().into()))
            .collect(),
    };
    if ranges.is_empty() {
        return go.push_str("[^\\x{0}-\\x{10FFFF}]");
    }
    go.push('[');
    let is_short = ranges.len() <= RANGES_LIMIT;
    let ascii = ranges.iter().filter(|(start, _)| is_short || *start < 0x80);
    for (start, end) in ascii {
        let end = if is_short { *end } else { (*end).min(0x7f) };
        let _ = write!(go, "\\x{{{start:X}}}-\\x{{{end:X}}}");
    }
    if !is_short {
        go.push_str("\\x{80}-\\x{10FFFF}");
    }
    go.push(']');
}

fn write_character(character: char, go: &mut String) {
    match character.is_ascii_alphanumeric() || character == ' ' {
        true => go.push(character),
        false => {
            let _ = write!(go, "\\x{{{:X}}}", u32::from(character));
        }
    }
}

/// What fuzzing calls.
#[cfg(any(fuzzing, test))]
pub mod checks {
    use regex::Regex;

    use super::{go_expression, quote};

    /// The text that Go's `strconv.Unquote` reads from the literal, and what follows the literal. Only the escapes that
    /// `quote` writes are known.
    ///
    /// # Panics
    /// If it is no literal.
    pub fn unquoted(literal: &str) -> (String, &str) {
        let inner = literal.strip_prefix('"').expect("it begins with a quote");
        let mut text = String::new();
        let mut characters = inner.chars();
        loop {
            match characters.next().expect("it ends with a quote") {
                '"' => return (text, characters.as_str()),
                '\\' => match characters.next().expect("an escape") {
                    one @ ('"' | '\\') => text.push(one),
                    kind @ ('x' | 'u') => {
                        let digits = if kind == 'x' { 2 } else { 4 };
                        let code: String = characters.by_ref().take(digits).collect();
                        let code = u32::from_str_radix(&code, 16).expect("digits");
                        // Above this, `\x` is a byte and no character.
                        assert!(kind == 'u' || code < 0x80);
                        text.push(char::from_u32(code).expect("a character"));
                    }
                    other => panic!("an unknown escape: {other}"),
                },
                raw => {
                    assert!(!raw.is_control(), "{raw:?} is raw");
                    text.push(raw);
                }
            }
        }
    }

    /// The expression that VictoriaLogs gets. `None`: it gets none, and sends records that may not match.
    pub fn sent_regex(asked: &Regex) -> Option<String> {
        go_expression(&regex_syntax::parse(asked.as_str()).ok()?)
    }

    /// # Panics
    /// If a text could become more than one literal.
    pub fn text_stays_a_literal(text: &str) {
        let literal = quote(text);
        assert_eq!(unquoted(&literal), (text.to_owned(), ""));
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::checks::text_stays_a_literal;
    use super::*;

    #[test]
    fn a_callers_text_is_one_literal_whatever_it_contains() {
        for text in [
            "",
            "\"",
            "\\",
            "\\\"",
            "\" or *",
            "a\nb\0",
            "`'",
            "} | delete _msg",
            "\u{85}\u{2028}\u{fffd}",
            "ünï",
            "#",
        ] {
            text_stays_a_literal(text);
        }
        let selection = Selection {
            contains: vec!["x\" or *".to_owned()],
            request_id: Some("\"} or {a=\"b".to_owned()),
            ..Selection::default()
        };
        assert_eq!(
            filters(&selection),
            r#" request_id:="\"} or {a=\"b" _msg:*"x\" or *"*"#
        );
    }

    #[test]
    fn a_function_and_its_instance_are_a_stream_and_a_request_is_not() {
        let key = "shop/orders".parse().expect("a key");
        assert_eq!(
            streams(Some(&key), Some("i\"1")),
            r#"{app="pilotlight",namespace="shop",function="orders",instance="i\"1"}"#
        );
        assert_eq!(streams(None, None), r#"{app="pilotlight"}"#);
    }

    #[test]
    fn times_have_nine_digits_so_that_no_whole_second_is_meant() {
        let time = |text: &str| text.parse().ok();
        assert_eq!(
            times(time("2026-01-31T10:00:00Z"), time("2026-01-31T11:00:00.5Z")),
            " _time:>=2026-01-31T10:00:00.000000000Z _time:<2026-01-31T11:00:00.500000000Z"
        );
    }

    #[test]
    fn a_regular_expression_becomes_one_of_go_that_matches_no_less() {
        for (rust, go) in [
            ("abc", "abc"),
            ("a.c", r"a[\x{0}-\x{9}\x{B}-\x{10FFFF}]c"),
            (r"^\[x\]$", r"\A\x{5B}x\x{5D}\z"),
            ("(?m)^x", "(?m:^)x"),
            ("(a|bc)+?", "(?:(?:(?:a|bc)))+"),
            ("(?:ab){2,3}", "(?:ab){2,3}"),
            ("(?:ab){2000}", "(?:ab)+"),
            ("(?:a{20}){20}", "(?:(?:a)+){20,20}"),
            (r"\bx", "(?:)x"),
            ("[0-9]", r"[\x{30}-\x{39}]"),
            // Decimal digits of all scripts are more ranges than are written.
            (r"\d", r"[\x{30}-\x{39}\x{80}-\x{10FFFF}]"),
        ] {
            Regex::new(rust).expect("an expression");
            let hir = regex_syntax::parse(rust).expect("an expression");
            let written = go_expression(&hir).expect("it is flat");
            assert_eq!(written, go, "{rust}");
        }
        assert!(matches("x*").is_some_and(|filter| filter.ends_with(" or empty:=\"1\")")));
        assert!(matches("x").is_some_and(|filter| !filter.contains(" or ")));
    }

    #[test]
    fn a_field_of_json_is_looked_for_unless_json_can_write_it_in_several_ways() {
        let filter = |text: &str| {
            let field = Field::parse(text).expect("a field");
            json_field(&field).collect::<Vec<_>>().join(" ")
        };
        let escaped = r#"_msg:*"\\u"*"#;
        let key = format!(r#"(_msg:*"\"order\""* or {escaped})"#);
        assert_eq!(
            filter("order.0=17"),
            format!(r#"{key} (_msg:*"17"* or {escaped})"#)
        );
        assert_eq!(filter("order=1.5"), key);
        assert_eq!(filter("order=1e5"), key);
        assert_eq!(filter("ü=a/b"), "");
    }

    #[test]
    fn conditions_that_would_make_a_request_too_long_are_left_out() {
        let selection = Selection {
            contains: vec!["x".repeat(1000); 50],
            ..Selection::default()
        };
        let filters = filters(&selection);
        assert!(filters.len() < FILTERS_LIMIT && filters.len() > FILTERS_LIMIT / 2);
    }
}
