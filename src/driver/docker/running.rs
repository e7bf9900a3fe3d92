//! A container that is not ours, by its name: whether it is there and runs.

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::engine::{Engine, status};
use crate::driver::excerpt::{nearest, printable};
use crate::driver::{DriverError, ErrorKind};

/// Checks that `name` cannot be another path of the engine's interface.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub(super) fn check_name(name: &str) -> Result<(), DriverError> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if good {
        return Ok(());
    }
    let message = format!("`{}` is no name of a container", printable(name));
    Err(DriverError::new(ErrorKind::Invalid, message)
        .hint("`docker ps` lists the names of those that run"))
}

/// The container, which must run.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Invalid`] if it does not run.
pub(super) async fn running(
    engine: &Engine,
    name: &str,
) -> Result<ContainerInspectResponse, DriverError> {
    check_name(name)?;
    let found = match engine.try_call(engine.api.inspect_container(name, None)).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => return Err(missing(engine, name).await),
        Err(error) => return Err(engine.error(&format!("look at the container `{name}`"), error)),
    };
    let state = found.state.clone().unwrap_or_default();
    let (what, then) = match (state.running, state.paused) {
        (Some(true), Some(true)) => ("is paused", "unpause"),
        (Some(true), _) => return Ok(found),
        _ => ("does not run", "start"),
    };
    let message = format!("the container `{name}` {what}");
    Err(DriverError::new(ErrorKind::Invalid, message).hint(format!("run `docker {then} {name}`")))
}

async fn missing(engine: &Engine, name: &str) -> DriverError {
    let message = format!("there is no container `{name}`");
    let mut error = DriverError::new(ErrorKind::NotFound, message);
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let listed = engine.try_call(engine.api.list_containers(Some(options))).await;
    let names: Vec<String> = listed
        .unwrap_or_default()
        .into_iter()
        .flat_map(|found| found.names.unwrap_or_default())
        .collect();
    let near = nearest(name, names.iter().map(|name| name.trim_start_matches('/')));
    if !near.is_empty() {
        error = error.hint(format!("did you mean `{}`?", near.join("`, `")));
    }
    error.hint("`docker ps --all` lists those there are")
}
