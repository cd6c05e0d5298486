//! `pilotlight access-key`: keys for callers outside the cluster.
//!
//! Makes, lists and deletes Secrets in the namespace that gateways read, with the rights of the user's kubeconfig.
//! `pilotlight-access` owns the form of a key and of its Secret. The secret is printed once and kept nowhere else.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, anyhow, bail};
use jiff::{Span, SpanRelativeTo, Timestamp};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount as Account};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Config, Error};
use pilotlight_access::access_key::{AccessKey, LABEL, SECRET_TYPE, VALID_MAX, VALID_MIN};
use pilotlight_access::random;
use pilotlight_core::access::ServiceAccount;

use crate::exit::Exit;

/// The namespace of access keys unless the release has another one (`auth.accessKeys.namespace`).
const NAMESPACE: &str = "pilotlight-access-keys";

/// Make, list and revoke keys for callers outside the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The namespace of the keys: the release's value auth.accessKeys.namespace.
    #[arg(
        long,
        global = true,
        env = "PILOTLIGHT_ACCESS_KEYS_NAMESPACE",
        default_value = NAMESPACE,
        value_name = "NAMESPACE"
    )]
    namespace: String,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key, and print it as variables for an SDK. Its secret is not shown again.
    Create {
        /// The service account whose rights the key has.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        service_account: ServiceAccount,
        /// When the key ends: after a time such as 90d or 12h, at most 366d.
        #[arg(long, default_value = "90d", value_name = "TIME", value_parser = seconds)]
        expires: u64,
    },
    /// List the keys, without their secrets.
    List,
    /// Revoke a key. Gateways refuse it as soon as they see that.
    Revoke {
        /// Id of the key, AKIA….
        id: String,
    },
}

/// Runs to its end. See [`Exit`].
pub(crate) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let (text, hint) = runtime.block_on(carry_out(args))?;
    io::stdout().write_all(text.as_bytes())?;
    anstream::eprint!("{hint}");
    Ok(Exit::Success)
}

/// What to print on standard output and on standard error.
async fn carry_out(args: Args) -> Result<(String, String)> {
    let mut config = Config::infer()
        .await
        .context("no kubeconfig, and not inside a pod")?;
    // A key that is made twice would be one that nobody knows.
    config.default_retry = false;
    let client = Client::try_from(config).context("no client of the API server")?;
    let secrets = Api::<Secret>::namespaced(client.clone(), &args.namespace);
    let namespace = &args.namespace;
    match args.action {
        Action::Create {
            service_account,
            expires,
        } => {
            let warning = check_account(&client, &service_account).await?;
            let expires = now().saturating_add(expires);
            let key = AccessKey::new(&random::bytes(), service_account, expires);
            let created = secrets.create(&PostParams::default(), &secret(&key)).await;
            created.map_err(|error| refused(error, "create", namespace))?;
            Ok((variables(&key), warning + &usage(&key)))
        }
        Action::List => {
            let (name, value) = LABEL;
            let labelled = ListParams::default().labels(&format!("{name}={value}"));
            let list = secrets.list(&labelled).await;
            let list = list.map_err(|error| refused(error, "list", namespace))?;
            Ok((table(&list.items, now()), String::new()))
        }
        Action::Revoke { id } => {
            if !AccessKey::is_id(&id) {
                bail!("{id:?} is no id of an access key: AKIA and 16 letters and digits");
            }
            let name = AccessKey::secret_name(&id);
            match secrets.delete(&name, &DeleteParams::default()).await {
                Ok(_) => Ok((format!("{id} is revoked\n"), String::new())),
                Err(Error::Api(status)) if status.code == 404 => Err(anyhow!(
                    "namespace {namespace} has no access key {id}; `pilotlight access-key list` shows those it has"
                )),
                Err(error) => Err(refused(error, "delete", namespace)),
            }
        }
    }
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or_default()
}

/// Reads a time such as 90d.
fn seconds(text: &str) -> Result<u64, String> {
    let bounds = || {
        format!(
            "must be a time from {VALID_MIN}s to {}d such as 90d, 12h or 30m",
            VALID_MAX / 86_400
        )
    };
    let span: Span = text.parse().map_err(|_| bounds())?;
    let time = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| bounds())?;
    let seconds = u64::try_from(time.as_secs()).map_err(|_| bounds())?;
    match (VALID_MIN..=VALID_MAX).contains(&seconds) {
        true => Ok(seconds),
        false => Err(bounds()),
    }
}

