//! How a machine's own tools become a runtime: tools, set-up, libraries, build.
//!
//! The table `local` of a description. It says which commands are run, and when they are needed; local mode runs them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::invalid::InvalidDescription;
use crate::pattern;
use crate::start::{Start, check};

/// The placeholders of local mode, besides the tools and the version's own values.
const LOCAL_VALUES: [&str; 9] = [
    "arch",
    "bootstrap",
    "cache",
    "code",
    "handler",
    "libraries",
    "opt",
    "out",
    "runtime",
];

/// Placeholders with values from a list of libraries, for `local.libraries` only.
const READ_VALUES: [&str; 8] = [
    "gems", "linked", "list", "manager", "member", "project", "root", "scripts",
];

/// How a machine's own tools become a runtime.
#[derive(Clone, Debug)]
pub struct Local {
    pub start: Start,
    pub tools: Vec<Tool>,
    pub setup: Option<Setup>,
    pub libraries: Option<Libraries>,
    pub build: Option<Build>,
}

/// A program that the machine must have, or that can be fetched.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tool {
    /// Its placeholder.
    pub name: String,
    /// The names to look for on the `PATH`, the best first.
    pub programs: Vec<String>,
    /// Arguments that make it print its version and, optionally on a second line, its real path.
    #[serde(default)]
    pub ask: Vec<String>,
    /// The version: a word of that line must begin with it.
    pub version: Option<String>,
    /// Variables that make a version manager's shim run that version.
    #[serde(default)]
    pub select: BTreeMap<String, String>,
    pub fetch: Option<Fetch>,
    /// Advice for a user whose machine has none.
    pub missing: String,
}

/// How a tool is fetched that the machine lacks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    pub say: String,
    pub run: Vec<Vec<String>>,
    /// The path of the program afterwards.
    pub program: String,
}

/// Commands that are run once for all functions of the runtime.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub say: String,
    pub run: Vec<Vec<String>>,
    /// A command that fails if the set-up no longer works.
    #[serde(default)]
    pub check: Vec<String>,
}

/// Commands that are run once for each list of libraries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Libraries {
    /// If the first file exists the commands are needed; the content of all files decides whether they were run before.
    #[serde(default)]
    pub files: Vec<String>,
    /// Instead of files: a language whose lists are parsed, with everything that they refer to.
    pub read: Option<Reads>,
    /// If any of these files exists, the commands are not needed.
    #[serde(default)]
    pub unless: Vec<String>,
    pub say: String,
    pub run: Vec<Vec<String>>,
}

/// A language's lists of libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// `requirements.txt`, `uv.lock`, `poetry.lock`, `Pipfile.lock`, `pyproject.toml`.
    Python,
    /// `package.json`, workspaces, and the locks of npm, pnpm and Yarn.
    Node,
    /// `Gemfile` and `Gemfile.lock`.
    Ruby,
}

/// Commands that make the code runnable; they are run again after each change of the code.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// File names or `*.end`, optionally in a folder (`a/b/*.end`): if one of these exists the commands are needed.
    /// Without any, they always are.
    #[serde(default)]
    pub when: Vec<String>,
    /// If any of these files exists, the commands are not needed.
    #[serde(default)]
    pub unless: Vec<String>,
    pub say: String,
    pub run: Vec<Vec<String>>,
}

impl Build {
    /// Whether the build is needed. `names` lists a folder of the code; `""` is the code itself.
    pub fn is_needed(&self, names: impl Fn(&str) -> Vec<String>) -> bool {
        let is_there = |pattern: &String| {
            let (folder, pattern) = pattern.rsplit_once('/').unwrap_or(("", pattern));
            names(folder)
                .iter()
                .any(|name| pattern::matches(pattern, name))
        };
        let is_asked_for = self.when.is_empty() || self.when.iter().any(is_there);
        is_asked_for && !self.unless.iter().any(is_there)
    }
}

impl Local {
    /// Whether each placeholder has a value. `own`: those of the version.
    pub(crate) fn check<'a>(
        &'a self,
        own: impl Iterator<Item = &'a str>,
    ) -> Result<(), InvalidDescription> {
        let tools = self.tools.iter().map(|tool| tool.name.as_str());
        let known = own.chain(LOCAL_VALUES).chain(tools).collect();
        self.start.check("local", &known)?;
        for tool in &self.tools {
            let place = format!("local.tool {}", tool.name);
            let texts = tool.programs.iter().chain(&tool.version);
            let texts = texts.chain(tool.select.values());
            check(&place, texts.chain([&tool.missing]), &known)?;
            if let Some(fetch) = &tool.fetch {
                let texts = fetch.run.iter().flatten();
                check(&place, texts.chain([&fetch.say, &fetch.program]), &known)?;
            }
        }
        if let Some(setup) = &self.setup {
            let texts = setup.run.iter().flatten().chain(&setup.check);
            check("local.setup", texts.chain([&setup.say]), &known)?;
        }
        if let Some(libraries) = &self.libraries {
            libraries.check(&known)?;
        }
        if let Some(Build { run, say, .. }) = &self.build {
            check("local.build", run.iter().flatten().chain([say]), &known)?;
        }
        Ok(())
    }
}

impl Libraries {
    fn check(&self, known: &BTreeSet<&str>) -> Result<(), InvalidDescription> {
        if self.files.is_empty() != self.read.is_some() {
            return Err(InvalidDescription::NoList);
        }
        let mut known = known.clone();
        known.extend(READ_VALUES.iter().filter(|_| self.read.is_some()));
        check(
            "local.libraries",
            self.run.iter().flatten().chain([&self.say]),
            &known,
        )
    }
}
