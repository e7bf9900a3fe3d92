//! Tables of configuration files: text in, everything that is wrong with them out.

use std::time::Duration;

use super::*;
use crate::config::{
    DirectoryConfig, DockerConfig, DriverConfig, LinkKind, MountConfig, OnDisconnect, Origin,
    SetupCommand, SetupConfig, SyncMode,
};
use crate::error::{CliError, ExitCode};

fn parse(text: &str) -> Config {
    Config::parse(Path::new("config.toml"), text.as_bytes())
}

/// Everything wrong with a file, rendered.
fn problems(text: &str) -> String {
    let rendered: Vec<String> =
        parse(text).all_problems().iter().map(ConfigProblem::render).collect();
    rendered.join("\n")
}

/// What is wrong with a docker profile that has these lines, without places.
fn of_docker(lines: &str) -> Vec<String> {
    let text = format!("[profiles.dev]\ndriver = \"docker\"\nimage = \"a\"\n{lines}\n");
    parse(&text).all_problems().into_iter().map(|problem| problem.message).collect()
}

const EVERYTHING: &str = r#"
profile = "dev"
[profiles.dev]
driver = "docker"
image = "python:3.12"
memory = "2GiB"
cpus = 1.5
pids = 512
network = "none"
user = "1000:1000"
link = "stdio"
host = "unix:///run/docker.sock"
mode = "one-way-safe"
exclude = ["dist/", "!dist/keep"]
gitignore = true
guarded = [".envrc", "Makefile"]
root = "/work/app"
max_runtime = "1h30m"
on_disconnect = "2m"
reconnect_timeout = "90s"
[profiles.dev.env]
KEY = "value"
[profiles.copy]
driver = "directory"
base = "/var/sandboxes"
[profiles.here]
driver = "local"
env = { CI = "1" }
"#;

#[test]
fn everything_that_can_be_set_is_read() {
    let config = parse(EVERYTHING);
    assert_eq!(config.all_problems(), []);
    assert_eq!(config.active.as_deref(), Some("dev"));
    assert_eq!(config.names(), ["dev", "copy", "here", "local", "directory"]);
    let dev = config.profile("dev").unwrap().unwrap();
    assert_eq!(
        dev,
        Profile {
            name: "dev".into(),
            driver: DriverConfig::Docker(DockerConfig {
                image: Some("python:3.12".into()),
                container: None,
                host: Some("unix:///run/docker.sock".into()),
                memory: Some(2 << 30),
                milli_cpus: Some(1500),
                pids: Some(512),
                network: Some("none".into()),
                user: Some("1000:1000".into()),
                link: LinkKind::Stdio,
                setup_image: false,
            }),
            env: [("KEY".to_owned(), "value".to_owned())].into(),
            mode: SyncMode::OneWaySafe,
            exclude: vec!["dist/".into(), "!dist/keep".into()],
            gitignore: true,
            guarded: Some(vec![".envrc".into(), "Makefile".into()]),
            root: Some("/work/app".into()),
            max_runtime: Some(Duration::from_secs(5_400)),
            on_disconnect: Some(OnDisconnect::After(Duration::from_secs(120))),
            reconnect_timeout: Some(Duration::from_secs(90)),
            mount: MountConfig::default(),
            credential_command: None,
            setup: SetupConfig::default(),
            fixed: Vec::new(),
            project_files: BTreeMap::new(),
        }
    );
    let base = Some("/var/sandboxes".into());
    let copy = config.profile("copy").unwrap().unwrap();
    assert_eq!(copy.driver, DriverConfig::Directory(DirectoryConfig { base }));
    let here = config.profile("here").unwrap().unwrap();
    assert_eq!(here.env.get("CI").map(String::as_str), Some("1"));
}

