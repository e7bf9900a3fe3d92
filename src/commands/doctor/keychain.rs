//! Whether a keychain can be asked for keys.
//!
//! Only whether its bus answers: nothing is asked of the keychain itself, which could show a dialog.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::around::Around;
use super::check::Finding;
use crate::config::DriverConfig;

/// How long the bus may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the keychain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keychain {
    /// Its bus answers.
    There,
    /// There is none.
    Absent(String),
    /// Something is there and does not answer.
    Hangs(String),
}

/// How the keychain at this address of a bus is.
pub(super) fn keychain_probe(bus: Option<&str>, runtime: Option<&str>) -> Keychain {
    let named = bus.and_then(|bus| bus.split(';').find_map(socket_of));
    let usual = runtime.map(|runtime| PathBuf::from(runtime).join("bus"));
    let Some(path) = named.or_else(|| usual.filter(|_| bus.is_none())) else {
        let why = match bus {
            Some(bus) => format!("the session bus `{bus}` is not a socket that can be asked"),
            None => "no session bus is named (DBUS_SESSION_BUS_ADDRESS)".to_owned(),
        };
        return Keychain::Absent(why);
    };
    let shown = path.display();
    match UnixStream::connect(&path).and_then(greet) {
        Ok(true) => Keychain::There,
        Ok(false) => Keychain::Absent(format!("what listens at `{shown}` is no bus for this user")),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Keychain::Hangs(format!("the session bus at `{shown}` does not answer"))
        }
        Err(error) => Keychain::Absent(format!("no session bus at `{shown}`: {error}")),
    }
}

/// `unix:path=/run/user/1000/bus,guid=…`.
fn socket_of(address: &str) -> Option<PathBuf> {
    let settings = address.strip_prefix("unix:")?;
    let path = settings.split(',').find_map(|setting| setting.strip_prefix("path="))?;
    Some(PathBuf::from(path))
}

/// Says who we are, as every client of a bus does first; true if the bus lets us in.
fn greet(mut stream: UnixStream) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"OK ")
}

/// What is to say of it.
pub(super) fn look(around: &Around) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return vec![Finding::skipped("keychain", "the system's own")];
    }
    let bus = around.variable("DBUS_SESSION_BUS_ADDRESS");
    let needed = around
        .all_profiles()
        .iter()
        .any(|profile| matches!(profile.driver, DriverConfig::E2b(_) | DriverConfig::Daytona(_)));
    let finding = match keychain_probe(bus, around.variable("XDG_RUNTIME_DIR")) {
        Keychain::There => Finding::ok("keychain", "its bus answers"),
        Keychain::Absent(why) if needed => Finding::warning("keychain", why)
            .why("`skync auth login` has no safe place for a key")
            .remedy("export E2B_API_KEY=… or DAYTONA_API_KEY=…    a key of the environment needs no keychain")
            .remedy("sudo apt install gnome-keyring    and log in again"),
        Keychain::Absent(why) => Finding::skipped("keychain", format!("{why}; no profile needs a key")),
        Keychain::Hangs(why) => Finding::warning("keychain", why)
            .why("keys in it cannot be read")
            .remedy("log out and in again, or set the key in the environment"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;
    use crate::config::{E2bConfig, Profile};
    use std::os::unix::net::UnixListener;

    fn address(path: &std::path::Path) -> String {
        format!("unix:path={},guid=1", path.display())
    }

    #[test]
    fn no_bus_a_dead_one_and_one_that_hangs_are_told_apart() {
        let base = tempfile::tempdir().expect("a directory");
        assert!(matches!(keychain_probe(None, None), Keychain::Absent(_)));
        assert!(matches!(keychain_probe(Some("tcp:host=x"), None), Keychain::Absent(_)));
        let path = base.path().join("bus");
        let probe = || keychain_probe(Some(&address(&path)), None);
        assert!(matches!(probe(), Keychain::Absent(_)));
        let listener = UnixListener::bind(&path).expect("bound");
        assert!(matches!(probe(), Keychain::Hangs(_)));
        drop(listener);
        assert!(matches!(probe(), Keychain::Absent(_)));
    }

    #[test]
    fn a_bus_that_lets_us_in_is_there() {
        let base = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(base.path().join("bus")).expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut said = [0; 15];
            stream.read_exact(&mut said).expect("read");
            assert_eq!(&said, b"\0AUTH EXTERNAL ");
            stream.write_all(b"OK 0123\r\n").expect("written");
        });
        let runtime = base.path().display().to_string();
        assert_eq!(keychain_probe(None, Some(&runtime)), Keychain::There);
        server.join().expect("it ends");
    }

    #[test]
    fn without_a_profile_that_needs_a_key_nothing_is_wrong() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        assert_eq!(look(&around)[0].level, Level::Skipped);
        around.profiles = vec![Profile::new("c", DriverConfig::E2b(E2bConfig::default()))];
        assert_eq!(look(&around)[0].level, Level::Warning);
    }
}
