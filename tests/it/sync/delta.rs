//! What the other side has already does not travel, and nothing depends on its being there.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skync::config::SyncMode;
use skync::sync::plan::Step;
use skync::sync::replay::Replay;
use skync::sync::transfer::reuse::reusable;
use skync::sync::transfer::{Counters, push};
use skync_agent::disk::Root;
use skync_agent::endpoint::Endpoint;
use skync_agent::entry::{Digest, Directory, Entry, File};
use skync_agent::follow::Follower;
use skync_agent::path::{Name, SyncPath};
use skync_agent::proto::FollowRequest;
use skync_agent::rules::{RuleSet, Rules};
use skync_agent::transition::Status;
use skync_agent::wire::StateReader;

use crate::support::pair::Pair;
use crate::support::tree::{agreed, assert_same};
use crate::support::wait_until;

const MIB: usize = 1 << 20;

/// Bytes that look like nothing.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn write(directory: &Path, name: &str, content: &[u8]) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::write(path, content).expect("written");
}

fn rename(directory: &Path, from: &str, to: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::rename(directory.join(from), directory.join(to)).expect("renamed");
}

/// Synchronises, and gives the bytes that crossed the link in both directions together.
#[track_caller]
fn crossed(pair: &mut Pair) -> u64 {
    let counters = pair.counters();
    let wire =
        || counters.wire_in.load(Ordering::Relaxed) + counters.wire_out.load(Ordering::Relaxed);
    let before = wire();
    let report = pair.sync().expect("synchronised");
    assert!(report.problems.is_empty() && report.conflicts.is_empty(), "{report:?}");
    assert_same(&agreed(pair.host()), &agreed(pair.sandbox()));
    wire() - before
}

#[test]
fn a_change_of_1_mib_in_64_mib_costs_little_more_than_itself_each_way() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    write(pair.host(), "big", &noise(1, 64 * MIB));
    assert!(crossed(&mut pair) >= 64 * MIB as u64);
    for (seed, side) in [pair.host().to_owned(), pair.sandbox().to_owned()].iter().enumerate() {
        let file = std::fs::File::options().write(true).open(side.join("big")).expect("open");
        file.write_all_at(&noise(9 + seed as u64, MIB), 20_000_001).expect("written");
        let bytes = crossed(&mut pair);
        assert!(bytes < 64 * MIB as u64 / 20, "{bytes} bytes for the change in {side:?}");
    }
}

#[test]
fn what_was_inserted_at_the_front_does_not_bring_the_rest_along() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    let content = noise(1, 8 * MIB);
    write(pair.host(), "file", &content);
    crossed(&mut pair);
    write(pair.sandbox(), "file", &[b"in front", &content[..]].concat());
    assert!(crossed(&mut pair) < 200_000);
    write(pair.host(), "file", &content[1_000_000..]);
    assert!(crossed(&mut pair) < 200_000);
}

#[test]
fn renamed_copied_and_exchanged_files_move_no_content() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    for number in 0..40 {
        write(pair.host(), &format!("d/{number}"), &noise(number, 10_000 * (1 + number as usize)));
    }
    for number in 0..60 {
        // Where half of all moves at once, somebody is asked first.
        write(pair.host(), &format!("rest/{number}"), b"x");
    }
    crossed(&mut pair);
    for side in [pair.host().to_owned(), pair.sandbox().to_owned()] {
        rename(&side, "d", "e");
        let bytes = crossed(&mut pair);
        assert!(bytes < 40_000, "{bytes} bytes for a directory renamed in {side:?}");
        // The first and the last change places: one is small, one is large.
        rename(&side, "e/0", "e/x");
        rename(&side, "e/39", "e/0");
        rename(&side, "e/x", "e/39");
        let bytes = crossed(&mut pair);
        assert!(bytes < 4_000, "{bytes} bytes for two files exchanged in {side:?}");
        for number in 20..40 {
            std::fs::copy(side.join(format!("e/{number}")), side.join(format!("copy-{number}")))
                .expect("copied");
        }
        let bytes = crossed(&mut pair);
        assert!(bytes < 20_000, "{bytes} bytes for copies in {side:?}");
        for number in 20..40 {
            rename(&side, &format!("copy-{number}"), &format!("e/{number}"));
        }
        rename(&side, "e", "d");
        crossed(&mut pair);
    }
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_ended() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    write(pair.host(), "anchor", b"x");
    crossed(&mut pair);
    let sides = [pair.host().to_owned(), pair.sandbox().to_owned()];
    for (number, (side, name)) in sides.iter().zip(["there", "back"]).enumerate() {
        let size = 256 * MIB;
        write(side, name, &noise(number as u64, size));
        let already = pair.counters().bytes.load(Ordering::Relaxed);
        let whole = pair.sync_until(already + 64 * MIB as u64);
        assert!(whole.is_none(), "it was through before it could be interrupted");
        // The receiver is the other side: of the two staging directories, the other one.
        let staging = &pair.stagings()[1 - number];
        wait_until("the part is kept", || {
            let names = std::fs::read_dir(staging).expect("a directory").flatten();
            names.into_iter().any(|name| name.path().extension().is_some_and(|e| e == "part"))
        });
        let bytes = crossed(&mut pair);
        assert!(bytes < (size - 32 * MIB) as u64, "{bytes} of {size} bytes came again to {name}");
        assert_eq!(std::fs::read_dir(staging).expect("a directory").count(), 0);
    }
}

