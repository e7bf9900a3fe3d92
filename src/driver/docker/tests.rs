//! The driver against a real engine, with a stand-in for the agent.

use super::*;
use crate::config::LinkKind;
use crate::driver::stand_in::{Manner, PATIENCE, SECRET, StandIns, assert_echo, quiet, spec};
use crate::driver::{Driver, SandboxState};

const EMPTY: &str = "skync-test/empty:1";
const ALPINE_LIKE: &str = "skync-test/alpine-like:1";
const SPECKIT: &str = "skync-test/speckit:1.2.3";

/// An engine that answers, or the end of the test: with a failure if Docker is required.
macro_rules! engine_or_skip {
    () => {
        match Docker::new(&DockerConfig::default()).engine().await {
            Ok(_) => {}
            Err(error) => {
                let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
                assert!(!required.split(',').any(|word| word == "docker"), "{error}");
                eprintln!("skipped: {error}");
                return;
            }
        }
    };
}

fn config(image: &str) -> DockerConfig {
    DockerConfig {
        image: Some(image.into()),
        network: Some("none".into()),
        ..DockerConfig::default()
    }
}

/// Removes a test's container also if the test fails.
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

fn cleanup(spec: &SandboxSpec) -> Cleanup {
    Cleanup(format!("skync-{}", spec.session))
}

fn docker(arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within the deadline: {what}");
        ticks.tick().await;
    }
}

async fn lives_and_goes(link: LinkKind, image: &str) {
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/home/me/project");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&DockerConfig { link, ..config(image) });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
    assert!(sandbox.ephemeral);
    assert_eq!(sandbox.name, format!("skync-{}", spec.session));

    for bytes in [0, 1, 3_000_000] {
        let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
        assert_echo(&mut *stream, bytes).await;
    }
    assert_eq!(driver.state(&sandbox).await.unwrap(), SandboxState::Running);

    // Another process finds it by its labels, and removes it.
    let other = Docker::new(&config(image));
    let found = other.find(&spec.labels).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&sandbox));
    other.remove(&found[0]).await.unwrap();
    assert!(other.find(&spec.labels).await.unwrap().is_empty());
    assert_eq!(other.state(&sandbox).await.unwrap(), SandboxState::Gone);
    driver.remove(&sandbox).await.unwrap();
    assert_eq!(driver.state(&sandbox).await.unwrap(), SandboxState::Gone);
    assert_eq!(std::fs::read_dir(runtime.path()).unwrap().count(), 0, "no socket is left");
}

#[tokio::test]
async fn an_empty_image_is_reached_by_socket() {
    engine_or_skip!();
    lives_and_goes(LinkKind::Socket, EMPTY).await;
}

#[tokio::test]
async fn an_empty_image_is_reached_by_stdio() {
    engine_or_skip!();
    lives_and_goes(LinkKind::Stdio, EMPTY).await;
}

#[tokio::test]
async fn other_images_are_reached_by_what_is_chosen_for_them() {
    engine_or_skip!();
    lives_and_goes(LinkKind::Auto, ALPINE_LIKE).await;
    lives_and_goes(LinkKind::Auto, SPECKIT).await;
}

