//! Texts with rules: the names of functions, namespaces and runtimes, handlers, the environment.
//!
//! Fed by manifests and by the paths of the Invoke API. Owns the list of environment variables that
//! belong to the platform (contract §2). A manifest that sets one is refused here, so that an instance
//! never has to choose between two values. Never trims a text or changes its case.

use thiserror::Error;

/// The text is not a DNS-1123 label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "must be 1 to 63 characters: a-z, 0-9 and `-`, with a letter or digit at both ends, got `{got}`"
)]
pub struct InvalidLabel {
    got: String,
}

/// The text cannot be a runtime's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "must be a runtime's name such as `python3.11`: 1 to 63 characters a-z, 0-9, `.` and `-`, a \
     letter first, got `{got}`"
)]
pub struct InvalidRuntime {
    got: String,
}

/// The text cannot be a handler.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be 1 to 128 characters without spaces, such as `app.handler`, got `{got}`")]
pub struct InvalidHandler {
    got: String,
}

/// The function may not set this environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidEnvName {
    #[error("`{got}` cannot be a variable: use letters, digits and `_`, and no digit at the start")]
    Malformed { got: String },
    #[error("`{got}` is set by the platform: remove it or rename it")]
    Reserved { got: String },
    #[error("`{got}` would {effect}: remove it")]
    Harmful { got: String, effect: &'static str },
}

/// No process can have this value in its environment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must not contain a NUL character: a process cannot be given one")]
pub struct InvalidEnvValue;

/// Variables that only the platform sets (contract §2). A function may set all others.
pub const RESERVED_VARIABLES: [&str; 13] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
    "_LAMBDA_TELEMETRY_LOG_FD",
    "_X_AMZN_TRACE_ID",
];
/// A runtime client that finds this variable asks for several events at a time (contract §1).
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// Whether a function may not set the variable, from whatever source its value comes.
pub fn is_reserved_variable(name: &str) -> bool {
    name == MAX_CONCURRENCY || RESERVED_VARIABLES.contains(&name)
}

/// Defines a newtype for text that is checked once, when it is parsed. `$check` returns the error for an
/// invalid text. Values share their text, so that they are cheap to clone.
#[macro_export]
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(::std::sync::Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let check: fn(&str) -> Result<(), $error> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// A function's name: a DNS-1123 label, since the names of its pods contain it.
    FunctionName, InvalidLabel, check_label
}
checked_text! {
    /// The name of the language environment a function runs in. `pilotlight-runtimes` has the list of
    /// runtimes as data.
    Runtime, InvalidRuntime, check_runtime
}
checked_text! {
    /// The function's entry point, in the runtime's spelling: 1 to 128 characters, no spaces.
    Handler, InvalidHandler, check_handler
}
checked_text! {
    /// The name of an environment variable that a function may set.
    EnvName, InvalidEnvName, check_env_name
}
checked_text! {
    /// The value of an environment variable; may be empty.
    EnvValue, InvalidEnvValue, check_env_value
}

impl Runtime {
    /// The name that descriptions, images and warm pools use. AWS has other spellings for some runtimes.
    pub fn canonical(&self) -> Runtime {
        Runtime(canonical(&self.0).into())
    }

    /// Whether both names mean the same runtime.
    pub fn is_same(&self, other: &Runtime) -> bool {
        canonical(&self.0) == canonical(&other.0)
    }
}

fn canonical(name: &str) -> &str {
    let node = name.strip_suffix(".x").filter(|rest| {
        let version = rest.strip_prefix("nodejs");
        version.is_some_and(|version| {
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
        })
    });
    match name {
        "provided.al2023" | "provided.al2" => "custom",
        _ => node.unwrap_or(name),
    }
}

pub(crate) fn check_label(text: &str) -> Result<(), InvalidLabel> {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner) {
        return Ok(());
    }
    Err(InvalidLabel {
        got: text.to_owned(),
    })
}

fn check_runtime(text: &str) -> Result<(), InvalidRuntime> {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let first = bytes.first().is_some_and(u8::is_ascii_lowercase);
    if first && bytes.len() <= 63 && bytes.iter().all(inner) {
        return Ok(());
    }
    Err(InvalidRuntime {
        got: text.to_owned(),
    })
}

fn check_handler(text: &str) -> Result<(), InvalidHandler> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if !text.is_empty() && text.chars().count() <= 128 && !text.contains(odd) {
        return Ok(());
    }
    Err(InvalidHandler {
        got: text.to_owned(),
    })
}