#[test]
fn how_a_sandbox_is_prepared_is_read() {
    let messages = |text: &str| -> Vec<String> {
        parse(text).all_problems().into_iter().map(|problem| problem.message).collect()
    };
    let config = parse("[profiles.dev]\ndriver = \"directory\"\nsetup = \"make deps\"\n");
    let setup = config.profile("dev").unwrap().unwrap().setup;
    assert_eq!(setup.commands, [SetupCommand::Line("make deps".into())]);
    let text = "[profiles.dev]\ndriver = \"docker\"\nimage = \"a\"\nsetup = [\"apt-get install git\", \
                [\"/bin/tool\", \"--all\"]]\nsetup_timeout = \"5m\"\nsetup_image = true\n";
    let dev = parse(text).profile("dev").unwrap().unwrap();
    let tool = vec!["/bin/tool".to_owned(), "--all".to_owned()];
    let line = SetupCommand::Line("apt-get install git".into());
    assert_eq!(dev.setup.commands, [line, SetupCommand::Argv(tool)]);
    assert_eq!(dev.setup.timeout, Some(Duration::from_secs(300)));
    assert!(matches!(dev.driver, DriverConfig::Docker(docker) if docker.setup_image));
    let bad = of_docker("setup = [[]]");
    assert!(bad[0].starts_with("`setup`: a command that is a list has a program"), "{bad:?}");
    let local = messages("[profiles.here]\ndriver = \"local\"\nsetup = \"x\"\n");
    assert_eq!(local, ["`setup` has no effect with the driver `local`"]);
    let elsewhere = "[profiles.a]\ndriver = \"e2b\"\nsetup = \"x\"\nsetup_image = true\n";
    assert_eq!(messages(elsewhere), ["`setup_image` belongs to the driver `docker`"]);
    let named = "[profiles.a]\ndriver = \"docker\"\ncontainer = \"c\"\nsetup = \"x\"\n\
                 setup_image = true\n";
    assert_eq!(messages(named), ["`setup_image` has no effect together with `container`"]);
}

#[test]
fn how_a_sandbox_is_mounted_is_read() {
    let text = "[profiles.dev]\ndriver = \"directory\"\nmount = true\nmount_at = \"/mnt/dev\"\n\
                mount_root = \"src\"\nmount_rw = true\nmount_timeout = \"5s\"\n";
    let config = parse(text);
    assert_eq!(config.all_problems(), []);
    let expected = MountConfig {
        with_up: true,
        at: Some("/mnt/dev".into()),
        root: Some("src".into()),
        writable: true,
        timeout: Some(Duration::from_secs(5)),
    };
    assert_eq!(config.profile("dev").unwrap().unwrap().mount, expected);
}

#[test]
fn what_becomes_of_operations_is_checked_like_everything_else() {
    let messages = |text: &str| -> Vec<String> {
        parse(text).all_problems().into_iter().map(|problem| problem.message).collect()
    };
    let problems =
        |key: &str| messages(&format!("[profiles.dev]\ndriver = \"directory\"\n{key}\n"));
    assert_eq!(problems("on_disconnect = \"keep\"\nmax_runtime = \"2d\""), [""; 0]);
    assert_eq!(problems("max_runtime = \"long\""), ["`max_runtime`: `long` is not a time"]);
    assert_eq!(problems("max_runtime = 10"), ["`max_runtime` must be text, not an integer"]);
    let expected = "`on_disconnect`: `never` is neither `keep` nor `cancel` nor a time";
    assert_eq!(problems("on_disconnect = \"never\""), [expected]);
    let local = messages("[profiles.here]\ndriver = \"local\"\nmax_runtime = \"1h\"\n");
    assert_eq!(local, ["`max_runtime` has no effect with the driver `local`"]);
    let local = messages("[profiles.here]\ndriver = \"local\"\nmount = true\n");
    assert_eq!(local, ["`mount` has no effect with the driver `local`"]);
}

