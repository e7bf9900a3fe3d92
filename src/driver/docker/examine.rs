//! What `skync doctor` and `skync init` ask an engine: where it is, how it is, which images it has.
//!
//! Makes nothing and changes nothing there.

use super::address::{Endpoint, Surroundings};
use super::engine::Engine;
use super::image;
use crate::driver::DriverError;

/// Where an engine is, and what came of asking it.
#[derive(Debug)]
pub struct Examined {
    /// Where it is and who says so; nothing if that cannot be told.
    pub address: Option<String>,
    /// What it said of itself, or why it did not.
    pub answer: Result<Engaged, DriverError>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engaged {
    /// Its version, as `29.1.3`.
    pub version: String,
    /// The version of its API.
    pub api: String,
    /// The system that it runs on.
    pub system: String,
    /// It runs without root.
    pub rootless: bool,
    /// It listens on this machine.
    pub local: bool,
    /// Its clock, by RFC 3339.
    pub clock: Option<String>,
    /// Why it cannot be used by us, for a person.
    pub unsuitable: Option<String>,
}

/// Asks the engine of a profile with this `host`, or the one that the environment names.
pub async fn examine(host: Option<&str>) -> Examined {
    let address = match Surroundings::of_process().address(host) {
        Ok(address) => address,
        Err(error) => return Examined { address: None, answer: Err(error) },
    };
    let shown = Some(address.to_string());
    let local = matches!(address.endpoint, Endpoint::Unix(_));
    let asked = async {
        let engine = Engine::connect(address).await?;
        let info = engine.info().await?;
        let unsuitable = engine.unsuitable(&info).map(|error| error.to_string());
        let options = info.security_options.unwrap_or_default();
        Ok(Engaged {
            version: engine.version.version.clone().unwrap_or_default(),
            api: engine.version.api_version.clone().unwrap_or_default(),
            system: info.operating_system.unwrap_or_default(),
            rootless: options.iter().any(|option| option.contains("rootless")),
            local,
            clock: info.system_time,
            unsuitable,
        })
    };
    Examined { address: shown, answer: asked.await }
}

/// Where the engine is, and who says so; nothing if that cannot be told. Asks nobody.
pub fn engine_address(host: Option<&str>) -> Option<String> {
    Surroundings::of_process().address(host).ok().map(|address| address.to_string())
}

/// The names of the images that the engine has; none if it does not say.
pub async fn local_images(host: Option<&str>) -> Vec<String> {
    let Ok(address) = Surroundings::of_process().address(host) else { return Vec::new() };
    match Engine::connect(address).await {
        Ok(engine) => image::tags(&engine).await,
        Err(_) => Vec::new(),
    }
}
