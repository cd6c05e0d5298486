//! Regular expressions of a filter pattern, as far as the syntax has them.
//!
//! Translates the documented operators into those of the crate `regex`, so that no other operator of that crate can be
//! used. Classes mean ASCII, as documented. The size of a compiled expression is bounded, and a search takes time in
//! proportion to the length of the text.

use std::borrow::Cow;
use std::fmt::Write;

use regex::bytes::{Regex, RegexBuilder};

/// The memory that a compiled expression may take, in bytes. It bounds how long a search takes for each byte of a text: some
/// microseconds at worst.
const SIZE_MAX: usize = 16 * 1024;
/// The memory of one search, in bytes.
const CACHE_MAX: usize = 256 * 1024;
/// The most repetitions in braces.
const REPETITIONS_MAX: u32 = 255;
/// Characters besides letters, digits and spaces that stand for themselves.
const SYMBOLS: &str = ":_#=@/;,-";
const OPERATORS: &str = "^$?[]{}|\\*+.";
/// One character of any kind, as bytes of UTF-8: a first byte and those that continue it. This takes far fewer states than
/// the ranges of all characters, and means the same in a text that is UTF-8.
const ANY: &str = r"(?:[^\x80-\xBF][\x80-\xBF]*)";

#[derive(Clone, Debug)]
pub(super) struct Expression(Regex);

