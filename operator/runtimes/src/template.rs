//! Texts with placeholders: `{name}` stands for a value of the machine, the image or the version.
//!
//! `description` checks the names when a file is read; the code that starts a runtime has the values.
//! `${name}` belongs to a shell and is left as it is.

use std::collections::BTreeMap;

/// The values of placeholders. `None` is an absent value, such as the libraries of code that has none.
pub type Values = BTreeMap<String, Option<String>>;

/// A placeholder without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the placeholder {{{0}}} has no value here")]
pub struct Unknown(pub String);

/// The names of a text's placeholders.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// The text with all placeholders replaced; an absent value becomes nothing.
///
/// # Errors
/// If a name is unknown.
pub fn fill(text: &str, values: &Values) -> Result<String, Unknown> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Name(name) => {
                let value = values.get(name).ok_or_else(|| Unknown(name.to_owned()))?;
                filled.push_str(value.as_deref().unwrap_or_default());
            }
        }
    }
    Ok(filled)
}

/// A search path, without the parts that use an absent value.
///
/// # Errors
/// As those of [`fill`].
pub fn fill_path(parts: &[String], values: &Values) -> Result<Vec<String>, Unknown> {
    let is_there = |part: &&String| names(part).all(|name| values.get(name) != Some(&None));
    let there = parts.iter().filter(is_there);
    there.map(|part| fill(part, values)).collect()
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = rest[from..].find('{').map(|at| from + at) {
            let inside = &rest[at + 1..];
            let length = inside.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            let length = length.unwrap_or(inside.len());
            let is_name = length > 0 && inside[length..].starts_with('}');
            if !is_name || rest[..at].ends_with('$') {
                from = at + 1;
                continue;
            }
            if at > 0 {
                let before;
                (before, rest) = rest.split_at(at);
                return Some(Piece::Text(before));
            }
            rest = &inside[length + 1..];
            return Some(Piece::Name(&inside[..length]));
        }
        Some(Piece::Text(std::mem::take(&mut rest)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let values = [("code", Some("/task")), ("libraries", None)];
        let owned = values.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        owned.into()
    }

    #[test]
    fn names_in_braces_are_replaced_and_the_rest_stays() {
        let filled = |text: &str| fill(text, &values()).expect("known");
        assert_eq!(filled("{code}/a{code}{libraries}"), "/task/a/task");
        for same in ["", "{}", "{A}", "${code}", "{code", "é{1}", "{ code }"] {
            assert_eq!(filled(same), same);
        }
        assert_eq!(fill("{cdoe}", &values()), Err(Unknown("cdoe".to_owned())));
    }

    #[test]
    fn a_search_path_leaves_out_absent_values() {
        let parts = ["{libraries}/lib", "{code}", "/opt"].map(str::to_owned);
        let filled = fill_path(&parts, &values()).expect("known");
        assert_eq!(filled, ["/task", "/opt"]);
    }
}
