//! The messages of the Security Token Service: `AssumeRoleWithWebIdentity` and `GetCallerIdentity`.
//!
//! SDKs send a form, as the body of a POST or as the query of a GET, to the path `/`. The gateway reads it here, asks
//! the cluster about the token, and answers with [`answer`] or [`error`]. A role stands for a service account:
//! `arn:aws:iam::ACCOUNT:role/NAMESPACE/NAME`. Source: "API Reference" of AWS STS, version 2011-06-15.

pub mod answer;
pub mod error;

use std::collections::BTreeMap;

use pilotlight_core::access::ServiceAccount;
use pilotlight_core::access::sts_limits::{SESSION_DEFAULT, SESSION_MAX, SESSION_MIN};

use self::error::StsError;
use crate::canonical;
use crate::session::is_session_name;

/// Bytes of a form at most.
pub const FORM_MAX: usize = 64 * 1024;
/// Bytes of a web identity token, as in STS.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 4..=20_000;
/// Bytes of a role's ARN, as in STS.
const ARN_BYTES: std::ops::RangeInclusive<usize> = 20..=2048;
const VERSION: &str = "2011-06-15";
/// Parameters that would narrow a session. To ignore one would give more than the caller asked for.
const NARROWING: [&str; 3] = ["Policy", "PolicyArns.", "ProviderId"];

/// What a caller asks of STS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StsRequest {
    /// Needs no signature: the token proves who calls.
    AssumeRoleWithWebIdentity(WebIdentity),
    /// Needs a signature for the service `sts`.
    GetCallerIdentity,
}

/// A token that shall become a session.
#[derive(Clone, PartialEq, Eq)]
pub struct WebIdentity {
    /// The account that the role names. The token must be its own.
    pub account: ServiceAccount,
    /// See [`is_session_name`].
    pub session_name: String,
    /// At most 20,000 bytes. Nobody has checked it yet.
    pub token: String,
    /// How long the session shall last, within the bounds of [`pilotlight_core::access::sts_limits`].
    pub seconds: u64,
}

impl std::fmt::Debug for WebIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("WebIdentity");
        let shown = shown.field("account", &self.account);
        shown
            .field("session_name", &self.session_name)
            .finish_non_exhaustive()
    }
}

impl StsRequest {
    /// Reads a form. `account`: the account number of this installation.
    ///
    /// # Errors
    /// See [`StsError`]; each names the parameter.
    pub fn read(form: &[u8], account: &str) -> Result<Self, StsError> {
        let text = std::str::from_utf8(form)
            .ok()
            .filter(|text| text.len() <= FORM_MAX);
        let pairs = text.and_then(|text| canonical::pairs(text.trim_end()));
        let pairs = pairs.ok_or_else(|| {
            StsError::Validation("The request must be a form of at most 64 KiB.".to_owned())
        })?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            let texts = (String::from_utf8(name).ok()).zip(String::from_utf8(value).ok());
            let (name, value) =
                texts.ok_or_else(|| StsError::Validation("The form must be UTF-8.".to_owned()))?;
            if parameters.insert(name, value).is_some() {
                return Err(StsError::Validation(
                    "A parameter must come only once.".to_owned(),
                ));
            }
        }
        let parameter = |name: &str| parameters.get(name).map(String::as_str);
        let action = parameter("Action").ok_or(StsError::MissingAction)?;
        let version = parameter("Version").unwrap_or("NO_VERSION_SPECIFIED");
        match action {
            "AssumeRoleWithWebIdentity" if version == VERSION => {
                web_identity(&parameters, account).map(StsRequest::AssumeRoleWithWebIdentity)
            }
            "GetCallerIdentity" if version == VERSION => Ok(StsRequest::GetCallerIdentity),
            action => Err(StsError::InvalidAction {
                action: shown(action),
                version: shown(version),
            }),
        }
    }
}

/// A text of a caller in an answer to that caller: the first characters, and those alone that cannot do harm.
fn shown(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    kept.take(64).collect()
}

