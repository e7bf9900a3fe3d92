//! What happens in directories that were listed is told.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::streams::{Agent, Lane};
use super::*;
use crate::proto::files_change::Change;
use crate::proto::{FilesForget, FilesLook};

/// What a session knows by what it is told: paths, and their sizes; nothing of what is below.
#[derive(Default)]
struct Known {
    files: BTreeMap<String, u64>,
    below: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Known {
    fn take(&mut self, change: Change) {
        match change {
            Change::Below(path) => self.below.push(text(&path)),
            Change::Entry(change) => {
                let entry = change.entry.expect("a name");
                let path = format!("{}/{}", text(&change.directory), text(&entry.name));
                match entry.attributes {
                    Some(attributes) => self.files.insert(path, attributes.size),
                    None => self.files.remove(&path),
                };
            }
        }
    }

    /// Takes changes until it is so.
    async fn until(&mut self, lane: &mut Lane, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            let change = lane.change().await;
            self.take(change);
        }
    }
}

#[tokio::test]
async fn files_that_are_made_written_and_removed_are_told() {
    let agent = Agent::new();
    fs::create_dir(agent.root.join("d")).expect("made");
    let mut lane = agent.lane(true).await;
    let listings = lane.listings("").await;
    assert!(listings.iter().all(|listing| listing.followed));
    let mut known = Known::default();
    fs::write(agent.root.join("d/file"), "four").expect("written");
    known.until(&mut lane, |known| known.files.get("d/file") == Some(&4)).await;
    fs::write(agent.root.join("d/file"), "longer").expect("written");
    known.until(&mut lane, |known| known.files.get("d/file") == Some(&6)).await;
    fs::remove_file(agent.root.join("d/file")).expect("removed");
    known.until(&mut lane, |known| known.files.is_empty()).await;
    assert!(known.below.is_empty());
}

#[tokio::test]
async fn a_change_says_what_a_look_at_its_time_says() {
    let agent = Agent::new();
    fs::write(agent.root.join("file"), "").expect("written");
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    let mode = fs::Permissions::from_mode(0o604);
    fs::set_permissions(agent.root.join("file"), mode).expect("set");
    let Change::Entry(change) = lane.change().await else { panic!("no entry") };
    assert!(!change.content, "only its attributes");
    // Our own listing has read the root meanwhile.
    let untimed =
        |root: Option<FilesAttributes>| root.map(|a| FilesAttributes { atime_ns: 0, ..a });
    assert_eq!(untimed(change.directory_attributes), untimed(lane.begun.root));
    let entry = change.entry.expect("a name");
    assert_eq!(entry.attributes.expect("there").mode, 0o100_604);
    let look = FilesLook { directory: at(""), name: b"file".to_vec() };
    let id = lane.send(Request::Look(look)).await;
    let seen = lane.replies(id).await.remove(0);
    assert!(seen.stamp > change.stamp);
    assert_eq!(seen.reply, Some(Reply::Found(entry)));
}

#[tokio::test]
async fn a_directory_that_was_moved_is_to_be_listed_again() {
    let agent = Agent::new();
    fs::create_dir_all(agent.root.join("a/deep")).expect("made");
    fs::write(agent.root.join("a/deep/file"), "x").expect("written");
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    fs::rename(agent.root.join("a"), agent.root.join("b")).expect("moved");
    let mut known = Known::default();
    known.until(&mut lane, |known| known.below.contains(&"b".to_owned())).await;
    assert!(known.files.contains_key("/b") && !known.files.contains_key("/a"));
    assert_eq!(lane.listings("b").await.len(), 2);
    fs::write(agent.root.join("b/deep/file"), "xyz").expect("written");
    known.until(&mut lane, |known| known.files.get("b/deep/file") == Some(&3)).await;
    // Another one comes to the place of the first.
    fs::create_dir(agent.root.join("a")).expect("made");
    known.until(&mut lane, |known| known.files.contains_key("/a")).await;
    lane.listings("a").await;
    fs::write(agent.root.join("a/new"), "1").expect("written");
    known.until(&mut lane, |known| known.files.get("a/new") == Some(&1)).await;
    fs::write(agent.root.join("b/deep/file"), "12345").expect("written");
    known.until(&mut lane, |known| known.files.get("b/deep/file") == Some(&5)).await;
}

