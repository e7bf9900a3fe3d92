//! Edits keep what a person wrote, lose no other edit, and refuse what they cannot understand.
#![expect(clippy::disallowed_methods, reason = "fixtures below a temporary directory")]

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn new(name: &str) -> NewProfile {
    let settings = vec![("driver", Value::from("docker")), ("image", Value::from("a:1"))];
    NewProfile { name: name.to_owned(), settings, env: BTreeMap::new() }
}

/// A configuration file with this text, in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    (home, file)
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

const COMMENTED: &str = r#"# all my sandboxes

# the everyday one
[profiles.dev]
driver = "docker"   # the engine on this machine
image = "a:1"

# never touch this
[profiles.web]
image = "b"
driver = "docker"
# the end
"#;

#[test]
fn the_first_profile_makes_the_file_and_becomes_active() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config/config.toml");
    let mut dev = new("dev");
    dev.env.insert("A".to_owned(), "1\"2".to_owned());
    let added = add(&file, &dev, false).unwrap();
    assert!(added.activated && !added.replaced);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    insta::assert_snapshot!(text(&file), @r#"
    profile = "dev"

    [profiles.dev]
    driver = "docker"
    image = "a:1"

    [profiles.dev.env]
    A = '1"2'
    "#);
    assert!(!add(&file, &new("web"), false).unwrap().activated);
    assert_eq!(Config::load(&file).unwrap().names(), ["dev", "web", "local", "directory"]);
}

