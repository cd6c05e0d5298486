//! How a program is started: its command and its environment, with placeholders.
//!
//! A part of a description, used for images and for local mode. The code that starts a runtime fills in the
//! placeholders; nothing is started here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::invalid::InvalidDescription;
use crate::template::{self, Unknown, Values};

/// A program with its arguments and its environment, with placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, Setting>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Text(String),
    /// A search path: joined by `:`, without the parts that do not exist.
    SearchPath(Vec<String>),
}

impl Start {
    /// # Errors
    /// If a placeholder has no value.
    pub fn fill(
        &self,
        values: &Values,
    ) -> Result<(Vec<String>, BTreeMap<String, String>), Unknown> {
        let command = self.command.iter().map(|word| template::fill(word, values));
        let environment = self.environment.iter().map(|(name, setting)| {
            let value = match setting {
                Setting::Text(text) => template::fill(text, values)?,
                Setting::SearchPath(parts) => template::fill_path(parts, values)?.join(":"),
            };
            Ok((name.clone(), value))
        });
        Ok((
            command.collect::<Result<_, _>>()?,
            environment.collect::<Result<_, _>>()?,
        ))
    }

    /// Whether a command or variable uses this placeholder.
    pub fn uses(&self, name: &str) -> bool {
        self.texts()
            .any(|text| template::names(text).any(|used| used == name))
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        let settings = self.environment.values();
        let settings = settings.flat_map(|setting| match setting {
            Setting::Text(text) => std::slice::from_ref(text),
            Setting::SearchPath(parts) => parts,
        });
        self.command.iter().chain(settings)
    }

    pub(crate) fn check(
        &self,
        place: &'static str,
        known: &BTreeSet<&str>,
    ) -> Result<(), InvalidDescription> {
        if self.command.is_empty() {
            return Err(InvalidDescription::NoCommand(place));
        }
        check(place, self.texts(), known)
    }
}

pub(crate) fn check<'a>(
    place: &str,
    texts: impl IntoIterator<Item = &'a String>,
    known: &BTreeSet<&str>,
) -> Result<(), InvalidDescription> {
    let mut used = texts.into_iter().flat_map(|text| template::names(text));
    match used.find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(InvalidDescription::Placeholder {
            place: place.to_owned(),
            name: name.to_owned(),
            known: Vec::from_iter(known.iter().copied()).join(", "),
        }),
    }
}
