//! Where a function's code comes from: exactly one of five forms.
//!
//! Owns the forms and refuses what is wrong from the text alone, such as inline files outside of
//! `/var/task`. Gateways, the controller and local mode fetch or unpack the code. Never accesses a disk or
//! a network.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use pilotlight_core::instance::parts::Digest;
use pilotlight_core::shown_url::ShownUrl;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pod::ObjectRef;
use crate::text::{checked_text, is_subdomain};

/// The code of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CodeFields", into = "CodeFields")]
pub enum Code {
    /// Source text by file name.
    Inline(SourceFiles),
    /// A directory next to the manifest; local mode only.
    Path(CodePath),
    Archive(Archive),
    /// A config map in the function's namespace, each key a file.
    ConfigMap(ConfigMapName),
    /// A container image that holds the code.
    Image(ImageRef),
}

/// The five forms as they are written. This is a struct because serde's tagged enum cannot say which two
/// forms collide, and places its errors on the wrong line.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CodeFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    inline: Option<SourceFiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<CodePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_map: Option<ConfigMapName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageRef>,
}

impl TryFrom<CodeFields> for Code {
    type Error = InvalidCode;

    fn try_from(fields: CodeFields) -> Result<Self, InvalidCode> {
        let mut forms = [
            ("inline", fields.inline.map(Self::Inline)),
            ("path", fields.path.map(Self::Path)),
            ("archive", fields.archive.map(Self::Archive)),
            ("configMap", fields.config_map.map(Self::ConfigMap)),
            ("image", fields.image.map(Self::Image)),
        ]
        .into_iter()
        .filter_map(|(name, code)| Some((name, code?)));
        let (first, code) = forms.next().ok_or(InvalidCode::NoForm)?;
        match forms.next() {
            None => Ok(code),
            Some((second, _)) => Err(InvalidCode::TwoForms { first, second }),
        }
    }
}

impl From<Code> for CodeFields {
    fn from(code: Code) -> Self {
        let none = Self::default();
        match code {
            Code::Inline(files) => Self {
                inline: Some(files),
                ..none
            },
            Code::Path(path) => Self {
                path: Some(path),
                ..none
            },
            Code::Archive(archive) => Self {
                archive: Some(archive),
                ..none
            },
            Code::ConfigMap(name) => Self {
                config_map: Some(name),
                ..none
            },
            Code::Image(image) => Self {
                image: Some(image),
                ..none
            },
        }
    }
}

/// A zip or tar.gz file and what it must hash to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Archive {
    pub url: ArchiveUrl,
    pub sha256: Sha256,
    /// Credentials for the server; in a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

impl Archive {
    /// The digest that its author gives.
    ///
    /// # Panics
    /// Never: the text was checked when it was read.
    pub fn digest(&self) -> Digest {
        self.sha256.as_str().parse().expect("it was checked")
    }
}

/// Archives that are unpacked under `/opt`, in this order; a later one's files win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Archive>", into = "Vec<Archive>")]
pub struct Layers(Vec<Archive>);

impl Layers {
    /// The same limit as on the original platform.
    pub const LIMIT: usize = 5;

    pub fn iter(&self) -> impl Iterator<Item = &Archive> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<Archive>> for Layers {
    type Error = InvalidCode;

    fn try_from(archives: Vec<Archive>) -> Result<Self, InvalidCode> {
        match archives.len() {
            0..=Self::LIMIT => Ok(Self(archives)),
            more => Err(InvalidCode::Layers(more)),
        }
    }
}

impl From<Layers> for Vec<Archive> {
    fn from(layers: Layers) -> Self {
        layers.0
    }
}

/// Why a text cannot be the place of a function's code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidCode {
    #[error("must have one of inline, path, archive, configMap, image")]
    NoForm,
    #[error("has both `{first}` and `{second}`: keep one of them")]
    TwoForms {
        first: &'static str,
        second: &'static str,
    },
    #[error("`{0}` must be a relative file name, with `/` between and without `.` or `..` parts")]
    SourceName(String),
    #[error("must hold at least one file, such as `lambda_function.py: |`")]
    NoFiles,
    #[error("`{file}` is a file and the directory of `{inside}`: rename one of them")]
    FileAndDirectory { file: String, inside: String },
    #[error("must be a directory relative to the manifest, such as `./hello`")]
    NoPath,
    #[error("must be an https:// or http:// address without spaces, got `{0}`")]
    Url(String),
    #[error("must not have a user name or a password: name a Secret in `secretRef` instead")]
    UserInfo,
    #[error("must be 64 characters 0-9 and a-f, as `sha256sum` prints them, got `{0}`")]
    Sha256(String),
    #[error("must be 1 to 253 characters: a-z, 0-9, `-` and `.`, got `{0}`")]
    ConfigMap(String),
    #[error("must be at most {limit} archives, got {0}", limit = Layers::LIMIT)]
    Layers(usize),
    #[error("must be an image such as `registry/name:tag`, without spaces, got `{0}`")]
    Image(String),
}

