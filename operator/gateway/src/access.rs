//! Who calls, and what that caller may do.
//!
//! Owns what the gateway knows of its callers: the cluster's answers (`core::access::reviews`), and the lines and counts
//! of refused calls. `http::access` reads a request and words a refusal; a [`Judge`] asks the cluster, and is `cluster`'s.
//! Asks at most once at a time for each question, so an invocation of a known caller asks nobody.

mod asking;
mod audit;
mod caller;
mod judge;
mod keyring;

use std::fmt::Debug;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pilotlight_access::random;
use pilotlight_access::session::{Grant, TemporaryCredentials};
use pilotlight_access::sts::WebIdentity;
use pilotlight_access::sts::error::StsError;
use pilotlight_access::verify::{BodyCheck, SignedRequest};
use pilotlight_core::access::reviews::ReviewLimits;
use pilotlight_core::access::{Credential, Mode, Principal, Refusal, Right};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::asking::Asking;
pub use self::audit::AUDIT_TARGET;
use self::audit::Audit;
pub(crate) use self::caller::{Caller, Holder};
pub use self::judge::{Judge, Later};
pub use self::keyring::Keyring;
use crate::clock::seconds;
use crate::metrics::AccessMetrics;

/// What callers have to prove, and who is asked.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    pub mode: Mode,
    /// The audience that a token has to have.
    pub audience: String,
    /// `None`: nobody is asked, and every caller that proves who it is may do everything.
    pub judge: Option<Arc<dyn Judge>>,
    /// For callers that sign.
    pub keyring: Keyring,
}

impl Default for AccessConfig {
    fn default() -> Self {
        AccessConfig {
            mode: Mode::Off,
            audience: AUDIENCE.to_owned(),
            judge: None,
            keyring: Keyring::default(),
        }
    }
}

/// The audience of callers' tokens, unless the operator chooses another one.
pub const AUDIENCE: &str = "pilotlight";

/// See the module. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: AccessConfig,
    tokens: Asking<[u8; 32], Arc<Reviewed>>,
    rights: Asking<(Arc<Principal>, Right), ()>,
    audit: Audit,
}

/// A token that the cluster knows.
#[derive(Debug)]
struct Reviewed {
    principal: Arc<Principal>,
    /// Seconds since 1970.
    expires: Option<u64>,
}

/// Temporary credentials, and for whom they are.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) grant: Grant,
    pub(crate) credentials: TemporaryCredentials,
    pub(crate) audience: String,
}

impl Access {
    pub(crate) fn new(config: AccessConfig, metrics: AccessMetrics) -> Self {
        Access(Arc::new(Inner {
            config,
            tokens: Asking::new(ReviewLimits::DEFAULT),
            rights: Asking::new(ReviewLimits::DEFAULT),
            audit: Audit::new(metrics),
        }))
    }

    pub(crate) fn mode(&self) -> Mode {
        self.0.config.mode
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Who shows this token.
    pub(crate) async fn bearer(&self, token: &str) -> Result<Caller, Refusal> {
        // Kubernetes would read such a token up to its first blank, and each rest would be a question of its own.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::UNKNOWN_KEY);
        }
        let shown = Claims::read(token);
        let audience = &self.0.config.audience;
        let is_for_gateways = match &shown {
            Shown::Claims(claims) => claims.is_for(audience),
            Shown::Unreadable => false,
            Shown::Opaque => true,
        };
        // It would be somebody's key to the API server, or to another service, which no caller should show here.
        if !is_for_gateways {
            return Err(Refusal::Unrecognized(
                format!(
                    "The token is not for this gateway: its audience has to be `{audience}` and no other. Ask for one with \
                     `kubectl create token ACCOUNT --audience={audience}`, or mount a projected one."
                )
                .into(),
            ));
        }
        let Some(judge) = &self.0.config.judge else {
            return Err(Refusal::UNKNOWN_KEY);
        };
        let question: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let (expires, is_opaque) = match shown {
            Shown::Claims(claims) => (claims.exp, false),
            Shown::Unreadable | Shown::Opaque => (None, true),
        };
        let ask = || -> Later<Arc<Reviewed>> {
            let who = judge.who(token);
            Box::pin(async move {
                let reviewed = |principal| {
                    let principal = Arc::new(principal);
                    Arc::new(Reviewed { principal, expires })
                };
                Ok(who.await?.map(reviewed))
            })
        };
        let answer = self.0.tokens.answer(question, ask).await;
        let answer = answer.map_err(|refusal| match self.mode() {
            // It may be of a proxy in front, which says nothing of this installation.
            Mode::Optional if is_opaque => Refusal::UNKNOWN_KEY,
            _ => refusal,
        })?;
        let is_over = |expires| expires <= seconds();
        match answer {
            Some(known) if known.expires.is_some_and(is_over) => Err(Refusal::Expired),
            Some(known) => Ok(Caller {
                credential: Credential::Token,
                principal: Some(known.principal.clone()),
                is_function: false,
            }),
            None if expires.is_some_and(is_over) => Err(Refusal::Expired),
            None => Err(Refusal::UNKNOWN_KEY),
        }
    }

