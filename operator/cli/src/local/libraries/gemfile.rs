//! `Gemfile`, its lock, and the gems in folders that it names.
//!
//! Fed by `libraries`. A Gemfile is a program. This module reads only the strings that name a folder or a file
//! beside it: `path: "../x"`, `path "../x" do`, `eval_gemfile "x"`, `gemspec`.

use std::path::Path;

use anyhow::Result;

use super::inputs::Inputs;
use super::paths::{lexical, relative, text};

const LIST: &str = "Gemfile";

pub(super) fn read(code: &Path) -> Result<Option<Inputs>> {
    let Some(content) = text(&code.join(LIST))? else {
        return Ok(None);
    };
    let mut inputs = Inputs::of(code, LIST);
    for name in [LIST, "Gemfile.lock", ".ruby-version", ".bundle/config"] {
        inputs.file_if_there(&code.join(name))?;
    }
    let mut gems = Vec::new();
    for path in paths(&content) {
        let path = lexical(code, &path);
        inputs.path(&path)?;
        if path.is_dir() {
            gems.push(relative(code, &path).display().to_string());
        }
    }
    inputs.values.insert("gems", gems.join("\n"));
    Ok(Some(inputs))
}

fn paths(gemfile: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in gemfile.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        let words = ["path:", ":path =>", ":path=>", "eval_gemfile"];
        let begins = ["path ", "path("].iter().any(|word| line.starts_with(word));
        let after = words
            .iter()
            .find_map(|word| line.split_once(word).map(|(_, after)| after));
        let after = after.or_else(|| begins.then(|| &line[4..]));
        found.extend(after.and_then(quoted));
        if line.starts_with("gemspec") {
            found.push(after.and_then(quoted).unwrap_or_else(|| ".".to_owned()));
        }
    }
    found
}

fn quoted(text: &str) -> Option<String> {
    let text = text.trim_start_matches([' ', '(']);
    let quote = text
        .chars()
        .next()
        .filter(|letter| matches!(letter, '"' | '\''))?;
    let inner = text[1..].split(quote).next()?;
    (!inner.contains("#{")).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_in_every_spelling() {
        for line in [
            "gem 'x', path: '../x'",
            "gem \"x\", :path => \"../x\"",
            "path '../x' do",
            "path(\"../x\")",
        ] {
            assert_eq!(paths(line), ["../x"], "{line}");
        }
        assert_eq!(paths("gemspec"), ["."]);
        let others = "gem 'path'\n# gem 'x', path: '../x'\ngem 'y', path: \"#{here}/y\"\n";
        assert_eq!(paths(others), Vec::<String>::new());
    }
}
