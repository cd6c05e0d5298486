//! The certificate that callers get where the operator of the cluster brings none, and what they verify it by.
//!
//! The leading controller signs it with the authority that signs for the gateways, for the names at which callers reach
//! them, and renews it at the same times. All authorities are in a ConfigMap that every user of the cluster may read.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use pilotlight_api::identity::{AUTHORITIES, CERTIFICATE, KEY};
use pilotlight_core::identity::{Signed, Validity, plan};
use serde_json::json;

use super::{Failure, Keeper, SIGNED, SignedBy, bundle_of, read_signed};

/// The place of its Secret among those that are followed.
const PUBLIC: usize = 2;

impl Keeper {
    /// The Secret for the certificate; `None` if somebody else brings it, or nobody needs one.
    pub(super) fn public_secret(&self) -> Option<String> {
        let tls = &self.options.tls;
        tls.secret.clone().filter(|_| !tls.names.is_empty())
    }

    /// Signs what is due, and publishes the authorities, as the leader. Before there is an authority it does nothing.
    pub(super) async fn keep_public(&mut self, now: u64) -> Result<(), Failure> {
        let names = self.options.tls.names.clone();
        let Some(secret) = self.shown[PUBLIC].clone().filter(|_| !names.is_empty()) else {
            return Ok(());
        };
        // The plan speaks of the list without those that have expired.
        let authorities = self.authorities.iter();
        let authorities = Vec::from_iter(authorities.filter(|one| now < one.validity.until));
        let validities = Vec::from_iter(authorities.iter().map(|one| one.validity));
        let signed = read_signed(&secret).filter(|signed| signed.names == names);
        let signed = signed.map(|signed| Signed {
            validity: Validity {
                from: signed.from,
                until: signed.until,
            },
            by: authorities
                .iter()
                .position(|one| one.certificate == signed.authority),
        });
        let lifetimes = self.options.certificate_lifetimes;
        let due = plan(now, &validities, signed, lifetimes).signs_with;
        if let Some(signer) = due.and_then(|signer| authorities.get(signer).copied()) {
            let (validity, certificate, key) =
                signer.sign_public(&names, now, lifetimes.certificate)?;
            let signed = SignedBy {
                from: validity.from,
                until: validity.until,
                authority: signer.certificate.clone(),
                names,
            };
            let fields = BTreeMap::from([
                (AUTHORITIES, bundle_of(&self.authorities).into_bytes()),
                (CERTIFICATE, certificate.into_bytes()),
                (KEY, key.into_bytes()),
                (SIGNED, serde_json::to_vec(&signed)?),
            ]);
            // Callers learn of the authority before they meet what it has signed.
            self.publish().await?;
            // The watch shows it later; until then it must not be signed again.
            self.shown[PUBLIC] = Some(self.write(&secret, fields).await?);
            tracing::info!(until = validity.until, "callers get a new certificate");
        }
        self.publish().await
    }

    /// Shows the authorities to callers. A write that changes nothing costs the API server nothing, and repairs what
    /// somebody has changed.
    async fn publish(&self) -> Result<(), Failure> {
        let (Some(name), false) = (&self.options.tls.authorities, self.authorities.is_empty())
        else {
            return Ok(());
        };
        let patch = json!({ "data": { AUTHORITIES: bundle_of(&self.authorities) } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = self.config_maps.patch_metadata(name, &params, &patch);
        written.await?;
        Ok(())
    }
}
