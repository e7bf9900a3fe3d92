//! Checks of a profile against Daytona, without making anything.

use http::Method;
use http::StatusCode;

use super::api::Api;
use super::errors::{read, refused};
use super::model::{Key, Region};
use crate::config::{DaytonaConfig, list};
use crate::driver::http::encode;
use crate::driver::{DriverError, ErrorKind};

/// What a key must be allowed to do.
const PERMISSIONS: [&str; 2] = ["write:sandboxes", "delete:sandboxes"];

/// Every problem that can be seen.
pub(super) async fn problems(
    api: Api<'_>,
    config: &DaytonaConfig,
    target: Option<&str>,
) -> Vec<DriverError> {
    let mut problems = Vec::new();
    if config.image.is_some() && config.snapshot.is_some() {
        problems.push(
            DriverError::new(ErrorKind::Invalid, "`image` and `snapshot` exclude each other")
                .hint("a snapshot is an image that is built already; keep one"),
        );
    }
    match key(api).await {
        Ok(of_key) => problems.extend(of_key),
        // Without a key that is let in nothing else can be asked.
        Err(error) => {
            problems.push(error);
            return problems;
        }
    }
    if let Some(snapshot) = &config.snapshot {
        problems.extend(self::snapshot(api, snapshot).await.err());
    }
    if let Some(target) = target {
        problems.extend(self::region(api, target).await.err());
    }
    problems
}

/// The organisation that a login speaks for.
///
/// # Errors
/// If the key is not let in, or Daytona cannot be reached.
pub(super) async fn account(api: Api<'_>) -> Result<Option<String>, DriverError> {
    key(api).await?;
    Ok(api.access().await?.organization().map(str::to_owned))
}

/// What the key may not do.
///
/// # Errors
/// If it is not let in, or Daytona cannot be reached.
async fn key(api: Api<'_>) -> Result<Vec<DriverError>, DriverError> {
    let doing = "use Daytona";
    if !api.access().await?.is_login() {
        let answer = api.ask(doing, &api.request(Method::GET, "/api-keys/current").await?).await?;
        if answer.status.is_success() {
            let key: Key = read(doing, &answer)?;
            return Ok(lacking(&key));
        }
        // Older servers do not have it.
        if answer.status != StatusCode::NOT_FOUND {
            return Err(refused(doing, &answer));
        }
    }
    // A login may do all that its person may.
    api.call(doing, &api.request(Method::GET, "/sandbox?limit=1").await?).await?;
    Ok(Vec::new())
}

fn lacking(key: &Key) -> Vec<DriverError> {
    let Some(permissions) = &key.permissions else { return Vec::new() };
    let lacking = PERMISSIONS.into_iter().filter(|one| !permissions.iter().any(|own| own == one));
    lacking
        .map(|permission| {
            let message = format!("the key for Daytona lacks the permission `{permission}`");
            DriverError::new(ErrorKind::Denied, message)
                .hint("make one that has it in Daytona's dashboard, and set DAYTONA_API_KEY to it")
        })
        .collect()
}

async fn snapshot(api: Api<'_>, snapshot: &str) -> Result<(), DriverError> {
    let doing = "look at the snapshot";
    let path = format!("/snapshots/{}", encode(snapshot));
    let answer = api.ask(doing, &api.request(Method::GET, &path).await?).await?;
    // A server that cannot be asked answers 404 as well, and says nothing of a snapshot.
    let is_missing = answer.status == StatusCode::NOT_FOUND
        && answer.words.starts_with("Snapshot")
        && answer.words.contains("not found");
    if is_missing {
        let message = format!("there is no snapshot `{snapshot}` in Daytona");
        return Err(DriverError::new(ErrorKind::NotFound, message)
            .hint("Daytona's dashboard lists them; `image` takes any image instead"));
    }
    Ok(())
}

async fn region(api: Api<'_>, target: &str) -> Result<(), DriverError> {
    let doing = "list the regions";
    let answer = api.ask(doing, &api.request(Method::GET, "/regions").await?).await?;
    let Ok(regions) = read::<Vec<Region>>(doing, &answer) else { return Ok(()) };
    if regions.is_empty() || regions.iter().any(|r| r.id == target || r.name == target) {
        return Ok(());
    }
    let message = format!("there is no region `{target}` in Daytona");
    let names = list(regions.iter().map(|region| region.name.as_str()));
    Err(DriverError::new(ErrorKind::NotFound, message)
        .hint(format!("there is {names}: set `target` in the profile, or DAYTONA_TARGET")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_permission_that_a_key_lacks_is_a_problem() {
        let key = |permissions: &[&str]| Key {
            permissions: Some(permissions.iter().map(|one| (*one).to_owned()).collect()),
        };
        assert_eq!(lacking(&key(&[])).len(), 2);
        assert!(lacking(&key(&["read:x", "delete:sandboxes", "write:sandboxes"])).is_empty());
        let one = lacking(&key(&["write:sandboxes"]));
        assert!(one[0].message.contains("`delete:sandboxes`"), "{one:?}");
        assert!(lacking(&Key { permissions: None }).is_empty());
    }
}
