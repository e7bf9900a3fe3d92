//! Links that end at the worst moment.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesClose, FilesContent, FilesContents, FilesEntry, FilesError};
use skync_mount::source::{
    Change, Handle, Make, OpenHow, Owner, Reading, SetAttributes, Stamp, Urgency,
};
use skync_mount::{Answer, Source as _, SourceError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::script::{
    Asked, LANES, PATIENCE, Script, changed, directory, entry, file, listing, place, root,
};
use crate::mounts::LinkSource;

const OWNER: Owner = Owner { mode: 0o644, ids: None };

fn name(name: &str) -> OsString {
    name.into()
}

/// Carries out a request beside the test.
fn start<T, F>(script: &Script, request: impl FnOnce(Arc<LinkSource>) -> F) -> JoinHandle<Answer<T>>
where
    T: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    tokio::spawn(request(Arc::clone(&script.source)))
}

/// Has a request arrive, cuts the link, and opens another one to the same agent.
async fn cut_in_the_middle(script: &mut Script) -> Asked {
    let asked = script.next().await;
    script.links.cut();
    script.link("box", true).await;
    assert_eq!(script.change().await, Change::Missed);
    asked
}

fn how(append: bool, exclusive: bool) -> OpenHow {
    OpenHow { write: true, append, exclusive, ..OpenHow::default() }
}

