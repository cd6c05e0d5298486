//! The volumes of an instance's pod, and what they may take of its node's disk.
//!
//! Pure. `function` and `warm` add the volumes of their pods, `instance` that of the pod's token.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pilotlight_core::instance::node_share::CONFIG_MAP_MIB;
use pilotlight_net::identity::token::AUDIENCE;

const IDENTITY_VOLUME: &str = "identity";
const IDENTITY_MOUNT: &str = "/var/run/secrets/pilotlight.dev/identity";
const TOKEN_FILE: &str = "token";
const CALLER_TOKEN_FILE: &str = "caller";
/// The file with the token that the supervisor shows to gateways when the function calls another one.
pub(crate) const CALLER_TOKEN_PATH: &str = "/var/run/secrets/pilotlight.dev/identity/caller";
/// The file with the token of the pod.
pub(crate) const TOKEN_PATH: &str = "/var/run/secrets/pilotlight.dev/identity/token";
/// Seconds. The kubelet replaces a token long before.
const TOKEN_LIFETIME: i64 = 3600;

/// The volumes of a pod, and where its container has them.
#[derive(Default)]
pub(super) struct Volumes {
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
    /// The sum of their limits, in MiB.
    pub(super) mib: u32,
}

impl Volumes {
    pub(super) fn empty(&mut self, name: &str, path: &str, size_mib: u32) {
        let source = EmptyDirVolumeSource {
            size_limit: Some(Quantity(format!("{size_mib}Mi"))),
            ..EmptyDirVolumeSource::default()
        };
        let volume = Volume {
            name: name.to_owned(),
            empty_dir: Some(source),
            ..Volume::default()
        };
        self.add(volume, path, None, size_mib);
    }

    pub(super) fn config_map(&mut self, name: &str, path: &str, source: ConfigMapVolumeSource) {
        let volume = Volume {
            name: name.to_owned(),
            config_map: Some(source),
            ..Volume::default()
        };
        self.add(volume, path, Some(true), CONFIG_MAP_MIB);
    }

    /// The tokens by which the pod proves to gateways which pod it is (`shows_pod`), and in calls which account it has.
    /// The API server accepts neither for its own API. They are in memory and take nothing of the disk.
    pub(super) fn tokens(&mut self, shows_pod: bool, caller_audience: &str) {
        let pod = shows_pod.then_some((AUDIENCE, TOKEN_FILE));
        let tokens = pod
            .into_iter()
            .chain([(caller_audience, CALLER_TOKEN_FILE)]);
        let sources = tokens.map(|(audience, file)| VolumeProjection {
            service_account_token: Some(ServiceAccountTokenProjection {
                audience: Some(audience.to_owned()),
                expiration_seconds: Some(TOKEN_LIFETIME),
                path: file.to_owned(),
            }),
            ..VolumeProjection::default()
        });
        let volume = Volume {
            name: IDENTITY_VOLUME.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(sources.collect()),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        };
        self.add(volume, IDENTITY_MOUNT, Some(true), 0);
    }

    fn add(&mut self, volume: Volume, path: &str, read_only: Option<bool>, mib: u32) {
        self.mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path: path.to_owned(),
            read_only,
            ..VolumeMount::default()
        });
        self.volumes.push(volume);
        self.mib += mib;
    }
}
