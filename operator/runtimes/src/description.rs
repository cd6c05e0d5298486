//! A description: how a runtime is started in an image and on a person's machine.
//!
//! Parsed from a folder's `runtime.toml`, whose form runtimes/README.md explains. Each placeholder
//! is checked here against what its table may use, so a mistake shows when the file is read. What
//! images hold (`image.contents`) is read by runtime-image/builder alone.

use std::collections::{BTreeMap, BTreeSet};

use pilotlight_core::function::{Handler, MemoryMiB, Runtime};
use pilotlight_core::instance::launch::{HeapLimit, Launch};
use pilotlight_core::instance::prestart;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::package::Package;
use crate::pattern;
use crate::template::{self, Unknown, Values};

/// Where an instance's image has code, client and layers (contract §2).
const IMAGE_PLACES: [(&str, &str); 3] = [
    ("code", "/var/task"),
    ("opt", "/opt"),
    ("runtime", "/var/runtime"),
];

/// The working directory of an instance from an image.
pub const IMAGE_TASK_ROOT: &str = IMAGE_PLACES[0].1;

/// What each image sets for its runtime, besides the runtime's own (contract §2).
const IMAGE_ENVIRONMENT: [(&str, &str); 5] = [
    ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
    (
        "LD_LIBRARY_PATH",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    ),
    (
        "PATH",
        "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    ),
    ("LANG", "en_US.UTF-8"),
    ("TZ", ":UTC"),
];

/// What local mode knows besides the tools and the version's own values.
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

/// Values that are read from lists of libraries, for `local.libraries` alone.
const READ_VALUES: [&str; 8] = [
    "gems", "linked", "list", "manager", "member", "project", "root", "scripts",
];

/// All that is known of one runtime.
#[derive(Clone, Debug)]
pub struct Description {
    pub name: Runtime,
    /// The entry point of a function that names none.
    pub default_handler: Handler,
    pub local: Local,
    pub package: Package,
    /// What its folder holds besides the description, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Variables that bound its heap.
    pub heap: BTreeMap<String, HeapLimit>,
    image: Start,
    prestart: Option<Prestart>,
    values: BTreeMap<String, String>,
}

/// A process that waits in an image for the function that it is to run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prestart {
    command: Vec<String>,
    reads: Vec<String>,
}

/// A program with its arguments and its environment, with placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    command: Vec<String>,
    environment: BTreeMap<String, Setting>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Setting {
    Text(String),
    /// Joined by `:`, without the parts that are not there.
    SearchPath(Vec<String>),
}

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
    /// Arguments that make it print its version, and on a second line perhaps where it really is.
    #[serde(default)]
    pub ask: Vec<String>,
    /// What a word of that line must begin with.
    pub version: Option<String>,
    /// Variables that make a version manager's shim run that version.
    #[serde(default)]
    pub select: BTreeMap<String, String>,
    pub fetch: Option<Fetch>,
    /// What a person does who has none.
    pub missing: String,
}

/// How a tool is had that the machine lacks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    pub say: String,
    pub run: Vec<Vec<String>>,
    /// Where the program is after that.
    pub program: String,
}

/// What is done once for all functions of the runtime.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub say: String,
    pub run: Vec<Vec<String>>,
    /// Fails if what was made has stopped working.
    #[serde(default)]
    pub check: Vec<String>,
}

/// What is done once for each list of libraries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Libraries {
    /// The first makes it necessary; all decide whether it was done before.
    #[serde(default)]
    pub files: Vec<String>,
    /// Or a language whose lists are understood, with all that they refer to.
    pub read: Option<Reads>,
    /// Nor is it necessary beside any of these.
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

/// What makes the code runnable, done again after each change of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// File names, or `*.end`, perhaps in a folder (`a/b/*.end`): one of these makes it necessary. None:
    /// always.
    #[serde(default)]
    pub when: Vec<String>,
    /// Nor is it necessary beside any of these.
    #[serde(default)]
    pub unless: Vec<String>,
    pub say: String,
    pub run: Vec<Vec<String>>,
}