#[test]
fn content_that_is_staged_is_not_sent_again() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    write(pair.host(), "anchor", b"x");
    crossed(&mut pair);
    let sides = [pair.host().to_owned(), pair.sandbox().to_owned()];
    for (number, side) in sides.iter().enumerate() {
        let content = noise(number as u64, 2 * MIB);
        write(&pair.stagings()[1 - number], &Digest::of(&content).hex(), &content);
        write(side, "file", &content);
        assert!(crossed(&mut pair) < 2_000);
        // A damaged one is of no use.
        let content = noise(8 + number as u64, 2 * MIB);
        write(&pair.stagings()[1 - number], &Digest::of(&content).hex(), &content[1..]);
        write(side, "other", &content);
        assert!(crossed(&mut pair) >= 2 * MIB as u64);
    }
}

#[test]
fn what_the_sandbox_was_believed_to_hold_and_does_not_is_sent() {
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    let names = ["small", "large"].map(|name| Name::parse(name.as_bytes()).expect("a name"));
    let contents = [noise(1, 1000), noise(2, 300_000)];
    // The sandbox's file of that name is another one than the tree says.
    for name in ["small", "large"] {
        write(pair.host(), &format!("old/{name}"), b"something else");
    }
    crossed(&mut pair);
    let entry = |content: &[u8]| {
        let (digest, size) = (Digest::of(content), content.len() as u64);
        Entry::File(File { digest, size, mode: 0o644, mtime_ns: 0 })
    };
    let directory = |children: Vec<(Name, Entry)>| {
        Entry::Directory(Directory { children: children.into(), ..Directory::default() })
    };
    let mut children: Vec<_> =
        names.iter().cloned().zip(contents.iter().map(|content| entry(content))).collect();
    children.sort_by(|one, other| one.0.cmp(&other.0));
    let filler = noise(3, MIB);
    children.insert(0, (Name::parse(b"filler").expect("a name"), entry(&filler)));
    let believed = directory(vec![(Name::parse(b"old").expect("a name"), directory(children))]);
    let mut steps = Vec::new();
    for (name, content) in ["small", "large", "filler"].iter().zip(contents.iter().chain([&filler]))
    {
        write(pair.host(), &format!("new-{name}"), content);
        let path = SyncPath::parse(format!("new-{name}").as_bytes()).expect("a path");
        steps.push(Step { path, expected: None, new: Some(entry(content)) });
    }
    let reuse = reusable(&steps, Some(&believed));
    let (steps, counters) = (Arc::new(steps), Arc::new(Counters::default()));
    let host = follower(&pair);
    let replay = replay(&pair);
    let pushed = push(&host, pair.client(), &replay, &steps, false, &counters, reuse);
    let outcomes = pair.runtime().block_on(pushed).expect("pushed");
    assert_eq!(outcomes, vec![Some(Status::Applied); 3]);
    assert!(counters.wire_out.load(Ordering::Relaxed) > 1_300_000);
    assert_same(&agreed(pair.host()), &agreed(pair.sandbox()));
}

/// The host's side once more, with a staging directory of its own.
fn follower(pair: &Pair) -> Arc<Follower> {
    let rules = RuleSet::of_defaults();
    let (compiled, _) = Rules::compile(&rules);
    let root = Root::open(pair.host()).expect("a root");
    let staging = pair.host().with_file_name("other-staging");
    let endpoint = Endpoint::open(root, &staging, compiled, rules.version, None);
    let endpoint = Arc::new(endpoint.expect("an endpoint"));
    Arc::new(Follower::start(endpoint).expect("a follower"))
}

/// Follows the sandbox in place of the pair's engine.
fn replay(pair: &Pair) -> Arc<Replay> {
    let replay = Arc::new(Replay::default());
    let (mut client, there) = (pair.client(), Arc::clone(&replay));
    let rules_version = RuleSet::of_defaults().version.0.to_vec();
    pair.runtime().spawn(async move {
        let replies =
            client.follow(FollowRequest { rules_version, name: 1 }).await.expect("followed");
        let (mut replies, mut reader) = (replies.into_inner(), StateReader::default());
        while let Ok(Some(reply)) = replies.message().await {
            if let Some(state) = reader.push(reply).expect("valid") {
                there.replay(state).expect("it fits");
            }
        }
    });
    pair.runtime().block_on(replay.reached(1)).expect("the first state");
    replay
}
