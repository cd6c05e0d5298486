//! `POST /claim`: a [`Claim`] as a line of JSON, then the code as a tar; 409 if another was first.
//!
//! The gateway's `cluster/claim` writes it, the supervisor's `claim` reads it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, response};
use pilotlight_core::instance::phases::{Phase, Phases};
use serde::{Deserialize, Serialize};

use crate::config::InstanceConfig;
use crate::{lease, phases};

pub const CLAIM_PATH: &str = "/claim";

/// What an unclaimed instance becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name that it has from now on.
    pub instance: String,
    /// `None` for one that was started with its configuration, and lacks the code alone.
    pub config: Option<InstanceConfig>,
}

/// On the answer to a claim that came too late: the name of the instance that the pod has become.
const INSTANCE: HeaderName = HeaderName::from_static("pilotlight-instance");

impl Claim {
    /// The line that begins the body of the request.
    ///
    /// # Panics
    /// Never: a claim is plain data.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a claim is plain data");
        line.push(b'\n');
        line
    }
}

/// How a supervisor answers a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The pod is the instance now. `unpack`: how long its code took to arrive, if any did.
    Taken { unpack: Option<Duration> },
    /// An earlier claim won. `instance`: what it has made of the pod, if the pod was not started as that.
    TooLate { instance: Option<String> },
    /// The claim or its code is invalid, for this reason.
    Refused { reason: String },
}

impl ClaimAnswer {
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        match self {
            ClaimAnswer::Taken { unpack } => {
                let phases = Phases::of(unpack.map(|unpack| (Phase::Unpack, unpack)));
                if !phases.is_empty() {
                    let headers = response.headers_mut();
                    headers.insert(phases::PHASES, phases::write(&phases));
                }
            }
            ClaimAnswer::TooLate { instance } => {
                *response.status_mut() = StatusCode::CONFLICT;
                let headers = response.headers_mut();
                headers.insert(lease::REFUSAL, HeaderValue::from_static("claimed"));
                let instance = instance.and_then(|name| HeaderValue::try_from(name).ok());
                if let Some(instance) = instance {
                    headers.insert(INSTANCE, instance);
                }
            }
            ClaimAnswer::Refused { reason } => {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                *response.body_mut() = format!("{reason}\n").into();
            }
        }
        response
    }

    /// `text`: the body. A status code that no release sends is a refusal.
    pub fn read(head: &response::Parts, text: &[u8]) -> Self {
        match head.status {
            StatusCode::OK => ClaimAnswer::Taken {
                unpack: phases::read(&head.headers).get(Phase::Unpack),
            },
            StatusCode::CONFLICT => {
                let instance = head.headers.get(INSTANCE);
                let instance = instance.and_then(|name| name.to_str().ok());
                ClaimAnswer::TooLate {
                    instance: instance.map(str::to_owned),
                }
            }
            _ => ClaimAnswer::Refused {
                reason: String::from_utf8_lossy(text).trim_end().to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_claim_reads_back_as_written() {
        let unpack = Some(Duration::from_micros(1020));
        let instance = Some("hello-1".to_owned());
        let reason = "the claim broke off".to_owned();
        for answer in [
            ClaimAnswer::Taken { unpack },
            ClaimAnswer::Taken { unpack: None },
            ClaimAnswer::TooLate { instance },
            ClaimAnswer::TooLate { instance: None },
            ClaimAnswer::Refused { reason },
        ] {
            let (head, body) = answer.clone().into_response().into_parts();
            assert_eq!(ClaimAnswer::read(&head, &body), answer);
        }
    }

    #[test]
    fn a_claim_that_came_too_late_is_answered_as_by_every_release() {
        let instance = Some("hello-1".to_owned());
        let response = ClaimAnswer::TooLate { instance }.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["pilotlight-refusal"], "claimed");
        assert_eq!(response.headers()["pilotlight-instance"], "hello-1");
        let taken = ClaimAnswer::Taken {
            unpack: Some(Duration::from_micros(1020)),
        };
        let taken = taken.into_response();
        assert_eq!(taken.headers()["pilotlight-phases"], "unpack;dur=1.02");
    }
}
