//! What is said to envd, judged by the provider's own code: the server that is generated from E2B's
//! contract and shipped in its SDK takes our requests, and we understand its answers.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

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
