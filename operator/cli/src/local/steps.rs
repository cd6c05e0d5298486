//! Runs the commands of a description, with its placeholders filled in.
//!
//! Fed by `tools`, `runtime` and `make`, which decide when and where; `tool` runs each command. A command
//! writes its result into `{out}`.

use std::path::Path;

use anyhow::Result;
use pilotlight_runtimes::{Values, fill};
use tokio::process::Command;

use super::tool;
use super::utf8::text;

/// The values, with these paths added.
pub(crate) fn with<'a>(
    values: &Values,
    places: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> Result<Values> {
    let mut values = values.clone();
    for (name, place) in places {
        values.insert(name.to_owned(), Some(text(place)?));
    }
    Ok(values)
}

/// A command with its placeholders replaced.
pub(crate) fn filled(words: &[String], values: &Values) -> Result<Vec<String>> {
    let words = words.iter().map(|word| fill(word, values));
    Ok(words.collect::<Result<_, _>>()?)
}

/// Runs the commands one after another, and stops at the first that fails.
pub(crate) async fn run(commands: &[Vec<String>], values: &Values, directory: &Path) -> Result<()> {
    for words in commands {
        let words = filled(words, values)?;
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let mut command = Command::new(program);
        tool::run(command.args(arguments).current_dir(directory)).await?;
    }
    Ok(())
}
