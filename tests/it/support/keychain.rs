//! A keychain of a test's own: a session bus that nobody else is on, and GNOME Keyring on it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{World, put, wait_until};

/// What opens it.
const PASSWORD: &[u8] = b"of-a-test";
/// A bus that starts nothing by itself.
const BUS: &str = "<busconfig><type>session</type><listen>unix:path=%</listen><auth>EXTERNAL</auth>\
    <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
    <allow own=\"*\"/></policy></busconfig>";

/// A bus, and perhaps a keychain; both end with the value.
pub struct Keychain {
    address: String,
    bus: Child,
    daemon: Option<Child>,
}

/// True if the programs are there. If the tests are to fail without them (`SKYNC_REQUIRE`), they do.
fn is_there() -> bool {
    let has = |program: &str| {
        let look = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        look.is_ok_and(|status| status.success())
    };
    let there = has("dbus-daemon") && has("gnome-keyring-daemon");
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|what| what == "keychain");
    assert!(there || !is_required, "no dbus-daemon and gnome-keyring-daemon");
    if !there {
        eprintln!("skipped: no dbus-daemon and gnome-keyring-daemon (scripts/test installs them)");
    }
    there
}

impl Keychain {
    /// A bus with nobody on it, which `world` uses from now on.
    pub fn bus(world: &mut World) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let socket = world.path("bus");
        let config = world.path("bus.conf");
        put(&world.path(""), "bus.conf", BUS.replace('%', &socket.display().to_string()));
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .arg("--nofork")
            .stdin(Stdio::null())
            .spawn()
            .expect("a bus");
        wait_until("the bus listens", || UnixStream::connect(&socket).is_ok());
        let address = format!("unix:path={}", socket.display());
        world.set("DBUS_SESSION_BUS_ADDRESS", &address);
        Some(Self { address, bus, daemon: None })
    }

    /// A bus with a keychain that is open and empty.
    pub fn open(world: &mut World) -> Option<Self> {
        let mut own = Self::bus(world)?;
        let data: PathBuf = world.path("keychain");
        let mut daemon = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", &own.address)
            .env("XDG_DATA_HOME", data)
            .env("XDG_RUNTIME_DIR", world.path("r"))
            .env("HOME", world.path("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a keychain");
        daemon.stdin.take().expect("piped").write_all(PASSWORD).expect("it reads its password");
        own.daemon = Some(daemon);
        wait_until("the keychain answers", || {
            own.call("org.freedesktop.Secret.Service.ReadAlias", "string:default").contains("login")
        });
        Some(own)
    }

    /// Locks it.
    pub fn lock(&self) {
        let collection = "array:objpath:/org/freedesktop/secrets/collection/login";
        self.call("org.freedesktop.Secret.Service.Lock", collection);
    }

    /// Process id of the keychain.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("there is one").id()
    }

    /// Calls the service, and returns what it says.
    fn call(&self, method: &str, argument: &str) -> String {
        let output = Command::new("dbus-send")
            .args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"])
            .args(["/org/freedesktop/secrets", method, argument])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .output()
            .expect("dbus-send runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Keychain {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.bus]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
