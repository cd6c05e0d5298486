//! CloudWatch's filter patterns: which records a caller of FilterLogEvents or a live tail wants.
//!
//! Reads a pattern once and then judges texts with it. There are three kinds, told apart by the first character: terms
//! (`terms`), conditions on a JSON object between braces (`json`), and conditions on the words of a line between
//! brackets (`words`). `expression` has the regular expressions between percent signs, `operand` the comparisons, and
//! `logic` the operators `&&` and `||`.
//!
//! The text of a pattern comes from a caller and the text of a record from a function. Reading a pattern takes bounded
//! time, memory and depth; judging a text takes time in proportion to its length. What the documentation of the syntax
//! leaves open is decided in docs/contract.md.

mod error;
mod expression;
mod json;
mod logic;
mod operand;
mod scan;
mod terms;
mod words;

pub use error::PatternError;

use json::Json;
use scan::Scan;
use terms::Terms;
use words::Words;

/// The longest pattern, in characters.
pub const LENGTH_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Terms(Terms),
    Json(Json),
    Words(Words),
}

impl Pattern {
    pub fn read(text: &str) -> Result<Self, PatternError> {
        if text.chars().count() > LENGTH_MAX {
            return Err(PatternError::too_long(LENGTH_MAX));
        }
        let mut scan = Scan::new(text);
        scan.skip_spaces();
        let kind = match scan.peek() {
            Some('{') => Kind::Json(Json::read(&mut scan)?),
            Some('[') => Kind::Words(Words::read(&mut scan)?),
            _ => Kind::Terms(Terms::read(&mut scan)?),
        };
        Ok(Pattern(kind))
    }

    /// Whether a record with this text is wanted.
    pub fn admits(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Terms(terms) => terms.admit(text),
            Kind::Json(json) => json.admits(text),
            Kind::Words(words) => words.admit(text),
        }
    }

    /// Texts that each wanted record contains. A store can look for them before anybody judges its records.
    pub fn contained(&self) -> Vec<&str> {
        match &self.0 {
            Kind::Terms(terms) => terms.contained(),
            Kind::Json(_) | Kind::Words(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
