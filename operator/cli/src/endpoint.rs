//! Calls to a running gateway, for `invoke`, `logs` and `top`.
//!
//! Owns the address, the HTTP client, the token that a call shows and the text for a call that was refused. `reach` leads
//! to the gateway of a cluster and gets tokens there. It never retries, since a call that started once must not run twice
//! (rule 2).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use pilotlight_core::shown_url::ShownUrl;
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, RequestBuilder};

#[cfg(feature = "cluster")]
use crate::reach::{InCluster, Reached};
use crate::terminal;

/// Where `pilotlight local` listens, and where the other subcommands look for it.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:7070";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7070";
/// The most bytes of an error's body that are read.
const REFUSAL_LIMIT: u64 = 64 * 1024;
/// The answer itself has no such limit, since functions run for up to 15 minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of the gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoint {
    /// Address of the gateway, as `pilotlight local` prints it; or pass --cluster.
    #[arg(
        long = "endpoint",
        env = "PILOTLIGHT_ENDPOINT",
        default_value = DEFAULT_ENDPOINT,
        value_name = "URL"
    )]
    url: String,
    /// The authorities that verify a gateway at https://, in PEM, such as `ca.crt` of the ConfigMap `pilotlight-ca`
    /// [default: those of this machine].
    #[arg(long, env = "PILOTLIGHT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A token that the calls show; or pass --service-account.
    #[arg(
        long,
        env = "PILOTLIGHT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: InCluster,
}

/// A gateway, and the way to it.
pub(crate) struct Gateway {
    url: String,
    agent: Agent,
    token: Option<String>,
    #[cfg(feature = "cluster")]
    reached: Option<Reached>,
}

impl Endpoint {
    /// Finds the gateway, and gets a token if a service account is named.
    #[cfg(feature = "cluster")]
    pub(crate) fn open(&self) -> Result<Gateway> {
        let reached = self.cluster.reach()?;
        let forwarded = reached.as_ref().and_then(Reached::url);
        Ok(Gateway {
            agent: client(self.tls(forwarded.is_some())?),
            url: forwarded.unwrap_or_else(|| self.url.clone()),
            token: self.token.clone(),
            reached,
        })
    }

    /// The gateway at the address.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn open(&self) -> Result<Gateway> {
        Ok(Gateway {
            agent: client(self.tls(false)?),
            url: self.url.clone(),
            token: self.token.clone(),
        })
    }

    /// Whether the user has named no gateway, so that only local mode on this machine can be meant.
    pub(crate) fn is_default(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.cluster.is_given() {
            return false;
        }
        self.url == DEFAULT_ENDPOINT
    }

    /// Whom to trust at https://.
    fn tls(&self, is_forwarded: bool) -> Result<TlsConfig> {
        let tls = TlsConfig::builder();
        if is_forwarded {
            // The API server leads to this very pod, which is what a certificate would prove.
            return Ok(tls.disable_verification(true).build());
        }
        // The machine's own certificates, since a company may sign its servers itself.
        let machines = || Ok(RootCerts::PlatformVerifier);
        let roots = self.ca.as_deref().map_or_else(machines, authorities)?;
        Ok(tls.root_certs(roots).build())
    }
}

impl Gateway {
    pub(crate) fn get(&self, path: &str) -> Result<RequestBuilder<WithoutBody>> {
        self.with_token(self.agent.get(self.address(path)))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<RequestBuilder<WithoutBody>> {
        self.with_token(self.agent.delete(self.address(path)))
    }

    pub(crate) fn post(&self, path: &str) -> Result<RequestBuilder<WithBody>> {
        self.with_token(self.agent.post(self.address(path)))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>> {
        let bearer = |token: &str| format!("Bearer {token}");
        #[cfg(feature = "cluster")]
        if let Some(reached) = &self.reached
            && let Some(token) = reached.token()?
        {
            return Ok(request.header("authorization", bearer(&token)));
        }
        Ok(match &self.token {
            Some(token) => request.header("authorization", bearer(token)),
            None => request,
        })
    }

    /// An error that says which address did not answer, and what to do.
    pub(crate) fn unanswered(&self, error: ureq::Error) -> anyhow::Error {
        let refused = matches!(
            &error,
            ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused
        ) || matches!(&error, ureq::Error::ConnectionFailed);
        let hint = if refused {
            ": is `pilotlight local` running? If it listens elsewhere, pass --endpoint"
        } else {
            ""
        };
        let why = match &error {
            // Its text has the whole address.
            ureq::Error::BadUri(_) => "it is no address of a web server".to_owned(),
            other => other.to_string(),
        };
        anyhow!("{} does not answer ({why}){hint}", ShownUrl(&self.url))
    }
}

/// A client that bounds the time to connect, and not the time of an answer.
fn client(tls: TlsConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_redirects(0)
        .build()
        .new_agent()
}

/// The certificates in a file of --ca.
fn authorities(file: &Path) -> Result<RootCerts> {
    let text =
        fs::read(file).with_context(|| format!("--ca {}: cannot be read", file.display()))?;
    let found: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    ensure!(
        !found.is_empty(),
        "--ca {}: it has no certificate in PEM",
        file.display()
    );
    Ok(RootCerts::from(found))
}

/// The error in an answer with an error status, as a sentence for the user.
pub(crate) fn refusal(function: &str, answer: Response<Body>) -> Result<anyhow::Error> {
    let (head, body) = answer.into_parts();
    let kind = head
        .headers
        .get("x-amzn-errortype")
        .and_then(|kind| kind.to_str().ok());
    let mut text = Vec::new();
    body.into_reader()
        .take(REFUSAL_LIMIT)
        .read_to_end(&mut text)
        .context("the gateway's answer broke off")?;
    let said = serde_json::from_slice::<Value>(&text).ok();
    let said = said
        .as_ref()
        .and_then(|said| said.get("message").or_else(|| said.get("Message")));
    let said = match said.and_then(Value::as_str) {
        Some(said) => said.to_owned(),
        None => String::from_utf8_lossy(&text).trim().to_owned(),
    };
    let hint = match head.status {
        StatusCode::NOT_FOUND => "; `pilotlight local` prints the names it serves",
        StatusCode::TOO_MANY_REQUESTS => "; try again, or raise its `spec.concurrency`",
        StatusCode::FORBIDDEN if kind == Some("MissingAuthenticationTokenException") => {
            "; pass --service-account NAME, of an account that may do this, or --token"
        }
        _ => "",
    };
    let kind = kind
        .map(str::to_owned)
        .unwrap_or_else(|| head.status.to_string());
    let said = terminal::escaped(&said);
    Ok(anyhow!("{function}: {said} ({kind}){hint}"))
}

/// Percent-encodes one part of a path or a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_address_keeps_only_unreserved_characters() {
        assert_eq!(encode("a-Z.0_~"), "a-Z.0_~");
        assert_eq!(encode("hello:$LATEST /é"), "hello%3A%24LATEST%20%2F%C3%A9");
    }

    #[test]
    fn an_endpoint_may_end_in_a_slash() {
        let gateway = Gateway {
            url: "http://127.0.0.1:7070/".to_owned(),
            agent: client(TlsConfig::default()),
            token: None,
            #[cfg(feature = "cluster")]
            reached: None,
        };
        assert_eq!(gateway.address("/x"), "http://127.0.0.1:7070/x");
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (path, why) in [
            (file.path().to_owned(), "it has no certificate in PEM"),
            ("/nowhere/ca.crt".into(), "cannot be read"),
        ] {
            let said = authorities(&path).expect_err("refused").to_string();
            assert_eq!(said, format!("--ca {}: {why}", path.display()));
        }
    }
}
