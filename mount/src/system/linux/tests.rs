use std::process::{Child, Command, Stdio};

use super::*;

const LIST: &[u8] = b"\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
36 22 0:33 / /home/me/.remote/dev rw,nosuid,nodev,relatime shared:1 master:2 - fuse.skync skync:dev rw
37 22 0:34 / /home/me/my\\040files\\134x rw,nosuid - fuse skync:two\\040words rw,user_id=0
38 22 0:35 / /home/me/other rw - fuse.sshfs host: rw
39 22 0:36 / /home/me/plain rw - fuse /dev/fuse rw
broken
40 22 0:37 / /home/me/short rw";

#[test]
fn our_mounts_are_known_by_their_kind_or_their_name() {
    let expected =
        [("/home/me/.remote/dev", "skync:dev"), ("/home/me/my files\\x", "skync:two words")];
    let expected = expected.map(|(at, name)| MountPoint { at: at.into(), name: name.to_owned() });
    assert_eq!(listed(LIST), expected);
}

#[test]
fn a_line_has_its_device_as_the_kernel_names_it() {
    let devices: Vec<_> = lines(LIST).map(|line| line.device).collect();
    assert_eq!(devices[..2], [(254, 0), (0, 33)]);
}

#[test]
fn what_is_no_number_behind_a_backslash_stays() {
    for (text, expected) in [("a\\040b", "a b"), ("a\\09b", "a\\09b"), ("a\\", "a\\"), ("", "")] {
        assert_eq!(unescaped(text.as_bytes()), OsString::from(expected));
    }
}

#[test]
fn a_directory_that_is_no_mount_is_alive_and_cannot_be_taken_away() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(health(directory.path()), Health::Alive);
    assert_eq!(health(&directory.path().join("nothing")), Health::Alive);
    assert!(!is_mount_point(directory.path()));
    assert!(is_mount_point(Path::new("/")));
    for gone in [detach(directory.path()), unmount(Path::new("/"))] {
        assert_eq!(gone.expect_err("refused").kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn a_dead_mount_that_somebody_else_took_away_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(bury(directory.path()).is_ok());
}

/// A process that waits until its input ends, and is waited for.
struct Waiting(Child);

impl Waiting {
    /// Runs a script; returns once it has said that it is ready.
    fn start(script: &str, directory: &Path) -> Self {
        use std::io::Read;
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}; echo; read line")])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut ready = [0];
        child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("ready");
        Self(child)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn who_works_below_a_place_or_has_a_file_open_there_holds_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().canonicalize().expect("a path");
    std::fs::create_dir(at.join("src")).expect("made");
    std::fs::File::create(at.join("open file")).expect("made");
    assert_eq!(holders(&at), []);
    let inside = Waiting::start("true", &at.join("src"));
    let open = Waiting::start("exec 3<'open file'; cd /", &at);
    let mut expected = [
        (inside.0.id(), "works in `src`".to_owned()),
        (open.0.id(), "has `open file` open".to_owned()),
    ];
    expected.sort();
    let found = holders(&at);
    assert!(found.iter().all(|holder| holder.command == "sh"), "{found:?}");
    let found: Vec<_> = found.into_iter().map(|holder| (holder.pid, holder.what)).collect();
    assert_eq!(found, expected);
    drop((inside, open));
    assert_eq!(holders(&at), []);
    // A sibling whose name begins the same is another place.
    let _beside = Waiting::start("true", &at);
    assert_eq!(holders(&at.join("src")), []);
}

#[test]
fn a_mapped_file_is_found_by_its_device() {
    use std::os::linux::fs::MetadataExt;
    let program = Path::new("/proc/self/exe").canonicalize().expect("a path");
    let device = program.metadata().expect("there").st_dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let at = program.parent().expect("a directory");
    let found = mapped(Path::new("/proc/self"), at, Some(device));
    assert!(found.is_some(), "our own program is mapped");
    assert_eq!(mapped(Path::new("/proc/self"), at, Some((0, 0xfff))), None);
}
