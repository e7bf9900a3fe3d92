//! Sandboxes of providers, where something goes wrong: the real binary against servers that speak the
//! providers' protocols, and that the providers' own SDKs take for these.

mod daytona;
mod e2b;
mod judges;
mod network;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::support::World;

/// Sends one request to a server on this machine; the status and the body.
fn http(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "Content-Type: application/json\r\n";
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status, body.unwrap_or_default())
}

/// Every file below `directory` in which `needle` stands.
fn files_with(directory: &Path, needle: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                let content = std::fs::read(&path).unwrap_or_default();
                if content.windows(needle.len()).any(|part| part == needle.as_bytes()) {
                    found.push(path);
                }
            }
        }
    }
    found
}

/// Fails the test if the key stands in anything that skync has written on this machine, or in what
/// the processes and our files in a sandbox show.
#[track_caller]
fn expect_no_key(world: &World, container: &str) {
    let key = crate::support::clouds::KEY;
    let found = files_with(&world.path(""), key);
    assert!(found.is_empty(), "the key stands in {found:?}");
    let script = format!(
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -c '{}[{}]'; \
         grep -rl '{}[{}]' /.skync /home/daytona/.skync /tmp 2>/dev/null",
        &key[..key.len() - 1],
        &key[key.len() - 1..],
        &key[..key.len() - 1],
        &key[key.len() - 1..],
    );
    let looked = std::process::Command::new("docker")
        .args(["exec", container, "sh", "-c", &script])
        .output()
        .expect("docker runs");
    assert_eq!(String::from_utf8_lossy(&looked.stdout).trim(), "0", "it is in the sandbox");
}
