//! `/`: the calls of the Security Token Service by which SDKs get temporary credentials and ask who they are.
//!
//! Reads the form, asks `access`, and answers in XML (`pilotlight_access::sts`). SDKs find it by `AWS_ENDPOINT_URL_STS`.
//! Whatever else comes to this path is an unknown operation.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, header};
use pilotlight_access::shown::{Service, Shown};
use pilotlight_access::sts::answer::{self, CallerIdentity};
use pilotlight_access::sts::error::StsError;
use pilotlight_access::sts::{FORM_MAX, StsRequest};
use pilotlight_core::access::{Mode, Refusal};

use super::errors::{self, ApiError};
use super::invoke::READ_LIMIT;
use crate::access::Holder;
use crate::app::App;
use crate::clock::seconds;
use crate::intake::Unread;

const FORM: &[u8] = b"application/x-www-form-urlencoded";

pub(crate) async fn sts(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !is_form(&head) {
        app.intake.discard(body, READ_LIMIT).await;
        return ApiError::unknown_operation(&head.method, head.uri.path()).into_response();
    }
    let request_id = uuid::Uuid::new_v4().to_string();
    let answered = answer(&app, &head, body, &request_id).await;
    let mut response = answered.unwrap_or_else(|error| {
        tracing::debug!(error = error.code(), "refused");
        (error.status(), error.body(&request_id)).into_response()
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    let request_id = HeaderValue::from_str(&request_id).expect("a UUID is a header value");
    headers.insert(errors::REQUEST_ID, request_id);
    response
}

/// A form comes as the body of a POST, or as the query of a GET.
fn is_form(head: &Parts) -> bool {
    if head.method == Method::GET {
        let query = head.uri.query().unwrap_or_default();
        return query.split('&').any(|pair| pair.starts_with("Action="));
    }
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.as_bytes().split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(FORM))
}

async fn answer(
    app: &App,
    head: &Parts,
    body: Body,
    request_id: &str,
) -> Result<Response, StsError> {
    // Nobody has proven anything yet, so the body is small.
    let read = app.intake.read(body, FORM_MAX, READ_LIMIT).await;
    let (body, _share) = read.map_err(unread)?;
    let form = match head.method {
        Method::GET => head.uri.query().unwrap_or_default().as_bytes(),
        _ => &body,
    };
    let number = &app.scope.account;
    match StsRequest::read(form, number)? {
        StsRequest::AssumeRoleWithWebIdentity(identity) => {
            let issued = app.access.session(identity).await.inspect_err(|error| {
                let operation = "sts AssumeRoleWithWebIdentity";
                app.access.audit().no_session(operation, error);
            })?;
            let (grant, credentials) = (&issued.grant, &issued.credentials);
            let audience = &issued.audience;
            let text = answer::assumed_role(grant, credentials, audience, number, request_id);
            Ok(text.into_response())
        }
        StsRequest::GetCallerIdentity => {
            let holder = holder(app, head, body).inspect_err(|refusal| {
                let operation = "sts GetCallerIdentity";
                app.access.audit().refused(None, operation, refusal);
            })?;
            let identity = match &holder {
                Holder::Session(grant) => CallerIdentity::Session(grant),
                Holder::AccessKey(key) => CallerIdentity::AccessKey(key),
            };
            Ok(answer::caller_identity(identity, number, request_id).into_response())
        }
    }
}

/// Who has signed the request.
fn holder(app: &App, head: &Parts, body: Bytes) -> Result<Holder, Refusal> {
    if app.access.mode() == Mode::Off {
        return Err(Refusal::UNKNOWN_KEY);
    }
    match Shown::read(head, Service::Sts, seconds())? {
        Shown::Signed(request) => {
            let (holder, check) = app.access.signed(request)?;
            check.finish(body)?;
            Ok(holder)
        }
        Shown::Nothing | Shown::Bearer(_) => Err(Refusal::Missing),
    }
}

fn unread(unread: Unread) -> StsError {
    match unread {
        Unread::NoRoom => StsError::Refused(Refusal::TooMany),
        Unread::TooLarge => StsError::Validation(format!(
            "The request must be a form of at most {FORM_MAX} bytes."
        )),
        Unread::TooSlow => StsError::Validation("The form came too slowly. Try again.".to_owned()),
        Unread::Broken(error) => StsError::Validation(format!("The form cannot be read: {error}")),
    }
}