#[tokio::test]
async fn nothing_in_fresh_nested_directories_is_lost() {
    let agent = Agent::new();
    let mut lane = agent.lane(true).await;
    let mut known = Known::default();
    let root = agent.root.clone();
    let maker = std::thread::spawn(move || {
        for n in 0..50 {
            let directory = root.join(format!("d{n}/e/f"));
            fs::create_dir_all(&directory).expect("made");
            fs::write(directory.join("file"), vec![0; n]).expect("written");
        }
    });
    // As a session does it: what appears as a directory is listed, whenever that is heard of.
    let mut unlisted = vec![String::new()];
    let is_whole = |known: &Known| {
        (0..50).all(|n| known.files.get(&format!("d{n}/e/f/file")) == Some(&(n as u64)))
    };
    while !is_whole(&known) {
        let Some(directory) = unlisted.pop() else {
            let change = lane.change().await;
            if let Change::Entry(change) = &change
                && let Some(entry) = &change.entry
                && entry.attributes.is_some_and(|a| a.mode & 0o170_000 == 0o040_000)
            {
                let path = format!("{}/{}", text(&change.directory), text(&entry.name));
                unlisted.push(path.trim_start_matches('/').to_owned());
            }
            known.take(change);
            continue;
        };
        for listing in lane.listings(&directory).await {
            for entry in listing.entries {
                let path = format!("{}/{}", text(&listing.path), text(&entry.name));
                let attributes = entry.attributes.expect("told");
                known.files.insert(path, attributes.size);
            }
        }
    }
    maker.join().expect("it is done");
}

#[tokio::test]
async fn to_tell_of_a_links_times_is_no_access_to_it() {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

    let agent = Agent::new();
    let link = agent.root.join("link");
    std::os::unix::fs::symlink("x", &link).expect("made");
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    // With a later change than access, the next access is written down (`relatime`).
    let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: at(1_000), last_modification: at(4_000_000_000) };
    rustix::fs::utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set");
    loop {
        let Change::Entry(change) = lane.change().await else { continue };
        let Some(entry) = change.entry else { continue };
        if entry.attributes.is_some_and(|told| told.mtime_ns == 4_000_000_000_000_000_000) {
            assert_eq!((text(&entry.name), entry.target), ("link".to_owned(), Vec::new()));
            break;
        }
    }
    assert_eq!(link.symlink_metadata().expect("there").atime(), 1_000);
}

#[tokio::test]
async fn what_was_forgotten_is_told_no_more_until_it_is_listed_again() {
    let agent = Agent::new();
    fs::create_dir_all(agent.root.join("a/b")).expect("made");
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    let forget = FilesForget { paths: vec![b"a".to_vec()] };
    lane.send(Request::Forget(forget)).await;
    // Requests are carried out side by side: this one is answered after that one is done.
    let watch = || agent.watch().expect("it is watched");
    let deadline = Instant::now() + PATIENCE;
    while watch().is_watched("a") {
        assert!(Instant::now() < deadline, "it is still watched");
        tokio::task::yield_now().await;
    }
    assert!(watch().is_watched("a/b"), "what is below is another directory");
    fs::write(agent.root.join("a/silent"), "x").expect("written");
    fs::write(agent.root.join("a/b/told"), "x").expect("written");
    let mut known = Known::default();
    known.until(&mut lane, |known| known.files.contains_key("a/b/told")).await;
    assert!(!known.files.contains_key("a/silent"));
    lane.listings("a").await;
    fs::write(agent.root.join("a/silent"), "xy").expect("written");
    known.until(&mut lane, |known| known.files.get("a/silent") == Some(&2)).await;
}

#[tokio::test]
async fn changes_are_told_to_the_stream_that_asked_last() {
    let agent = Agent::new();
    let mut first = agent.lane(true).await;
    first.listings("").await;
    let mut second = agent.lane(true).await;
    let listings = second.listings("").await;
    assert!(listings.iter().all(|listing| listing.followed));
    fs::write(agent.root.join("file"), "x").expect("written");
    let mut known = Known::default();
    known.until(&mut second, |known| known.files.contains_key("/file")).await;
    drop(second);
    // Without a stream that is told, nothing is followed; the rest goes on.
    let deadline = Instant::now() + PATIENCE;
    while first.listings("").await.iter().any(|listing| listing.followed) {
        assert!(Instant::now() < deadline, "it is still followed");
    }
}

#[tokio::test]
async fn a_root_that_is_gone_is_told_as_nothing_known() {
    let agent = Agent::new();
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    fs::remove_dir(&agent.root).expect("removed");
    let mut known = Known::default();
    known.until(&mut lane, |known| known.below.contains(&String::new())).await;
}

#[tokio::test]
async fn a_file_that_is_written_all_the_time_is_told_once_in_a_while() {
    let agent = Agent::new();
    let mut lane = agent.lane(true).await;
    lane.listings("").await;
    let path = agent.root.join("log");
    let begun = std::time::Instant::now();
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::create(path).expect("made");
        for _ in 0..20_000 {
            std::io::Write::write_all(&mut file, b"line\n").expect("written");
        }
    });
    let (mut known, mut count) = (Known::default(), 0);
    while known.files.get("/log") != Some(&100_000) {
        known.take(lane.change().await);
        count += 1;
    }
    writer.join().expect("it is done");
    let most = begun.elapsed().as_millis() / 5 + 2;
    assert!(count <= most, "{count} changes told, and {most} are enough");
}
