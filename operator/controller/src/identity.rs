//! The release's authorities and the certificates of its parts.
//!
//! Two Secrets in the release's namespace: one with the authorities and their keys, which controllers alone read, and
//! one with the gateways' certificate. Where nobody else brings a certificate for callers, `public` keeps a third Secret
//! with one, and the ConfigMap by which callers verify it. The leading controller carries out what `core::identity` plans, with writes that
//! name the version which they replace, so two leaders for a moment do not mix. Each controller signs a certificate for
//! itself, in memory. The chart makes all these objects empty, so that a controller need not create any.

mod authority;
mod public;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_api::identity::{AUTHORITIES, CERTIFICATE, KEY, field};
use pilotlight_core::identity::{Mode, Role, Signed, Validity, next_look, plan};
use pilotlight_net::identity::{Identity, Material};
use pilotlight_watch::Backoff;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use self::authority::Authority;
use crate::clock::now;
use crate::leadership::Term;
use crate::options::{IdentitySecrets, Options};

/// The key of the first Secret: all authorities as JSON, the oldest first.
const STORED: &str = "authorities.json";
/// The key of the second Secret that says which authority has signed the certificate, and for how long.
const SIGNED: &str = "signed.json";
/// The pause before the next attempt after a failed write.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// The certificates of all authorities in PEM; `None` until they are known.
pub(crate) type Bundle = Option<Arc<str>>;

/// Which authority has signed the gateways' certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedBy {
    from: u64,
    until: u64,
    authority: String,
    /// Those of a certificate for callers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Keeper {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    options: Options,
    identity: Identity,
    bundle: watch::Sender<Bundle>,
    term: watch::Receiver<Term>,
    /// The Secrets as the watches show them last; `None`: absent, or not known yet.
    shown: [Option<Secret>; 3],
    authorities: Vec<Authority>,
    /// This controller's own certificate, and the certificate of the authority that has signed it.
    own: Option<(Validity, String)>,
}

impl Keeper {
    pub(crate) fn new(
        client: Client,
        options: &Options,
        identity: Identity,
        term: watch::Receiver<Term>,
    ) -> (Self, watch::Receiver<Bundle>) {
        let (bundle, published) = watch::channel(None);
        let keeper = Keeper {
            secrets: Api::namespaced(client.clone(), &options.gateway_namespace),
            config_maps: Api::namespaced(client, &options.gateway_namespace),
            options: options.clone(),
            identity,
            bundle,
            term,
            shown: [None, None, None],
            authorities: Vec::new(),
            own: None,
        };
        (keeper, published)
    }