#[test]
fn adding_and_using_keep_comments_and_order() {
    let (_home, file) = file(COMMENTED);
    add(&file, &new("third"), false).unwrap();
    activate(&file, "web").unwrap();
    insta::assert_snapshot!(text(&file), @r#"
    # all my sandboxes

    profile = "web"

    # the everyday one
    [profiles.dev]
    driver = "docker"   # the engine on this machine
    image = "a:1"

    # never touch this
    [profiles.web]
    image = "b"
    driver = "docker"

    [profiles.third]
    driver = "docker"
    image = "a:1"
    # the end
    "#);
    activate(&file, "local").unwrap();
    assert!(text(&file).contains("profile = \"local\""));
}

#[test]
fn replacing_keeps_the_place_and_the_comment_above() {
    let (_home, file) = file(COMMENTED);
    let mut dev = new("dev");
    dev.settings[1].1 = Value::from("a:2");
    assert!(matches!(add(&file, &dev, false), Err(ConfigError::Exists { .. })));
    assert_eq!(text(&file), COMMENTED);
    assert!(add(&file, &dev, true).unwrap().replaced);
    let wanted = COMMENTED.replace("   # the engine on this machine", "").replace("a:1", "a:2");
    assert_eq!(text(&file), wanted);
}

#[test]
fn removing_keeps_the_comments_of_others_and_of_the_file() {
    let (_home, file) = file(COMMENTED);
    remove(&file, "dev").unwrap();
    insta::assert_snapshot!(text(&file), @r#"
    # all my sandboxes

    # never touch this
    [profiles.web]
    image = "b"
    driver = "docker"
    # the end
    "#);
    remove(&file, "web").unwrap();
    assert!(text(&file).contains("# all my sandboxes"), "{}", text(&file));
}

#[test]
fn removing_the_active_profile_leaves_none_active() {
    let (_home, file) = file("profile = \"a\" # mine\n[profiles.a]\ndriver = \"local\"\n");
    let left = remove(&file, "a").unwrap();
    assert_eq!(left.active, None);
    assert!(matches!(remove(&file, "a"), Err(ConfigError::UnknownProfile { .. })));
    assert!(matches!(remove(&file, "local"), Err(ConfigError::BuiltIn { .. })));
}

#[test]
fn removing_the_active_profile_keeps_the_comment_at_the_head() {
    let after = |before: &str| {
        let (_home, file) = file(before);
        remove(&file, "a").unwrap();
        text(&file)
    };
    let (head, a) = ("# all mine\nprofile = \"a\"\n", "[profiles.a]\ndriver = \"local\"\n");
    assert_eq!(after(&format!("{head}\n{a}")), "# all mine\n");
    let b = "[profiles.b]\ndriver = \"local\"\n";
    assert_eq!(after(&format!("{head}\n{a}\n{b}")), format!("# all mine\n\n{b}"));
    assert_eq!(after(&format!("{head}x = 1\n{a}")), "# all mine\nx = 1\n");
}

#[test]
fn inline_and_dotted_profiles_can_be_edited() {
    let (_home, file) = file("profiles = { a = { driver = \"local\" } }\n");
    add(&file, &new("b"), false).unwrap();
    assert_eq!(Config::load(&file).unwrap().names(), ["a", "b", "local", "directory"]);
    remove(&file, "a").unwrap();
    std::fs::write(&file, "profiles.a.driver = \"local\"\n").unwrap();
    add(&file, &new("b"), false).unwrap();
    assert_eq!(Config::load(&file).unwrap().all_problems(), []);
    assert_eq!(Config::load(&file).unwrap().names(), ["a", "b", "local", "directory"]);
}

#[test]
fn a_file_with_a_syntax_error_is_left_as_it_is() {
    let broken = "[profiles.a]\ndriver = local\n";
    let (_home, file) = file(broken);
    assert!(matches!(add(&file, &new("b"), false), Err(ConfigError::Problems { .. })));
    assert!(matches!(remove(&file, "a"), Err(ConfigError::Problems { .. })));
    assert!(matches!(activate(&file, "local"), Err(ConfigError::Problems { .. })));
    assert_eq!(text(&file), broken);
}

#[test]
fn a_profile_with_problems_is_refused_with_all_of_them() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    let mut bad = new("bad name");
    bad.settings.push(("memory", Value::from("lots")));
    bad.env.insert("1A".to_owned(), String::new());
    let Err(ConfigError::Refused { problems, .. }) = add(&file, &bad, false) else {
        panic!("it was added")
    };
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(matches!(add(&file, &new("local"), true), Err(ConfigError::Refused { .. })));
    assert!(!file.exists());
}

#[test]
fn a_broken_profile_cannot_be_chosen_but_removed() {
    let (_home, file) = file("[profiles.a]\ndriver = \"local\"\nx = 1\n");
    assert!(matches!(activate(&file, "a"), Err(ConfigError::Problems { .. })));
    remove(&file, "a").unwrap();
    assert_eq!(Config::load(&file).unwrap().all_problems(), []);
}

#[test]
fn concurrent_adds_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    let names: Vec<String> = (0..16).map(|number| format!("p{number}")).collect();
    std::thread::scope(|threads| {
        for name in &names {
            threads.spawn(|| add(&file, &new(name), false).unwrap());
        }
    });
    let config = Config::load(&file).unwrap();
    assert_eq!(config.profiles.len(), names.len());
    assert_eq!(config.all_problems(), []);
    assert!(config.active.is_some());
}

#[test]
fn a_linked_file_stays_a_link() {
    let home = tempfile::tempdir().unwrap();
    let (dotfiles, file) = (home.path().join("dotfiles.toml"), home.path().join("config.toml"));
    std::fs::write(&dotfiles, "").unwrap();
    symlink(&dotfiles, &file).unwrap();
    add(&file, &new("a"), false).unwrap();
    assert!(std::fs::symlink_metadata(&file).unwrap().is_symlink());
    assert!(text(&dotfiles).contains("[profiles.a]"));
    std::fs::remove_file(&dotfiles).unwrap();
    assert!(matches!(add(&file, &new("a"), false), Err(ConfigError::State(_))));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config"), "").unwrap();
    let error = add(&home.path().join("config/config.toml"), &new("a"), false).unwrap_err();
    assert!(error.to_string().contains("cannot make the directory"), "{error}");
}
