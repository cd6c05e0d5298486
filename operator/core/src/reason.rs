//! Why a call was not answered by its function: one text for its caller, and one for the operator.
//!
//! The notice is a fixed sentence with the request id and with what the caller can do. The detail may name pods,
//! nodes, Secrets, quotas, images, addresses and files. It goes to logs and to the Function's status, and into an
//! answer only where the caller is the operator: in local mode. Backends and `invoke::pool` make reasons,
//! `pilotlight-wire` carries them between gateways, and the gateway's `http` words the answer. There is no
//! `Display`, so that nobody prints the wrong text by accident.

use std::sync::Arc;

/// The public half of a [`Reason`], and every other failure of the platform that a caller sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No instance can be started.
    CannotStart,
    /// No instance became ready within the time that a call may wait. Distinguishes this from throttling.
    NotInTime,
    /// The Function has a field that this version cannot read. The text names the field and the remedy: who reads
    /// it can read the Function.
    Unreadable(Arc<str>),
    /// No gateway takes the call.
    NotPlaced,
    /// The gateway is shutting down.
    Stopping,
    /// The gateway that owns the function cannot read what this gateway sends.
    Incompatible,
    /// The instance or its gateway was lost after the event was sent.
    Lost,
}

/// Who gets an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Anybody who may call functions.
    #[default]
    Callers,
    /// The developer whose machine runs everything (local mode).
    Developer,
}

/// Why no instance answers: the notice for callers, and the detail for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    notice: Notice,
    detail: Arc<str>,
}

impl Notice {
    /// The text of an answer.
    pub fn sentence(&self, request_id: &str) -> String {
        let ask = format!(
            "If this does not pass, give the request id {request_id} to the operator: the gateway's log has the \
             reason under it."
        );
        match self {
            Notice::CannotStart => format!(
                "No instance of the function can be started; nothing was executed. Try again later. {ask}"
            ),
            Notice::NotInTime => format!(
                "No instance of the function became ready in the time that a call may wait; nothing was executed. \
                 Try again. {ask}"
            ),
            Notice::Unreadable(text) => format!("The function cannot be used: {text}"),
            Notice::NotPlaced => format!(
                "No gateway is responsible for the function at the moment; nothing was executed. Try again. {ask}"
            ),
            Notice::Stopping => format!(
                "The gateway is shutting down; request {request_id} was not executed. Try again."
            ),
            Notice::Incompatible => format!(
                "The gateway that is responsible for the function could not read the call of this gateway; nothing \
                 was executed. Try again when all gateways have the same version. {ask}"
            ),
            Notice::Lost => format!(
                "The instance that ran request {request_id} was lost before it answered. The event may have taken \
                 effect; it was not sent again."
            ),
        }
    }
}

impl Reason {
    /// `detail`: for operators alone.
    pub fn new(notice: Notice, detail: impl Into<Arc<str>>) -> Self {
        let detail = detail.into();
        Reason { notice, detail }
    }

    /// See [`Notice::NotInTime`].
    pub fn not_in_time() -> Self {
        Reason::new(
            Notice::NotInTime,
            "no instance became ready in the time that a call may wait",
        )
    }

    /// See [`Notice::Unreadable`].
    pub fn unreadable(text: Arc<str>) -> Self {
        Reason::new(Notice::Unreadable(text.clone()), text)
    }

    pub fn notice(&self) -> &Notice {
        &self.notice
    }

    /// For logs and statuses, never for an answer.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The text of an answer to this audience.
    pub fn answer(&self, request_id: &str, audience: Audience) -> String {
        match (&self.notice, audience) {
            (Notice::CannotStart | Notice::NotInTime, Audience::Developer) => {
                format!(
                    "No instance of the function can be started: {}",
                    self.detail
                )
            }
            (notice, _) => notice.sentence(request_id),
        }
    }
}

/// A text whose author did not think of callers is for operators.
impl From<String> for Reason {
    fn from(detail: String) -> Self {
        Reason::new(Notice::CannotStart, detail)
    }
}

impl From<&str> for Reason {
    fn from(detail: &str) -> Self {
        Reason::new(Notice::CannotStart, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "https://me:hunter2@store/a.zip?sig=1 in pod shop-1 on node n1";

    #[test]
    fn callers_get_a_fixed_sentence_with_the_request_id_and_a_developer_the_detail() {
        let reason = Reason::from(SECRET);
        let told = reason.answer("8f3c", Audience::Callers);
        assert!(
            told.contains("8f3c") && told.contains("Try again"),
            "{told}"
        );
        assert!(
            SECRET
                .split(' ')
                .all(|word| word.len() < 4 || !told.contains(word)),
            "{told}"
        );
        assert_eq!(
            told,
            Reason::from("other").answer("8f3c", Audience::Callers)
        );
        assert!(reason.answer("8f3c", Audience::Developer).ends_with(SECRET));
        assert_eq!(reason.detail(), SECRET);
    }

    #[test]
    fn each_notice_names_the_request_but_one_that_names_a_field() {
        for notice in [
            Notice::CannotStart,
            Notice::NotInTime,
            Notice::NotPlaced,
            Notice::Stopping,
            Notice::Incompatible,
            Notice::Lost,
        ] {
            assert!(notice.sentence("8f3c").contains("8f3c"), "{notice:?}");
        }
        let field = Reason::unreadable("spec.mode: unknown field".into());
        let told = field.answer("8f3c", Audience::Callers);
        assert_eq!(
            told,
            "The function cannot be used: spec.mode: unknown field"
        );
    }
}
