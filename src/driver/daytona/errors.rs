//! What Daytona's refusals mean: from a status and a text to what a person can do.

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::driver::http::{Answer, Trouble};
use crate::driver::{DriverError, ErrorKind};

/// What to do about a key that is refused.
pub(super) const LOG_IN: &str =
    "log in again with `skync auth login daytona`, or set DAYTONA_API_KEY";

/// Daytona answered, and the answer is no. `doing` completes "cannot …".
pub(super) fn refused(doing: &str, answer: &Answer) -> DriverError {
    if answer.status == StatusCode::NOT_FOUND && !is_own(answer) {
        let message = format!("cannot {doing}: a 404 that is not of Daytona's API");
        return DriverError::new(ErrorKind::Unreachable, message).hint(
            "see whether DAYTONA_API_URL is the API's own address, as \
             `https://app.daytona.io/api`, and what is between it and this machine",
        );
    }
    of(doing, answer.status.as_u16(), &answer.words)
}

/// True if it is Daytona that has no such thing, as opposed to something in between that does not
/// know Daytona, or to a server without such a route.
pub(super) fn is_missing(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && is_own(answer)
}

/// True if an error is written as Daytona's API writes errors.
fn is_own(answer: &Answer) -> bool {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let status = body.as_ref().and_then(|body| body.get("statusCode")?.as_u64());
    let says = |text: &str| answer.words.starts_with(text);
    status == Some(u64::from(answer.status.as_u16())) && !says("Cannot GET") && !says("Cannot POST")
}

/// What an answer says that has to be understood.
pub(super) fn read<T: DeserializeOwned>(doing: &str, answer: &Answer) -> Result<T, DriverError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let message = format!("cannot {doing}: Daytona's answer cannot be understood");
        DriverError::new(ErrorKind::Failed, message).source(error).hint(
            "see whether DAYTONA_API_URL is the API's own address; if it is, a newer skync may \
             understand it",
        )
    })
}

/// Daytona did not answer.
pub(super) fn unreachable(doing: &str, trouble: &Trouble) -> DriverError {
    let message = format!("cannot {doing}: Daytona cannot be reached: {trouble}");
    DriverError::new(ErrorKind::Unreachable, message)
        .hint("see whether this machine is online; DAYTONA_API_URL can name another address")
}

