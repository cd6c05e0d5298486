//! A description: how a runtime is started in an image and on a user's machine.
//!
//! Parsed from a folder's `runtime.toml`, whose form runtimes/README.md explains. Each placeholder
//! is checked here against the names that its table may use, so a mistake shows when the file is read. Only
//! runtime-image/builder reads the contents of images (`image.contents`).

use std::collections::BTreeMap;

use pilotlight_core::function::{Handler, MemoryMiB, Runtime};
use pilotlight_core::instance::launch::{HeapLimit, Launch};
use pilotlight_core::instance::prestart;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::invalid::InvalidDescription;
use crate::local::{Build, Libraries, Local, Setup, Tool};
use crate::package::PackageLayout;
use crate::start::{Setting, Start};
use crate::template::Values;

/// The folders of an instance's image for code, layers and the client (contract §2).
const IMAGE_PLACES: [(&str, &str); 3] = [
    ("code", "/var/task"),
    ("opt", "/opt"),
    ("runtime", "/var/runtime"),
];

/// The working directory of an instance from an image.
pub const IMAGE_TASK_ROOT: &str = IMAGE_PLACES[0].1;

/// The variables that each image sets, besides the runtime's own (contract §2).
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

/// Everything that is known about one runtime.
#[derive(Clone, Debug)]
pub struct RuntimeDescription {
    pub name: Runtime,
    /// The handler of a function that names none.
    pub default_handler: Handler,
    pub local: Local,
    pub package: PackageLayout,
    /// The other files of its folder, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Variables that limit its heap.
    pub heap: BTreeMap<String, HeapLimit>,
    image: Start,
    prestart: Option<Prestart>,
    values: BTreeMap<String, String>,
}

/// A process that waits in an unclaimed instance for its function.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prestart {
    command: Vec<String>,
    reads: Vec<String>,
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
    package: PackageLayout,
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
/// If the text is no description, or uses a placeholder without a value.
pub fn parse(
    text: &str,
    files: &[(String, Vec<u8>)],
) -> Result<Vec<RuntimeDescription>, InvalidDescription> {
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
        let description = RuntimeDescription {
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

impl RuntimeDescription {
    /// The values of the version's own placeholders.
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

    /// The process that waits in an unclaimed instance with this much memory; `None` for a runtime whose start
    /// costs next to nothing.
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
        self.local.check(own)?;
        match self.package.outside() {
            Some(folder) => Err(InvalidDescription::Folder(folder.to_owned())),
            None => Ok(()),
        }
    }
}
