//! How callers name a function: name, name:qualifier, partial ARN or ARN (contract §4).
//!
//! Parses what the path's `{FunctionName}` and `?Qualifier=` hold, and writes ARNs. Whether the
//! function exists is the catalog's knowledge.

use pilotlight_core::ids::{PoolId, Qualifier};
use pilotlight_core::reason::Notice;

use super::errors::ApiError;
use crate::app::App;
use crate::catalog::Entry;
use crate::config::Scope;

/// A function as a caller named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    pub(crate) name: String,
    pub(crate) qualifier: Option<String>,
}

impl FunctionRef {
    pub(crate) fn parse(text: &str, query: Option<&str>) -> Result<Self, ApiError> {
        let invalid = || {
            ApiError::validation(format!(
                "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy \
                 constraint: it must be a function name, name:qualifier, or an ARN \
                 arn:aws:lambda:region:account:function:name"
            ))
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (name, qualifier) = match parts.as_slice() {
            ["arn", _, "lambda", _, _, "function", rest @ ..] => name_and_qualifier(rest),
            [_account, "function", rest @ ..] => name_and_qualifier(rest),
            ["function", rest @ ..] if !rest.is_empty() => name_and_qualifier(rest),
            rest => name_and_qualifier(rest),
        }
        .ok_or_else(invalid)?;
        if !is_name(name) || qualifier.is_some_and(|qualifier| !is_qualifier(qualifier)) {
            return Err(invalid());
        }
        match (qualifier, query) {
            (Some(inner), Some(query)) if inner != query => Err(ApiError::invalid_parameter(
                "The derived qualifier from the function name does not match the specified \
                 qualifier.",
            )),
            (inner, query) => Ok(FunctionRef {
                name: name.to_owned(),
                qualifier: inner.or(query).map(str::to_owned),
            }),
        }
    }

    /// The deployed function that is meant, if there is one.
    pub(crate) fn find(&self, app: &App) -> Option<Entry> {
        app.functions.get(&self.target(&app.scope)?)
    }

    /// The pool that is meant, if a function can have this name and a qualifier.
    pub(crate) fn target(&self, scope: &Scope) -> Option<PoolId> {
        let latest = scope.latest(self.name.parse().ok()?);
        Some(match &self.qualifier {
            Some(qualifier) => PoolId {
                qualifier: qualifier.parse().ok()?,
                ..latest
            },
            None => latest,
        })
    }

    /// Why nothing can be done with the function that is meant: [`FunctionRef::find`] does not find it.
    pub(crate) fn missing(&self, app: &App) -> ApiError {
        let target = self.target(&app.scope);
        match target.and_then(|target| app.functions.unreadable(&target)) {
            Some(reason) => {
                // This sentence has no request id: it says itself what to do.
                ApiError::not_ready(Notice::Unreadable(reason).sentence(""))
            }
            None => self.not_found(&app.scope),
        }
    }

    fn not_found(&self, scope: &Scope) -> ApiError {
        let latest = Qualifier::Latest.as_str();
        let qualifier = self.qualifier.as_deref().unwrap_or(latest);
        ApiError::function_not_found(&format!("{}:{qualifier}", scope.arn(&self.name)))
    }
}

fn name_and_qualifier<'a>(parts: &[&'a str]) -> Option<(&'a str, Option<&'a str>)> {
    match parts {
        [name] => Some((name, None)),
        [name, qualifier] => Some((name, Some(qualifier))),
        _ => None,
    }
}

/// The service model's pattern for a bare name.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn is_qualifier(qualifier: &str) -> bool {
    qualifier.parse::<Qualifier>().is_ok() || is_name(qualifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, Option<String>)> {
        FunctionRef::parse(text, None)
            .ok()
            .map(|r| (r.name, r.qualifier))
    }

    #[test]
    fn every_documented_form_names_the_function() {
        let latest = Some("$LATEST".to_owned());
        let cases = [
            ("hello", None),
            ("hello:$LATEST", latest.clone()),
            ("000000000000:function:hello", None),
            ("function:hello:$LATEST", latest.clone()),
            ("arn:aws:lambda:us-east-1:000000000000:function:hello", None),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST",
                latest,
            ),
        ];
        for (text, qualifier) in cases {
            assert_eq!(
                parsed(text),
                Some(("hello".to_owned(), qualifier)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        let long = "x".repeat(65);
        for text in ["", "a b", "a/b", "hello:a:b", "arn:aws:s3:::x", &long] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn two_qualifiers_must_agree() {
        assert!(FunctionRef::parse("hello:1", Some("2")).is_err());
        assert!(FunctionRef::parse("hello:1", Some("1")).is_ok());
    }
}
