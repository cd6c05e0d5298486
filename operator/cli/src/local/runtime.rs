//! A runtime on this machine: its tools, and what is set up once for all functions.
//!
//! Does what a description's `local.tool` and `local.setup` say; everything it makes is an entry of the `cache`
//! that is named for everything that it was made of. `make` makes functions runnable with the result. Never changes
//! the machine's tools.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use pilotlight_core::instance::launch::HeapLimit;
use pilotlight_runtimes::{PackageLayout, RuntimeDescription, Setup, Values, fill};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::print::Progress;
use super::utf8::text;
use super::{hash, steps, tool, tools};

const SET_UP: &str = "runtimes";
/// Digits of a hash in the name of a set-up: enough to tell two of one runtime apart.
const DIGITS: usize = 12;

/// A runtime with its tools found and its set-up done.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(super) description: Arc<RuntimeDescription>,
    pub(super) values: Values,
    /// Names the tools and the set-up. Everything that is made with them has this key in its hash.
    pub(super) key: String,
}

/// Finds the tools, and sets up the runtime unless it is in the cache.
///
/// # Errors
/// If a tool is missing or fails.
pub(crate) async fn ready(
    description: &Arc<RuntimeDescription>,
    search_path: &OsStr,
    cache: &Cache,
    progress: &Progress,
) -> Result<Ready> {
    let name = description.name.as_str();
    let mut values = description.values();
    values.insert("arch".to_owned(), Some(arch().to_owned()));
    values.insert("cache".to_owned(), Some(text(cache.scratch(""))?));
    let mut hash = Sha256::new();
    for wanted in &description.local.tools {
        let found = tools::find(wanted, &values, search_path, cache, progress).await?;
        let found = text(found)?;
        hash::update(&mut hash, found.as_bytes());
        values.insert(wanted.name.clone(), Some(found));
    }
    for (name, content) in &description.files {
        hash::update(&mut hash, name.as_bytes());
        hash::update(&mut hash, content);
    }
    let setup = description.local.setup.as_ref();
    // The key must not depend on where the result will be.
    let anywhere = steps::with(&values, [("out", Path::new(""))])?;
    for word in setup.iter().flat_map(|setup| setup.run.iter().flatten()) {
        hash::update(&mut hash, fill(word, &anywhere)?.as_bytes());
    }
    let key = format!("{name}-{}", &hash::hex(hash)[..DIGITS]);
    let mut ready = Ready {
        description: description.clone(),
        values,
        key,
    };
    let runtime = ready.set_up(setup, cache, progress).await?;
    ready.values.insert("runtime".to_owned(), runtime);
    Ok(ready)
}

impl Ready {
    /// The runtime's own directory, if it has one: from the cache, or made now.
    async fn set_up(
        &self,
        setup: Option<&Setup>,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Option<String>> {
        let files = &self.description.files;
        if setup.is_none() && files.is_empty() {
            return Ok(None);
        }
        let build = async |place: &Path| {
            for (name, content) in files {
                let path = place.join(name);
                fs::write(&path, content)?;
                let mode = if content.starts_with(b"#!") {
                    0o755
                } else {
                    0o644
                };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            let Some(setup) = setup else {
                return Ok(());
            };
            let values = steps::with(&self.values, [("out", place)])?;
            self.say(self.description.name.as_str(), &setup.say, progress)?;
            steps::run(&setup.run, &values, place).await
        };
        let mut place = cache.entry(SET_UP, &self.key, build).await?;
        if let Some(check) = setup.map(|setup| &setup.check)
            && !self.works(check, &place).await?
        {
            // A tool was upgraded or moved since then.
            cache.discard(SET_UP, &self.key).await?;
            place = cache.entry(SET_UP, &self.key, build).await?;
        }
        text(place).map(Some)
    }

    async fn works(&self, check: &[String], place: &Path) -> Result<bool> {
        let values = steps::with(&self.values, [("runtime", place)])?;
        let words = steps::filled(check, &values)?;
        let Some((program, arguments)) = words.split_first() else {
            return Ok(true);
        };
        let answer = tool::output(tokio::process::Command::new(program).args(arguments)).await;
        Ok(answer.is_ok_and(|answer| answer.status.success()))
    }

    /// The folders of the runtime's own language. On the original platform the search path begins there, so that a
    /// program that a function starts by name has the same version.
    pub(crate) fn languages(&self) -> impl Iterator<Item = &Path> {
        let tools = self.description.local.tools.iter();
        let versioned = tools.filter(|tool| tool.version.is_some());
        versioned.filter_map(|tool| Path::new(self.values.get(&tool.name)?.as_ref()?).parent())
    }

    /// The variables that limit its heap.
    pub(crate) fn heap(&self) -> &BTreeMap<String, HeapLimit> {
        &self.description.heap
    }

    /// What an archive of the function holds besides its code.
    pub(crate) fn package(&self) -> &PackageLayout {
        &self.description.package
    }

    pub(super) fn say(&self, whose: &str, what: &str, progress: &Progress) -> Result<()> {
        progress.say(&format!("{whose}: {}", fill(what, &self.values)?));
        Ok(())
    }
}

/// The architecture, as npm's packages name it.
fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    }
}