/// Reads the parameters, and names all that are wrong, as STS does.
fn web_identity(
    parameters: &BTreeMap<String, String>,
    account: &str,
) -> Result<WebIdentity, StsError> {
    let is_narrowing = |name: &String| NARROWING.iter().any(|other| name.starts_with(other));
    if let Some(name) = parameters.keys().find(|name| is_narrowing(name)) {
        let name = shown(name);
        return Err(StsError::Validation(format!(
            "{name} is not supported: a session has all rights of its service account. Leave it out."
        )));
    }
    let mut faults = Vec::new();
    let mut required = |name: &'static str, member: &str| {
        let value = parameters.get(name);
        if value.is_none() {
            faults.push(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
        value.map(String::as_str).unwrap_or_default()
    };
    let role = required("RoleArn", "roleArn");
    let session_name = required("RoleSessionName", "roleSessionName");
    let token = required("WebIdentityToken", "webIdentityToken");
    let has_all = faults.is_empty();
    if has_all && !ARN_BYTES.contains(&role.len()) {
        faults.push(
            "Value at 'roleArn' failed to satisfy constraint: Member must have a length from 20 to 2048"
                .to_owned(),
        );
    }
    if has_all && !is_session_name(session_name) {
        faults.push(format!(
            "Value '{}' at 'roleSessionName' failed to satisfy constraint: Member must have a length from 2 to 64 and \
             must satisfy regular expression pattern: [\\w+=,.@-]*",
            shown(session_name)
        ));
    }
    if has_all && !TOKEN_BYTES.contains(&token.len()) {
        faults.push(
            "Value at 'webIdentityToken' failed to satisfy constraint: Member must have a length from 4 to 20000"
                .to_owned(),
        );
    }
    let seconds = seconds(parameters.get("DurationSeconds").map(String::as_str));
    if let Err(fault) = &seconds {
        faults.push(fault.clone());
    }
    if !faults.is_empty() {
        let (count, errors) = match faults.len() {
            1 => (1, "error"),
            more => (more, "errors"),
        };
        return Err(StsError::Validation(format!(
            "{count} validation {errors} detected: {}",
            faults.join("; ")
        )));
    }
    Ok(WebIdentity {
        account: role_account(role, account)?,
        session_name: session_name.to_owned(),
        token: token.to_owned(),
        seconds: seconds.unwrap_or(SESSION_DEFAULT),
    })
}

fn seconds(text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else {
        return Ok(SESSION_DEFAULT);
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = match text.parse() {
        Ok(seconds) if is_number => seconds,
        _ => return Err("Value at 'durationSeconds' must be a number of seconds".to_owned()),
    };
    let constraint = |bound: String| {
        format!(
            "Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value {bound}"
        )
    };
    if seconds < SESSION_MIN {
        return Err(constraint(format!(
            "greater than or equal to {SESSION_MIN}"
        )));
    }
    if seconds > SESSION_MAX {
        return Err(constraint(format!("less than or equal to {SESSION_MAX}")));
    }
    Ok(seconds)
}

/// The service account of `arn:aws:iam::ACCOUNT:role/NAMESPACE/NAME`.
fn role_account(role: &str, own: &str) -> Result<ServiceAccount, StsError> {
    let parts = Vec::from_iter(role.splitn(6, ':'));
    let [arn, partition, service, region, number, resource] = parts[..] else {
        return Err(invalid_arn());
    };
    let is_partition = partition == "aws" || partition.starts_with("aws-");
    if arn != "arn" || !is_partition || service != "iam" || !region.is_empty() {
        return Err(invalid_arn());
    }
    let account = resource
        .strip_prefix("role/")
        .and_then(|name| name.parse().ok());
    let account = account.ok_or_else(invalid_arn)?;
    match number == own {
        true => Ok(account),
        false => Err(StsError::not_authorized()),
    }
}

fn invalid_arn() -> StsError {
    StsError::Validation(
        "Request ARN is invalid: RoleArn must be arn:aws:iam::ACCOUNT:role/NAMESPACE/NAME of a service account."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUME: &str = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=app-1&\
                          RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fshop%2Fcaller&WebIdentityToken=ey.J0.x";

    fn read(form: &str) -> Result<StsRequest, StsError> {
        StsRequest::read(form.as_bytes(), "000000000000")
    }

    fn error(form: &str) -> String {
        match read(form) {
            Err(error) => format!("{}: {}", error.code(), error.message()),
            Ok(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn a_role_names_a_service_account() {
        let expected = WebIdentity {
            account: "shop/caller".parse().unwrap(),
            session_name: "app-1".to_owned(),
            token: "ey.J0.x".to_owned(),
            seconds: 3600,
        };
        assert_eq!(
            read(ASSUME),
            Ok(StsRequest::AssumeRoleWithWebIdentity(expected.clone()))
        );
        let longer = format!("{ASSUME}&DurationSeconds=43200");
        let seconds = 43200;
        assert_eq!(
            read(&longer),
            Ok(StsRequest::AssumeRoleWithWebIdentity(WebIdentity {
                seconds,
                ..expected
            }))
        );
    }

    #[test]
    fn an_identity_is_asked_for_with_a_form() {
        let form = "Action=GetCallerIdentity&Version=2011-06-15";
        assert_eq!(read(form), Ok(StsRequest::GetCallerIdentity));
    }

    #[test]
    fn each_fault_is_named_as_by_the_original() {
        for (form, expected) in [
            (
                "",
                "MissingAction: The request must contain the parameter Action.",
            ),
            (
                "Action=GetCallerIdentity",
                "InvalidAction: Could not find operation GetCallerIdentity for version NO_VERSION_SPECIFIED",
            ),
            (
                "Action=AssumeRole&Version=2011-06-15",
                "InvalidAction: Could not find operation AssumeRole for version 2011-06-15",
            ),
            (
                "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=aa&WebIdentityToken=aaaa",
                "ValidationError: 1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: \
                 Member must not be null",
            ),
            (
                &ASSUME.replace("app-1", "a%20b&DurationSeconds=899"),
                "ValidationError: 2 validation errors detected: Value 'a b' at 'roleSessionName' failed to satisfy \
                 constraint: Member must have a length from 2 to 64 and must satisfy regular expression pattern: \
                 [\\w+=,.@-]*; Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value \
                 greater than or equal to 900",
            ),
            (
                &format!("{ASSUME}&DurationSeconds=43201"),
                "ValidationError: 1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy \
                 constraint: Member must have value less than or equal to 43200",
            ),
            (
                &format!("{ASSUME}&DurationSeconds=%2B900"),
                "ValidationError: 1 validation error detected: Value at 'durationSeconds' must be a number of seconds",
            ),
            (
                &ASSUME.replace("000000000000", "123456789012"),
                "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity",
            ),
            (
                &format!("{ASSUME}&Policy=%7B%7D"),
                "ValidationError: Policy is not supported: a session has all rights of its service account. Leave it \
                 out.",
            ),
            (
                &format!("{ASSUME}&Action=GetCallerIdentity"),
                "ValidationError: A parameter must come only once.",
            ),
            (
                "Action=%",
                "ValidationError: The request must be a form of at most 64 KiB.",
            ),
            ("Action=%FF", "ValidationError: The form must be UTF-8."),
        ] {
            assert_eq!(error(form), expected, "{form}");
        }
        for role in [
            "role%2Fcaller",
            "user%2Fshop%2Fcaller",
            "role%2Fshop%2FCaller",
            "role%2Fa%2Fb%2Fc",
        ] {
            let form = ASSUME.replace("role%2Fshop%2Fcaller", role);
            assert!(
                error(&form).starts_with("ValidationError: Request ARN is invalid"),
                "{role}"
            );
        }
        let long = format!("Action={}", "a".repeat(FORM_MAX));
        assert!(error(&long).starts_with("ValidationError"));
    }
}
