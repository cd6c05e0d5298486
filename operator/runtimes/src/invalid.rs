//! What can be wrong with a description.

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
