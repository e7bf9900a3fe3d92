//! What is said to envd, judged by the provider's own code: the server that is generated from E2B's
//! contract and shipped in its SDK takes our requests, and we understand its answers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::api::Access;
use super::envd::Envd;
use super::process::{Event, Program};
use super::settings::Settings;
use super::*;

/// The server of the SDK, which really runs processes; ended with the value.
struct Judge {
    child: Child,
    url: String,
}

impl Judge {
    /// Nothing if there is no SDK, unless it is required.
    fn start() -> Option<Self> {
        let python = std::env::var_os("SKYNC_SDK_E2B").map(PathBuf::from);
        let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
        let is_required = required.split(',').any(|what| what == "sdk");
        assert!(python.is_some() || !is_required, "SKYNC_SDK_E2B is not set");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sdk");
        let script = script.join("connect_server.py");
        // Free at this moment; who else takes ports here takes others.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut child = Command::new(python?)
            .arg(script)
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python runs");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("listening on ")), "it does not listen");
        let url = format!("http://127.0.0.1:{port}");
        Some(Self { child, url })
    }

    fn envd(&self, json_only: bool) -> Envd {
        let variables = [("E2B_SANDBOX_URL", self.url.as_str()), ("E2B_API_KEY", "k")];
        let surroundings = Surroundings::of(&variables, None);
        let access = Access {
            id: "ijudge".to_owned(),
            envd_version: Some("0.6.13".to_owned()),
            domain: None,
            envd_access_token: None,
            traffic_access_token: None,
        };
        Envd {
            client: Client::new().expect("a client"),
            settings: Arc::new(Settings::new(&E2bConfig::default(), surroundings)),
            access: Arc::new(access),
            json_only: Arc::new(AtomicBool::new(json_only)),
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn programs_run_to_their_end_in_both_encodings() {
    let Some(judge) = Judge::start() else { return };
    for json_only in [true, false] {
        let envd = judge.envd(json_only);
        let script = "printf out; printf problem >&2; cat; exit 7";
        let arguments = ["-c".to_owned(), script.to_owned()];
        // `cat` ends with the process, since input cannot be ended: it is told to read so much.
        let arguments = arguments.map(|text| text.replace("cat;", "head -c 5;"));
        let input = Bytes::from_static(b"in\0\xff\n");
        let finished = envd.run("/bin/sh", &arguments, Some(&input)).await.expect("it runs");
        assert_eq!(finished.code, Some(7), "{finished:?}");
        assert_eq!(finished.output.as_bytes(), "outin\0\u{fffd}\n".as_bytes());
        assert_eq!(finished.error, "problem");
    }
}

#[tokio::test]
async fn a_process_is_killed_by_its_number() {
    let Some(judge) = Judge::start() else { return };
    for json_only in [true, false] {
        let envd = judge.envd(json_only);
        let arguments = ["-c".to_owned(), "exec sleep 1000".to_owned()];
        let program = Program { command: "/bin/sh", arguments: &arguments, input: false };
        let (codec, mut events) = envd.start(&program).await.expect("it starts");
        let Event::Started(pid) = events.next().await.expect("an event") else {
            panic!("the first event is the start")
        };
        envd.kill(codec, pid).await.expect("killed");
        loop {
            match events.next().await.expect("an event") {
                Event::Ended(code, how) => {
                    assert_eq!(code, None, "{how}");
                    break;
                }
                Event::Other => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A control plane that lets one key in, and tells which keys came.
fn control_plane(good: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = Arc::clone(&keys);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
            let key = head.iter().find_map(|line| line.strip_prefix("x-api-key: "));
            let key = key.unwrap_or_default().to_owned();
            let (status, body) = if key == good { (200, "[]") } else { (401, "{}") };
            all.lock().expect("not poisoned").push(key);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
            let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
        }
    });
    (url, keys)
}

#[tokio::test]
async fn a_variable_that_is_out_of_date_does_not_run_the_command_each_time() {
    for (good, sent) in [
        ("of-command", &["old", "old", "of-command", "of-command", "of-command"][..]),
        ("nobodys", &["old", "old", "of-command", "old", "of-command", "old", "of-command"]),
    ] {
        let (url, keys) = control_plane(good);
        let home = tempfile::tempdir().expect("a directory");
        let count = home.path().join("count");
        let script = format!("echo >> {}; echo of-command", count.display());
        let command = ["sh".to_owned(), "-c".to_owned(), script];
        let variables = [("E2B_API_URL", url.as_str()), ("E2B_API_KEY", "old")];
        let around = Surroundings::of(&variables, None).for_profile("p", Some(&command));
        let driver = E2b::new(&E2bConfig::default(), around);
        for _ in 0..3 {
            let found = driver.find(&BTreeMap::new()).await;
            assert_eq!(found.is_ok(), good == "of-command");
        }
        assert_eq!(*keys.lock().expect("not poisoned"), sent);
        assert_eq!(std::fs::read(&count).expect("it ran").len(), 1);
    }
}