/// A key of an account that does not exist could do nothing, and would belong to whoever makes the account later.
/// Whoever may not look it up may have the key all the same: the text says so.
async fn check_account(client: &Client, account: &ServiceAccount) -> Result<String> {
    let accounts = Api::<Account>::namespaced(client.clone(), account.namespace.as_str());
    match accounts.get(&account.name).await {
        Ok(_) => Ok(String::new()),
        Err(Error::Api(status)) if status.code == 404 => Err(anyhow!(
            "there is no service account {account}: create it, and give it a role with the right to invoke functions"
        )),
        Err(Error::Api(status)) if status.code == 403 => Ok(format!(
            "warning: you may not look up {account}; the key has the rights that roles give to this name, whether the account exists or not\n"
        )),
        Err(error) => {
            Err(error).with_context(|| format!("cannot look up the service account {account}"))
        }
    }
}

fn refused(error: Error, verb: &str, namespace: &str) -> anyhow::Error {
    let hint = match &error {
        Error::Api(status) if status.code == 404 => {
            format!(
                "there is no namespace {namespace}: pass the release's value auth.accessKeys.namespace with --namespace"
            )
        }
        Error::Api(status) if status.code == 403 => {
            format!("your user may not {verb} Secrets in the namespace {namespace}")
        }
        _ => format!("cannot {verb} Secrets in the namespace {namespace}"),
    };
    anyhow!(error).context(hint)
}

fn secret(key: &AccessKey) -> Secret {
    let (name, value) = LABEL;
    Secret {
        metadata: ObjectMeta {
            name: Some(AccessKey::secret_name(&key.id)),
            labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        string_data: Some(key.to_data()),
        type_: Some(SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn variables(key: &AccessKey) -> String {
    let (id, secret) = (&key.id, &key.secret);
    format!("export AWS_ACCESS_KEY_ID={id}\nexport AWS_SECRET_ACCESS_KEY={secret}\n")
}

fn usage(key: &AccessKey) -> String {
    let AccessKey { id, account, .. } = key;
    format!(
        "The key has the rights of the service account {account} until {}. Its secret is not shown again.\n\
         An SDK or the AWS CLI also needs AWS_REGION, which may be any region, and the address of the gateways in \
         AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_STS.\nRevoke it: pilotlight access-key revoke {id}\n",
        shown_time(key.expires),
    )
}

fn shown_time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.to_string()
}

/// A line for each key; a Secret that is none says why.
fn table(secrets: &[Secret], now: u64) -> String {
    let mut text = format!(
        "{:<20}  {:<20}  {:<7}  SERVICE ACCOUNT\n",
        "ID", "EXPIRES", "STATE"
    );
    for secret in secrets {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let data = secret.data.iter().flatten();
        let data = BTreeMap::from_iter(data.map(|(name, value)| (name.clone(), &value.0)));
        match AccessKey::of_data(name, &data) {
            Ok(key) => {
                let state = if now < key.expires {
                    "valid"
                } else {
                    "expired"
                };
                let (id, expires) = (&key.id, shown_time(key.expires));
                text.push_str(&format!(
                    "{id:<20}  {expires:<20}  {state:<7}  {}\n",
                    key.account
                ));
            }
            Err(error) => text.push_str(&format!("Secret {name}: {error}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use pilotlight_access::access_key::VALID_DEFAULT;

    use super::*;

    fn key() -> AccessKey {
        AccessKey::new(
            &[9; _],
            "shop/caller".parse().expect("an account"),
            1_800_000_000,
        )
    }

    /// As the API server gives it back.
    fn stored(key: &AccessKey) -> Secret {
        let made = secret(key);
        let data = made.string_data.clone().into_iter().flatten();
        let data = data.map(|(name, value)| (name, ByteString(value.into_bytes())));
        Secret {
            data: Some(data.collect()),
            string_data: None,
            ..made
        }
    }

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        assert_eq!(seconds("90d"), Ok(VALID_DEFAULT));
        assert_eq!(seconds("366d"), Ok(VALID_MAX));
        assert_eq!(seconds("1m"), Ok(VALID_MIN));
        for text in ["", "90", "never", "367d", "59s", "-1d", "1mo", "1y"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_shows_keys_without_their_secrets() {
        let key = key();
        let mut broken = stored(&key);
        broken.metadata.name = Some("access-key-other".to_owned());
        let text = table(&[stored(&key), broken], key.expires - 1);
        let lines = Vec::from_iter(text.lines());
        assert_eq!(
            lines[0],
            "ID                    EXPIRES               STATE    SERVICE ACCOUNT"
        );
        assert_eq!(
            lines[1],
            format!("{}  2027-01-15T08:00:00Z  valid    shop/caller", key.id)
        );
        assert!(
            lines[2].starts_with("Secret access-key-other: `id`"),
            "{}",
            lines[2]
        );
        assert!(!text.contains(&key.secret));
        assert!(table(&[stored(&key)], key.expires).contains("expired"));
    }

    #[test]
    fn a_key_is_printed_as_variables_and_how_to_use_it_without_the_secret() {
        let key = key();
        let expected = format!(
            "export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\n",
            key.id, key.secret
        );
        assert_eq!(variables(&key), expected);
        assert!(!usage(&key).contains(&key.secret));
    }
}