/// A request to the provider's status and text as an error.
fn of(doing: &str, status: u16, words: &str) -> DriverError {
    let meaning = meaning(status, &words.to_lowercase());
    let said = match words {
        "" => format!("it answers {status}"),
        words => words.trim_end_matches('.').to_owned(),
    };
    let message = match meaning.why {
        Some(why) => format!("cannot {doing}: {why}: {said}"),
        None if words.is_empty() => format!("cannot {doing}: Daytona answers {status}"),
        None => format!("cannot {doing}: {said}"),
    };
    let error = DriverError::new(meaning.kind, message);
    match meaning.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What an answer means.
struct Meaning {
    kind: ErrorKind,
    /// Before the provider's own words.
    why: Option<&'static str>,
    hint: Option<&'static str>,
}

/// Words are in lower case. Some of Daytona's limits come as 400, some as 403: the words say which.
fn meaning(status: u16, words: &str) -> Meaning {
    let has = |any: &[&str]| any.iter().any(|part| words.contains(part));
    let of = |kind, why, hint| Meaning { kind, why: Some(why), hint: Some(hint) };
    if status == 401 {
        return of(ErrorKind::Auth, "Daytona refuses the key", LOG_IN);
    }
    if status == 429 {
        let hint = "Daytona limits requests per minute: wait a moment, and try again";
        return of(ErrorKind::Exhausted, "there were too many requests", hint);
    }
    if (400..500).contains(&status) && has(&["suspended"]) {
        let hint = "Daytona's dashboard says why, under billing or limits";
        return of(ErrorKind::Denied, "the organisation is suspended", hint);
    }
    if has(&["per sandbox"]) && has(&["maximum", "exceed"]) {
        let hint = "set `cpus`, `memory` or `disk` in the profile to less";
        return of(ErrorKind::Invalid, "the sandbox would be larger than one may be", hint);
    }
    if has(&["region"]) && has(&["not found", "not available", "does not exist"]) {
        let hint = "set `target` in the profile, or DAYTONA_TARGET, to a region that there is";
        return of(ErrorKind::NotFound, "that region is not to be had", hint);
    }
    if status == 402 || has(&["limit exceeded", "quota", "limit reached", "exceeds", "credits"]) {
        let hint = "remove sandboxes that nobody needs (`skync gc`, Daytona's dashboard), or have \
                    the organisation's limits raised";
        return of(ErrorKind::Exhausted, "the organisation's limits are used up", hint);
    }
    if has(&["no available runner", "no runner", "no available", "capacity"]) {
        let hint = "try again later, or set another region as `target` in the profile";
        return of(ErrorKind::Exhausted, "Daytona has no room at this time", hint);
    }
    if has(&["snapshot"]) && has(&["not found", "does not exist"]) {
        let hint =
            "`snapshot` in the profile names one of Daytona's dashboard, and `image` any image";
        return of(ErrorKind::NotFound, "there is no such snapshot", hint);
    }
    let plain = |kind, hint| Meaning { kind, why: None, hint: Some(hint) };
    match status {
        300..400 => {
            let hint = "DAYTONA_API_URL must be the API's own address, as \
                        `https://app.daytona.io/api`";
            of(ErrorKind::Unreachable, "Daytona sends the request elsewhere", hint)
        }
        403 => {
            let hint = "the key needs the permissions `write:sandboxes` and `delete:sandboxes`: make \
                        one that has them in Daytona's dashboard";
            of(ErrorKind::Denied, "the key has not the rights", hint)
        }
        404 => plain(
            ErrorKind::NotFound,
            "see in Daytona's dashboard whether it is there, and whether the key is of the same \
             organisation",
        ),
        409 => plain(ErrorKind::Failed, "try again in a moment: its state may be changing"),
        422 => plain(
            ErrorKind::Invalid,
            "see whether Daytona allows what the profile asks for with such a sandbox",
        ),
        408 | 502..=504 => {
            let hint = "try again in a moment";
            of(ErrorKind::Unreachable, "Daytona does not answer as it should", hint)
        }
        500.. => plain(
            ErrorKind::Failed,
            "try again in a moment; https://status.daytona.io says whether Daytona is well",
        ),
        _ => plain(ErrorKind::Failed, "see in Daytona's dashboard whether it says more"),
    }
}

/// Adds what is left behind to an error.
pub(super) fn left_behind(error: DriverError, name: &str, left: &DriverError) -> DriverError {
    let hint = format!("the sandbox `{name}` was left behind ({left}): run `skync gc`");
    error.unclear().hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_named() {
        for (status, words, kind, part) in [
            (401, "Invalid credentials", ErrorKind::Auth, "refuses the key"),
            (403, "Insufficient permissions", ErrorKind::Denied, "has not the rights"),
            (403, "Organization is suspended", ErrorKind::Denied, "is suspended"),
            (403, "Total CPU limit exceeded. Maximum allowed: 10", ErrorKind::Exhausted, "limits"),
            (400, "Total memory quota exceeded", ErrorKind::Exhausted, "used up"),
            (
                400,
                "CPU request 8 exceeds maximum allowed per sandbox (4)",
                ErrorKind::Invalid,
                "larger",
            ),
            (429, "Rate limit exceeded", ErrorKind::Exhausted, "too many requests"),
            (400, "No available runners", ErrorKind::Exhausted, "no room"),
            (400, "Snapshot x not found. Did you add it?", ErrorKind::NotFound, "no such snapshot"),
            (404, "Region quota for region mars not found", ErrorKind::NotFound, "region"),
            (404, "Sandbox with ID or name x not found", ErrorKind::NotFound, "not found"),
            (502, "", ErrorKind::Unreachable, "answers 502"),
            (500, "", ErrorKind::Failed, "answers 500"),
            (307, "", ErrorKind::Unreachable, "elsewhere"),
            (409, "Sandbox state change in progress", ErrorKind::Failed, "in progress"),
        ] {
            let error = of("create the sandbox", status, words);
            assert_eq!(error.kind, kind, "{status} {words}: {error}");
            assert!(error.message.contains(part), "{status} {words}: {error}");
            assert!(error.message.starts_with("cannot create the sandbox: "), "{error}");
            assert!(!error.message.ends_with('.'), "{error}");
        }
    }

    #[test]
    fn what_a_person_can_do_is_said() {
        let hint = |status, words| of("x", status, words).hints.concat();
        assert!(hint(401, "").contains("skync auth login daytona"));
        assert!(hint(403, "no").contains("write:sandboxes"));
        assert!(hint(400, "Disk limit exceeded").contains("skync gc"));
        for status in [300, 400, 401, 402, 403, 404, 409, 418, 422, 429, 500, 503, 507] {
            assert!(!hint(status, "x").is_empty(), "{status}");
        }
    }

    #[test]
    fn only_daytonas_own_404_says_that_something_is_not_there() {
        let answer = |body: &'static str| {
            let status = StatusCode::NOT_FOUND;
            let words = if body.contains("Cannot GET") { "Cannot GET /api/sandbox/x" } else { "" };
            let (headers, words) = (http::HeaderMap::new(), words.to_owned());
            Answer { status, headers, body: body.into(), words }
        };
        let own = answer(r#"{"statusCode":404,"error":"Not Found","message":"Sandbox not found"}"#);
        assert!(is_missing(&own));
        assert_eq!(refused("x", &own).kind, ErrorKind::NotFound);
        for body in [
            "",
            "<html>404</html>",
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"statusCode":404,"message":"Cannot GET /api/sandbox/x"}"#,
            r#"{"statusCode":502}"#,
        ] {
            assert!(!is_missing(&answer(body)), "{body}");
            let error = refused("x", &answer(body));
            assert_eq!((error.kind, error.hints.len()), (ErrorKind::Unreachable, 1), "{body}");
        }
    }
}
