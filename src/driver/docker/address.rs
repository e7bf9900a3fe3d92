//! Where the engine is: the profile, DOCKER_HOST, the docker context, or the default socket.
//!
//! Reads the docker command's own files and nothing else, and connects to nothing.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::driver::excerpt::printable;
use crate::driver::{DriverError, ErrorKind};

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A unix socket on this machine.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

/// Where the engine is, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Where it listens.
    pub(super) endpoint: Endpoint,
    /// What named it, to be put behind the address: `from DOCKER_HOST`.
    pub(super) origin: String,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.endpoint {
            Endpoint::Unix(path) => write!(f, "`{}` ({})", path.display(), self.origin),
            Endpoint::Tcp(host) => write!(f, "`tcp://{host}` ({})", self.origin),
        }
    }
}

/// What of the environment decides; read once, so that tests can give their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// DOCKER_HOST.
    pub(super) docker_host: Option<String>,
    /// DOCKER_CONTEXT.
    pub(super) docker_context: Option<String>,
    /// DOCKER_CONFIG, else `~/.docker`.
    pub(super) config_dir: Option<PathBuf>,
    /// DOCKER_TLS_VERIFY or DOCKER_TLS is set.
    pub(super) tls: bool,
    /// Sockets that are tried when nothing names one, in this order.
    pub(super) sockets: Vec<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from);
        let home = path("HOME");
        let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
        sockets.extend(path("XDG_RUNTIME_DIR").map(|dir| dir.join("docker.sock")));
        sockets.extend(home.as_ref().map(|dir| dir.join(".docker/run/docker.sock")));
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            config_dir: path("DOCKER_CONFIG").or_else(|| home.map(|dir| dir.join(".docker"))),
            tls: text("DOCKER_TLS_VERIFY").is_some() || text("DOCKER_TLS").is_some(),
            sockets,
        }
    }

    /// The engine's address: the profile's `host` before all of these.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an address that cannot be used, [`ErrorKind::NotFound`] for a
    /// context that does not exist.
    pub(super) fn address(&self, host: Option<&str>) -> Result<Address, DriverError> {
        if let Some(host) = host {
            return self.parse(host, "from the profile's `host`");
        }
        if let Some(host) = &self.docker_host {
            return self.parse(host, "from DOCKER_HOST");
        }
        if let Some((name, named_by)) = self.context()? {
            let host = self.context_host(&name, named_by)?;
            let name = printable(&name);
            return self.parse(&host, &format!("from the docker context `{name}`"));
        }
        let found = self.sockets.iter().find(|path| path.exists()).or(self.sockets.first());
        let endpoint = Endpoint::Unix(found.cloned().unwrap_or_default());
        Ok(Address { endpoint, origin: "the default".to_owned() })
    }

    /// The context in force and what names it; `None` for the default one.
    fn context(&self) -> Result<Option<(String, &'static str)>, DriverError> {
        let (name, named_by) = match (&self.docker_context, &self.config_dir) {
            (Some(name), _) => (Some(name.clone()), "DOCKER_CONTEXT"),
            (None, Some(dir)) => {
                let file = dir.join("config.json");
                let name = read_json(&file)?
                    .and_then(|json| Some(json.get("currentContext")?.as_str()?.to_owned()));
                (name, "the docker configuration")
            }
            (None, None) => (None, ""),
        };
        Ok(name.filter(|name| !name.is_empty() && name != "default").map(|name| (name, named_by)))
    }

    fn context_host(&self, name: &str, named_by: &str) -> Result<String, DriverError> {
        let id: String =
            Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = self.config_dir.clone().unwrap_or_default().join("contexts");
        let meta = read_json(&dir.join("meta").join(&id).join("meta.json"))?.ok_or_else(|| {
            let name = printable(name);
            DriverError::new(
                ErrorKind::NotFound,
                format!("the docker context `{name}`, named by {named_by}, does not exist"),
            )
            .hint("run `docker context ls` to see those there are, or `docker context use default`")
        })?;
        if dir.join("tls").join(&id).join("docker").exists() {
            return Err(unsupported(&format!("the docker context `{}`", printable(name)), "TLS"));
        }
        let host = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str());
        host.map(str::to_owned).ok_or_else(|| {
            let name = printable(name);
            DriverError::new(
                ErrorKind::Invalid,
                format!("the docker context `{name}` names no engine"),
            )
            .hint(format!("run `docker context inspect {name}`"))
        })
    }

    fn parse(&self, host: &str, origin: &str) -> Result<Address, DriverError> {
        let (scheme, rest) = match host.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if host.starts_with('/') => ("unix", host),
            None => ("tcp", host),
        };
        let endpoint = match scheme {
            "unix" if Path::new(rest).is_absolute() => Endpoint::Unix(rest.into()),
            "tcp" | "http" if self.tls => {
                return Err(unsupported(&named(host, origin), "TLS (DOCKER_TLS_VERIFY is set)"));
            }
            "tcp" | "http" => Endpoint::Tcp(host_and_port(rest).ok_or_else(|| {
                DriverError::new(
                    ErrorKind::Invalid,
                    format!("{} is no address of an engine", named(host, origin)),
                )
                .hint("write `unix:///path/to/docker.sock` or `tcp://host:2375`")
            })?),
            "https" => return Err(unsupported(&named(host, origin), "TLS")),
            "ssh" => {
                return Err(unsupported(&named(host, origin), "ssh").hint(
                    "or forward its socket: `ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST`",
                ));
            }
            _ => {
                let what = named(host, origin);
                return Err(unsupported(&what, "an address of that kind"));
            }
        };
        Ok(Address { endpoint, origin: origin.to_owned() })
    }
}

