//! Patterns of conditions on the words of a line: `[ip, user, ..., status = 4*, bytes > 1000]`.
//!
//! Spaces separate words; what is between brackets or quotation marks is one word. The pattern names the words in their
//! order. `...` stands for any number of words. Without it, the last name takes the rest of the line.

use std::collections::VecDeque;

use super::error::PatternError;
use super::logic::Logic;
use super::operand::Comparison;
use super::scan::Scan;

#[derive(Clone, Debug)]
pub(super) struct Words {
    /// How many words the pattern names, before the ellipsis if there is one.
    before: usize,
    /// How many it names after the ellipsis.
    after: Option<usize>,
    conditions: Vec<Logic<Condition>>,
}

#[derive(Clone, Debug)]
struct Condition {
    /// Which of the named words.
    word: usize,
    comparison: Comparison,
}

impl Words {
    pub(super) fn read(scan: &mut Scan<'_>) -> Result<Self, PatternError> {
        scan.expect("[")?;
        let mut words = Words {
            before: 0,
            after: None,
            conditions: Vec::new(),
        };
        // `None`: a word that has no name.
        let mut names: Vec<Option<String>> = Vec::new();
        loop {
            scan.skip_spaces();
            match scan.peek() {
                Some('.') => {
                    scan.expect("...")?;
                    if words.after.replace(0).is_some() {
                        return Err(scan.fail("a pattern can have one `...`."));
                    }
                    words.before = names.len();
                }
                // `[]` names nothing; elsewhere nothing stands for a word without a name.
                Some(']') if names.is_empty() && words.after.is_none() => break,
                Some(',' | ']') => names.push(None),
                _ => words.field(scan, &mut names)?,
            }
            scan.skip_spaces();
            if !scan.eat(",") {
                break;
            }
        }
        scan.expect("]")?;
        scan.skip_spaces();
        if scan.peek().is_some() {
            return Err(scan.fail("nothing can follow the closing bracket."));
        }
        match &mut words.after {
            Some(after) => *after = names.len() - words.before,
            None => words.before = names.len(),
        }
        Ok(words)
    }

    /// A name, or conditions on words of which the first gives the field its name.
    fn field(
        &mut self,
        scan: &mut Scan<'_>,
        names: &mut Vec<Option<String>>,
    ) -> Result<(), PatternError> {
        // A name is known before its condition is read, so `a = 1 || a = 2` can refer to it.
        let known = names.len();
        let logic = Logic::read(scan, &mut |scan| {
            let name = name(scan)?;
            if names.len() == known {
                if names.iter().flatten().any(|other| other == name) {
                    return Err(scan.fail(format!("there is already a word named `{name}`.")));
                }
                names.push(Some(name.to_owned()));
                scan.skip_spaces();
                if matches!(scan.peek(), Some(',' | ']')) {
                    return Ok(None);
                }
            }
            let word = names
                .iter()
                .position(|other| other.as_deref() == Some(name));
            let word =
                word.ok_or_else(|| scan.fail(format!("no word before this is named `{name}`.")))?;
            scan.skip_spaces();
            let comparison = Comparison::read(scan)?;
            Ok(Some(Condition { word, comparison }))
        })?;
        self.conditions.extend(complete(logic));
        Ok(())
    }

    pub(super) fn admit(&self, text: &str) -> bool {
        let Some(named) = self.named(text) else {
            return false;
        };
        let is_met = |condition: &Condition| condition.comparison.holds(named[condition.word]);
        self.conditions.iter().all(|logic| logic.holds(&is_met))
    }

    /// The words that the pattern names, if the line has as many.
    fn named<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let after = self.after.unwrap_or(0);
        let mut first: Vec<Word<'t>> = Vec::with_capacity(self.before);
        let mut last: VecDeque<Word<'t>> = VecDeque::with_capacity(after);
        let mut is_longer = false;
        for word in Split::new(text) {
            if first.len() < self.before {
                first.push(word);
                continue;
            }
            is_longer = true;
            if after == 0 {
                break;
            }
            if last.len() == after {
                last.pop_front();
            }
            last.push_back(word);
        }
        if first.len() < self.before || last.len() < after {
            return None;
        }
        let mut named: Vec<&str> = first.iter().map(|word| word.inner).collect();
        if self.after.is_none()
            && is_longer
            && let Some((last, word)) = named.last_mut().zip(first.last())
        {
            *last = text[word.start..].trim_end();
        }
        named.extend(last.iter().map(|word| word.inner));
        Some(named)
    }
}

/// The conditions of a field, or `None` for a name alone.
fn complete(logic: Logic<Option<Condition>>) -> Option<Logic<Condition>> {
    let all = |list: Vec<_>| list.into_iter().map(complete).collect::<Option<Vec<_>>>();
    match logic {
        Logic::All(list) => all(list).map(Logic::All),
        Logic::Any(list) => all(list).map(Logic::Any),
        Logic::One(condition) => condition.map(Logic::One),
    }
}

fn name<'a>(scan: &mut Scan<'a>) -> Result<&'a str, PatternError> {
    let is_first = |c: char| c.is_alphabetic() || c == '_';
    if !scan.peek().is_some_and(is_first) {
        return Err(scan.fail("the name of a word is expected, or `...`."));
    }
    Ok(scan.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-'))
}

#[derive(Clone, Copy, Debug)]
struct Word<'t> {
    /// Where it starts in the line.
    start: usize,
    /// Without its brackets or quotation marks.
    inner: &'t str,
}

/// The words of a line.
struct Split<'t> {
    text: &'t str,
    at: usize,
    /// Where the last closing bracket is. Brackets that open later never close, and the rest of the line is not searched
    /// for each of them.
    last_bracket: usize,
}

impl<'t> Split<'t> {
    fn new(text: &'t str) -> Self {
        Split {
            text,
            at: 0,
            last_bracket: text.rfind(']').unwrap_or(0),
        }
    }

    /// The end of a word that opens at `start`, if it closes.
    fn closing(&self, start: usize) -> Option<usize> {
        let close = match self.text.as_bytes()[start] {
            b'[' if start < self.last_bracket => ']',
            // Only the last quotation mark of a line finds no other.
            b'"' => '"',
            _ => return None,
        };
        // The opening character is one byte.
        self.text[start + 1..].find(close)
    }
}

impl<'t> Iterator for Split<'t> {
    type Item = Word<'t>;

    fn next(&mut self) -> Option<Word<'t>> {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        if start == self.text.len() {
            return None;
        }
        if let Some(length) = self.closing(start) {
            let inner = start + 1..start + 1 + length;
            self.at = inner.end + 1;
            let inner = &self.text[inner];
            return Some(Word { start, inner });
        }
        let rest = &self.text[start..];
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.at = start + end;
        let inner = &rest[..end];
        Some(Word { start, inner })
    }
}