impl Expression {
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

#[derive(Debug)]
pub(super) struct Unreadable {
    /// In bytes from the start of the expression.
    pub(super) at: usize,
    pub(super) reason: String,
}

/// `source`: what is between the percent signs.
pub(super) fn read(source: &str) -> Result<Expression, Unreadable> {
    let mut reader = Reader {
        source,
        at: 0,
        translated: String::new(),
    };
    if source.is_empty() {
        return Err(reader.fail("a regular expression cannot be empty."));
    }
    reader.translate()?;
    let mut builder = RegexBuilder::new(&reader.translated);
    builder.unicode(false);
    builder.size_limit(SIZE_MAX).dfa_size_limit(CACHE_MAX);
    let compiled = builder.build().map_err(|_| Unreadable {
        at: 0,
        reason: "this regular expression is too large. Use fewer repetitions.".to_owned(),
    });
    compiled.map(Expression)
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
    translated: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn fail(&self, reason: impl Into<String>) -> Unreadable {
        Unreadable {
            at: self.at,
            reason: reason.into(),
        }
    }

    fn translate(&mut self) -> Result<(), Unreadable> {
        let mut can_repeat = false;
        while let Some(next) = self.peek() {
            match next {
                '*' | '+' | '?' | '{' => {
                    if !can_repeat {
                        return Err(self.fail(format!("`{next}` has nothing to repeat.")));
                    }
                    self.repetition()?;
                    can_repeat = false;
                    continue;
                }
                '^' | '$' | '|' => {
                    self.next();
                    self.translated.push(next);
                    can_repeat = false;
                    continue;
                }
                '.' => {
                    self.next();
                    self.translated.push_str(ANY);
                }
                '[' => self.class()?,
                '\\' => {
                    let item = self.escape()?;
                    self.push(item);
                }
                ']' | '}' => {
                    return Err(self.fail(format!(
                        "`{next}` closes nothing; write `\\{next}` for the character itself."
                    )));
                }
                other => {
                    self.check(other)?;
                    self.next();
                    self.push(Item::Character(other));
                }
            }
            can_repeat = true;
        }
        Ok(())
    }

    /// Refuses a character that does not stand for itself.
    fn check(&self, character: char) -> Result<(), Unreadable> {
        if character.is_ascii_alphanumeric() || character == ' ' || SYMBOLS.contains(character) {
            return Ok(());
        }
        Err(self.fail(match character.is_ascii() {
            true => format!(
                "`{character}` cannot be used in a regular expression; write `\\x{:02X}`.",
                u32::from(character)
            ),
            false => format!("`{character}` is not of ASCII; write `.` for any character."),
        }))
    }

    /// `*`, `+`, `?` or braces, which a `?` may follow: the same texts match with it.
    fn repetition(&mut self) -> Result<(), Unreadable> {
        match self.next() {
            Some('{') => {
                let fewest = self.number()?;
                let most = match self.peek() {
                    Some(',') => {
                        self.next();
                        self.number()?
                    }
                    _ => fewest,
                };
                if self.peek() != Some('}') || (fewest, most) == (None, None) {
                    return Err(self.fail("repetitions have the form {m}, {m,}, {,n} or {m,n}."));
                }
                if most.is_some_and(|most| fewest.unwrap_or(0) > most) {
                    return Err(self.fail("the first number must not be larger than the second."));
                }
                self.next();
                let fewest = fewest.unwrap_or(0);
                let most = most.map_or_else(String::new, |most| most.to_string());
                let _ = write!(self.translated, "{{{fewest},{most}}}");
            }
            Some(operator) => self.translated.push(operator),
            None => {}
        }
        if self.peek() == Some('?') {
            self.next();
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Option<u32>, Unreadable> {
        let rest = &self.source[self.at..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return Ok(None);
        }
        let number = rest[..digits].parse().ok();
        let number = number.filter(|number| *number <= REPETITIONS_MAX);
        let too_many = || {
            self.fail(format!(
                "there can be {REPETITIONS_MAX} repetitions at most."
            ))
        };
        let number = number.ok_or_else(too_many)?;
        self.at += digits;
        Ok(Some(number))
    }

    /// A list of characters between brackets.
    fn class(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        self.next();
        let mut set = String::from("[");
        let mut is_wide = self.peek() == Some('^');
        if is_wide {
            self.next();
            set.push('^');
        }
        let first = self.at;
        loop {
            match self.peek() {
                Some(']') if self.at > first => break,
                Some(']') | None => {
                    self.at = start;
                    return Err(self.fail("this list of characters is empty or has no end."));
                }
                Some(_) => {}
            }
            let item = self.class_item()?;
            is_wide |= matches!(item, Item::Except(_));
            let follows = self.source[self.at..].strip_prefix('-');
            let is_range = follows.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(']'));
            let (Item::Character(from), true) = (item, is_range) else {
                set.push_str(&item.set());
                continue;
            };
            self.next();
            match self.class_item()? {
                to @ Item::Character(last) if from <= last => {
                    set.push_str(&format!("{}-{}", item.set(), to.set()));
                }
                _ => return Err(self.fail("a range goes from one character to a later one.")),
            }
        }
        self.next();
        set.push(']');
        self.push_set(&set, is_wide);
        Ok(())
    }

    fn class_item(&mut self) -> Result<Item, Unreadable> {
        match self.peek() {
            Some('\\') => self.escape(),
            // Operators stand for themselves here.
            Some(other) => {
                if !OPERATORS.contains(other) {
                    self.check(other)?;
                }
                self.next();
                Ok(Item::Character(other))
            }
            None => Err(self.fail("this list of characters has no end.")),
        }
    }

    /// A backslash and what follows.
    fn escape(&mut self) -> Result<Item, Unreadable> {
        let start = self.at;
        self.next();
        let item = match self.next() {
            Some('d') => Item::Set("[0-9]"),
            Some('D') => Item::Except("[^0-9]"),
            Some('s') => Item::Set(r"[ \t\r\n]"),
            Some('S') => Item::Except(r"[^ \t\r\n]"),
            Some('w') => Item::Set("[a-zA-Z_0-9]"),
            Some('W') => Item::Except("[^a-zA-Z_0-9]"),
            Some('t') => Item::Character('\t'),
            Some('n') => Item::Character('\n'),
            Some('r') => Item::Character('\r'),
            Some('x') => {
                let digits = self.source.get(self.at..self.at + 2);
                let code = digits
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .filter(u8::is_ascii);
                self.at += if code.is_some() { 2 } else { 0 };
                match code {
                    Some(code) => Item::Character(char::from(code)),
                    None => {
                        self.at = start;
                        return Err(self.fail(r"`\x` needs two digits from 00 to 7F."));
                    }
                }
            }
            Some(other) if OPERATORS.contains(other) || SYMBOLS.contains(other) => {
                Item::Character(other)
            }
            other => {
                self.at = start;
                return Err(self.fail(match other {
                    Some(other) if other.is_ascii() && !other.is_ascii_alphanumeric() => format!(
                        "`\\{other}` is not supported; write `\\x{:02X}`.",
                        u32::from(other)
                    ),
                    Some(other) => format!("`\\{other}` is not supported."),
                    None => "there is nothing after the backslash.".to_owned(),
                }));
            }
        };
        Ok(item)
    }

    fn push(&mut self, item: Item) {
        self.push_set(&item.set(), matches!(item, Item::Except(_)));
    }

    /// `is_wide`: the set has characters that are not of ASCII, so it has all of those.
    fn push_set(&mut self, set: &str, is_wide: bool) {
        // No byte that continues a character is one by itself.
        let _ = match is_wide {
            true => write!(self.translated, r"(?:[{set}&&[^\x80-\xBF]][\x80-\xBF]*)"),
            false => write!(self.translated, "{set}"),
        };
    }
}

#[derive(Clone, Copy)]
enum Item {
    /// Of ASCII.
    Character(char),
    /// A set of characters of ASCII.
    Set(&'static str),
    /// All characters but a set of ASCII.
    Except(&'static str),
}

impl Item {
    fn set(self) -> Cow<'static, str> {
        match self {
            Item::Character(character) => format!("\\x{:02X}", u32::from(character)).into(),
            Item::Set(set) | Item::Except(set) => set.into(),
        }
    }
}