    /// Keeps the certificates fresh until the program ends.
    pub(crate) async fn run(&mut self) {
        if self.options.parts_identity == Mode::Off {
            return pending().await;
        }
        let followed = self.followed().into_iter().enumerate();
        let follow = |(place, name): (usize, Option<String>)| {
            let shown = watcher::watch_object(self.secrets.clone(), &name?);
            let shown = shown.backoff(Backoff::default());
            Some(shown.map(move |event| (place, event)).boxed())
        };
        let mut events = stream::select_all(followed.filter_map(follow));
        loop {
            let look = self.look().await;
            tokio::select! {
                Some((place, event)) = events.next() => self.take(place, event),
                Ok(()) = self.term.changed() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// The names of the Secrets, in the order of `shown`.
    fn followed(&self) -> [Option<String>; 3] {
        let IdentitySecrets {
            authorities,
            gateway,
            ..
        } = self.options.identity_secrets.clone();
        [Some(authorities), Some(gateway), self.public_secret()]
    }

    fn take(&mut self, place: usize, event: Result<Option<Secret>, watcher::Error>) {
        match event {
            Ok(secret) => {
                if secret.is_none() {
                    tracing::warn!(
                        secret = self.followed()[place],
                        "a Secret for certificates is missing: the chart makes it, and no pod is made without those of the parts"
                    );
                }
                self.shown[place] = secret;
            }
            Err(error) => tracing::warn!(%error, "the watch of the certificates is interrupted"),
        }
    }

    /// Does what is due, and returns after which time to look again.
    async fn look(&mut self) -> Duration {
        let now = now();
        let carried_out = match self.leads() {
            true => self.renew(now).await,
            false => Ok(()),
        };
        let used = carried_out.and_then(|()| self.use_own(now));
        if let Err(error) = used {
            tracing::warn!(%error, "the certificates cannot be renewed; the last ones stay in force");
            return WRITE_PAUSE;
        }
        if self.leads()
            && let Err(error) = self.keep_public(now).await
        {
            tracing::warn!(%error, "the certificate for callers cannot be renewed; the last one stays in force");
            return WRITE_PAUSE;
        }
        let lifetimes = self.options.certificate_lifetimes;
        let soonest = self.own.as_ref();
        let look = soonest.map_or(1, |(validity, _)| next_look(*validity, lifetimes));
        Duration::from_secs(look)
    }

    fn leads(&self) -> bool {
        self.term.borrow().is_some()
    }

    /// Carries out the plan, as the leader.
    async fn renew(&mut self, now: u64) -> Result<(), Failure> {
        // Absent Secrets are not made: this account may not create any.
        let [Some(stored), Some(gateway), _] = &self.shown else {
            return Ok(());
        };
        let mut authorities = read_authorities(stored)?;
        let validities: Vec<Validity> = authorities.iter().map(|one| one.validity).collect();
        let signed = read_signed(gateway).map(|signed| Signed {
            validity: Validity {
                from: signed.from,
                until: signed.until,
            },
            by: authorities
                .iter()
                .position(|one| one.certificate == signed.authority),
        });
        let lifetimes = self.options.certificate_lifetimes;
        let plan = plan(now, &validities, signed, lifetimes);
        if plan.is_empty(authorities.len()) {
            return Ok(());
        }
        let before = authorities.len();
        let mut place = 0;
        authorities.retain(|_| {
            place += 1;
            plan.kept.contains(&(place - 1))
        });
        if plan.adds_authority {
            authorities.push(Authority::new(now, lifetimes.authority)?);
        }
        let (stored, gateway) = (stored.clone(), gateway.clone());
        let mut stored_as = None;
        if plan.adds_authority || authorities.len() != before {
            // First the authority, then the certificate that it signs: a certificate whose authority nobody knows is
            // worth nothing.
            let text = serde_json::to_vec(&authorities)?;
            let fields = BTreeMap::from([(STORED, text)]);
            stored_as = Some(self.write(&stored, fields).await?);
            tracing::info!(
                authorities = authorities.len(),
                "the authorities have changed"
            );
        }
        if let Some(signer) = plan.signs_with {
            let signer = &authorities[signer];
            let (validity, certificate, key) =
                signer.sign(Role::Gateway, now, lifetimes.certificate)?;
            let signed = SignedBy {
                from: validity.from,
                until: validity.until,
                authority: signer.certificate.clone(),
                names: Vec::new(),
            };
            let fields = BTreeMap::from([
                (AUTHORITIES, bundle_of(&authorities).into_bytes()),
                (CERTIFICATE, certificate.into_bytes()),
                (KEY, key.into_bytes()),
                (SIGNED, serde_json::to_vec(&signed)?),
            ]);
            let written = self.write(&gateway, fields).await?;
            // The watch shows it later; until then it must not be signed again.
            self.shown[1] = Some(written);
            tracing::info!(
                until = validity.until,
                "the gateways have a new certificate"
            );
        }
        if let Some(stored) = stored_as {
            self.shown[0] = Some(stored);
        }
        Ok(())
    }

    /// Replaces the version of the Secret that is at hand, and no other.
    async fn write(
        &self,
        secret: &Secret,
        fields: BTreeMap<&str, Vec<u8>>,
    ) -> Result<Secret, Failure> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let data: BTreeMap<&str, ByteString> = fields
            .into_iter()
            .map(|(field, value)| (field, ByteString(value)))
            .collect();
        let patch = json!({
            "metadata": { "resourceVersion": secret.metadata.resource_version },
            "data": data,
        });
        let patch = Patch::Merge(patch);
        Ok(self
            .secrets
            .patch(&name, &PatchParams::default(), &patch)
            .await?)
    }

    /// Uses the authorities as they are stored: signs this controller's own certificate, and publishes the bundle.
    fn use_own(&mut self, now: u64) -> Result<(), Failure> {
        let Some(stored) = &self.shown[0] else {
            return Ok(());
        };
        let authorities = read_authorities(stored)?;
        if authorities.is_empty() {
            return Ok(());
        }
        let lifetimes = self.options.certificate_lifetimes;
        let validities: Vec<Validity> = authorities.iter().map(|one| one.validity).collect();
        let signed = self.own.as_ref().map(|(validity, by)| Signed {
            validity: *validity,
            by: authorities.iter().position(|one| one.certificate == *by),
        });
        let due = plan(now, &validities, signed, lifetimes).signs_with;
        let changed = authorities != self.authorities;
        if let Some(signer) = due {
            // The plan speaks of the list without those that have expired, whose places come first.
            let living = authorities.iter().filter(|one| now < one.validity.until);
            let signer = living.collect::<Vec<_>>().get(signer).copied();
            let signer = signer.ok_or("all authorities have expired")?;
            let (validity, certificate, key) =
                signer.sign(Role::Controller, now, lifetimes.certificate)?;
            let bundle = bundle_of(&authorities);
            let material =
                Material::of_pem(bundle.as_bytes(), certificate.as_bytes(), key.as_bytes())?;
            self.identity.renew(material)?;
            self.own = Some((validity, signer.certificate.clone()));
        }
        if changed {
            self.bundle
                .send_replace(Some(bundle_of(&authorities).into()));
            self.authorities = authorities;
        }
        Ok(())
    }
}

/// Empty as long as the Secret is.
fn read_authorities(secret: &Secret) -> Result<Vec<Authority>, Failure> {
    match field(secret, STORED) {
        Some(text) => Ok(serde_json::from_slice(text)
            .map_err(|error| format!("{STORED} cannot be read: {error}"))?),
        None => Ok(Vec::new()),
    }
}

/// `None` if the Secret has no certificate, or none whose origin is known.
fn read_signed(secret: &Secret) -> Option<SignedBy> {
    for name in [AUTHORITIES, CERTIFICATE, KEY] {
        field(secret, name)?;
    }
    serde_json::from_slice(field(secret, SIGNED)?).ok()
}

fn bundle_of(authorities: &[Authority]) -> String {
    authorities
        .iter()
        .map(|authority| authority.certificate.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
