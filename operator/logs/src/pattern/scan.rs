//! The text of a pattern and the place that has been read.

use super::error::PatternError;
use super::expression::{self, Expression};

/// The most regular expressions of one pattern.
const EXPRESSIONS_MAX: usize = 2;

pub(super) struct Scan<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    expressions: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scan {
            text,
            at: 0,
            expressions: 0,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Whether the text goes on with this, which is then read.
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let is_there = self.rest().starts_with(expected);
        if is_there {
            self.at += expected.len();
        }
        is_there
    }

    /// The same for a word in any case, which ends where no letter follows.
    pub(super) fn eat_word(&mut self, expected: &str) -> bool {
        let word = self.rest();
        let end = word.find(|c: char| !c.is_ascii_alphabetic());
        let word = &word[..end.unwrap_or(word.len())];
        let is_there = word.eq_ignore_ascii_case(expected);
        if is_there {
            self.at += word.len();
        }
        is_there
    }

    pub(super) fn expect(&mut self, expected: &str) -> Result<(), PatternError> {
        if self.eat(expected) {
            return Ok(());
        }
        Err(self.fail(match self.peek() {
            Some(other) => format!("`{expected}` is expected, not `{other}`."),
            None => format!("`{expected}` is missing at the end."),
        }))
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    pub(super) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What is between quotation marks; the scan is at the first one. `\"` and `\\` stand for the second character.
    /// `keep` gets each character, and whether a backslash came before it.
    pub(super) fn quoted(&mut self, mut keep: impl FnMut(char, bool)) -> Result<(), PatternError> {
        let start = self.at;
        self.expect("\"")?;
        while let Some(next) = self.next() {
            match next {
                '"' => return Ok(()),
                '\\' if matches!(self.peek(), Some('"' | '\\' | '*')) => {
                    keep(self.next().expect("it was seen"), true);
                }
                other => keep(other, false),
            }
        }
        self.at = start;
        Err(self.fail("this quotation mark has no second one."))
    }

    /// A regular expression between percent signs; the scan is at the first one.
    pub(super) fn expression(&mut self) -> Result<Expression, PatternError> {
        let start = self.at;
        self.expect("%")?;
        self.expressions += 1;
        if self.expressions > EXPRESSIONS_MAX {
            self.at = start;
            return Err(self.fail(format!(
                "a pattern can have {EXPRESSIONS_MAX} regular expressions at most."
            )));
        }
        let source = self.take_while(|c| c != '%');
        if !self.eat("%") {
            self.at = start;
            return Err(self.fail("this regular expression has no second `%`."));
        }
        expression::read(source).map_err(|error| {
            self.at = start + 1 + error.at;
            self.fail(error.reason)
        })
    }

    /// An error at the place that comes next.
    pub(super) fn fail(&self, reason: impl Into<String>) -> PatternError {
        PatternError::At {
            at: self.text[..self.at].chars().count() + 1,
            reason: reason.into(),
        }
    }
}