/// `host:port` with the port that docker takes if none is given.
fn host_and_port(rest: &str) -> Option<String> {
    let rest = rest.trim_end_matches('/');
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if rest.is_empty() || !rest.chars().all(allowed) {
        return None;
    }
    let bracket_end = rest.rfind(']').map_or(0, |end| end + 1);
    match rest[bracket_end..].rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().ok().map(|_| rest.to_owned()),
        None => Some(format!("{rest}:2375")),
    }
}

fn named(host: &str, origin: &str) -> String {
    format!("`{}` ({origin})", printable(host))
}

fn unsupported(what: &str, why: &str) -> DriverError {
    DriverError::new(
        ErrorKind::Invalid,
        format!("{what} needs {why}, which is not supported yet"),
    )
    .hint(
        "use an engine at `unix:///path/to/docker.sock` or, without encryption, `tcp://host:port`",
    )
}

/// A JSON file of the docker command; `None` if there is none.
fn read_json(file: &Path) -> Result<Option<serde_json::Value>, DriverError> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message =
                format!("cannot read `{}`, where docker keeps its settings", file.display());
            return Err(DriverError::new(ErrorKind::Failed, message).source(error).hint(
                "make it readable, or set `host` in the profile, which makes it unnecessary",
            ));
        }
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let message = format!("`{}`, where docker keeps its settings, is not JSON", file.display());
        DriverError::new(ErrorKind::Invalid, message)
            .source(error)
            .hint("repair it, or set `host` in the profile, which makes it unnecessary")
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the docker command's files for a test")]
mod tests {
    use super::*;

    fn surroundings(dir: &Path) -> Surroundings {
        Surroundings {
            config_dir: Some(dir.to_owned()),
            sockets: vec![dir.join("a.sock"), dir.join("b.sock")],
            ..Surroundings::default()
        }
    }

    fn add_context(dir: &Path, name: &str, meta: &str) {
        let id: String =
            Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let place = dir.join("contexts/meta").join(id);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("meta.json"), meta).unwrap();
    }

    #[test]
    fn the_profile_wins_over_docker_host_and_that_over_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let mut around = surroundings(dir.path());
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        add_context(dir.path(), "far", r#"{"Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#);
        assert_eq!(around.address(None).unwrap().endpoint, Endpoint::Tcp("far:1".into()));
        around.docker_host = Some("unix:///env.sock".into());
        assert_eq!(around.address(None).unwrap().endpoint, Endpoint::Unix("/env.sock".into()));
        let address = around.address(Some("tcp://[::1]")).unwrap();
        assert_eq!(address.endpoint, Endpoint::Tcp("[::1]:2375".into()));
    }

    #[test]
    fn docker_context_wins_over_the_file_and_default_means_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut around = surroundings(dir.path());
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        around.docker_context = Some("default".into());
        let first = Endpoint::Unix(dir.path().join("a.sock"));
        assert_eq!(around.address(None).unwrap().endpoint, first);
    }

    #[test]
    fn the_first_default_socket_that_exists_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b.sock"), "").unwrap();
        let address = surroundings(dir.path()).address(None).unwrap();
        assert_eq!(address.endpoint, Endpoint::Unix(dir.path().join("b.sock")));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let around = surroundings(dir.path());
        for host in ["ssh://me@far", "https://far", "npipe:////./pipe/x", "unix://sock"] {
            let error = around.address(Some(host)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{host}");
            assert!(error.message.contains("not supported"), "{error}");
            assert!(error.hints[0].contains("unix:///"), "{host}");
        }
        for host in ["tcp://", "tcp://a:b", "tcp://a b", "tcp://a/../b:1"] {
            assert_eq!(around.address(Some(host)).unwrap_err().kind, ErrorKind::Invalid, "{host}");
        }
        let tls = Surroundings { tls: true, ..surroundings(dir.path()) };
        assert!(tls.address(Some("tcp://far:2376")).unwrap_err().message.contains("TLS"));
    }

    #[test]
    fn a_context_that_is_missing_or_odd_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut around = surroundings(dir.path());
        around.docker_context = Some("lost".into());
        let error = around.address(None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.message.contains("`lost`, named by DOCKER_CONTEXT"), "{error}");
        add_context(dir.path(), "lost", r#"{"Endpoints":[]}"#);
        assert_eq!(around.address(None).unwrap_err().kind, ErrorKind::Invalid);
        add_context(dir.path(), "lost", "{");
        assert!(around.address(None).unwrap_err().message.contains("is not JSON"));
    }
}
