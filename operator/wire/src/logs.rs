//! `GET /pilotlight/v1/logs`: what one gateway has of a function's log, for another gateway.
//!
//! The answer has an entry as JSON on each line: those that the gateway's store does not have yet, and with `follow` each
//! new one. The entry's form is that of the crate `logs`.

use pilotlight_core::ids::FunctionKey;

pub const LOGS_PATH: &str = "/pilotlight/v1/logs";

/// What a gateway asks another one for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsRequest {
    pub function: FunctionKey,
    /// Whether the answer goes on with new entries.
    pub follow: bool,
}

/// The text is not the query of a [`LogsRequest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query must be `function=NAMESPACE/NAME&follow=true|false`")]
pub struct NotALogsRequest;

impl LogsRequest {
    /// The path with its query.
    pub fn target(&self) -> String {
        let LogsRequest { function, follow } = self;
        // Labels need no escapes.
        format!("{LOGS_PATH}?function={function}&follow={follow}")
    }

    /// # Errors
    /// It is not what [`LogsRequest::target`] writes.
    pub fn read(query: &str) -> Result<Self, NotALogsRequest> {
        let parse = || {
            let (function, follow) = query.strip_prefix("function=")?.split_once("&follow=")?;
            Some(LogsRequest {
                function: function.parse().ok()?,
                follow: follow.parse().ok()?,
            })
        };
        parse().ok_or(NotALogsRequest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_written() {
        let request = LogsRequest {
            function: "shop/hello".parse().expect("a key"),
            follow: true,
        };
        let target = request.target();
        let (path, query) = target.split_once('?').expect("a query");
        assert_eq!(path, LOGS_PATH);
        assert_eq!(LogsRequest::read(query), Ok(request));
        for query in [
            "",
            "function=shop/hello",
            "function=hello&follow=true",
            "function=a/b&follow=1",
        ] {
            assert_eq!(LogsRequest::read(query), Err(NotALogsRequest), "{query}");
        }
    }
}