fn found(attributes: skync_agent::proto::FilesAttributes) -> Reply {
    Reply::Found(FilesEntry { attributes: Some(attributes), ..FilesEntry::default() })
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_cut_is_asked_again() {
    let mut script = Script::begun().await;
    let read = start(&script, |source| async move {
        source.read(Reading::At(place("f", 7)), 0, 4, Urgency::Now).await
    });
    let first = cut_in_the_middle(&mut script).await;
    let second = script.next().await;
    assert_eq!(first.request, second.request);
    second.answer(0, Reply::Data(Bytes::from_static(b"data"))).await;
    assert_eq!(read.await.expect("no panic").expect("data"), "data");
}

#[tokio::test(start_paused = true)]
async fn half_of_a_read_counts_for_nothing_when_the_link_ends() {
    let mut script = Script::begun().await;
    let read = start(&script, |source| async move {
        source.read(Reading::Open(Handle(3)), 0, 8, Urgency::Ahead).await
    });
    let first = script.next().await;
    first.answer_part(0, Reply::Data(Bytes::from_static(b"old "))).await;
    script.links.cut();
    script.link("box", true).await;
    let second = script.next().await;
    second.answer_part(0, Reply::Data(Bytes::from_static(b"new "))).await;
    second.answer(0, Reply::Data(Bytes::from_static(b"data"))).await;
    assert_eq!(read.await.expect("no panic").expect("data"), "new data");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_cut_begins_anew() {
    let mut script = Script::begun().await;
    let mut list = script.source.list(root(), 10);
    let first = script.next().await;
    let listed = listing(b"", vec![entry(b"a", 7)]);
    first.answer_part(1001, Reply::Listing(listed.clone())).await;
    assert_eq!(list.recv().await.expect("a directory").expect("a list").stamp, Stamp(1001));
    script.links.cut();
    script.link("box", true).await;
    script.next().await.answer(1002, Reply::Listing(listed)).await;
    let again = list.recv().await.expect("a directory").expect("a list");
    assert_eq!((again.stamp, again.what.entries.len()), (Stamp(1002), 1));
    assert!(list.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn of_a_fetch_that_was_cut_only_the_rest_is_asked_again() {
    let mut script = Script::begun().await;
    let mut fetched = script.source.fetch(vec![place("a", 7), place("b", 8), place("c", 9)]);
    let content = |index, inode| FilesContent {
        index,
        stamp: 1001,
        attributes: Some(file(inode)),
        ..FilesContent::default()
    };
    let first = script.next().await;
    first.answer_part(0, Reply::Contents(FilesContents { contents: vec![content(1, 8)] })).await;
    assert_eq!(fetched.recv().await.expect("a file").index, 1);
    script.links.cut();
    script.link("box", true).await;
    let second = script.next().await;
    let Request::Fetch(fetch) = &second.request else { panic!("{:?}", second.request) };
    let paths: Vec<_> = fetch.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, [b"a", b"c"]);
    let contents = vec![content(1, 9), content(0, 7)];
    second.answer(0, Reply::Contents(FilesContents { contents })).await;
    let indexes = [fetched.recv().await, fetched.recv().await];
    assert_eq!(indexes.map(|fetched| fetched.expect("a file").index), [2, 0]);
    assert!(fetched.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_write_at_an_offset_is_repeated_and_one_to_the_end_is_not() {
    let mut script = Script::begun().await;
    for append in [false, true] {
        let handle = Handle(3 + u64::from(append));
        let open = start(&script, move |source| async move {
            source.open(place("f", 7), handle, how(append, false)).await
        });
        script.next().await.answer(1001, found(file(7))).await;
        open.await.expect("no panic").expect("it is open");
        let write = start(&script, move |source| async move {
            source.write(handle, 5, Bytes::from_static(b"data")).await
        });
        let first = cut_in_the_middle(&mut script).await;
        if append {
            assert!(script.is_quiet().await, "it was written twice");
            assert_eq!(write.await.expect("no panic"), Err(SourceError::Unreachable));
        } else {
            let second = script.next().await;
            assert_eq!(first.request, second.request);
            second.answer(1002, found(file(7))).await;
            assert!(write.await.expect("no panic").is_ok());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attributes_that_were_being_set_are_set_again() {
    let mut script = Script::begun().await;
    let set = start(&script, |source| async move {
        let change = SetAttributes { size: Some(0), ..SetAttributes::default() };
        source.set_attributes(place("f", 7), None, change).await
    });
    let first = cut_in_the_middle(&mut script).await;
    let second = script.next().await;
    assert_eq!(first.request, second.request);
    second.answer(1001, found(file(7))).await;
    assert!(set.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn whether_a_file_was_made_shows_in_its_handle() {
    for was_made in [true, false] {
        let mut script = Script::begun().await;
        let create = start(&script, |source| async move {
            source.create(root(), name("f"), Handle(3), how(false, true), OWNER).await
        });
        cut_in_the_middle(&mut script).await;
        let look = script.next().await;
        let Request::Attributes(at) = &look.request else { panic!("{:?}", look.request) };
        assert_eq!(at.handle, 3);
        if was_made {
            look.answer(1001, found(file(7))).await;
            script.next().await.answer(1002, found(directory(2))).await;
        } else {
            look.fail(FilesError::Stale).await;
            let again = script.next().await;
            assert!(matches!(again.request, Request::Create(_)));
            again.answer(1001, changed(Some(file(7)))).await;
        }
        let made = create.await.expect("no panic").expect("it is made");
        assert_eq!(made.stamp, Stamp(1001));
        assert_eq!(made.what.object.map(|object| object.object.inode), Some(7));
    }
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_create_that_was_late_is_not_taken_for_anothers() {
    let mut script = Script::begun().await;
    let create = start(&script, |source| async move {
        source.create(root(), name("f"), Handle(3), how(false, true), OWNER).await
    });
    cut_in_the_middle(&mut script).await;
    // It is carried out after it was looked for.
    script.next().await.fail(FilesError::Stale).await;
    script.next().await.fail(FilesError::Exists).await;
    script.next().await.answer(1001, found(file(7))).await;
    script.next().await.answer(1002, found(directory(2))).await;
    assert!(create.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_open_that_was_cut_is_not_done_twice() {
    let mut script = Script::begun().await;
    let truncating = OpenHow { write: true, truncate: true, ..OpenHow::default() };
    let open = start(&script, move |source| async move {
        source.open(place("f", 7), Handle(3), truncating).await
    });
    cut_in_the_middle(&mut script).await;
    let look = script.next().await;
    assert!(matches!(&look.request, Request::Attributes(at) if at.handle == 3));
    look.answer(1001, found(file(7))).await;
    assert!(open.await.expect("no panic").is_ok());
}

/// Cuts the link while a directory is made, and answers the look at it with this.
async fn make_in_doubt(found: Option<FilesEntry>) -> (Script, JoinHandle<Answer<u64>>) {
    let mut script = Script::begun().await;
    let make = start(&script, |source| async move {
        let owner = Owner { mode: 0o755, ids: None };
        let made = source.make(root(), name("d"), Make::Directory, owner).await?;
        Ok(made.what.object.map_or(0, |object| object.object.inode))
    });
    cut_in_the_middle(&mut script).await;
    let look = script.next().await;
    assert!(matches!(look.request, Request::Look(_)));
    match found {
        Some(entry) => look.answer(1001, Reply::Found(entry)).await,
        None => look.fail(FilesError::NotFound).await,
    }
    (script, make)
}

#[tokio::test(start_paused = true)]
async fn what_was_to_be_made_and_is_not_there_is_made_again() {
    let (mut script, make) = make_in_doubt(None).await;
    script.next().await.answer(1002, changed(Some(directory(7)))).await;
    assert_eq!(make.await.expect("no panic"), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn what_was_made_is_known_by_its_looks() {
    let (mut script, make) =
        make_in_doubt(Some(FilesEntry { attributes: Some(directory(7)), ..entry(b"d", 7) })).await;
    script.next().await.answer(1002, found(directory(2))).await;
    assert_eq!(make.await.expect("no panic"), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_was_not_made() {
    let old = skync_agent::proto::FilesAttributes { born_ns: 17, ..directory(7) };
    let (_script, make) =
        make_in_doubt(Some(FilesEntry { attributes: Some(old), ..entry(b"d", 7) })).await;
    assert_eq!(make.await.expect("no panic"), Err(SourceError::Exists));
}

#[tokio::test(start_paused = true)]
async fn what_looks_otherwise_may_or_may_not_have_been_made() {
    let (_script, make) = make_in_doubt(Some(entry(b"d", 7))).await;
    assert_eq!(make.await.expect("no panic"), Err(SourceError::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_made_means_its_object() {
    for (inode, expected) in [(7, Ok(())), (8, Err(SourceError::Exists))] {
        let mut script = Script::begun().await;
        let link = start(&script, |source| async move {
            source.link(place("f", 7), root(), name("g")).await.map(|_| ())
        });
        cut_in_the_middle(&mut script).await;
        script.next().await.answer(1001, Reply::Found(entry(b"g", inode))).await;
        if expected.is_ok() {
            script.next().await.answer(1002, found(directory(2))).await;
        }
        assert_eq!(link.await.expect("no panic"), expected);
    }
}

/// Has the source see this file, so that it is known to have been there.
async fn see(script: &mut Script, inode: u64) {
    let seen =
        start(
            script,
            move |source| async move { source.attributes(place("seen", inode), None).await },
        );
    script.next().await.answer(1001, found(file(inode))).await;
    seen.await.expect("no panic").expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_repeated_only_for_what_was_there_before() {
    let remove = |source: Arc<LinkSource>| async move {
        source.remove(root(), name("f"), false).await.map(|_| ())
    };
    // It is gone.
    let mut script = Script::begun().await;
    see(&mut script, 7).await;
    let removed = start(&script, remove);
    cut_in_the_middle(&mut script).await;
    script.next().await.fail(FilesError::NotFound).await;
    script.next().await.answer(1002, found(directory(2))).await;
    assert_eq!(removed.await.expect("no panic"), Ok(()));
    // It is there still.
    let removed = start(&script, remove);
    cut_in_the_middle(&mut script).await;
    script.next().await.answer(1003, Reply::Found(entry(b"f", 7))).await;
    let again = script.next().await;
    assert!(matches!(again.request, Request::Remove(_)));
    again.answer(1004, changed(None)).await;
    assert_eq!(removed.await.expect("no panic"), Ok(()));
    // Another one is there.
    let removed = start(&script, remove);
    cut_in_the_middle(&mut script).await;
    script.next().await.answer(1005, Reply::Found(entry(b"f", 8))).await;
    assert_eq!(removed.await.expect("no panic"), Err(SourceError::Unreachable));
    assert!(script.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_rename_has_happened_if_the_old_name_is_gone_and_the_new_one_there() {
    let rename = |source: Arc<LinkSource>| async move {
        let (from, to) = ((place("a", 5), name("f")), (place("b", 6), name("g")));
        source.rename(from, to, false).await
    };
    let mut script = Script::begun().await;
    see(&mut script, 7).await;
    let renamed = start(&script, rename);
    cut_in_the_middle(&mut script).await;
    script.next().await.fail(FilesError::NotFound).await;
    script.next().await.answer(1003, Reply::Found(entry(b"g", 7))).await;
    script.next().await.answer(1004, found(directory(5))).await;
    script.next().await.answer(1005, found(directory(6))).await;
    let what = renamed.await.expect("no panic").expect("it happened").what;
    let inodes = [what.object, what.before, Some(what.directory)];
    assert_eq!(inodes.map(|it| it.map_or(0, |it| it.object.inode)), [7, 5, 6]);
    // Not yet.
    let renamed = start(&script, rename);
    cut_in_the_middle(&mut script).await;
    script.next().await.answer(1006, Reply::Found(entry(b"f", 7))).await;
    let again = script.next().await;
    assert!(matches!(again.request, Request::Rename(_)));
    again.answer(1007, changed(Some(file(7)))).await;
    assert!(renamed.await.expect("no panic").is_ok());
    // Neither is there.
    let renamed = start(&script, rename);
    cut_in_the_middle(&mut script).await;
    script.next().await.fail(FilesError::NotFound).await;
    script.next().await.fail(FilesError::NotFound).await;
    assert_eq!(renamed.await.expect("no panic"), Err(SourceError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_closed_in_an_outage_is_closed_afterwards() {
    let mut script = Script::begun().await;
    script.links.cut();
    script.links.lose();
    while !script.source.is_waiting() {
        tokio::task::yield_now().await;
    }
    script.source.close(Handle(3));
    script.link("box", true).await;
    assert_eq!(script.next().await.request, Request::Close(FilesClose { handle: 3 }));
}

#[tokio::test(start_paused = true)]
async fn a_close_of_which_the_agent_may_not_know_is_told_again() {
    let mut script = Script::begun().await;
    script.source.close(Handle(3));
    see_after_close(&mut script, 3).await;
    script.source.close(Handle(4));
    assert_eq!(script.next().await.request, Request::Close(FilesClose { handle: 4 }));
    script.links.cut();
    script.link("box", true).await;
    // Of the first one it knows: it has answered what came later.
    assert_eq!(script.next().await.request, Request::Close(FilesClose { handle: 4 }));
    assert!(script.is_quiet().await);
}

async fn see_after_close(script: &mut Script, handle: u64) {
    assert_eq!(script.next().await.request, Request::Close(FilesClose { handle }));
    see(script, 7).await;
}

#[tokio::test(start_paused = true)]
async fn another_sandbox_and_an_agent_that_forgot_are_anew() {
    let mut script = Script::begun().await;
    // A younger agent counts from the beginning, and what it says is newer all the same.
    for (sandbox, resumed, stamp) in
        [("box", false, 2000), ("other", true, 3000), ("other", true, 5), ("other", false, 1)]
    {
        let waiting =
            start(&script, |source| async move { source.attributes(place("f", 7), None).await });
        script.next().await;
        script.links.cut();
        script.link_at(sandbox, resumed, stamp).await;
        let Change::Anew(root) = script.change().await else { panic!("not anew") };
        assert_eq!(root.what.object.inode, 2);
        assert!(root.stamp > Stamp(1000), "{root:?}");
        assert_eq!(waiting.await.expect("no panic"), Err(SourceError::Stale));
        let asked =
            start(&script, |source| async move { source.attributes(place("f", 7), None).await });
        script.next().await.answer(stamp + 1, found(file(7))).await;
        assert!(asked.await.expect("no panic").expect("attributes").stamp > root.stamp);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_link_and_then_gives_up() {
    let script = Script::new();
    let began = Instant::now();
    let answer = script.source.attributes(root(), None).await;
    assert_eq!(answer, Err(SourceError::Unreachable));
    assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 2);
    // Whoever comes now need not wait as well.
    let late = Instant::now();
    assert_eq!(script.source.space().await, Err(SourceError::Unreachable));
    assert_eq!(late.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_goes_out_with_the_link() {
    let mut script = Script::new();
    let look = start(&script, |source| async move { source.look(root(), name("f")).await });
    tokio::time::advance(PATIENCE / 2).await;
    script.link("box", false).await;
    script.next().await.answer(1001, Reply::Found(entry(b"f", 7))).await;
    assert!(look.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_not_waited_for_for_ever() {
    let mut script = Script::begun().await;
    let began = Instant::now();
    let read = start(&script, |source| async move {
        source.read(Reading::At(root()), 0, 4, Urgency::Now).await
    });
    let mut list = script.source.list(root(), 10);
    let mut fetch = script.source.fetch(vec![root()]);
    let asked = [script.next().await, script.next().await, script.next().await];
    assert_eq!(read.await.expect("no panic"), Err(SourceError::Unreachable));
    let listed = list.recv().await.expect("an answer");
    assert_eq!(listed.map(|_| ()), Err(SourceError::Unreachable));
    let fetched = fetch.recv().await.expect("an answer").content;
    assert_eq!(fetched.map(|_| ()), Err(SourceError::Unreachable));
    assert!(began.elapsed() < PATIENCE * 2);
    drop(asked);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_gone_is_not_waited_for() {
    let mut script = Script::begun().await;
    let look = start(&script, |source| async move { source.look(root(), name("f")).await });
    let _asked = script.next().await;
    script.links.give_up();
    assert_eq!(look.await.expect("no panic"), Err(SourceError::Unreachable));
    let began = Instant::now();
    assert_eq!(script.source.space().await, Err(SourceError::Unreachable));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_there_is_said_at_once_and_looked_for_again() {
    let mut script = Script::new();
    script.links.open("box").await;
    let began = Instant::now();
    let root = start(&script, |source| async move { source.root().await });
    for _ in 0..LANES {
        script.next().await.fail(FilesError::NotFound).await;
    }
    assert_eq!(root.await.expect("no panic"), Err(SourceError::NotFound));
    assert!(began.elapsed() < PATIENCE);
    // It is made, and found over the same link.
    for _ in 0..LANES {
        let asked = script.next().await;
        let begun = skync_agent::proto::FilesBegun {
            root: Some(directory(2)),
            ..skync_agent::proto::FilesBegun::default()
        };
        asked.answer(1000, Reply::Begun(begun)).await;
    }
    while script.source.is_waiting() {
        tokio::task::yield_now().await;
    }
    assert!(script.source.root().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_mount_is_told_and_nothing_is_asked_after_it() {
    let mut script = Script::begun().await;
    script.source.end().await;
    assert!(matches!(script.next().await.request, Request::End(_)));
    assert_eq!(script.source.space().await, Err(SourceError::Unreachable));
    assert!(script.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_on_when_the_source_is_dropped() {
    let mut script = Script::begun().await;
    let mut list = script.source.list(root(), 10);
    let _asked = script.next().await;
    let (began, tasks) = (Instant::now(), tokio::runtime::Handle::current().metrics());
    let Script { links, source, .. } = script;
    drop(source);
    assert!(list.recv().await.is_none_or(|listed| listed.is_err()));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    drop(links);
    while tasks.num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_what_it_has_begun_is_not_asked_all_the_time() {
    let mut script = Script::begun().await;
    script.source.close(Handle(3));
    script.next().await.hang_up().await;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < PATIENCE * 2 {
        let asked = script.next().await;
        if matches!(asked.request, Request::Begin(_)) {
            count += 1;
            let root = Some(directory(2));
            let begun = skync_agent::proto::FilesBegun { root, resumed: true, uid: 0, gid: 0 };
            asked.answer(5000 + count, Reply::Begun(begun)).await;
            asked.hang_up().await;
        }
    }
    assert!(count < 40 * LANES as u64, "{count} times");
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_a_lane_takes_wait_for_their_turn() {
    const COUNT: u64 = 3000;
    let mut script = Script::begun().await;
    let look = |source: Arc<LinkSource>| async move {
        source.attributes(place("f", 7), None).await.map(|seen| seen.what.size)
    };
    let looks: Vec<_> = (0..COUNT).map(|_| start(&script, look)).collect();
    // Half of them are given up: nobody waits for their turn any more.
    looks.iter().step_by(2).for_each(JoinHandle::abort);
    let mut asked = vec![script.next().await];
    while !script.is_quiet_into(&mut asked).await {}
    assert!(asked.len() < 1100, "{} at once", asked.len());
    let answering = tokio::spawn(async move {
        // The last one first; then whatever comes.
        for one in asked.into_iter().rev() {
            one.answer(1001, found(file(7))).await;
        }
        loop {
            script.next().await.answer(1001, found(file(7))).await;
        }
    });
    for (index, look) in looks.into_iter().enumerate() {
        match look.await {
            Ok(answer) => assert_eq!(answer, Ok(0)),
            Err(error) => assert!(error.is_cancelled() && index % 2 == 0),
        }
    }
    answering.abort();
}
