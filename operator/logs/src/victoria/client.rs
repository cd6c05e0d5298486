//! Requests to VictoriaLogs, and what its answers mean.
//!
//! Each request has a deadline and each answer a bound. An error says which server it was and what is wrong with it.
//! A question is asked
//! once more if its connection breaks, since the server may have restarted behind a connection that was kept open.
//! Everything else is sent once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use pilotlight_net::outbound::{Outbound, OutboundError};
use serde_json::Value;
use tokio::sync::watch;

use super::row::field;
use crate::store::StoreError;

/// How long an insert may take.
const INSERT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a question may take. VictoriaLogs itself ends it a second earlier.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: &str = "29s";
/// How long a request about a deletion may take.
const DELETE_DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer to a question, in bytes.
pub(super) const ANSWER_LIMIT: usize = 32 * 1024 * 1024;
/// How much of the text of an error is shown, in bytes.
const REASON_LIMIT: usize = 300;

/// How the store is reached now, or why that is not known.
pub type Reach = watch::Receiver<Result<Outbound, Arc<str>>>;

/// A tenant of VictoriaLogs: `ACCOUNT:PROJECT`, two numbers. 0:0 is the one of requests that name none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    pub account: u32,
    pub project: u32,
}

/// The text is no tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no tenant: it has to have the form ACCOUNT:PROJECT, two numbers below 4294967296"
)]
pub struct InvalidTenant(String);

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(text: &str) -> Result<Self, InvalidTenant> {
        let parts = text.split_once(':');
        let tenant = parts.and_then(|(account, project)| {
            Some(Tenant {
                account: account.parse().ok()?,
                project: project.parse().ok()?,
            })
        });
        tenant.ok_or_else(|| InvalidTenant(text.to_owned()))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.account, self.project)
    }
}

#[derive(Debug)]
pub(super) struct Client {
    reach: Reach,
    tenant: Tenant,
}

/// A question got no answer.
#[derive(Debug)]
pub(super) enum QueryError {
    /// Ask for fewer rows.
    TooLong(String),
    Store(StoreError),
}

impl Client {
    pub(super) fn new(reach: Reach, tenant: Tenant) -> Self {
        Client { reach, tenant }
    }

    /// Hands over rows, each a line of JSON. They are in the store's memory then.
    pub(super) async fn insert(&self, rows: Vec<u8>) -> Result<(), StoreError> {
        let path = format!("/insert/jsonline?_stream_fields={}", field::STREAM);
        let request = self.request(Method::POST, &path, "application/stream+json", rows.into());
        let answer = self.exchange(request, INSERT_DEADLINE, REASON_LIMIT * 4);
        accepted(&self.base(), &answer.await.map_err(unavailable)?)
    }

    /// The answer to a question, with a row a line.
    pub(super) async fn query(&self, query: &str) -> Result<Bytes, StoreError> {
        self.query_rows(query).await.map_err(|error| match error {
            QueryError::TooLong(why) => StoreError::Unavailable(why),
            QueryError::Store(error) => error,
        })
    }

    /// The same, and tells an answer that is too long from other errors.
    pub(super) async fn query_rows(&self, query: &str) -> Result<Bytes, QueryError> {
        let form = form(&[("query", query), ("timeout", QUERY_TIMEOUT)]);
        let kind = "application/x-www-form-urlencoded";
        let ask = || {
            let form = form.clone().into();
            let request = self.request(Method::POST, "/select/logsql/query", kind, form);
            self.exchange(request, QUERY_DEADLINE, ANSWER_LIMIT)
        };
        let mut answer = ask().await;
        if matches!(answer, Err(OutboundError::Exchange(..))) {
            answer = ask().await;
        }
        match answer {
            Ok(answer) => {
                accepted(&self.base(), &answer).map_err(QueryError::Store)?;
                Ok(answer.into_body())
            }
            Err(error @ OutboundError::TooLarge(..)) => Err(QueryError::TooLong(error.to_string())),
            Err(error) => Err(QueryError::Store(unavailable(error))),
        }
    }

    /// Has the store delete the rows that a filter admits, and returns the name of the task.
    pub(super) async fn start_deletion(&self, filter: &str) -> Result<String, StoreError> {
        let form = form(&[("filter", filter)]);
        let answer = self
            .ask_deletion(&format!("/delete/run_task?{form}"))
            .await?;
        let task = answer.get("task_id").and_then(Value::as_str);
        let task = task.map(str::to_owned);
        task.ok_or_else(|| {
            StoreError::Unavailable(format!("{} has started no deletion", self.base()))
        })
    }