checked_text! {
    /// The name of an inline file: relative, and never outside its root.
    SourceName, InvalidCode, is_source_name, InvalidCode::SourceName
}
checked_text! {
    /// A directory, relative to the manifest's own.
    CodePath, InvalidCode, |text| !text.is_empty() && !text.contains('\0'), |_| InvalidCode::NoPath
}
/// The address of an archive. The hash protects the content, whatever the scheme of the address. It may hold a
/// signature, so it prints without ([`ShownUrl`]). Objects that were stored by earlier versions may have user info,
/// which is refused in new ones (`manifest`, `schema`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArchiveUrl(Arc<str>);

impl ArchiveUrl {
    /// The whole address, to fetch from and never to print.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ShownUrl(&self.0), f)
    }
}

impl fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ShownUrl(&self.0), f)
    }
}

impl TryFrom<String> for ArchiveUrl {
    type Error = InvalidCode;

    fn try_from(text: String) -> Result<Self, InvalidCode> {
        match is_web_address(&text) {
            true => Ok(Self(text.into())),
            false => Err(InvalidCode::Url(ShownUrl(&text).to_string())),
        }
    }
}

impl From<ArchiveUrl> for String {
    fn from(url: ArchiveUrl) -> Self {
        url.0.as_ref().to_owned()
    }
}

checked_text! {
    /// A SHA-256 hash: 64 lowercase hexadecimal digits.
    Sha256, InvalidCode, is_sha256, InvalidCode::Sha256
}
checked_text! {
    /// The name of a config map: a DNS-1123 subdomain.
    ConfigMapName, InvalidCode, is_subdomain, InvalidCode::ConfigMap
}
checked_text! {
    /// A reference to a container image.
    ImageRef, InvalidCode, is_one_word, InvalidCode::Image
}

impl CodePath {
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }
}

/// Inline source text by file name; at least one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<SourceName, String>",
    into = "BTreeMap<SourceName, String>"
)]
pub struct SourceFiles(BTreeMap<SourceName, String>);

impl SourceFiles {
    /// Each file's name and text, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&SourceName, &str)> {
        self.0.iter().map(|(name, text)| (name, text.as_str()))
    }
}

impl TryFrom<BTreeMap<SourceName, String>> for SourceFiles {
    type Error = InvalidCode;

    fn try_from(files: BTreeMap<SourceName, String>) -> Result<Self, InvalidCode> {
        if files.is_empty() {
            return Err(InvalidCode::NoFiles);
        }
        for inside in files.keys() {
            for (end, _) in inside.0.match_indices('/') {
                let file = SourceName(inside.0[..end].into());
                if files.contains_key(&file) {
                    return Err(InvalidCode::FileAndDirectory {
                        file: file.into(),
                        inside: inside.clone().into(),
                    });
                }
            }
        }
        Ok(Self(files))
    }
}

impl From<SourceFiles> for BTreeMap<SourceName, String> {
    fn from(files: SourceFiles) -> Self {
        files.0
    }
}

/// Backslashes are refused as well, because other platforms read them as separators.
fn is_source_name(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c == '\\';
    !text.contains(odd) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn is_web_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| is_one_word(text) && !rest.is_empty() && !rest.starts_with('/'))
}

fn is_sha256(text: &str) -> bool {
    text.parse::<Digest>().is_ok()
}