#[tokio::test]
async fn a_container_is_taken_over_from_a_process_that_died() {
    engine_or_skip!();
    for link in [LinkKind::Socket, LinkKind::Stdio] {
        let runtime = tempfile::tempdir().unwrap();
        let spec = spec(runtime.path(), "/home/me/project");
        let _cleanup = cleanup(&spec);
        let config = DockerConfig { link, ..config(EMPTY) };
        let first = Docker::new(&config);
        let made = first.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
        let second = Docker::new(&config);
        assert_eq!(second.dial(&made, PATIENCE).await.err().unwrap().kind, ErrorKind::Gone);
        // A process that dies leaves its socket; one that is dropped would remove it after the
        // other has made its own.
        std::mem::forget(first);
        second.adopt(&made, &spec).await.unwrap();
        let mut stream = second.dial(&made, PATIENCE).await.unwrap();
        assert_echo(&mut *stream, 3_000_000).await;
        assert_eq!(second.state(&made).await.unwrap(), SandboxState::Running);
        second.remove(&made).await.unwrap();
        let error = second.adopt(&made, &spec).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_see_the_socket_is_reached_by_stdio() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&config(EMPTY));
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Blind), &quiet).await.unwrap();
    let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 1000).await;
    let started = tokio::time::Instant::now();
    driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "the socket is given up for good");
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn the_container_is_what_the_profile_says_and_nothing_is_mounted_by_stdio() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/home/me/a project");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&DockerConfig {
        memory: Some(64 << 20),
        milli_cpus: Some(500),
        pids: Some(64),
        user: Some("1234:5678".into()),
        link: LinkKind::Stdio,
        ..config(SPECKIT)
    });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
    let shown = docker(&[
        "inspect",
        "-f",
        "{{json .HostConfig.Memory}} {{json .HostConfig.MemorySwap}} {{json .HostConfig.NanoCpus}} {{json .HostConfig.PidsLimit}} {{json .HostConfig.NetworkMode}} {{json .HostConfig.SecurityOpt}} {{json .HostConfig.AutoRemove}} {{json .HostConfig.Binds}} {{json .Mounts}} {{json .HostConfig.Privileged}}",
        &sandbox.id,
    ]);
    assert_eq!(
        shown,
        r#"67108864 67108864 500000000 64 "none" ["no-new-privileges"] true null [] false"#
    );
    for (key, value) in &spec.labels {
        let shown = docker(&[
            "inspect",
            "-f",
            &format!("{{{{index .Config.Labels \"{key}\"}}}}"),
            &sandbox.id,
        ]);
        assert_eq!(&shown, value);
    }

    let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 10).await;
    let stat =
        |path: &str| docker(&["exec", "-u", "0", &sandbox.id, "stat", "-c", "%a %u:%g", path]);
    assert_eq!(stat("/.skync"), "755 0:0");
    assert_eq!(stat("/.skync/state"), "700 1234:5678");
    assert_eq!(stat("/home"), "755 0:0");
    assert_eq!(stat("/home/me"), "755 0:0");
    assert_eq!(stat("/home/me/a project"), "755 1234:5678");
    let listed = docker(&["exec", &sandbox.id, "ls", "/.skync", "/.skync/state"]);
    assert!(!listed.contains("secret"), "{listed}");
    assert_eq!(listed.matches("skync-agent-").count(), 1, "{listed}");
    assert_eq!(
        docker(&["exec", &sandbox.id, "cat", "/proc/1/comm"]).get(..12),
        Some("skync-agent-")
    );
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn directories_of_the_image_keep_their_mode_and_owner() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/tmp/deep/er");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&DockerConfig { user: Some("nobody".into()), ..config(SPECKIT) });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
    let stat = |path: &str| docker(&["exec", &sandbox.id, "stat", "-c", "%a %u:%g", path]);
    assert_eq!(stat("/tmp"), "1777 0:0");
    assert_eq!(stat("/tmp/deep"), "755 0:0");
    assert_eq!(stat("/tmp/deep/er"), "755 65534:65534");
    let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 10).await;
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn the_socket_is_all_that_the_container_sees_of_the_host_and_read_only() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&DockerConfig {
        user: Some("4321".into()),
        link: LinkKind::Socket,
        ..config(ALPINE_LIKE)
    });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
    let shown = docker(&[
        "inspect",
        "-f",
        "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}};{{end}}",
        &sandbox.id,
    ]);
    let link = runtime.path().join("link");
    assert_eq!(shown, format!("bind {} /.skync/link false;", link.display()));
    let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 100_000).await;
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_ends_at_once_is_an_error_with_its_last_words() {
    engine_or_skip!();
    for link in [LinkKind::Socket, LinkKind::Stdio] {
        let runtime = tempfile::tempdir().unwrap();
        let spec = spec(runtime.path(), "/p");
        let _cleanup = cleanup(&spec);
        let driver = Docker::new(&DockerConfig { link, ..config(EMPTY) });
        let sandbox =
            driver.create(&spec, &SECRET, &StandIns(Manner::Fails), &quiet).await.unwrap();
        let error = driver.dial(&sandbox, PATIENCE).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Gone);
        assert!(
            error.message.contains("exit code 3: stand-in:\u{fffd}[31m I was told to fail"),
            "{error}"
        );
        match driver.state(&sandbox).await.unwrap() {
            SandboxState::Stopped { reason, out_of_memory: false } => {
                assert!(reason.contains("I was told to fail"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        driver.remove(&sandbox).await.unwrap();
        eventually("the engine removed it", async || {
            driver.find(&spec.labels).await.unwrap().is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn running_out_of_memory_is_named_as_such() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&DockerConfig { memory: Some(32 << 20), ..config(EMPTY) });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Eats), &quiet).await.unwrap();
    let error = driver.dial(&sandbox, PATIENCE).await.err().unwrap();
    assert!(error.message.contains("memory") && error.message.contains("32 MiB"), "{error}");
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_program_for_another_machine_is_an_error_and_leaves_no_container() {
    struct Nonsense;
    impl AgentSource for Nonsense {
        fn agent(&self, machine: &str) -> Result<crate::driver::AgentBinary, DriverError> {
            let bytes = bytes::Bytes::from_static(b"not a program");
            let sha256 = Sha256::digest(&bytes).into();
            Ok(crate::driver::AgentBinary { machine: machine.into(), sha256, bytes, packed: None })
        }
    }
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let _cleanup = cleanup(&spec);
    let driver = Docker::new(&config(EMPTY));
    // Some engines refuse it, others start it and see it end.
    let error = match driver.create(&spec, &SECRET, &Nonsense, &quiet).await {
        Err(error) => error,
        Ok(sandbox) => driver.dial(&sandbox, PATIENCE).await.err().unwrap(),
    };
    assert!(error.message.contains("exec format error"), "{error}");
    eventually("no container is left", async || {
        driver.find(&spec.labels).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(
        std::fs::read_dir(runtime.path()).unwrap().count(),
        usize::from(driver.live.lock().unwrap().len() == 1)
    );
}

#[tokio::test]
async fn a_failure_after_creation_leaves_no_container() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    for (user, root, kind) in [
        ("nosuchuser", "/p", ErrorKind::Invalid),
        ("1000", "/etc/passwd/x", ErrorKind::Invalid),
        ("1000", "/a/../b", ErrorKind::Invalid),
    ] {
        let spec = spec(runtime.path(), root);
        let _cleanup = cleanup(&spec);
        let driver = Docker::new(&DockerConfig { user: Some(user.into()), ..config(SPECKIT) });
        let error =
            driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(driver.find(&spec.labels).await.unwrap().is_empty(), "{user} {root}");
    }
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_named_with_those_that_are_near() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let driver = Docker::new(&config("skync-test/spekit:1.2.3"));
    let steps = Mutex::new(Vec::new());
    let progress = |progress: Progress| {
        if let Progress::Step(step) = progress {
            steps.lock().unwrap().push(step);
        }
    };
    let error =
        driver.create(&spec, &SECRET, &StandIns(Manner::Good), &progress).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(
        error.message.starts_with(
            "the image `skync-test/spekit:1.2.3` is not here, and pulling it failed: "
        ),
        "{error}"
    );
    assert!(error.hints[0].contains(SPECKIT), "{:?}", error.hints);
    assert_eq!(*steps.lock().unwrap(), ["pulling image `skync-test/spekit:1.2.3`"]);
}

#[tokio::test]
async fn a_container_of_that_name_is_replaced_only_if_it_never_ran() {
    engine_or_skip!();
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let cleanup = cleanup(&spec);
    let labels: Vec<String> =
        spec.labels.iter().map(|(key, value)| format!("--label={key}={value}")).collect();
    let mut arguments = vec!["create", "--network=none", "--name", &cleanup.0];
    arguments.extend(labels.iter().map(String::as_str));
    arguments.extend([ALPINE_LIKE, "sleep", "60"]);
    docker(&arguments);
    let driver = Docker::new(&config(EMPTY));
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
    let error = driver.create(&spec, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap_err();
    assert!(error.message.contains("in use"), "{error}");
    let mut stream = driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 10).await;
    driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_container_without_our_labels_is_never_removed() {
    engine_or_skip!();
    let name = format!("skync-test-{}", crate::driver::stand_in::session_id());
    let _cleanup = Cleanup(name.clone());
    let id = docker(&["run", "-d", "--network=none", "--name", &name, ALPINE_LIKE, "sleep", "60"]);
    let sandbox = Sandbox {
        id: id.clone(),
        name,
        root: "/p".into(),
        ephemeral: true,
        labels: BTreeMap::new(),
    };
    let driver = Docker::new(&config(EMPTY));
    assert_eq!(driver.remove(&sandbox).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &id]), "true");
}

#[tokio::test]
async fn a_named_container_gets_our_agent_and_loses_it_again() {
    engine_or_skip!();
    for user in [None, Some("1000:1000")] {
        let name = format!("skync-test-{}", crate::driver::stand_in::session_id());
        let _cleanup = Cleanup(name.clone());
        docker(&["run", "-d", "--network=none", "--name", &name, ALPINE_LIKE, "sleep", "120"]);
        let runtime = tempfile::tempdir().unwrap();
        let driver = Docker::new(&DockerConfig {
            container: Some(name.clone()),
            user: user.map(str::to_owned),
            ..DockerConfig::default()
        });
        assert!(driver.validate().await.is_empty());
        let (one, two) = (spec(runtime.path(), "/work/one"), spec(runtime.path(), "/work/two"));
        let first = driver.create(&one, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
        assert!(!first.ephemeral);
        let mut stream = driver.dial(&first, PATIENCE).await.unwrap();
        assert_echo(&mut *stream, 1_000_000).await;
        assert_eq!(driver.state(&first).await.unwrap(), SandboxState::Running);

        // A second project in the same container, and the first session once more.
        let second = Docker::new(&driver.config);
        let other = second.create(&two, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
        let first = driver.create(&one, &SECRET, &StandIns(Manner::Good), &quiet).await.unwrap();
        let mut stream = second.dial(&other, PATIENCE).await.unwrap();
        assert_echo(&mut *stream, 10).await;
        assert_eq!(driver.find(&one.labels).await.unwrap(), std::slice::from_ref(&first));

        driver.remove(&first).await.unwrap();
        driver.remove(&first).await.unwrap();
        assert_eq!(driver.state(&first).await.unwrap(), SandboxState::Gone);
        assert_eq!(second.state(&other).await.unwrap(), SandboxState::Running);
        second.remove(&other).await.unwrap();
        assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &name]), "true");
        let left = docker(&[
            "exec",
            &name,
            "sh",
            "-c",
            "ls -a /.skync 2>/dev/null | grep -v '^[.]*$'; ps | grep agent | grep -v grep; true",
        ]);
        assert_eq!(left, "");
    }
}

#[tokio::test]
async fn an_agent_that_ends_at_once_in_a_named_container_is_an_error() {
    engine_or_skip!();
    let name = format!("skync-test-{}", crate::driver::stand_in::session_id());
    let _cleanup = Cleanup(name.clone());
    docker(&["run", "-d", "--network=none", "--name", &name, ALPINE_LIKE, "sleep", "60"]);
    let runtime = tempfile::tempdir().unwrap();
    let spec = spec(runtime.path(), "/p");
    let driver =
        Docker::new(&DockerConfig { container: Some(name.clone()), ..DockerConfig::default() });
    let sandbox = driver.create(&spec, &SECRET, &StandIns(Manner::Fails), &quiet).await.unwrap();
    let error = driver.dial(&sandbox, PATIENCE).await.err().unwrap();
    assert!(error.message.contains("ended at once with exit code 3"), "{error}");
    driver.remove(&sandbox).await.unwrap();
    assert_eq!(driver.state(&sandbox).await.unwrap(), SandboxState::Gone);
}

#[tokio::test]
async fn a_named_container_must_be_there_and_run() {
    engine_or_skip!();
    let name = format!("skync-test-{}", crate::driver::stand_in::session_id());
    let _cleanup = Cleanup(name.clone());
    docker(&["create", "--network=none", "--name", &name, ALPINE_LIKE, "sleep", "60"]);
    let with = |name: &str| {
        Docker::new(&DockerConfig { container: Some(name.into()), ..DockerConfig::default() })
    };
    let stopped = with(&name).validate().await;
    assert_eq!(stopped.len(), 1, "{stopped:#?}");
    assert_eq!(stopped[0].hints, [format!("run `docker start {name}`")]);
    let missing = with(&format!("{name}x")).validate().await;
    assert_eq!(missing[0].kind, ErrorKind::NotFound);
    assert!(missing[0].hints[0].contains(&name), "{missing:#?}");
}

#[tokio::test]
async fn validation_names_everything_that_cannot_work_on_this_engine() {
    engine_or_skip!();
    let driver = Docker::new(&DockerConfig {
        image: Some("skync-test/nowhere:1".into()),
        memory: Some(1 << 60),
        milli_cpus: Some(10_000_000),
        network: Some("nosuchnetwork".into()),
        ..DockerConfig::default()
    });
    let kinds: Vec<ErrorKind> =
        driver.validate().await.iter().map(|problem| problem.kind).collect();
    assert_eq!(
        kinds,
        [ErrorKind::Invalid, ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::NotFound]
    );
    assert!(Docker::new(&config(SPECKIT)).validate().await.is_empty());
}

#[tokio::test]
async fn no_engine_is_one_clear_problem() {
    let driver = Docker::new(&DockerConfig {
        host: Some("unix:///nosuch/docker.sock".into()),
        ..config(EMPTY)
    });
    let problems = driver.validate().await;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].kind, ErrorKind::Unreachable);
    assert!(problems[0].message.contains("`/nosuch/docker.sock` (from the profile's `host`)"));
}
