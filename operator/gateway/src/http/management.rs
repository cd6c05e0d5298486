//! The management calls that read: list functions, get one, get its configuration (contract §4).
//!
//! Answers from `catalog`, with errors in the form of `errors`. Never changes a function: users do that with
//! manifests. `http::routes` leads here.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pilotlight_api::LogFormat;
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::function::{EnvName, EnvValue, FunctionName, Handler};
use pilotlight_core::ids::PoolId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::{allow, has};
use super::errors::{ApiError, Readable};
use super::function_ref::FunctionRef;
use crate::access::Caller;
use crate::app::App;
use crate::catalog::Deployment;

/// The number of functions on a page, unless the caller asks for fewer.
const PAGE: usize = 50;
const HIDDEN_ENVIRONMENT: &str = "The values of the environment variables are shown to callers with the right `get` on \
                                  functions/environment. Where callers are not known, the operator of Pilotlight can \
                                  show them to all with gateway.showEnvironment.";

#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(rename = "Marker")]
    marker: Option<String>,
    #[serde(rename = "MaxItems")]
    max_items: Option<String>,
    #[serde(rename = "FunctionVersion")]
    function_version: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Parameters {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Query(page)): Readable<Query<Page>>,
) -> Response {
    let page = list_page(&app, &caller, page).await;
    page.unwrap_or_else(IntoResponse::into_response)
}

async fn list_page(app: &App, caller: &Caller, page: Page) -> Result<Response, ApiError> {
    allow(app, caller, Verb::List, Resource::Function, None).await?;
    let shows = shows_environment(app, caller, None).await;
    let size = match page.max_items.as_deref().map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(size @ 1..=10_000)) => size.min(PAGE),
        Some(_) => {
            return Err(ApiError::validation(
                "MaxItems must be a number from 1 to 10000",
            ));
        }
    };
    if page
        .function_version
        .as_deref()
        .is_some_and(|version| version != "ALL")
    {
        return Err(ApiError::validation(
            "FunctionVersion must be ALL, or left out",
        ));
    }
    let after = page
        .marker
        .map(|marker| decode_marker(&marker))
        .transpose()?;
    let catalog = app.functions.list();
    let mut rest = catalog
        .values()
        .map(|entry| &entry.deployment)
        .filter(|one| *one.pool.namespace() == app.scope.namespace)
        .filter(|one| {
            after
                .as_deref()
                .is_none_or(|after| one.name().as_str() > after)
        })
        .peekable();
    let functions: Vec<_> = rest.by_ref().take(size).collect();
    let more = rest.peek().is_some();
    let mut body = Map::new();
    if let Some(last) = functions.last().filter(|_| more) {
        body.insert(
            "NextMarker".to_owned(),
            json!(BASE64_STANDARD.encode(last.name().as_str())),
        );
    }
    let functions = functions
        .into_iter()
        .map(|one| configuration(app, one, shows))
        .collect();
    body.insert("Functions".to_owned(), Value::Array(functions));
    Ok(axum::Json(Value::Object(body)).into_response())
}

fn decode_marker(marker: &str) -> Result<String, ApiError> {
    let name = BASE64_STANDARD
        .decode(marker)
        .ok()
        .and_then(|name| String::from_utf8(name).ok());
    name.ok_or_else(|| ApiError::invalid_parameter("Marker must be a NextMarker of this gateway"))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
    Readable(Query(parameters)): Readable<Query<Parameters>>,
) -> Response {
    match read(&app, &caller, &name, &parameters).await {
        Ok(configuration) => axum::Json(json!({
            "Configuration": configuration,
            "Code": {},
            "Tags": {},
        }))
        .into_response(),
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn get_configuration(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
    Readable(Query(parameters)): Readable<Query<Parameters>>,
) -> Response {
    match read(&app, &caller, &name, &parameters).await {
        Ok(configuration) => axum::Json(configuration).into_response(),
        Err(error) => error.into_response(),
    }
}

/// The configuration of a function, as far as the caller may see it.
async fn read(
    app: &App,
    caller: &Caller,
    name: &str,
    parameters: &Parameters,
) -> Result<Value, ApiError> {
    let function = FunctionRef::parse(name, parameters.qualifier.as_deref())?;
    let target = function.target(&app.scope);
    let name = target.as_ref().map(PoolId::name);
    allow(app, caller, Verb::Get, Resource::Function, name).await?;
    let entry = function.find(app).ok_or_else(|| function.missing(app))?;
    let shows = shows_environment(app, caller, name).await;
    Ok(configuration(app, &entry.deployment, shows))
}

/// Whether the caller sees the values of variables. A caller that nobody knows does if the operator allows it to all.
async fn shows_environment(app: &App, caller: &Caller, name: Option<&FunctionName>) -> bool {
    match caller.principal {
        None => app.shows_environment,
        Some(_) => has(app, caller, Verb::Get, Resource::Environment, name).await,
    }
}

/// `EnvironmentResponse` of the service model. The service answers a caller who may not decrypt the variables with
/// an error in their place, and so does this gateway.
fn environment(variables: &BTreeMap<EnvName, EnvValue>, shows: bool) -> Value {
    if !shows && !variables.is_empty() {
        return json!({ "Error": { "ErrorCode": "AccessDeniedException", "Message": HIDDEN_ENVIRONMENT } });
    }
    let text = |(name, value): (&EnvName, &EnvValue)| (name.to_string(), json!(value.to_string()));
    json!({ "Variables": Map::from_iter(variables.iter().map(text)) })
}

/// `FunctionConfiguration` of the service model.
fn configuration(app: &App, deployment: &Deployment, shows_environment: bool) -> Value {
    let spec = &deployment.spec;
    // The service model has its own names for these runtimes.
    let runtime = match spec.runtime.as_str() {
        "custom" => "provided.al2023".to_owned(),
        node if node.starts_with("nodejs") && !node.ends_with(".x") => format!("{node}.x"),
        named => named.to_owned(),
    };
    json!({
        "FunctionName": deployment.name().as_str(),
        "FunctionArn": app.scope.arn(deployment.name().as_str()),
        "Runtime": runtime,
        "Handler": spec.handler.as_ref().map_or("", Handler::as_str),
        "Description": spec.description.as_ref().map_or("", |text| text.as_str()),
        "Timeout": spec.timeout.get(),
        "MemorySize": spec.memory.get(),
        "EphemeralStorage": { "Size": spec.ephemeral_storage.get() },
        "Environment": environment(&spec.environment, shows_environment),
        "LastModified": deployment.modified.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string(),
        "CodeSha256": deployment.code_sha256,
        "CodeSize": deployment.code_size,
        "RevisionId": deployment.revision.as_str(),
        "Version": deployment.pool.qualifier.as_str(),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }],
        "TracingConfig": { "Mode": "PassThrough" },
        "LoggingConfig": logging(deployment),
    })
}

/// With the JSON format the service shows both levels. The platform's own records are all of level INFO or above.
fn logging(deployment: &Deployment) -> Value {
    let logging = &deployment.spec.logging;
    let mut shown = json!({
        "LogFormat": logging.format.as_str(),
        "LogGroup": format!("/aws/lambda/{}", deployment.name()),
    });
    if logging.format == LogFormat::Json {
        let level = logging.level.unwrap_or_default();
        shown["ApplicationLogLevel"] = level.as_str().into();
        shown["SystemLogLevel"] = "INFO".into();
    }
    shown
}