    /// Whose key a request is signed with, and the check of its body, which comes later. The signature of a request that
    /// has the hash of its body in its head is checked at once.
    pub(crate) fn signed(&self, request: SignedRequest) -> Result<(Holder, BodyCheck), Refusal> {
        let (id, now) = (request.key_id(), seconds());
        let keyring = &self.0.config.keyring;
        // A gateway that has just started does not refuse for good what it may get to know. Where keys of other platforms
        // are welcome, an unknown key is one of them.
        let awaits = keyring.may_lack(request.token().is_some());
        let unknown = || match awaits && self.mode() == Mode::Required {
            true => Refusal::Unavailable,
            false => Refusal::UNKNOWN_KEY,
        };
        let (holder, check) = match request.token() {
            Some(token) => {
                let session = keyring.sessions().open(id, token, now);
                let session = session.map_err(|refusal| match refusal {
                    Refusal::Unrecognized(_) => unknown(),
                    refusal => refusal,
                })?;
                let check = request.begin(&session.secret)?;
                (Holder::Session(session.grant), check)
            }
            None => {
                let key = keyring.access_key(id).ok_or_else(unknown)?;
                key.check(None, now)?;
                let check = request.begin(&key.secret)?;
                (Holder::AccessKey(key), check)
            }
        };
        Ok((holder, check))
    }

    /// Temporary credentials for a caller that has shown a token.
    ///
    /// # Errors
    /// If the token is not this account's, or there are no keys to sign with.
    pub(crate) async fn session(&self, identity: WebIdentity) -> Result<Issued, StsError> {
        if self.mode() == Mode::Off {
            return Err(StsError::AccessDenied(
                "Callers need not prove who they are here, so there are no temporary credentials. Any access key will do."
                    .to_owned(),
            ));
        }
        let caller = self.bearer(&identity.token).await;
        let caller = caller.map_err(StsError::of_token)?;
        let principal = caller.principal.ok_or(StsError::InvalidIdentityToken)?;
        if principal.user != identity.account.user() {
            return Err(StsError::not_authorized());
        }
        let grant = Grant {
            account: identity.account,
            uid: principal.uid.clone(),
            session_name: identity.session_name,
        };
        let keys = self.0.config.keyring.sessions();
        let minted = keys.mint(&grant, seconds(), identity.seconds, random::bytes());
        let credentials = minted.map_err(|error| {
            tracing::warn!(%error, "no temporary credentials can be issued");
            StsError::Refused(Refusal::Unavailable)
        })?;
        Ok(Issued {
            grant,
            credentials,
            audience: self.0.config.audience.clone(),
        })
    }

    /// Whether the caller has the right. An anonymous one has each right: it was let in on purpose.
    pub(crate) async fn may(&self, caller: &Caller, right: &Right) -> Result<bool, Refusal> {
        let (Some(who), Some(judge)) = (&caller.principal, &self.0.config.judge) else {
            return Ok(true);
        };
        let ask = || judge.may(who, right);
        let question = (who.clone(), right.clone());
        let answer = self.0.rights.answer(question, ask).await?;
        Ok(answer.is_some())
    }
}

/// The claims of a token, which prove nothing before the cluster has checked it.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audiences,
    exp: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Audiences::Several(Vec::new())
    }
}

/// A token, as far as its text says.
enum Shown {
    Claims(Claims),
    /// It has the form of a JSON Web Token, and none of its claims can be read.
    Unreadable,
    /// Only the cluster can read it.
    Opaque,
}

impl Claims {
    fn read(token: &str) -> Shown {
        let mut parts = token.split('.');
        let (_, claims, signature) = (parts.next(), parts.next(), parts.next());
        let Some((claims, _)) = claims.zip(signature) else {
            return Shown::Opaque;
        };
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok();
        let claims = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
        claims.map_or(Shown::Unreadable, Shown::Claims)
    }

    /// Whether the token is for this audience, and for no other.
    fn is_for(&self, audience: &str) -> bool {
        let all = match &self.aud {
            Audiences::One(one) => std::slice::from_ref(one),
            Audiences::Several(several) => several,
        };
        !all.is_empty() && all.iter().all(|one| one == audience)
    }
}
