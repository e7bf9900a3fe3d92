//! What E2B's answers mean for a person, and for code (`reference/e2b.md`, Appendix B).

use http::StatusCode;

use super::connect::ConnectError;
use crate::credentials::Provider;
use crate::driver::http::{Answer, Trouble};
use crate::driver::{DriverError, ErrorKind, key};

/// An answer of the control plane that is none of those that were hoped for: completes "cannot
/// `doing`".
pub(super) fn refused(doing: &str, answer: &Answer) -> DriverError {
    let said = if answer.words.is_empty() {
        format!("E2B answers with HTTP status {}", answer.status)
    } else {
        format!("E2B says: {}", answer.words)
    };
    let code = answer.field("error_code").unwrap_or_default();
    let error = |kind| DriverError::new(kind, format!("cannot {doing}: {said}"));
    match (answer.status, code.as_str()) {
        (StatusCode::UNAUTHORIZED, _) => error(ErrorKind::Auth)
            .hint(format!("the key is not accepted: {}", key::log_in(Provider::E2b))),
        (StatusCode::FORBIDDEN, _) => error(ErrorKind::Denied)
            .hint("the key may not do this: see the project's state at https://e2b.dev/dashboard"),
        (
            _,
            "sandbox_capacity_unavailable"
            | "sandbox_placement_timeout"
            | "sandbox_no_compatible_node",
        ) => {
            error(ErrorKind::Exhausted).hint("E2B has no room at this time: try again in a minute")
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => error(ErrorKind::Exhausted).hint(
            "a limit of the account is reached: end other sandboxes (`e2b sandbox list`), or wait",
        ),
        (StatusCode::BAD_REQUEST, _) if answer.words.contains("Max instance length") => error(
            ErrorKind::Exhausted,
        )
        .hint("the plan's longest life of a sandbox is over: results come home, then start anew"),
        (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, _) => {
            error(ErrorKind::Invalid)
                .hint("see whether the profile's settings are what the account's plan allows")
        }
        (StatusCode::NOT_FOUND, _) => error(ErrorKind::NotFound),
        (StatusCode::CONFLICT, _) => error(ErrorKind::Failed)
            .hint("the sandbox is being paused or woken: try again in a moment"),
        (StatusCode::INSUFFICIENT_STORAGE, _) => error(ErrorKind::Exhausted)
            .hint("the sandbox's disk is full: make room in it, or use a template with more"),
        (status, _) if status.is_server_error() => error(ErrorKind::Unreachable)
            .hint("see https://status.e2b.dev; nothing of the project is lost"),
        (_, _) => error(ErrorKind::Failed),
    }
}

/// There was no answer.
pub(super) fn unreachable(doing: &str, host: &str, trouble: &Trouble) -> DriverError {
    let message = format!("cannot {doing}: `{host}`: {trouble}");
    let error = DriverError::new(ErrorKind::Unreachable, message);
    // What was sent may have been done.
    let error = match trouble {
        Trouble::Connect(_) => error,
        Trouble::Silent(_) | Trouble::Broken(_) => error.unclear(),
    };
    error.hint(
        "see whether this machine is online, and whether E2B_DOMAIN and E2B_API_URL are right",
    )
}

/// A call into the sandbox that envd did not carry out.
pub(super) fn failed(doing: &str, error: &ConnectError) -> DriverError {
    let kind = match error.code.as_str() {
        "resource_exhausted" => ErrorKind::Exhausted,
        "unauthenticated" | "permission_denied" => ErrorKind::Denied,
        "unavailable" | "deadline_exceeded" => ErrorKind::Unreachable,
        "invalid_argument" => ErrorKind::Invalid,
        _ => ErrorKind::Failed,
    };
    let words = DriverError::new(kind, format!("cannot {doing}: {}", error.message));
    match (kind, error.message.contains("user")) {
        (ErrorKind::Denied, true) => {
            words.hint("set `user` in the profile to a user that the template has")
        }
        _ => words,
    }
}

/// The sandbox is not there any more.
pub(super) fn gone(sandbox: &str) -> DriverError {
    let message = format!("E2B does not know the sandbox `{sandbox}` any more");
    DriverError::new(ErrorKind::Gone, message).hint(
        "its time was over, or somebody ended it; `timeout` in the profile gives it more time",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let words = serde_json::from_str::<serde_json::Value>(body)
            .ok()
            .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
            .unwrap_or_else(|| body.to_owned());
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: http::HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            words,
        }
    }

    #[test]
    fn what_the_control_plane_refuses_is_told_apart() {
        for (status, body, kind, hint) in [
            (401, r#"{"code":401,"message":"Invalid API key"}"#, ErrorKind::Auth, "E2B_API_KEY"),
            (403, r#"{"code":403,"message":"Team is blocked"}"#, ErrorKind::Denied, "dashboard"),
            (404, r#"{"code":404,"message":"template 'x' not found"}"#, ErrorKind::NotFound, ""),
            (429, r#"{"code":429,"message":"max concurrent"}"#, ErrorKind::Exhausted, "limit"),
            (
                503,
                r#"{"code":503,"message":"no","error_code":"sandbox_capacity_unavailable"}"#,
                ErrorKind::Exhausted,
                "no room",
            ),
            (504, "upstream request timeout", ErrorKind::Unreachable, "status.e2b.dev"),
            (400, r#"{"code":400,"message":"Timeout cannot be"}"#, ErrorKind::Invalid, ""),
            (
                400,
                r#"{"code":400,"message":"Max instance length exceeded"}"#,
                ErrorKind::Exhausted,
                "longest life",
            ),
            (507, "", ErrorKind::Exhausted, "disk"),
        ] {
            let error = refused("make a sandbox", &answer(status, body));
            assert_eq!(error.kind, kind, "{status} {body}");
            assert!(error.message.starts_with("cannot make a sandbox: E2B "), "{error}");
            assert!(hint.is_empty() || error.hints[0].contains(hint), "{:?}", error.hints);
        }
    }
}
