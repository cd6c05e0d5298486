//! Who makes a request of the public API, and the answers to callers that are refused.
//!
//! Reads what a request shows and asks `access` about it. A handler takes [`Showing`] or [`Caller`] as an argument, so
//! none can forget it: `Showing` is for requests with a body, which a signature covers. The handler reads the body and
//! calls [`Showing::prove`]. Then it asks for each right that it needs with [`allow`].

use std::sync::Arc;

use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use pilotlight_access::shown::{Service, Shown};
use pilotlight_access::verify::BodyCheck;
use pilotlight_core::access::{Mode, Refusal, Resource, Right, Verb};
use pilotlight_core::function::FunctionName;
use pilotlight_wire::caller::CALLER;

use super::errors::ApiError;
use crate::access::{Access, Caller};
use crate::app::App;
use crate::clock::seconds;

/// A caller whose credential is known. Whether the request is its own may depend on the body.
#[derive(Debug)]
pub(crate) struct Showing {
    caller: Caller,
    /// `None` if the head has proven it.
    check: Option<(BodyCheck, String)>,
}

impl Showing {
    /// Who makes a request of this service. `operation` names it in the log of refused calls.
    pub(super) async fn of(
        app: &App,
        head: &Parts,
        service: Service,
        operation: impl Fn() -> String,
    ) -> Result<Self, ApiError> {
        match recognize(&app.access, head, service).await {
            Ok((caller, check)) => Ok(Showing {
                caller,
                check: check.map(|check| (check, operation())),
            }),
            Err(refusal) => Err(refused(app, None, &operation(), refusal)),
        }
    }

    /// The caller, if the head has proven who it is.
    pub(crate) fn proven(&self) -> Option<&Caller> {
        match self.check {
            None => Some(&self.caller),
            Some(_) => None,
        }
    }

    /// `body`: as it was sent. Returns it without the frames of a body that was signed in chunks.
    pub(crate) fn prove(self, app: &App, body: Bytes) -> Result<(Caller, Bytes), ApiError> {
        let Some((check, operation)) = self.check else {
            return Ok((self.caller, body));
        };
        match check.finish(body) {
            Ok(body) => Ok((self.caller, body)),
            Err(refusal) => Err(refused(app, Some(&self.caller), &operation, refusal)),
        }
    }
}

async fn recognize(
    access: &Access,
    head: &Parts,
    service: Service,
) -> Result<(Caller, Option<BodyCheck>), Refusal> {
    const ANONYMOUS: (Caller, Option<BodyCheck>) = (Caller::ANONYMOUS, None);
    let is_optional = match access.mode() {
        Mode::Off => return Ok(ANONYMOUS),
        Mode::Optional => true,
        Mode::Required => false,
    };
    let is_function = head.headers.contains_key(CALLER);
    let recognized = match Shown::read(head, service, seconds()) {
        // Nothing of this installation, as far as anybody can tell: SDKs sign with whatever keys they have.
        Err(_) if is_optional => return Ok(ANONYMOUS),
        Err(refusal) => Err(refusal),
        Ok(Shown::Nothing) => Err(Refusal::Missing),
        Ok(Shown::Bearer(token)) => access.bearer(&token).await.map(|caller| (caller, None)),
        Ok(Shown::Signed(request)) => access
            .signed(request)
            .map(|(holder, check)| (holder.caller(), Some(check))),
    };
    match recognized {
        Err(Refusal::Missing | Refusal::Unrecognized(_)) if is_optional => Ok(ANONYMOUS),
        // The function has not chosen to show anything.
        Err(_) if is_optional && is_function => Ok(ANONYMOUS),
        recognized => recognized.map(|(caller, check)| {
            let caller = Caller {
                is_function,
                ..caller
            };
            (caller, check)
        }),
    }
}

impl FromRequestParts<Arc<App>> for Showing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let operation = || format!("{} {}", parts.method, parts.uri.path());
        Showing::of(app, parts, Service::Lambda, operation).await
    }
}

/// For requests without a body.
impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let showing = Showing::from_request_parts(parts, app).await?;
        let (caller, _) = showing.prove(app, Bytes::new())?;
        Ok(caller)
    }
}

pub(super) fn refused(
    app: &App,
    caller: Option<&Caller>,
    operation: &str,
    refusal: Refusal,
) -> ApiError {
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
    // Nobody can fill the memory of answers with names that no function has.
    let exists = |name: &FunctionName| {
        let pool = app.scope.latest(name.clone());
        app.functions.has(&pool) || app.functions.unreadable(&pool).is_some()
    };
    let asked = Right {
        name: right.name.clone().filter(exists),
        ..right.clone()
    };
    let refusal = match app.access.may(caller, &asked).await {
        Ok(true) => {
            app.access.audit().allowed(caller, &right);
            return Ok(());
        }
        Ok(false) => denied(app, caller, &right),
        Err(refusal) => refusal,
    };
    // Its supervisor has added the token, so it would be shut out by an upgrade from a release whose supervisors add none.
    if app.access.mode() == Mode::Optional && caller.is_function {
        app.access.audit().let_in(caller, &right, &refusal);
        return Ok(());
    }
    Err(refuse(refusal))
}

/// Whether a caller has a right without which it gets less in its answer. It has none of which the cluster says nothing.
pub(crate) async fn has(
    app: &App,
    caller: &Caller,
    verb: Verb,
    resource: Resource,
    name: Option<&FunctionName>,
) -> bool {
    let right = right(app, verb, resource, name);
    app.access.may(caller, &right).await.unwrap_or(false)
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
        (Verb::Update, _) => "logs:PutRetentionPolicy",
        (Verb::Delete, _) => "logs:DeleteLogGroup",
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
