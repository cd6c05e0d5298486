//! Whether a refusal may pass. Pure.
//!
//! `Never` is what the receiver will say each time to the same record: it is too large, or not what is expected there, or the
//! place does not exist. Everything else may pass: a receiver that is away or has too much to do, and credentials, which
//! somebody may mend.

use super::outgoing::Undelivered;

/// Codes of SQS and S3, and of servers that speak their protocols, that the same record would meet each time.
const LASTING: &[&str] = &[
    "AWS.SimpleQueueService.NonExistentQueue",
    "AWS.SimpleQueueService.UnsupportedOperation",
    "EntityTooLarge",
    "InvalidAddress",
    "InvalidAttributeValue",
    "InvalidBucketName",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "InvalidParameterValueException",
    "KeyTooLongError",
    "MessageTooLong",
    "NoSuchBucket",
    "NonExistentQueue",
    "PermanentRedirect",
    "QueueDoesNotExist",
    "UnsupportedOperation",
];
/// The longest code that is shown.
const CODE_LENGTH: usize = 64;

/// What an HTTP status means for a record. `None`: it was taken.
pub(super) fn of_status(to: &str, status: u16) -> Option<Undelivered> {
    let refused = format!("{to} answered {status}");
    match status {
        200..300 => None,
        // No redirect is followed: the next server would be one that nobody has allowed.
        300..400 => Some(Undelivered::Never(format!(
            "{refused}, a redirect, which is not followed"
        ))),
        // Somebody may mend the credentials.
        401 | 403 | 407 => Some(Undelivered::Later(format!(
            "{refused}: check its credentials"
        ))),
        408 | 425 | 429 => Some(Undelivered::Later(refused)),
        400..500 => Some(Undelivered::Never(refused)),
        _ => Some(Undelivered::Later(refused)),
    }
}

/// The same for an answer of SQS or S3, whose codes say more than the status.
pub(super) fn of_code(to: &str, status: u16, code: Option<&str>) -> Option<Undelivered> {
    let Some(code) = code.and_then(readable) else {
        return of_status(to, status);
    };
    if (200..300).contains(&status) {
        return None;
    }
    let refused = format!("{to} answered {status} {code}");
    match LASTING.contains(&code) || matches!(status, 301 | 413) {
        true => Some(Undelivered::Never(refused)),
        // Access denied as well, for which SQS has 400.
        false => Some(Undelivered::Later(refused)),
    }
}

/// The code, if it is one: a server chooses it.
fn readable(code: &str) -> Option<&str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    let is_code = (1..=CODE_LENGTH).contains(&code.len()) && code.bytes().all(inner);
    is_code.then_some(code)
}

/// The code in an error of S3, which is XML.
pub(super) fn s3_code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    readable(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(undelivered: Option<Undelivered>) -> Option<bool> {
        undelivered.map(|undelivered| matches!(undelivered, Undelivered::Later(_)))
    }

    #[test]
    fn a_status_says_whether_the_refusal_may_pass() {
        for status in [200, 202, 204] {
            assert_eq!(of_status("a", status), None);
        }
        for status in [401, 403, 407, 408, 425, 429, 500, 502, 503, 504, 100, 600] {
            assert_eq!(passes(of_status("a", status)), Some(true), "{status}");
        }
        for status in [301, 307, 400, 404, 405, 410, 413, 415, 422] {
            assert_eq!(passes(of_status("a", status)), Some(false), "{status}");
        }
    }

    #[test]
    fn a_code_of_the_platform_says_more_than_the_status() {
        for (status, code, expected) in [
            (400, "QueueDoesNotExist", false),
            (400, "AWS.SimpleQueueService.NonExistentQueue", false),
            (400, "InvalidParameterValue", false),
            (404, "NoSuchBucket", false),
            (301, "PermanentRedirect", false),
            (413, "Odd", false),
            (400, "AccessDeniedException", true),
            (403, "InvalidClientTokenId", true),
            (400, "RequestThrottled", true),
            (503, "SlowDown", true),
            (404, "Odd", true),
            // What is no code decides nothing, and is not shown.
            (404, "<script>", false),
            (500, "", true),
        ] {
            let undelivered = of_code("a", status, Some(code));
            let shown = format!("{undelivered:?}");
            assert_eq!(passes(undelivered), Some(expected), "{status} {code}");
            assert!(!shown.contains("script"), "{shown}");
        }
        assert_eq!(of_code("a", 200, Some("Odd")), None);
        assert_eq!(of_code("a", 200, None), None);
    }

    #[test]
    fn the_code_of_s3_is_found_in_xml() {
        let body =
            b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
        assert_eq!(s3_code(body), Some("NoSuchBucket"));
        for odd in [
            "",
            "<Code>",
            "<Code></Code>",
            "<Code>a b</Code>",
            "</Code><Code>",
            "<Code>\u{fc}</Code>",
        ] {
            assert_eq!(s3_code(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(s3_code(b"<Code>a\xff</Code>"), None);
    }
}
