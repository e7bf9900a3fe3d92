//! A network that is down between the session and its engine.
//!
//! The engine is this machine's, reached over TCP through a pair of virtual interfaces: the far end
//! is in a network namespace of its own, and a small program there passes bytes on to the engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::runs;
use crate::support::client::{Client, shell};
use crate::support::{SPECKIT, World, docker_is_there, wait_until};

/// Passes each connection on to the engine's socket.
const FORWARDER: &str = r#"
import socket, sys, threading
address, engine = sys.argv[1:]
def carry(source, target):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server((address, 2375))
print("ready", flush=True)
while True:
    near, _ = listener.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(engine)
    for ends in ((near, far), (far, near)):
        threading.Thread(target=carry, args=ends, daemon=True).start()
"#;

/// A network with the engine at its far end; removed with the value.
struct Network {
    name: String,
    forwarder: Option<Child>,
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

impl Network {
    /// `None`, with a word why, where there may be none: it takes root and iproute2.
    fn new() -> Option<Self> {
        // An interface's name has up to 15 bytes. Numbers apart: other tests run beside this one.
        let number = std::process::id() % 60_000;
        let (name, address) = (format!("skt{number}"), Self::address(number));
        let near = Self::near(number);
        if !ip(&format!("netns add {name}")) {
            eprintln!("skipped: no network namespace can be made here (it takes root and `ip`)");
            return None;
        }
        let mut network = Self { name: name.clone(), forwarder: None };
        let made = ip(&format!("link add {name}a type veth peer name {name}b netns {name}"))
            && ip(&format!("address add {near}/30 dev {name}a"))
            && ip(&format!("link set {name}a up"))
            && ip(&format!("-n {name} address add {address}/30 dev {name}b"))
            && ip(&format!("-n {name} link set {name}b up"))
            && ip(&format!("-n {name} link set lo up"));
        if !made {
            eprintln!("skipped: no virtual interfaces can be made here");
            return None;
        }
        let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = engine.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
        let mut forwarder = Command::new("ip")
            .args(["netns", "exec", &name, "python3", "-c", FORWARDER, &address, &engine])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut line = String::new();
        let output = forwarder.stdout.take().expect("piped");
        network.forwarder = Some(forwarder);
        BufReader::new(output).read_line(&mut line).expect("readable");
        if line != "ready\n" {
            eprintln!("skipped: nothing can listen in the namespace (it takes python3)");
            return None;
        }
        Some(network)
    }

    fn near(number: u32) -> String {
        let at = number * 4 + 1;
        format!("10.{}.{}.{}", 200 + (at >> 16), (at >> 8) & 255, at & 255)
    }

    fn address(number: u32) -> String {
        let at = number * 4 + 2;
        format!("10.{}.{}.{}", 200 + (at >> 16), (at >> 8) & 255, at & 255)
    }

    fn engine(&self) -> String {
        format!("tcp://{}:2375", Self::address(self.name[3..].parse().expect("a number")))
    }

    fn set(&self, state: &str) {
        assert!(ip(&format!("link set {}a {state}", self.name)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(forwarder) = &mut self.forwarder {
            let _ = forwarder.kill();
            let _ = forwarder.wait();
        }
        ip(&format!("link delete {}a", self.name));
        ip(&format!("netns delete {}", self.name));
    }
}

#[test]
fn a_network_that_goes_down_and_comes_back_loses_nothing() {
    if !docker_is_there() {
        return;
    }
    let Some(network) = Network::new() else { return };
    let world = World::new();
    let engine = network.engine();
    let add = ["profile", "add", "far", "--driver", "docker", "--image", SPECKIT];
    let settings = ["--network", "none", "--host", &engine];
    world.run(&[&add[..], &settings].concat()).expect_code(0);

    let script = "echo run >> runs; echo up; while read x; do echo \"<$x>\"; done; \
                  head -c 3000000 /dev/zero; exit 5";
    let mut client = Client::start(&mut shell(&world, script));
    assert_eq!(client.line(), "up");
    network.set("down");
    client.say(b"while it is down\n");
    wait_until("the link is given up", || {
        let status = world.run(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["sessions"][0]["link"]["up"] == false
    });
    network.set("up");
    assert_eq!(client.line(), "<while it is down>");
    drop(client.child.stdin.take());
    assert_eq!(client.rest().len(), 3_000_000);
    client.expect_code(5);
    assert_eq!(runs(&world), 1);
    world.wait_until_nothing_is_left();
}
