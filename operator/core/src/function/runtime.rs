//! The runtimes a function can ask for.
//!
//! Owns their names and default handlers (contracts §2, §9). The instance's image or, locally,
//! the laptop's interpreter is chosen from it; never knows where an interpreter lives.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Handler;

/// The language environment a function runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Runtime {
    Python310,
    Python311,
    Python312,
    Python313,
    Python314,
    /// The code brings its own `bootstrap` that speaks the Runtime API.
    Custom,
}

/// A name that no runtime has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be one of {}, got `{got}`", Runtime::ALL.map(Runtime::as_str).join(", "))]
pub struct UnknownRuntime {
    got: String,
}

impl Runtime {
    pub const ALL: [Self; 6] = [
        Self::Python310,
        Self::Python311,
        Self::Python312,
        Self::Python313,
        Self::Python314,
        Self::Custom,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python310 => "python3.10",
            Self::Python311 => "python3.11",
            Self::Python312 => "python3.12",
            Self::Python313 => "python3.13",
            Self::Python314 => "python3.14",
            Self::Custom => "custom",
        }
    }

    /// The entry point of a function that names none.
    pub fn default_handler(self) -> Handler {
        let handler = match self {
            Self::Custom => "bootstrap",
            _ => "lambda_function.lambda_handler",
        };
        handler
            .parse()
            .expect("every default handler is a valid handler")
    }
}

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(text: &str) -> Result<Self, UnknownRuntime> {
        let mut all = Self::ALL.into_iter();
        all.find(|runtime| runtime.as_str() == text)
            .ok_or_else(|| UnknownRuntime {
                got: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Runtime {
    type Error = UnknownRuntime;

    fn try_from(text: String) -> Result<Self, UnknownRuntime> {
        text.parse()
    }
}

impl From<Runtime> for &'static str {
    fn from(runtime: Runtime) -> Self {
        runtime.as_str()
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_read_from_the_name_it_shows_and_has_a_handler() {
        for runtime in Runtime::ALL {
            assert_eq!(runtime.to_string().parse(), Ok(runtime));
            let handler = match runtime {
                Runtime::Custom => "bootstrap",
                _ => "lambda_function.lambda_handler",
            };
            assert_eq!(runtime.default_handler().as_str(), handler);
        }
    }

    #[test]
    fn an_unknown_runtime_is_told_the_known_ones() {
        assert_eq!(
            "python3"
                .parse::<Runtime>()
                .expect_err("unknown")
                .to_string(),
            "must be one of python3.10, python3.11, python3.12, python3.13, python3.14, custom, \
             got `python3`",
        );
    }
}