impl Build {
    /// Whether it is necessary; `names` lists a folder of the code, `""` the code itself.
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

/// A description that says something impossible.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDescription {
    #[error("{0}")]
    Syntax(#[from] Box<toml::de::Error>),
    #[error("it has no [runtime.NAME]")]
    NoName,
    #[error("{place}: {{{name}}} is none of {known}")]
    Placeholder {
        place: String,
        name: String,
        known: String,
    },
    #[error("{0} needs a command")]
    NoCommand(&'static str),
    #[error("local.libraries needs `files` or `read`, and not both")]
    NoList,
    #[error("package.libraries: `{0}` must be a folder in the package, such as `vendor`, or `.`")]
    Folder(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    handler: Handler,
    runtime: BTreeMap<Runtime, BTreeMap<String, String>>,
    #[serde(default)]
    environment: BTreeMap<String, Setting>,
    #[serde(default)]
    heap: BTreeMap<String, HeapLimit>,
    image: ImageTable,
    local: LocalTable,
    #[serde(default)]
    package: Package,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageTable {
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, Setting>,
    prestart: Option<Prestart>,
    #[serde(rename = "contents")]
    _contents: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalTable {
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, Setting>,
    #[serde(default)]
    tool: Vec<Tool>,
    setup: Option<Setup>,
    libraries: Option<Libraries>,
    build: Option<Build>,
}

/// The runtimes of one folder: its `runtime.toml`, and the files beside it.
///
/// # Errors
/// If the text is no description, or uses what it does not have.
pub fn parse(
    text: &str,
    files: &[(String, Vec<u8>)],
) -> Result<Vec<Description>, InvalidDescription> {
    let file: File = toml::from_str(text).map_err(Box::new)?;
    if file.runtime.is_empty() {
        return Err(InvalidDescription::NoName);
    }
    let start = |command, own| {
        let mut environment = file.environment.clone();
        environment.extend(own);
        Start {
            command,
            environment,
        }
    };
    let prestart = file.image.prestart;
    let image = start(file.image.command, file.image.environment);
    let local = Local {
        start: start(file.local.command, file.local.environment),
        tools: file.local.tool,
        setup: file.local.setup,
        libraries: file.local.libraries,
        build: file.local.build,
    };
    let describe = |(name, values): (Runtime, _)| {
        let description = Description {
            name,
            default_handler: file.handler.clone(),
            local: local.clone(),
            package: file.package.clone(),
            files: files.to_vec(),
            heap: file.heap.clone(),
            image: image.clone(),
            prestart: prestart.clone(),
            values,
        };
        description.check().map(|()| description)
    };
    file.runtime.into_iter().map(describe).collect()
}

impl Description {
    /// What the version's own placeholders stand for.
    pub fn values(&self) -> Values {
        let values = self.values.iter();
        values
            .map(|(name, value)| (name.clone(), Some(value.clone())))
            .collect()
    }

    /// The command and environment in an image.
    pub fn in_image(&self, handler: &Handler) -> (Vec<String>, BTreeMap<String, String>) {
        let mut values = self.values();
        let places = IMAGE_PLACES.map(|(name, place)| (name, place.to_owned()));
        for (name, value) in places.into_iter().chain([("handler", handler.to_string())]) {
            values.insert(name.to_owned(), Some(value));
        }
        let filled = self.image.fill(&values);
        let (command, own) = filled.expect("placeholders are checked when a description is read");
        let common = IMAGE_ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (command, common.into_iter().chain(own).collect())
    }

    /// How a function is started in an image (contract §1, §2). `handler`: its own, if it has one.
    pub fn launch(&self, handler: Option<Handler>) -> Launch {
        let handler = handler.unwrap_or_else(|| self.default_handler.clone());
        let (command, environment) = self.in_image(&handler);
        Launch {
            command,
            handler,
            task_root: IMAGE_TASK_ROOT.into(),
            environment,
            heap: self.heap.clone(),
            relocated: BTreeMap::new(),
        }
    }

    /// The process that waits in an unclaimed instance of so much memory; `None` where a start costs
    /// next to nothing.
    pub fn prestart(&self, memory: MemoryMiB) -> Option<prestart::Prestart> {
        let prestart = self.prestart.as_ref()?;
        let (_, mut environment) = self.in_image(&self.default_handler);
        let heap = self.heap.iter();
        environment.extend(heap.map(|(name, limit)| (name.clone(), limit.of(memory))));
        Some(prestart::Prestart {
            command: prestart.command.clone(),
            task_root: IMAGE_TASK_ROOT.into(),
            environment,
            reads: prestart.reads.clone(),
        })
    }

    fn check(&self) -> Result<(), InvalidDescription> {
        let own = self.values.keys().map(String::as_str);
        let places = IMAGE_PLACES.map(|(name, _)| name);
        let in_image = own.clone().chain(places).chain(["handler"]).collect();
        self.image.check("image", &in_image)?;
        if self
            .prestart
            .as_ref()
            .is_some_and(|prestart| prestart.command.is_empty())
        {
            return Err(InvalidDescription::NoCommand("image.prestart"));
        }
        let tools = self.local.tools.iter().map(|tool| tool.name.as_str());
        let known = own.chain(LOCAL_VALUES).chain(tools).collect();
        let local = &self.local;
        local.start.check("local", &known)?;
        for tool in &local.tools {
            let place = format!("local.tool {}", tool.name);
            let texts = tool.programs.iter().chain(&tool.version);
            let texts = texts.chain(tool.select.values());
            check(&place, texts.chain([&tool.missing]), &known)?;
            if let Some(fetch) = &tool.fetch {
                let texts = fetch.run.iter().flatten();
                check(&place, texts.chain([&fetch.say, &fetch.program]), &known)?;
            }
        }
        if let Some(setup) = &local.setup {
            let texts = setup.run.iter().flatten().chain(&setup.check);
            check("local.setup", texts.chain([&setup.say]), &known)?;
        }
        if let Some(libraries) = &local.libraries {
            libraries.check(&known)?;
        }
        if let Some(Build { run, say, .. }) = &local.build {
            check("local.build", run.iter().flatten().chain([say]), &known)?;
        }
        match self.package.outside() {
            Some(folder) => Err(InvalidDescription::Folder(folder.to_owned())),
            None => Ok(()),
        }
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

    /// Whether anything in it comes from this placeholder.
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

    fn check(&self, place: &'static str, known: &BTreeSet<&str>) -> Result<(), InvalidDescription> {
        if self.command.is_empty() {
            return Err(InvalidDescription::NoCommand(place));
        }
        check(place, self.texts(), known)
    }
}

fn check<'a>(
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
