//! Whether an HTTP address answers: what `skync doctor` asks of a provider.
//!
//! Nothing is sent there but the question: no key, no name.

use std::time::Duration;

use http::Method;

use super::http::{Client, Repeat, Request, host_of};

/// An answer, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its HTTP status.
    pub status: u16,
    /// The `Date` header: the clock at the other end.
    pub date: Option<String>,
}

/// Asks an address once, for at most `patience`.
///
/// # Errors
/// Why there is no answer, in words: the name is not known, nothing listens, the certificate is not
/// trusted.
pub async fn reach(url: &str, patience: Duration) -> Result<Reached, String> {
    let client = Client::new().map_err(|error| error.to_string())?;
    let mut request = Request::new(Method::GET, url).repeat(Repeat::Never);
    request.patience = patience;
    let answer = client.send(&request).await.map_err(|trouble| trouble.to_string())?;
    let date = answer.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    Ok(Reached { status: answer.status.as_u16(), date: date.map(str::to_owned) })
}

/// The host that a URL names.
pub fn host(url: &str) -> &str {
    host_of(url)
}