fn check_env_name(text: &str) -> Result<(), InvalidEnvName> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let got = || text.to_owned();
    if text.is_empty() || !text.bytes().all(word) || text.as_bytes()[0].is_ascii_digit() {
        return Err(InvalidEnvName::Malformed { got: got() });
    }
    if text == MAX_CONCURRENCY {
        let effect = "make the runtime take several events at a time, and an instance has one";
        return Err(InvalidEnvName::Harmful { got: got(), effect });
    }
    if is_reserved_variable(text) {
        return Err(InvalidEnvName::Reserved { got: got() });
    }
    Ok(())
}

fn check_env_value(text: &str) -> Result<(), InvalidEnvValue> {
    if text.contains('\0') {
        Err(InvalidEnvValue)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_name_is_a_dns_label() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "hello", "a-b-1", &longest] {
            assert_eq!(
                good.parse::<FunctionName>().map(String::from),
                Ok(good.to_owned())
            );
        }
        let too_long = "a".repeat(64);
        for bad in [
            "", "-a", "a-", "A", "a_b", "a.b", "a b", "é", "a\n", &too_long,
        ] {
            assert_eq!(
                bad.parse::<FunctionName>(),
                Err(InvalidLabel {
                    got: bad.to_owned()
                })
            );
        }
    }

    #[test]
    fn a_runtime_is_a_lower_case_word() {
        let longest = "a".repeat(63);
        for good in ["custom", "python3.11", "my-lang2", "a", &longest] {
            let runtime = good.parse::<Runtime>().map(String::from);
            assert_eq!(runtime, Ok(good.to_owned()));
        }
        let too_long = "a".repeat(64);
        for bad in ["", "3", "Python", "a b", "a_b", "a/b", "é", &too_long] {
            let got = bad.to_owned();
            assert_eq!(bad.parse::<Runtime>(), Err(InvalidRuntime { got }));
        }
    }

    #[test]
    fn both_spellings_of_a_runtime_have_the_same_canonical_name() {
        for (name, canonical) in [
            ("nodejs22.x", "nodejs22"),
            ("nodejs22", "nodejs22"),
            ("provided.al2023", "custom"),
            ("provided.al2", "custom"),
            ("java17", "java17"),
            ("python3.11", "python3.11"),
            ("nodejs.x", "nodejs.x"),
            ("nodejs2b.x", "nodejs2b.x"),
            ("deno22.x", "deno22.x"),
        ] {
            let name: Runtime = name.parse().expect("a name");
            assert_eq!(name.canonical().as_str(), canonical);
            assert!(name.is_same(&name.canonical()));
        }
    }

    #[test]
    fn a_handler_has_no_spaces_and_fits_128_characters() {
        let longest = "é".repeat(128);
        for good in [
            "bootstrap",
            "app.handler",
            "example.Hello::handleRequest",
            &longest,
        ] {
            assert_eq!(
                good.parse::<Handler>().map(String::from),
                Ok(good.to_owned())
            );
        }
        let too_long = "é".repeat(129);
        for bad in [
            "",
            " ",
            "app handler",
            "app.handler\n",
            "a\0",
            "a\u{a0}b",
            &too_long,
        ] {
            assert_eq!(
                bad.parse::<Handler>(),
                Err(InvalidHandler {
                    got: bad.to_owned()
                })
            );
        }
    }

    #[test]
    fn a_reserved_variable_is_refused_with_its_name() {
        for name in [
            "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_RUNTIME_API",
            "AWS_EXECUTION_ENV",
            "LAMBDA_RUNTIME_DIR",
            "LAMBDA_TASK_ROOT",
            "_HANDLER",
            "_X_AMZN_TRACE_ID",
        ] {
            assert_eq!(
                name.parse::<EnvName>().expect_err("reserved").to_string(),
                format!("`{name}` is set by the platform: remove it or rename it"),
            );
        }
        let harmful = "AWS_LAMBDA_MAX_CONCURRENCY".parse::<EnvName>();
        let harmful = harmful.expect_err("refused").to_string();
        assert!(harmful.contains("several events at a time"), "{harmful}");
        for name in [
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_LAMBDA_EXEC_WRAPPER",
            "AWS_LAMBDA_LOG_LEVEL",
            "LD_LIBRARY_PATH",
            "PATH",
            "TZ",
            "AWS_LAMBDA",
            "_HANDLER2",
            "_",
            "lambda_task_root",
            "A1",
        ] {
            assert!(name.parse::<EnvName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn the_name_of_a_variable_is_a_shell_identifier() {
        for name in ["", "1A", "A-B", "A.B", "A B", "É", "A=B", "A\0"] {
            let error = InvalidEnvName::Malformed {
                got: name.to_owned(),
            };
            assert_eq!(name.parse::<EnvName>(), Err(error));
        }
    }

    #[test]
    fn the_value_of_a_variable_may_be_empty_but_contains_no_nul() {
        assert!("".parse::<EnvValue>().is_ok());
        assert_eq!("a\0b".parse::<EnvValue>(), Err(InvalidEnvValue));
    }
}
