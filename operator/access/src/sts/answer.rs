//! The answers of the Security Token Service, in XML, as SDKs read them. Their type is `text/xml`.
//!
//! A session's ARN keeps the namespace, which that of the real service would drop: accounts of two namespaces may have
//! one name.

use crate::access_key::AccessKey;
use crate::digest::sha256;
use crate::key_text::{self, ID_BYTES};
use crate::moment;
use crate::session::{Grant, TemporaryCredentials};

/// The XML namespace of all answers.
pub const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A text inside an element.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters.
            '\t' | '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Who a caller is, for `GetCallerIdentity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerIdentity<'a> {
    Session(&'a Grant),
    AccessKey(&'a AccessKey),
}

/// The id of a role or user, which is always the same for one service account.
fn unique_id(prefix: &str, account: &str) -> String {
    let mut bytes = [0; ID_BYTES];
    bytes.copy_from_slice(&sha256(account.as_bytes())[..ID_BYTES]);
    key_text::id(prefix, bytes)
}

impl CallerIdentity<'_> {
    /// `number`: the account number of this installation.
    pub fn arn(&self, number: &str) -> String {
        match self {
            CallerIdentity::Session(grant) => {
                let (account, name) = (&grant.account, &grant.session_name);
                format!("arn:aws:sts::{number}:assumed-role/{account}/{name}")
            }
            CallerIdentity::AccessKey(key) => format!("arn:aws:iam::{number}:user/{}", key.account),
        }
    }

    fn user_id(&self) -> String {
        match self {
            CallerIdentity::Session(grant) => {
                let id = unique_id("AROA", &grant.account.to_string());
                format!("{id}:{}", grant.session_name)
            }
            CallerIdentity::AccessKey(key) => unique_id("AIDA", &key.account.to_string()),
        }
    }
}

/// The answer to `GetCallerIdentity`. `number`: the account number of this installation.
pub fn caller_identity(caller: CallerIdentity<'_>, number: &str, request_id: &str) -> String {
    let result = format!(
        "    <Arn>{}</Arn>\n    <UserId>{}</UserId>\n    <Account>{}</Account>\n",
        escaped(&caller.arn(number)),
        escaped(&caller.user_id()),
        escaped(number),
    );
    response("GetCallerIdentity", &result, request_id)
}

/// The answer to `AssumeRoleWithWebIdentity`. `audience`: that of the token.
pub fn assumed_role(
    grant: &Grant,
    credentials: &TemporaryCredentials,
    audience: &str,
    number: &str,
    request_id: &str,
) -> String {
    let caller = CallerIdentity::Session(grant);
    let result = format!(
        "    <SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken>\n    <Audience>{}</Audience>\n    \
         <AssumedRoleUser>\n      <Arn>{}</Arn>\n      <AssumedRoleId>{}</AssumedRoleId>\n    </AssumedRoleUser>\n    \
         <Credentials>\n      <AccessKeyId>{}</AccessKeyId>\n      <SecretAccessKey>{}</SecretAccessKey>\n      \
         <SessionToken>{}</SessionToken>\n      <Expiration>{}</Expiration>\n    </Credentials>\n",
        escaped(&grant.account.user()),
        escaped(audience),
        escaped(&caller.arn(number)),
        escaped(&caller.user_id()),
        escaped(&credentials.key_id),
        escaped(&credentials.secret),
        escaped(&credentials.token),
        moment::extended(credentials.expires),
    );
    response("AssumeRoleWithWebIdentity", &result, request_id)
}

fn response(action: &str, result: &str, request_id: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\">\n  <{action}Result>\n{result}  </{action}Result>\n  \
         <ResponseMetadata>\n    <RequestId>{}</RequestId>\n  </ResponseMetadata>\n</{action}Response>\n",
        escaped(request_id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_arn_id_and_account() {
        let grant = Grant {
            account: "shop/caller".parse().unwrap(),
            uid: None,
            session_name: "app-1".to_owned(),
        };
        let answer = caller_identity(CallerIdentity::Session(&grant), "000000000000", "8f3c4a1e");
        let id = unique_id("AROA", "shop/caller");
        assert_eq!(
            answer,
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
                 <GetCallerIdentityResult>\n    <Arn>arn:aws:sts::000000000000:assumed-role/shop/caller/app-1</Arn>\n    \
                 <UserId>{id}:app-1</UserId>\n    <Account>000000000000</Account>\n  </GetCallerIdentityResult>\n  \
                 <ResponseMetadata>\n    <RequestId>8f3c4a1e</RequestId>\n  </ResponseMetadata>\n\
                 </GetCallerIdentityResponse>\n"
            )
        );
        let key = AccessKey::new(&[1; 40], grant.account, 0);
        let arn = CallerIdentity::AccessKey(&key).arn("000000000000");
        assert_eq!(arn, "arn:aws:iam::000000000000:user/shop/caller");
    }
}
