//! Who makes a request of the public API, and the answers to callers that are refused.
//!
//! Reads what a request shows and asks `access` about it. A handler takes [`Showing`] or [`Caller`] as an argument, so
//! none can forget it: `Showing` is for requests with a body, which a signature covers. The handler reads the body and
//! calls [`Showing::prove`]. Then it asks for each right that it needs with [`allow`].

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};
use pilotlight_core::access::{Mode, Refusal, Resource, Right, Verb};
use pilotlight_core::function::FunctionName;

use super::errors::ApiError;
use crate::access::{Access, Caller};
use crate::app::App;

/// A caller whose credential is known. Whether the request is its own may depend on the body.
#[derive(Debug)]
pub(crate) struct Showing {
    caller: Caller,
}

impl Showing {
    /// Whether [`Showing::prove`] needs no body.
    pub(crate) fn is_proven(&self) -> bool {
        true
    }

    /// `body`: as it was sent.
    pub(crate) fn prove(self, _app: &App, _body: &[u8]) -> Result<Caller, ApiError> {
        Ok(self.caller)
    }
}

/// What a request shows.
enum Shown<'a> {
    Nothing,
    Bearer(&'a str),
}

fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(Shown::Nothing);
    };
    if values.next().is_some() {
        return Err(Refusal::Incomplete(
            "Authorization: the header is there twice: send it once".to_owned(),
        ));
    }
    let text = value.to_str().map_err(|_| {
        Refusal::Incomplete("Authorization: the header has other characters than ASCII".to_owned())
    })?;
    let scheme = text.split_once(' ');
    match scheme {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Shown::Bearer(token.trim()))
        }
        _ => Err(Refusal::UNKNOWN_KEY),
    }
}

async fn recognize(access: &Access, headers: &HeaderMap) -> Result<Caller, Refusal> {
    if access.mode() == Mode::Off {
        return Ok(Caller::ANONYMOUS);
    }
    let recognized = match shown(headers) {
        Ok(Shown::Nothing) => Err(Refusal::Missing),
        Ok(Shown::Bearer(token)) => access.bearer(token).await,
        Err(refusal) => Err(refusal),
    };
    match (recognized, access.mode()) {
        // Nothing of this installation: SDKs sign with whatever keys they have.
        (Err(Refusal::Missing | Refusal::Unrecognized(_)), Mode::Optional) => Ok(Caller::ANONYMOUS),
        (recognized, _) => recognized,
    }
}

fn operation(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path())
}

impl FromRequestParts<Arc<App>> for Showing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let operation = || operation(&parts.method, &parts.uri);
        match recognize(&app.access, &parts.headers).await {
            Ok(caller) => Ok(Showing { caller }),
            Err(refusal) => Err(refused(app, None, &operation(), refusal)),
        }
    }
}

/// For requests without a body.
impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let showing = Showing::from_request_parts(parts, app).await?;
        showing.prove(app, &[])
    }
}

fn refused(app: &App, caller: Option<&Caller>, operation: &str, refusal: Refusal) -> ApiError {
    app.access.audit().refused(caller, operation, &refusal);
    ApiError::refused(&refusal)
}

/// Refuses a caller without this right on one function, or on all of them.
pub(crate) async fn allow(
    app: &App,
    caller: &Caller,
    verb: Verb,
    resource: Resource,
    name: Option<&FunctionName>,
) -> Result<(), ApiError> {
    if app.access.mode() == Mode::Off {
        return Ok(());
    }
    let right = right(app, verb, resource, name);
    let refuse = |refusal| refused(app, Some(caller), &right.to_string(), refusal);
    match app.access.may(caller, &right).await {
        Ok(true) => {
            app.access.audit().allowed(caller, &right);
            Ok(())
        }
        Ok(false) => Err(refuse(denied(app, caller, &right))),
        Err(refusal) => Err(refuse(refusal)),
    }
}

/// Whether a caller has a right without which it gets another answer.
pub(crate) async fn has(
    app: &App,
    caller: &Caller,
    verb: Verb,
    resource: Resource,
    name: Option<&FunctionName>,
) -> Result<bool, ApiError> {
    let right = right(app, verb, resource, name);
    let may = app.access.may(caller, &right).await;
    may.map_err(|refusal| ApiError::refused(&refusal))
}

fn right(app: &App, verb: Verb, resource: Resource, name: Option<&FunctionName>) -> Right {
    Right {
        verb,
        resource,
        namespace: app.scope.namespace.clone(),
        name: name.cloned(),
    }
}

/// In the form of the platform, with the right that is missing in the words of a role.
fn denied(app: &App, caller: &Caller, right: &Right) -> Refusal {
    let action = match (right.verb, right.resource) {
        (Verb::Invoke, _) => "lambda:InvokeFunction",
        (Verb::List, _) => "lambda:ListFunctions",
        (Verb::Get, Resource::Function) => "lambda:GetFunction",
        (Verb::Get, Resource::Environment) => "lambda:GetFunctionConfiguration",
        (Verb::Get, Resource::Logs) => "logs:GetLogEvents",
    };
    let resource = match &right.name {
        Some(name) => app.scope.arn(name.as_str()),
        None => "*".to_owned(),
    };
    Refusal::Denied(format!(
        "User: {} is not authorized to perform: {action} on resource: {resource} because no role of Kubernetes allows \
         it: {right}",
        caller.user()
    ))
}