#[test]
fn an_empty_or_missing_file_has_the_built_in_profiles() {
    let config = Config::load(Path::new("/nowhere/config.toml")).unwrap();
    assert_eq!(config.names(), ["local", "directory"]);
    assert_eq!(config.profile("local").unwrap().unwrap().driver, DriverConfig::Local);
    assert!(config.profile("dev").is_none());
}

#[test]
fn all_problems_of_all_profiles_are_found_in_one_pass() {
    let text = r#"profile = "dve"
colour = "red"

[profiles.dev]
driver = "docker"
imgae = "python:3.12"
base = "/tmp/x"
memory = "lots"

[profiles.web]
driver = "dcoker"
cpus = "1.5"

[profiles.web.env]
1A = "x"
B = 2
"#;
    insta::assert_snapshot!(problems(text), @r#"
    config.toml:1:11: there is no profile `dve`
      |
    1 | profile = "dve"
      |           ^^^^^
      = did you mean `dev`?
    config.toml:2:1: unknown key `colour`
      |
    2 | colour = "red"
      | ^^^^^^
      = there is `profile` and `profiles`; settings belong below `[profiles.NAME]`
    config.toml:6:1: unknown key `imgae`
      |
    6 | imgae = "python:3.12"
      | ^^^^^
      = did you mean `image`?
    config.toml:7:1: `base` belongs to the driver `directory`
      |
    7 | base = "/tmp/x"
      | ^^^^
      = this profile has `driver = "docker"`
    config.toml:8:10: `memory`: `lots` is not a size
      |
    8 | memory = "lots"
      |          ^^^^^^
      = write `512MiB`, `2g` or a number of bytes
    config.toml:11:10: there is no driver `dcoker`
       |
    11 | driver = "dcoker"
       |          ^^^^^^^^
      = did you mean `docker`?
    config.toml:12:8: `cpus` must be a number, not text
       |
    12 | cpus = "1.5"
       |        ^^^^^
      = write it without quotes
    config.toml:15:1: `1A` cannot be the name of a variable
       |
    15 | 1A = "x"
       | ^^
      = a name has letters, digits and `_`, and does not start with a digit
    config.toml:16:5: `env.B` must be text, not an integer
       |
    16 | B = 2
       |     ^
      = put it in quotes: `"2"`
    "#);
}

#[test]
fn syntax_errors_of_several_lines_are_found_and_do_not_hide_other_problems() {
    let text = "[profiles.dev]\ndriver = docker\nimage = python:3.12\nmode = \"best\"\n";
    insta::assert_snapshot!(problems(text), @r#"
    config.toml:2:10: syntax error: text must be in quotes
      |
    2 | driver = docker
      |          ^^^^^^
    config.toml:3:9: syntax error: text must be in quotes
      |
    3 | image = python:3.12
      |         ^^^^^^^^^^^
    config.toml:4:8: `mode`: `best` is not a mode
      |
    4 | mode = "best"
      |        ^^^^^^
      = there is `two-way-safe`, `two-way-resolved`, `one-way-safe`, `one-way-replica`
    "#);
}

#[test]
fn a_syntax_error_that_may_reach_over_lines_is_reported_alone() {
    let text = "[profiles.dev\ndriver = \"docker\"\nimgae = 1\n";
    insta::assert_snapshot!(problems(text), @r"
    config.toml:1:14: syntax error: unclosed table, expected `]`
      |
    1 | [profiles.dev
      |              ^
    ");
}

#[test]
fn a_key_given_twice_is_reported_where_it_comes_again() {
    let text = "[profiles.dev]\ndriver = \"local\"\ndriver = \"docker\"\n";
    let found = parse(text).all_problems();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].line, found[0].column), (3, 1));
}

#[test]
fn a_file_that_is_not_text_is_reported_with_its_place() {
    let config = Config::parse(Path::new("config.toml"), b"profile = \"\xff\"\n");
    assert_eq!(config.all_problems()[0].to_string(), "config.toml:1:12: the file is not UTF-8");
    assert!(config.select(None, None).is_err());
}

#[test]
fn columns_count_characters_and_excerpts_hold_no_control_characters() {
    let text = "[profiles.dev]\ndriver = \"local\"\n\tenv = { \"é\u{7f}\" = 1 }\n";
    let found = problems(text);
    assert!(found.chars().all(|c| c == '\n' || !c.is_control()), "{found:?}");
    assert!(found.contains("config.toml:3:"), "{found}");
}

#[test]
fn the_value_of_a_secret_is_not_shown() {
    let text = "[profiles.dev]\ndriver = \"local\"\n[profiles.dev.env]\nAPI_TOKEN = hunter2\n";
    let found = problems(text);
    assert!(!found.contains("hunter2"), "{found}");
    assert!(found.contains("API_TOKEN = …"), "{found}");
}

#[test]
fn memory_sizes() {
    use crate::config::values::memory;
    let table = [
        ("512MiB", Some(512 << 20)),
        ("2g", Some(2 << 30)),
        ("2GB", Some(2 << 30)),
        ("1.5 GiB", Some(3 << 29)),
        ("8388608", Some(8 << 20)),
        ("1t", Some(1 << 40)),
        ("1b", None),
        ("", None),
        ("g", None),
        ("-1g", None),
        ("1.g", None),
        (".5g", None),
        ("1.2.3g", None),
        ("2 giga", None),
        ("99999999999t", None),
        ("99999999999999999999", None),
        ("1.0000000000g", None),
    ];
    for (text, wanted) in table {
        assert_eq!(memory(text).ok(), wanted, "{text:?}");
    }
}

#[test]
fn bad_values_are_named() {
    let table = [
        ("cpus = 0", "`cpus`: `0` is not a number of CPUs"),
        ("cpus = -1.5", "`cpus`: `-1.5` is not a number of CPUs"),
        ("cpus = nan", "`cpus`: `NaN` is not a number of CPUs"),
        ("cpus = \"2\"", "`cpus` must be a number, not text"),
        ("pids = 0", "`pids`: `0` is not a number of processes"),
        ("pids = 1.5", "`pids` must be a whole number, not a float"),
        ("memory = -1", "`memory`: `-1` is not a size"),
        ("memory = true", "`memory` must be a size, not a boolean"),
        ("user = 1000", "`user` must be text, not an integer"),
        ("user = \"a:b:c\"", "`user`: `a:b:c` is not a user"),
        ("network = \"\"", "`network`: `` cannot be the name of a network"),
        ("host = \"ssh://x\"", "`host`: `ssh://x` is not the address of an engine"),
        ("host = \"unix://x\"", "`host`: `unix://x` is not the address of an engine"),
        ("link = \"tcp\"", "`link`: `tcp` is not a link"),
        ("mode = \"two-way\"", "`mode`: `two-way` is not a mode"),
        ("gitignore = \"true\"", "`gitignore` must be true or false, not text"),
        ("exclude = \"dist/\"", "`exclude` must be a list, not text"),
        ("exclude = [\"a\", 1]", "`exclude`: an integer is not a pattern"),
        ("exclude = [\"# note\"]", "`exclude`: the pattern `# note` matches nothing"),
        ("exclude = [\"a\\nb\"]", "`exclude`: the pattern `a\\nb` is more than one line"),
        ("root = \"app\"", "`root`: `app` is not an absolute path"),
        ("root = \"~/app\"", "`root`: `~/app` is not an absolute path"),
        ("root = \"/a/../b\"", "`root`: `/a/../b` is not a plain path"),
        ("root = \"/\"", "`root`: `/` is the whole machine"),
        ("setup = 1", "`setup` must be a list, not an integer"),
        ("setup = [1]", "`setup`: an integer is not a command"),
        ("setup = \" \"", "`setup`: an empty line is not a command"),
        ("setup_timeout = \"0s\"", "`setup_timeout`: `0s` is not a time"),
        ("setup_image = true", "`setup_image` has no effect without `setup`"),
        ("mount = \"yes\"", "`mount` must be true or false, not text"),
        ("mount_at = \"box\"", "`mount_at`: `box` is not an absolute path"),
        ("mount_root = \"../x\"", "`mount_root`: `../x` is not a plain path"),
        ("mount_rw = 1", "`mount_rw` must be true or false, not an integer"),
        ("mount_timeout = \"soon\"", "`mount_timeout`: `soon` is not a time"),
        ("env = [\"A=1\"]", "`env` must be a table, not an array"),
        ("env = { \"A=\" = \"1\" }", "`A=` cannot be the name of a variable"),
        ("env = { A = 1 }", "`env.A` must be text, not an integer"),
        ("container = \"b\"", "`image` and `container` exclude each other"),
    ];
    for (line, wanted) in table {
        assert_eq!(of_docker(line), [wanted], "{line}");
    }
    assert_eq!(of_docker("exclude = [\"a[z-a]\"]").len(), 1);
}

#[test]
fn images_are_checked_as_docker_does() {
    use crate::config::values::image;
    for good in ["a", "python:3.12", "ghcr.io/o/i:Tag", "localhost:5000/i", "HOST.x/i@sha256:ab"] {
        assert!(image(good).is_ok(), "{good}");
    }
    for bad in ["", "-it", "Python", "docker.io/Python:3", "a b", "a\u{1b}[31m"] {
        assert!(image(bad).is_err(), "{bad}");
    }
}

#[test]
fn limits_do_not_go_with_a_container_that_runs() {
    let text = "[profiles.dev]\ndriver = \"docker\"\ncontainer = \"web\"\nmemory = \"1g\"\ncpus = 1\n\
                user = \"1000\"\nlink = \"socket\"\n";
    let found: Vec<String> =
        parse(text).all_problems().into_iter().map(|problem| problem.message).collect();
    assert_eq!(
        found,
        [
            "`memory` has no effect together with `container`",
            "`cpus` has no effect together with `container`",
            "`link = \"socket\"` cannot be together with `container`",
        ]
    );
}

#[test]
fn a_driver_that_is_not_there_is_named_with_what_is() {
    let of_driver = |driver: &str| {
        let problem = parse(&format!("[profiles.dev]\ndriver = \"{driver}\"\n")).all_problems();
        (problem[0].message.clone(), problem[0].hint.clone().unwrap_or_default())
    };
    assert_eq!(of_driver("dockr").1, "did you mean `docker`?");
    assert_eq!(of_driver("e2").1, "did you mean `e2b`?");
    let all = "there is `docker`, `e2b`, `daytona`, `directory`, `local`";
    assert_eq!(of_driver("zzzzzzz"), ("there is no driver `zzzzzzz`".to_owned(), all.to_owned()));
}

#[test]
fn what_is_missing_is_asked_for() {
    let of = |text: &str| {
        let found = parse(text).all_problems();
        let all: Vec<String> = found.into_iter().map(|problem| problem.message).collect();
        all.join("; ")
    };
    assert_eq!(of("[profiles.dev]\n"), "the profile `dev` has no `driver`");
    assert_eq!(
        of("[profiles.dev]\ndriver = \"docker\"\n"),
        "the profile `dev` has neither `image` nor `container`"
    );
    assert_eq!(of("[profile.dev]\n"), "`profile` is the name of the profile in use");
    assert_eq!(of("profiles = 1\n"), "`profiles` must be a table");
    assert_eq!(of("[profiles]\ndev = 1\n"), "`profiles.dev` is an integer, not a table");
    assert_eq!(of("[dev]\ndriver = \"docker\"\n"), "unknown key `dev`");
}

#[test]
fn names_follow_the_rules() {
    let name = |name: &str| {
        let found = parse(&format!("[profiles.{name}]\ndriver = \"directory\"\n")).all_problems();
        found.into_iter().map(|problem| problem.message).next()
    };
    for good in ["a", "A1", "\"a.b\"", "0", "a_b-c", &"x".repeat(64)] {
        assert_eq!(name(good), None, "{good}");
    }
    for bad in ["\"\"", "\".a\"", "-a", "_a", "\"a b\"", "\"a/b\"", "\"é\"", &"x".repeat(65)] {
        assert!(name(bad).is_some_and(|text| text.contains("cannot be the name")), "{bad}");
    }
    let redefined = "the profile `local` is built in and cannot be redefined";
    assert_eq!(name("local").as_deref(), Some(redefined));
}

#[test]
fn selection_follows_its_order() {
    let two = "[profiles.a]\ndriver = \"local\"\n[profiles.b]\ndriver = \"local\"\n";
    let active = format!("profile = \"b\"\n{two}");
    let sole = "[profiles.a]\ndriver = \"local\"\n";
    let table = [
        (active.as_str(), Some("a"), Some("directory"), "a", Origin::Flag),
        (active.as_str(), None, Some("a"), "a", Origin::Environment),
        (active.as_str(), Some(""), Some(""), "b", Origin::Active),
        (two, None, None, "directory", Origin::BuiltIn),
        (sole, None, None, "a", Origin::Sole),
        (sole, Some("local"), None, "local", Origin::Flag),
        ("", None, None, "directory", Origin::BuiltIn),
        ("profile = \"local\"\n", None, None, "local", Origin::Active),
    ];
    for (text, flag, env, name, why) in table {
        let selected = parse(text).select(flag, env).unwrap();
        assert_eq!((selected.profile.name.as_str(), selected.why), (name, why), "{text}");
    }
}

#[test]
fn an_unknown_profile_names_the_nearest_and_all_there_are() {
    let config = parse("[profiles.dev]\ndriver = \"local\"\n");
    let error = CliError::from(config.select(None, Some("dve")).unwrap_err());
    assert_eq!(error.message, "there is no profile `dve`, chosen because of SKYNC_PROFILE");
    assert_eq!(error.hints, ["did you mean `dev`?", "there is `dev`, `local`, `directory`"]);
    assert_eq!(error.code, ExitCode::NotFound);
}

#[test]
fn a_good_profile_can_be_used_beside_a_broken_one() {
    let text = "[profiles.good]\ndriver = \"local\"\n[profiles.bad]\ndriver = \"local\"\nx = 1\n";
    let config = parse(text);
    let selected = config.select(Some("good"), None).unwrap();
    assert_eq!(selected.warnings.len(), 1);
    assert!(matches!(config.select(Some("bad"), None), Err(ConfigError::Problems { .. })));
}

#[test]
fn a_choice_that_rests_on_a_broken_file_is_refused() {
    let text =
        "profle = \"a\"\n[profiles.a]\ndriver = \"local\"\n[profiles.b]\ndriver = \"local\"\n";
    let config = parse(text);
    assert!(matches!(config.select(None, None), Err(ConfigError::Problems { .. })));
    assert_eq!(config.select(Some("a"), None).unwrap().warnings.len(), 1);
}

#[test]
fn a_profile_that_may_have_lost_a_line_is_not_used() {
    // The unreadable line could be a limit, so running without it would be wrong.
    let config = parse("[profiles.a]\ndriver = \"docker\"\nimage = \"a\"\nmemory = 2GiB\n");
    assert!(matches!(config.select(Some("a"), None), Err(ConfigError::Problems { .. })));
    assert_eq!(config.select(Some("local"), None).unwrap().profile.name, "local");
}

#[test]
fn a_configuration_that_is_no_file_is_an_error_and_not_empty() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(Config::load(home.path()), Err(ConfigError::State(_))));
}
