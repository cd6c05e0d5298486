//! `POST /claim`: a [`Claim`] as a line of JSON, then the parts of the code that it names; 409 if another was first.
//!
//! A part is a tar with names below the root. If the supervisor answers with [`TAKES`] before it is claimed, a part is an
//! archive as its author made it, whose digest the pod has from its own specification.
//!
//! The gateway's `cluster/claim` writes it, the supervisor's `claim` reads it. A supervisor ignores fields of the line
//! that it does not know.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Response, StatusCode, response};
use pilotlight_core::instance::parts::Part;
use pilotlight_core::instance::phases::{Phase, Phases};
use serde::{Deserialize, Serialize};

use crate::config::InstanceConfig;
use crate::status::INSTANCE;
use crate::{lease, phases};

pub const CLAIM_PATH: &str = "/claim";

/// Without the header nothing is promised, although HTTP/1.1 keeps connections open.
const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");

/// A header in the answer of an unclaimed supervisor to what only a claimed one serves, such as `/status`: what the parts of
/// a claim have to be. Without it they are tars, as for supervisors of an earlier release.
pub const TAKES: HeaderName = HeaderName::from_static("pilotlight-takes");
/// The only value of [`TAKES`].
pub const ARCHIVES: &str = "archives";

/// What an unclaimed instance becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name that it has from now on.
    pub instance: String,
    /// `None` for one that was started with its configuration, and lacks the code alone.
    pub config: Option<InstanceConfig>,
    /// The names of variables in `config` that the pod's own variables from Secrets and config maps override. `None` if
    /// the function has no such sources, and from a gateway of an earlier release. A pod that was started with its
    /// configuration has them in [`DEFAULTS_VARIABLE`](crate::config::DEFAULTS_VARIABLE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Vec<String>>,
    /// The parts of the code that follow, in their order. `None` from a gateway of an earlier release, which names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Part>>,
}

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
    /// The pod is the instance now.
    Taken {
        /// How long its code took to arrive, if any did.
        unpack: Option<Duration>,
        /// Whether the supervisor keeps the connection open, so that leases can follow on it. One of an earlier release
        /// closes it.
        stays_open: bool,
    },
    /// An earlier claim won. `instance`: what it has made of the pod, if the pod was not started as that.
    TooLate { instance: Option<String> },
    /// The claim or its code is invalid, for this reason.
    Refused { reason: String },
}

impl ClaimAnswer {
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        match self {
            ClaimAnswer::Taken { unpack, stays_open } => {
                if stays_open {
                    let headers = response.headers_mut();
                    headers.insert(CONNECTION, KEEP_ALIVE);
                }
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
                stays_open: head.headers.get(CONNECTION) == Some(&KEEP_ALIVE),
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
    use pilotlight_core::instance::parts::Digest;

    use super::*;

    #[test]
    fn a_claim_of_a_release_that_names_no_parts_is_read_as_such() {
        let earlier = br#"{"instance":"hello-1","config":null}"#;
        let claim: Claim = serde_json::from_slice(earlier).expect("a claim");
        assert_eq!((claim.instance.as_str(), claim.parts), ("hello-1", None));
        assert_eq!(claim.defaults, None);
    }

    #[test]
    fn a_claim_without_sources_is_written_as_releases_write_it_that_know_none() {
        let claim = Claim {
            instance: "hello-1".to_owned(),
            config: None,
            defaults: None,
            parts: None,
        };
        let line = "{\"instance\":\"hello-1\",\"config\":null}\n";
        assert_eq!(claim.to_line(), line.as_bytes());
        let claim = Claim {
            defaults: Some(vec!["PATH".to_owned()]),
            ..claim
        };
        let line = "{\"instance\":\"hello-1\",\"config\":null,\"defaults\":[\"PATH\"]}\n";
        assert_eq!(claim.to_line(), line.as_bytes());
        assert_eq!(serde_json::from_str::<Claim>(line).expect("a claim"), claim);
    }

    #[test]
    fn a_part_is_written_as_this_release_writes_it() {
        let claim = Claim {
            instance: "hello-1".to_owned(),
            config: None,
            defaults: None,
            parts: Some(vec![Part {
                field: "spec.code.archive".to_owned(),
                bytes: 5,
                sha256: Digest::of(b"hello"),
            }]),
        };
        let line = concat!(
            r#"{"instance":"hello-1","config":null,"parts":[{"field":"spec.code.archive","bytes":5,"#,
            r#""sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}]}"#,
            "\n"
        );
        assert_eq!(claim.to_line(), line.as_bytes());
        let read = serde_json::from_str::<Claim>(line);
        assert_eq!(read.expect("a claim"), claim);
    }

    #[test]
    fn an_answer_to_a_claim_reads_back_as_written() {
        let unpack = Some(Duration::from_micros(1020));
        let instance = Some("hello-1".to_owned());
        let reason = "the claim broke off".to_owned();
        for answer in [
            ClaimAnswer::Taken {
                unpack,
                stays_open: true,
            },
            ClaimAnswer::Taken {
                unpack: None,
                stays_open: false,
            },
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
            stays_open: true,
        };
        let taken = taken.into_response();
        assert_eq!(taken.headers()["pilotlight-phases"], "unpack;dur=1.02");
        assert_eq!(taken.headers()["connection"], "keep-alive");
    }
}
