//! Text of functions on a terminal.
//!
//! A function, and whoever calls it, decide what is in its log and in its answers. A terminal obeys control
//! characters: they move the cursor, hide lines, and set what is pasted next. On a terminal they are shown as text;
//! a pipe gets the exact bytes. Used by `logs`, `invoke` and `local`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text as a terminal may get it. Line ends and tabulators pass.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_hostile(character) {
            false => escaped.push(character),
            true if character.is_ascii() => {
                write!(escaped, "\\x{:02x}", u32::from(character)).expect("a string takes all");
            }
            true => {
                write!(escaped, "\\u{{{:x}}}", u32::from(character)).expect("a string takes all");
            }
        }
    }
    Cow::Owned(escaped)
}

/// A control character, or one that changes the direction of the text after it.
fn is_hostile(character: char) -> bool {
    let is_direction = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    (character.is_control() && !matches!(character, '\n' | '\t')) || is_direction
}

/// The same for bytes, which a terminal gets as text.
pub(crate) fn escaped_bytes(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_as_it_is() {
        for text in ["", "a\tb\nc", "grün 😀 \\x1b"] {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(escaped("\x1b[2Jgone"), "\\x1b[2Jgone");
        assert_eq!(escaped("a\rb\x07\x7f\0"), "a\\x0db\\x07\\x7f\\x00");
        assert_eq!(escaped("\u{9b}31m\u{202e}txt"), "\\u{9b}31m\\u{202e}txt");
        assert_eq!(escaped_bytes(b"\xff\x1b]0;title"), "\u{fffd}\\x1b]0;title");
    }
}
