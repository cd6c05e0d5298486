//! Filter patterns of callers, and the texts of functions that they are matched with.
//!
//! Nothing panics or takes long. What a pattern says that its texts contain is in each text that it admits. A pattern of
//! terms means what a simple reading of it means.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_logs::pattern::{LENGTH_MAX, Pattern};

fuzz_target!(|input: &str| {
    let (pattern, text) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(read) = Pattern::read(pattern) else {
        return;
    };
    assert!(pattern.chars().count() <= LENGTH_MAX);
    let is_admitted = read.admits(text);
    let contained = read.contained();
    assert!(!is_admitted || contained.iter().all(|part| text.contains(part)));
    let words = Vec::from_iter(pattern.split_whitespace());
    let is_word = |word: &&str| word.chars().all(|c| c.is_alphanumeric() || c == '_');
    if words.iter().all(|word| is_word(word)) {
        assert_eq!(is_admitted, words.iter().all(|word| text.contains(word)));
    }
    if pattern.trim_start().starts_with('{') {
        let is_object = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(text).is_ok();
        assert!(is_object || !is_admitted);
    }
});