    pub(super) async fn is_deleting(&self, task: &str) -> Result<bool, StoreError> {
        let answer = self.ask_deletion("/delete/active_tasks").await?;
        let tasks = answer.as_array().into_iter().flatten();
        let mut ids = tasks.filter_map(|task| task.get("task_id")?.as_str());
        Ok(ids.any(|id| id == task))
    }

    async fn ask_deletion(&self, path: &str) -> Result<Value, StoreError> {
        let request = self.request(Method::GET, path, "text/plain", Bytes::new());
        let answer = self.exchange(request, DELETE_DEADLINE, ANSWER_LIMIT);
        let answer = answer.await.map_err(unavailable)?;
        if matches!(
            answer.status(),
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
        ) {
            return Err(StoreError::Refused(format!(
                "{} deletes no logs on request: start it with -delete.enable ({})",
                self.base(),
                reason(&answer)
            )));
        }
        accepted(&self.base(), &answer)?;
        serde_json::from_slice(answer.body()).map_err(|error| {
            StoreError::Unavailable(format!(
                "{} does not answer as VictoriaLogs does: {error}",
                self.base()
            ))
        })
    }

    fn request(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Request<Bytes> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header("AccountID", self.tenant.account)
            .header("ProjectID", self.tenant.project)
            .body(body)
            .expect("paths and kinds are ASCII")
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let reach = self.reach.borrow().clone();
        match reach {
            Ok(outbound) => outbound.exchange(request, deadline, limit).await,
            Err(why) => Err(OutboundError::Exchange(
                "its address".to_owned(),
                why.to_string(),
            )),
        }
    }

    fn base(&self) -> String {
        let reach = self.reach.borrow();
        reach
            .as_ref()
            .map_or_else(|_| String::new(), |outbound| outbound.base().to_string())
    }
}

fn unavailable(error: OutboundError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// # Errors
/// What the status means for who has sent the request.
fn accepted(base: &str, answer: &Response<Bytes>) -> Result<(), StoreError> {
    let status = answer.status();
    let told = format!("{base} answers {}: {}", status.as_u16(), reason(answer));
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(StoreError::Unavailable(format!(
            "{told} (it wants other credentials)"
        ))),
        StatusCode::NOT_FOUND => Err(StoreError::Unavailable(format!(
            "{told} (it is not VictoriaLogs, or has it at another path)"
        ))),
        // VictoriaLogs says so if less than `-storage.minFreeDiskSpaceBytes` is free.
        StatusCode::TOO_MANY_REQUESTS => Err(StoreError::Unavailable(format!(
            "{told} (its disk may be full)"
        ))),
        _ if status.is_client_error() => Err(StoreError::Refused(told)),
        _ => Err(StoreError::Unavailable(told)),
    }
}

fn reason(answer: &Response<Bytes>) -> String {
    let body = answer.body();
    let text = String::from_utf8_lossy(&body[..body.len().min(REASON_LIMIT)]);
    text.trim().to_owned()
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Response<Bytes> {
        Response::builder()
            .status(status)
            .body(Bytes::from_static(b"why\n"))
            .expect("a response")
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        for status in [401, 403, 404, 429, 500, 502, 503] {
            let error = accepted("http://logs", &answer(status)).expect_err("no success");
            assert!(matches!(error, StoreError::Unavailable(_)), "{status}");
            let text = error.to_string();
            assert!(
                text.contains("http://logs") && text.contains("why"),
                "{text}"
            );
        }
        for status in [400, 405, 413] {
            let error = accepted("http://logs", &answer(status)).expect_err("no success");
            assert!(matches!(error, StoreError::Refused(_)), "{status}");
        }
        assert_eq!(accepted("", &answer(204)), Ok(()));
    }

    #[test]
    fn a_tenant_is_two_numbers() {
        assert_eq!(
            "12:34".parse(),
            Ok(Tenant {
                account: 12,
                project: 34
            })
        );
        for text in ["", "1", "1:", "a:b", "4294967296:0"] {
            assert!(text.parse::<Tenant>().is_err(), "{text}");
        }
    }
}
