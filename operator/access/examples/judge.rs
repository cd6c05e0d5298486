//! Judges requests that real SDKs have signed, for `tests/sdk/signatures`. It takes the place of a gateway, with the
//! checks of this crate and without a cluster.
//!
//! Each line of standard input is one question in JSON, each line of standard output its answer. The time is part of the
//! question, and so are the access key of the caller and the secret of the session key.

use std::io::{self, BufRead as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::{Grant, SessionKey, SessionKeys};
use pilotlight_access::shown::{Service, Shown};
use pilotlight_access::sts::StsRequest;
use pilotlight_access::sts::answer::{CallerIdentity, assumed_role, caller_identity};
use pilotlight_access::sts::error::StsError;
use pilotlight_core::access::{Credential, Refusal};
use serde_json::{Value, json};

const ACCOUNT: &str = "000000000000";
const REQUEST_ID: &str = "8f3c4a1e-0000-4000-8000-000000000000";

/// One question.
struct Question {
    head: Parts,
    body: Bytes,
    /// Seconds since 1970.
    now: u64,
    access_key: AccessKey,
    keys: SessionKeys,
    /// The web identity token that the cluster knows, of the account `shop/caller`.
    token: String,
}

/// Who has signed, and what was in the body.
struct Judged {
    credential: Credential,
    grant: Option<Grant>,
    body: Bytes,
}

fn question(line: &Value) -> Question {
    let text = |name: &str| line[name].as_str().expect("a text");
    let number = |name: &str| line[name].as_u64().expect("a number");
    let mut request = Request::builder()
        .method(text("method"))
        .uri(text("target"));
    for header in line["headers"].as_array().expect("a list") {
        let part = |place: usize| header[place].as_str().expect("a text");
        request = request.header(part(0), part(1));
    }
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let account = "shop/caller".parse().expect("an account");
    let key = SessionKey::new(
        [1; 8],
        0,
        [u8::try_from(number("sessionKey")).expect("a byte"); 32],
    );
    Question {
        head,
        body: STANDARD.decode(text("body")).expect("base64").into(),
        now: number("now"),
        access_key: AccessKey::new(&[5; 40], account, number("expires")),
        keys: SessionKeys::new([key]),
        token: text("token").to_owned(),
    }
}

impl Question {
    /// What a gateway does for each signed call.
    fn judge(&self, service: Service) -> Result<Judged, Refusal> {
        let request = match Shown::read(&self.head, service, self.now)? {
            Shown::Signed(request) => request,
            Shown::Nothing | Shown::Bearer(_) => return Err(Refusal::Missing),
        };
        let (credential, grant, secret) = match request.token() {
            Some(token) => {
                let session = self.keys.open(request.key_id(), token, self.now)?;
                (Credential::Session, Some(session.grant), session.secret)
            }
            None if request.key_id() == self.access_key.id => {
                self.access_key.check(request.token(), self.now)?;
                (Credential::AccessKey, None, self.access_key.secret.clone())
            }
            None => return Err(Refusal::UNKNOWN_KEY),
        };
        let body = request.begin(&secret)?.finish(self.body.clone())?;
        Ok(Judged {
            credential,
            grant,
            body,
        })
    }

    fn sts(&self) -> Result<String, StsError> {
        let query = self.head.uri.query().unwrap_or_default();
        let form = if self.body.is_empty() {
            query.as_bytes()
        } else {
            &self.body
        };
        match StsRequest::read(form, ACCOUNT)? {
            StsRequest::AssumeRoleWithWebIdentity(identity) => {
                if identity.token != self.token {
                    return Err(StsError::InvalidIdentityToken);
                }
                if identity.account.to_string() != "shop/caller" {
                    return Err(StsError::not_authorized());
                }
                let grant = Grant {
                    account: identity.account,
                    uid: None,
                    session_name: identity.session_name,
                };
                let credentials = self.keys.mint(&grant, self.now, identity.seconds, [3; 16]);
                let credentials = credentials.expect("there is a key");
                Ok(assumed_role(
                    &grant,
                    &credentials,
                    "pilotlight",
                    ACCOUNT,
                    REQUEST_ID,
                ))
            }
            StsRequest::GetCallerIdentity => {
                let judged = self.judge(Service::Sts)?;
                let caller = match &judged.grant {
                    Some(grant) => CallerIdentity::Session(grant),
                    None => CallerIdentity::AccessKey(&self.access_key),
                };
                Ok(caller_identity(caller, ACCOUNT, REQUEST_ID))
            }
        }
    }

    fn answer(&self) -> Value {
        if self.head.uri.path() == "/" {
            return match self.sts() {
                Ok(body) => json!({"status": 200, "xml": body}),
                Err(error) => {
                    json!({"status": error.status().as_u16(), "xml": error.body(REQUEST_ID)})
                }
            };
        }
        match self.judge(Service::Lambda) {
            Ok(judged) => json!({
                "credential": judged.credential.as_str(),
                "body": STANDARD.encode(&judged.body),
            }),
            Err(refusal) => json!({"refusal": refusal.reason(), "message": refusal.to_string()}),
        }
    }
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let answer = match line.get("head") {
            // What the callers have to know.
            None => {
                let key = AccessKey::new(&[5; 40], "shop/caller".parse().expect("an account"), 0);
                json!({"id": key.id, "secret": key.secret})
            }
            Some(head) => question(head).answer(),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
