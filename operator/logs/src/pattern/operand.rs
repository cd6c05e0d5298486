//! Comparisons of a filter pattern: an operator, and what a value is compared with.
//!
//! A value is the text of a word, or of a string or a number in JSON. A text with `*` is compared as a wildcard. A number
//! without quotation marks is compared as a number if the value is one. `<` and `>` compare numbers alone.

use std::cmp::Ordering;

use super::error::PatternError;
use super::expression::Expression;
use super::scan::Scan;

#[derive(Clone, Debug)]
pub(super) struct Comparison {
    operator: Operator,
    operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
enum Operand {
    Text(Wildcard),
    /// And its text.
    Number(Number, Wildcard),
    Expression(Expression),
}

impl Comparison {
    pub(super) fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        let operator = Operator::read(scan)?;
        scan.skip_spaces();
        let start = scan.fail(format!(
            "`{}` compares numbers; this is none.",
            operator.as_str()
        ));
        let operand = match scan.peek() {
            Some('"') => Operand::Text(Wildcard::quoted(scan)?),
            Some('%') => Operand::Expression(scan.expression()?),
            _ => {
                let text = scan.take_while(is_bare);
                if text.is_empty() {
                    return Err(scan.fail(
                        "a value is expected: a text between quotation marks, a number or a regular expression \
                         between `%`.",
                    ));
                }
                match Number::read(text) {
                    Some(number) => Operand::Number(number, Wildcard::bare(text)),
                    None => Operand::Text(Wildcard::bare(text)),
                }
            }
        };
        let needs_number = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if needs_number && !matches!(operand, Operand::Number(..)) {
            return Err(start);
        }
        Ok(Comparison { operator, operand })
    }

    pub(super) fn holds(&self, value: &str) -> bool {
        match self.operator {
            Operator::Equal => self.is_equal(value),
            Operator::NotEqual => !self.is_equal(value),
            Operator::Less => self.order(value).is_some_and(Ordering::is_lt),
            Operator::LessOrEqual => self.order(value).is_some_and(Ordering::is_le),
            Operator::Greater => self.order(value).is_some_and(Ordering::is_gt),
            Operator::GreaterOrEqual => self.order(value).is_some_and(Ordering::is_ge),
        }
    }

    fn is_equal(&self, value: &str) -> bool {
        match &self.operand {
            Operand::Text(text) => text.matches(value),
            Operand::Number(_, text) => match self.order(value) {
                Some(order) => order.is_eq(),
                None => text.matches(value),
            },
            Operand::Expression(expression) => expression.is_in(value),
        }
    }

    /// How the value is ordered beside the operand, if both are numbers.
    fn order(&self, value: &str) -> Option<Ordering> {
        match &self.operand {
            Operand::Number(number, _) => Number::read(value)?.order(*number),
            Operand::Text(_) | Operand::Expression(_) => None,
        }
    }
}

/// What a value without quotation marks may have.
fn is_bare(character: char) -> bool {
    !character.is_whitespace() && !"\"%(){}[],&|=<>!".contains(character)
}

impl Operator {
    fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        // Those of two characters first.
        let all = [
            Operator::LessOrEqual,
            Operator::GreaterOrEqual,
            Operator::NotEqual,
            Operator::Less,
            Operator::Greater,
            Operator::Equal,
        ];
        let read = all.into_iter().find(|operator| scan.eat(operator.as_str()));
        read.ok_or_else(|| scan.fail("an operator is expected: =, !=, <, <=, > or >=."))
    }

    fn as_str(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    /// Exact.
    Whole(i128),
    Other(f64),
}

impl Number {
    /// Digits with a sign, a fraction or an exponent, all optional.
    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        // Rust also reads `inf` and `nan`.
        if !begins(digits) && !digits.strip_prefix('.').is_some_and(begins) {
            return None;
        }
        let whole = text.parse().ok().map(Number::Whole);
        whole.or_else(|| text.parse().ok().map(Number::Other))
    }

    fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => a.approximate().partial_cmp(&b.approximate()),
        }
    }

    fn approximate(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Other(other) => other,
        }
    }
}

/// A text in which `*` stands for any characters, also none. These are the parts between the asterisks.
#[derive(Clone, Debug)]
struct Wildcard(Vec<String>);

impl Wildcard {
    fn bare(text: &str) -> Self {
        Wildcard(text.split('*').map(str::to_owned).collect())
    }

    /// `\*` stands for an asterisk.
    fn quoted(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        let mut parts = vec![String::new()];
        scan.quoted(|character, is_escaped| match character {
            '*' if !is_escaped => parts.push(String::new()),
            other => parts.last_mut().expect("there is one").push(other),
        })?;
        Ok(Wildcard(parts))
    }

    fn matches(&self, value: &str) -> bool {
        let (first, last) = match self.0.as_slice() {
            [only] => return only == value,
            [first, .., last] => (first, last),
            [] => return true,
        };
        let Some(rest) = value.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else {
            return false;
        };
        // The first place of each part leaves the most for the parts that follow.
        self.0[1..self.0.len() - 1].iter().all(|part| {
            let Some(at) = rest.find(part.as_str()) else {
                return false;
            };
            rest = &rest[at + part.len()..];
            true
        })
    }
}
