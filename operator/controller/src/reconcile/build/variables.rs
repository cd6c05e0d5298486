//! The environment of an instance's container: the supervisor's configuration, secrets and config maps.
//!
//! Pure, like its parent. A supervisor in an image of an earlier release refuses unknown fields of the
//! configuration and ignores unknown variables, so each addition is a variable of its own.

use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_core::instance::prestart::Prestart;
use pilotlight_core::tls;
use pilotlight_wire::config::{
    CONFIG_VARIABLE, DEFAULTS_VARIABLE, DoorConfig, DoorTls, GATEWAYS_VARIABLE, GIVEN_PREFIX,
    HEALTH_VARIABLE, IDENTITY_VARIABLE, IdentityConfig, InstanceConfig, LOG_RATE_VARIABLE,
    TRACES_VARIABLE, UNCLAIMED_VARIABLE, Unclaimed,
};

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMapEnvSource, EnvFromSource, EnvVar, SecretEnvSource};
use pilotlight_api::{EnvironmentSource, FunctionSpec, instance_config, labels};
use serde::Serialize;

use super::volumes::CALLER_TOKEN_PATH;
use crate::options::Options;

/// The instance's configuration.
pub(super) fn config(config: &InstanceConfig) -> EnvVar {
    variable(CONFIG_VARIABLE, &text_of(config))
}

/// Makes the supervisor wait for a claim. `made_as`: the instance that it is made as, with the archives of its function;
/// `None` in a warm pool.
pub(super) fn unclaimed(
    made_as: Option<(&str, Vec<OwnArchive>)>,
    prestart: Option<Prestart>,
) -> EnvVar {
    let (instance, archives) = made_as.unzip();
    let unclaimed = Unclaimed {
        listen: labels::listen(),
        ends_with_parent: false,
        root: PathBuf::from("/"),
        instance: instance.map(str::to_owned),
        archives,
        prestart,
        orphaned_after_ms: None,
    };
    variable(UNCLAIMED_VARIABLE, &text_of(&unclaimed))
}

/// Where the gateways are and how they are called, for calls of other functions.
pub(super) fn gateways(options: &Options) -> EnvVar {
    let tls = match options.tls.mode {
        tls::Mode::Off => None,
        tls::Mode::Optional => Some(DoorTls::Preferred),
        tls::Mode::Required => Some(DoorTls::Required),
    };
    let gateways = DoorConfig {
        address: options.gateways(),
        namespace: options.namespace.clone(),
        // Without the authorities no gateway can be verified.
        tls: tls.filter(|_| options.instance_identity.is_some()),
        token: Some(CALLER_TOKEN_PATH.into()),
    };
    variable(GATEWAYS_VARIABLE, &text_of(&gateways))
}

/// How much the supervisor logs of what the function prints.
pub(super) fn log_rate(bytes_per_second: u32) -> EnvVar {
    variable(LOG_RATE_VARIABLE, &bytes_per_second.to_string())
}

/// The supervisor takes the function's segments.
pub(super) fn traces() -> EnvVar {
    variable(TRACES_VARIABLE, "1")
}

/// Where the supervisor answers the kubelet's probe.
pub(super) fn health() -> EnvVar {
    variable(HEALTH_VARIABLE, &labels::health_listen())
}

/// The names of the variables that secrets and config maps may override.
pub(super) fn suggested(config: &InstanceConfig, spec: &FunctionSpec) -> EnvVar {
    let suggested = instance_config::suggested(config, spec);
    variable(DEFAULTS_VARIABLE, &suggested.join(","))
}

/// How the supervisor recognises gateways.
pub(super) fn identity(config: &IdentityConfig) -> EnvVar {
    variable(IDENTITY_VARIABLE, &text_of(config))
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data with string keys")
}

/// Escapes `$`, because Kubernetes expands `$(NAME)` and `$$` in the values of variables.
fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        ..EnvVar::default()
    }
}

/// Variables of the container from a secret or config map. The prefix separates them from the supervisor's
/// own variables; the supervisor removes it and passes the variables on to the runtime process.
pub(super) fn given(source: &EnvironmentSource) -> EnvFromSource {
    let (mut secret_ref, mut config_map_ref) = (None, None);
    match source {
        EnvironmentSource::Secret(secret) => {
            secret_ref = Some(SecretEnvSource {
                name: secret.name.as_str().to_owned(),
                optional: None,
            });
        }
        EnvironmentSource::ConfigMap(map) => {
            config_map_ref = Some(ConfigMapEnvSource {
                name: map.name.as_str().to_owned(),
                optional: None,
            });
        }
    }
    EnvFromSource {
        prefix: Some(GIVEN_PREFIX.to_owned()),
        secret_ref,
        config_map_ref,
    }
}
