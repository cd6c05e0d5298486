//! Patterns of terms: words, phrases between quotation marks, and regular expressions that a text contains.
//!
//! `-` before a term excludes it. Of the terms with `?` one is enough; if there are other terms too, those with `?`
//! do not count, as documented.

use super::error::PatternError;
use super::expression::Expression;
use super::scan::Scan;

#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    all: Vec<Term>,
    any: Vec<Term>,
    none: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Text(String),
    Expression(Expression),
    /// A phrase without a visible character, which is documented to match everything.
    Anything,
}

impl Terms {
    pub(super) fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        let mut terms = Terms::default();
        loop {
            scan.skip_spaces();
            let list = match scan.peek() {
                None => break,
                Some('?') => &mut terms.any,
                Some('-') => &mut terms.none,
                Some(_) => &mut terms.all,
            };
            if scan.eat("?") || scan.eat("-") {
                scan.skip_spaces();
            }
            list.push(Term::read(scan)?);
        }
        // An exclusion of everything would match nothing, and nobody means that.
        terms.none.retain(|term| !matches!(term, Term::Anything));
        if !terms.all.is_empty() || !terms.none.is_empty() {
            terms.any.clear();
        }
        Ok(terms)
    }

    pub(super) fn admit(&self, text: &str) -> bool {
        let is_in = |term: &Term| term.is_in(text);
        self.all.iter().all(is_in)
            && (self.any.is_empty() || self.any.iter().any(is_in))
            && !self.none.iter().any(is_in)
    }

    pub(super) fn contained(&self) -> Vec<&str> {
        let texts = self.all.iter().filter_map(|term| match term {
            Term::Text(text) => Some(text.as_str()),
            Term::Expression(_) | Term::Anything => None,
        });
        texts.collect()
    }
}

impl Term {
    fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        match scan.peek() {
            Some('"') => {
                let mut phrase = String::new();
                scan.quoted(|character, is_escaped| {
                    // A phrase has no wildcards, so there is nothing that a backslash would change of an asterisk.
                    if character == '*' && is_escaped {
                        phrase.push('\\');
                    }
                    phrase.push(character);
                })?;
                match phrase.trim().is_empty() {
                    true => Ok(Term::Anything),
                    false => Ok(Term::Text(phrase)),
                }
            }
            Some('%') => Ok(Term::Expression(scan.expression()?)),
            Some(_) => {
                let at = scan.fail("");
                let word = scan.take_while(|c| !c.is_whitespace());
                if word.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    return Ok(Term::Text(word.to_owned()));
                }
                let reason = format!(
                    "invalid character(s) in term '{word}': a term that has others than letters, digits and `_` must \
                     be between quotation marks."
                );
                match at {
                    PatternError::At { at, .. } => Err(PatternError::At { at, reason }),
                    other => Err(other),
                }
            }
            None => Err(scan.fail("a term is expected after `?` or `-`.")),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        match self {
            Term::Text(term) => text.contains(term.as_str()),
            Term::Expression(expression) => expression.is_in(text),
            Term::Anything => true,
        }
    }
}
