//! Patterns of conditions on a text that is a JSON object: `{ $.user.id = 1 && $.error IS NULL }`.
//!
//! A condition compares a string or a number. A field that is missing, or that is neither, meets no comparison, not even
//! `!=`. Booleans and null have conditions of their own.

use serde_json::Value;

use super::error::PatternError;
use super::logic::Logic;
use super::operand::Comparison;
use super::scan::Scan;

/// The most selectors with a wildcard.
const WILDCARDS_MAX: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Json(Logic<Condition>);

#[derive(Clone, Debug)]
struct Condition {
    selector: Vec<Step>,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Element(usize),
    /// Each element of an array.
    Elements,
    /// Each field of an object.
    Fields,
}

#[derive(Clone, Debug)]
enum Test {
    Compares(Comparison),
    Is(Value),
    NotExists,
}

impl Json {
    pub(super) fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        scan.expect("{")?;
        let mut wildcards = 0;
        let logic = Logic::read(scan, &mut |scan| Condition::read(scan, &mut wildcards))?;
        scan.expect("}")?;
        scan.skip_spaces();
        match scan.peek() {
            None => Ok(Json(logic)),
            Some(_) => Err(scan.fail("nothing can follow the closing brace.")),
        }
    }

    pub(super) fn admits(&self, text: &str) -> bool {
        if !text.trim_start().starts_with('{') {
            return false;
        }
        let object = serde_json::from_str(text);
        object.is_ok_and(|object| self.0.holds(&|condition| condition.is_met(&object)))
    }
}

impl Condition {
    fn read(scan: &mut Scan<'_>, wildcards: &mut usize) -> Result<Self, PatternError> {
        let selector = selector(scan)?;
        let is_wildcard = |step: &&Step| matches!(step, Step::Elements | Step::Fields);
        let count = selector.iter().filter(is_wildcard).count();
        *wildcards += count;
        if count > 1 || *wildcards > WILDCARDS_MAX {
            return Err(scan.fail(format!(
                "a selector can have one wildcard, and a pattern {WILDCARDS_MAX} of them."
            )));
        }
        scan.skip_spaces();
        let test = if scan.eat_word("IS") {
            scan.skip_spaces();
            let values = [
                ("NULL", Value::Null),
                ("TRUE", true.into()),
                ("FALSE", false.into()),
            ];
            let value = values.into_iter().find(|(word, _)| scan.eat_word(word));
            let (_, value) =
                value.ok_or_else(|| scan.fail("NULL, TRUE or FALSE is expected after IS."))?;
            Test::Is(value)
        } else if scan.eat_word("NOT") {
            scan.skip_spaces();
            if !scan.eat_word("EXISTS") {
                return Err(scan.fail("EXISTS is expected after NOT."));
            }
            Test::NotExists
        } else {
            Test::Compares(Comparison::read(scan)?)
        };
        Ok(Condition { selector, test })
    }

    fn is_met(&self, object: &Value) -> bool {
        match &self.test {
            Test::Compares(comparison) => select(object, &self.selector, &|value| match value {
                Value::String(text) => comparison.holds(text),
                Value::Number(number) => comparison.holds(&number.to_string()),
                _ => false,
            }),
            Test::Is(expected) => select(object, &self.selector, &|value| value == expected),
            Test::NotExists => !select(object, &self.selector, &|_| true),
        }
    }
}

/// Whether a value to which the steps lead is wanted.
fn select(value: &Value, steps: &[Step], is_wanted: &dyn Fn(&Value) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return is_wanted(value);
    };
    let follow = |value: &Value| select(value, rest, is_wanted);
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => fields.get(name).is_some_and(follow),
        (Step::Element(at), Value::Array(elements)) => elements.get(*at).is_some_and(follow),
        (Step::Elements, Value::Array(elements)) => elements.iter().any(follow),
        (Step::Fields, Value::Object(fields)) => fields.values().any(follow),
        _ => false,
    }
}

/// `$.a.b[0]`, `$.a[*]`, `$.*`, `$.['a.b']`.
fn selector(scan: &mut Scan<'_>) -> Result<Vec<Step>, PatternError> {
    if scan.peek() != Some('$') {
        return Err(scan.fail("a selector is expected, such as `$.name`."));
    }
    scan.expect("$")?;
    let mut steps = Vec::new();
    loop {
        if scan.eat("[") {
            steps.push(bracket(scan)?);
        } else if scan.eat(".") {
            steps.push(if scan.eat("*") {
                Step::Fields
            } else if scan.eat("[") {
                bracket(scan)?
            } else {
                let name = scan.take_while(|c| c.is_alphanumeric() || c == '-' || c == '_');
                if name.is_empty() {
                    return Err(scan.fail("the name of a field is expected after the period."));
                }
                Step::Field(name.to_owned())
            });
        } else {
            break;
        }
    }
    match steps.is_empty() {
        true => Err(scan.fail("a selector names a field, such as `$.name`.")),
        false => Ok(steps),
    }
}

/// After the opening bracket: an index, `*`, or a name between quotation marks.
fn bracket(scan: &mut Scan<'_>) -> Result<Step, PatternError> {
    let step = match scan.peek() {
        Some('*') => {
            scan.next();
            Step::Elements
        }
        Some(quote @ ('\'' | '"')) => {
            scan.next();
            let name = scan.take_while(|c| c != quote).to_owned();
            scan.expect(&quote.to_string())?;
            Step::Field(name)
        }
        _ => {
            let index = scan.take_while(|c| c.is_ascii_digit()).parse();
            Step::Element(index.map_err(|_| {
                scan.fail(
                    "the number of an element, `*` or a name between quotation marks is expected.",
                )
            })?)
        }
    };
    scan.expect("]")?;
    Ok(step)
}
