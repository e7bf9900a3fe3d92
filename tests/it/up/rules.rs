//! Rules that change while a mirror runs.

use super::{arrives, put};
use crate::support::{World, wait_until};

#[test]
fn what_an_edited_rule_file_excludes_is_left_alone_on_both_sides() {
    let world = World::new();
    world.write("a.log", "1");
    world.write("d/b.log", "1");
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    arrives(&sandbox, "d/b.log", "1");
    put(host, ".skyncignore", "*.log\n");
    arrives(&sandbox, ".skyncignore", "*.log\n");
    put(host, "a.log", "of the host");
    put(&sandbox, "d/b.log", "of the sandbox");
    put(host, "after", "1");
    arrives(&sandbox, "after", "1");
    world.run(&["flush"]).expect_code(0);
    let read = |side: &std::path::Path, name: &str| std::fs::read_to_string(side.join(name)).ok();
    assert_eq!(read(&sandbox, "a.log").as_deref(), Some("1"));
    assert_eq!(read(host, "d/b.log").as_deref(), Some("1"));
    // What is not excluded any more is looked at again; both changed nothing here but one side.
    put(host, "c.log", "new");
    put(host, ".skyncignore", "a.log\n");
    arrives(&sandbox, "c.log", "new");
    assert_eq!(read(&sandbox, "a.log").as_deref(), Some("1"));
    up.interrupt();
}

#[test]
fn what_an_edited_profile_excludes_is_left_alone_without_a_restart() {
    let world = World::new();
    world.run(&["profile", "add", "p", "--driver", "directory"]).expect_code(0);
    world.write("a.tmp", "1");
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    arrives(&sandbox, "a.tmp", "1");
    let file = world.path("c/skync/config.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let edited =
        text.replace("driver = \"directory\"", "driver = \"directory\"\nexclude = [\"*.tmp\"]");
    assert_ne!(text, edited);
    #[expect(clippy::disallowed_methods, reason = "as an editor does")]
    std::fs::write(&file, edited).expect("written");
    // It shows only in what does not arrive: new names are tried until one does not.
    let mut number = 0;
    wait_until("the profile holds", || {
        number += 1;
        put(host, &format!("{number}.tmp"), "x");
        put(host, &format!("{number}.txt"), "x");
        arrives(&sandbox, &format!("{number}.txt"), "x");
        !sandbox.join(format!("{number}.tmp")).exists()
    });
    put(host, "a.tmp", "2");
    world.run(&["flush"]).expect_code(0);
    assert_eq!(std::fs::read_to_string(sandbox.join("a.tmp")).expect("there"), "1");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}
