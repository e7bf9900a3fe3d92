//! An agent that lies: nothing of it gets through, and nothing breaks.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use skync_agent::proto::files_change::Change as WireChange;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::{
    FilesAttributes, FilesChange, FilesChanges, FilesContent, FilesContents, FilesEntry,
    FilesEntryChange, FilesListing, FilesProblem, FilesSpace,
};
use skync_mount::source::{Change, Handle, Reading, Seek, Urgency};
use skync_mount::{Answer, Source as _, SourceError};

use super::script::{Script, changed, directory, entry, file, listing, place, root};

/// Names that none is.
fn names() -> Vec<Vec<u8>> {
    let names: [&[u8]; 7] = [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"../../etc/passwd"];
    let mut names = names.map(<[u8]>::to_vec).to_vec();
    names.push(vec![b'a'; 256]);
    names
}

fn absurd() -> Vec<FilesAttributes> {
    vec![
        FilesAttributes { size: u64::MAX, ..file(7) },
        FilesAttributes { blocks: 1 << 63, ..file(7) },
        FilesAttributes { mode: 0, ..file(7) },
        FilesAttributes { mode: u32::MAX, ..file(7) },
    ]
}

fn is_nonsense<T: std::fmt::Debug>(answer: &Answer<T>) -> bool {
    matches!(answer, Err(SourceError::Failed(_)))
}

/// What a look at `f` comes to if this is the reply to it.
async fn look(script: &mut Script, reply: Reply) -> Answer<OsString> {
    let source = Arc::clone(&script.source);
    let look = tokio::spawn(async move { source.look(root(), "f".into()).await });
    script.next().await.answer(1001, reply).await;
    look.await.expect("no panic").map(|seen| seen.what.name)
}

/// What comes of a list of `d` if these are the replies to it.
async fn list(script: &mut Script, parts: Vec<FilesListing>) -> Vec<Answer<usize>> {
    let mut list = script.source.list(place("d", 2), 10);
    let asked = script.next().await;
    let last = parts.len() - 1;
    for (index, part) in parts.into_iter().enumerate() {
        let reply = Reply::Listing(part);
        match index == last {
            true => asked.answer(1001, reply).await,
            false => asked.answer_part(1001, reply).await,
        }
    }
    let mut listed = Vec::new();
    while let Some(answer) = list.recv().await {
        listed.push(answer.map(|seen| seen.what.entries.len()));
    }
    listed
}

#[tokio::test(start_paused = true)]
async fn a_look_that_makes_no_sense_fails() {
    let mut script = Script::begun().await;
    for name in names().into_iter().skip(1).chain([b"g".to_vec()]) {
        let answer = look(&mut script, Reply::Found(entry(&name, 7))).await;
        assert!(is_nonsense(&answer), "{name:?}: {answer:?}");
    }
    for attributes in absurd() {
        let found = FilesEntry { attributes: Some(attributes), ..entry(b"f", 7) };
        let answer = look(&mut script, Reply::Found(found)).await;
        assert!(is_nonsense(&answer), "{attributes:?}: {answer:?}");
    }
    let link = FilesAttributes { mode: 0o120_777, ..file(7) };
    for (attributes, target) in
        [(link, b"a\0b".to_vec()), (link, vec![b'a'; 5000]), (file(7), b"a".to_vec())]
    {
        let found = FilesEntry { attributes: Some(attributes), target, ..entry(b"f", 7) };
        assert!(is_nonsense(&look(&mut script, Reply::Found(found)).await));
    }
    let other = [Reply::Position(3), Reply::Data(Bytes::new()), changed(None)];
    for reply in other {
        assert!(is_nonsense(&look(&mut script, reply).await));
    }
    let none = FilesEntry { attributes: None, ..entry(b"f", 7) };
    assert!(is_nonsense(&look(&mut script, Reply::Found(none)).await));
    let nameless = Reply::Found(entry(b"", 7));
    assert_eq!(look(&mut script, nameless).await, Ok("f".into()), "the stream goes on");
}

#[tokio::test(start_paused = true)]
async fn times_at_the_ends_of_time_are_times() {
    let mut script = Script::begun().await;
    for ns in [i64::MIN, -1, 0, i64::MAX] {
        let times = FilesAttributes { atime_ns: ns, mtime_ns: ns, ctime_ns: ns, ..file(7) };
        let found = FilesEntry { attributes: Some(times), ..entry(b"f", 7) };
        assert_eq!(look(&mut script, Reply::Found(found)).await, Ok("f".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_makes_no_sense_fails() {
    let mut script = Script::begun().await;
    let whole = |entries| listing(b"d", entries);
    let mut bad: Vec<Vec<FilesListing>> =
        names().iter().map(|name| vec![whole(vec![entry(name, 7)])]).collect();
    let not_one = FilesAttributes { mode: 0o100_644, ..directory(2) };
    bad.extend([
        // Of other directories.
        vec![listing(b"", Vec::new())],
        vec![listing(b"e", Vec::new())],
        vec![listing(b"d2", Vec::new())],
        vec![listing(b"d/../e", Vec::new())],
        vec![listing(b"/d", Vec::new())],
        // Twice the same name.
        vec![whole(vec![entry(b"a", 7), entry(b"a", 8)])],
        // No directory.
        vec![FilesListing { attributes: Some(not_one), ..whole(Vec::new()) }],
        vec![FilesListing { attributes: None, ..whole(Vec::new()) }],
        // It breaks off.
        vec![FilesListing { unfinished: true, ..whole(Vec::new()) }],
        vec![FilesListing { unfinished: true, ..whole(Vec::new()) }, listing(b"d/e", Vec::new())],
    ]);
    for parts in bad {
        let listed = list(&mut script, parts.clone()).await;
        assert!(
            matches!(listed.as_slice(), [answer] if is_nonsense(answer)),
            "{parts:?}: {listed:?}"
        );
    }
    // The directory itself is told, and the lie after it is not.
    let listed = list(&mut script, vec![whole(Vec::new()), listing(b"e", Vec::new())]).await;
    assert!(matches!(listed.as_slice(), [Ok(0), answer] if is_nonsense(answer)), "{listed:?}");
    let parts = vec![
        FilesListing { unfinished: true, ..whole(vec![entry(b"a", 7)]) },
        whole(vec![entry(b"b", 8)]),
        listing(b"d/e", vec![entry(b"c", 9)]),
    ];
    assert_eq!(list(&mut script, parts).await, [Ok(2), Ok(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_ends() {
    let mut script = Script::begun().await;
    let mut list = script.source.list(root(), 10);
    let asked = script.next().await;
    let flood = tokio::spawn(async move {
        let link = FilesAttributes { mode: 0o120_777, ..file(7) };
        let long = |n: u32| FilesEntry {
            attributes: Some(link),
            target: vec![b'a'; 4000],
            ..entry(n.to_string().as_bytes(), 7)
        };
        let entries: Vec<_> = (0..250).map(long).collect();
        asked.answer_part(1001, Reply::Listing(listing(b"", Vec::new()))).await;
        for n in 0..130 {
            let part = listing(format!("d{n}").as_bytes(), entries.clone());
            asked.answer_part(1001, Reply::Listing(part)).await;
        }
    });
    // Nobody listens meanwhile.
    flood.await.expect("no panic");
    let (mut count, mut last) = (0, None);
    while let Some(answer) = list.recv().await {
        (count, last) = (count + 1, Some(answer));
    }
    assert!(is_nonsense(&last.expect("an answer")));
    assert!(count < 130, "{count} directories came through");
}

#[tokio::test(start_paused = true)]
async fn more_data_than_was_asked_for_is_not_taken() {
    let mut script = Script::begun().await;
    let data = |length| Reply::Data(Bytes::from(vec![1; length]));
    for pieces in [vec![5], vec![4, 1], vec![2, 3], vec![4, 4, 4], vec![0, 4]] {
        let source = Arc::clone(&script.source);
        let read =
            tokio::spawn(
                async move { source.read(Reading::Open(Handle(3)), 0, 4, Urgency::Now).await },
            );
        let asked = script.next().await;
        let (last, before) = pieces.split_last().expect("pieces");
        for piece in before {
            asked.answer_part(0, data(*piece)).await;
        }
        asked.answer(0, data(*last)).await;
        let answer = read.await.expect("no panic");
        assert!(is_nonsense(&answer), "{pieces:?}: {answer:?}");
    }
    assert_eq!(look(&mut script, Reply::Found(entry(b"f", 7))).await, Ok("f".into()));
}

#[tokio::test(start_paused = true)]
async fn contents_that_make_no_sense_fail() {
    let mut script = Script::begun().await;
    let content = |index, size, data: usize| FilesContent {
        index,
        stamp: 1001,
        attributes: Some(FilesAttributes { size, ..file(7) }),
        data: Bytes::from(vec![1; data]),
        problem: None,
    };
    let bad = [
        // Another file, another size, twice the same, and too few.
        vec![content(2, 1, 1)],
        vec![content(u32::MAX, 1, 1)],
        vec![content(0, 2, 1)],
        vec![content(0, (1 << 20) + 1, (1 << 20) + 1)],
        vec![content(0, 1, 1), content(0, 1, 1)],
        vec![content(0, 1, 1)],
        vec![FilesContent { attributes: None, ..content(0, 0, 0) }],
    ];
    for contents in bad {
        let mut fetch = script.source.fetch(vec![place("a", 7), place("b", 8)]);
        script.next().await.answer(0, Reply::Contents(FilesContents { contents })).await;
        let mut answers = [None, None];
        while let Some(fetched) = fetch.recv().await {
            let length = fetched.content.map(|seen| seen.what.1.len());
            assert!(answers[fetched.index].replace(length).is_none(), "two answers for one file");
        }
        assert!(answers.iter().any(|answer| answer.as_ref().is_some_and(is_nonsense)));
    }
}

#[tokio::test(start_paused = true)]
async fn replies_to_nothing_and_changes_of_nothing_do_no_harm() {
    let mut script = Script::new();
    let now = script.link("box", false).await;
    now.send(77, 1001, false, Reply::Position(1)).await;
    now.send(0, 1001, true, Reply::Found(entry(b"f", 7))).await;
    now.send(u64::MAX, u64::MAX, false, changed(None)).await;
    let gone = |directory: &[u8], name: &[u8]| FilesChange {
        change: Some(WireChange::Entry(FilesEntryChange {
            directory: directory.to_vec(),
            entry: Some(FilesEntry { name: name.to_vec(), ..FilesEntry::default() }),
            stamp: u64::MAX,
            ..FilesEntryChange::default()
        })),
    };
    let mut changes: Vec<_> = names().iter().map(|name| gone(b"d", name)).collect();
    changes.push(gone(b"..", b"a"));
    changes.push(FilesChange { change: Some(WireChange::Below(b"../x".to_vec())) });
    changes.push(FilesChange { change: Some(WireChange::Entry(FilesEntryChange::default())) });
    let count = changes.len();
    changes.push(FilesChange { change: None });
    changes.push(gone(b"d", b"a"));
    now.send(0, 0, false, Reply::Changes(FilesChanges { changes })).await;
    // Who cannot be understood may have meant anything.
    for _ in 0..count {
        assert_eq!(script.change().await, Change::Below("".into()));
    }
    let Change::Entry { name, entry: None, .. } = script.change().await else {
        panic!("not a change of a name");
    };
    assert_eq!(name, "a");
    assert_eq!(look(&mut script, Reply::Found(entry(b"f", 7))).await, Ok("f".into()));
}

#[tokio::test(start_paused = true)]
async fn offsets_and_room_are_possible_ones() {
    let mut script = Script::begun().await;
    let source = Arc::clone(&script.source);
    let seek =
        tokio::spawn(async move { source.seek(Reading::Open(Handle(3)), 0, Seek::Data).await });
    script.next().await.answer(0, Reply::Position(u64::MAX)).await;
    assert!(is_nonsense(&seek.await.expect("no panic")));
    let most = FilesSpace {
        block_bytes: u32::MAX,
        blocks: 1 << 20,
        blocks_free: u64::MAX,
        blocks_available: u64::MAX,
        files: 3,
        files_free: u64::MAX,
        name_bytes_max: 255,
    };
    let bad = [FilesSpace { block_bytes: 0, ..most }, FilesSpace { blocks: u64::MAX, ..most }];
    for reply in bad.into_iter().chain([most]) {
        let source = Arc::clone(&script.source);
        let space = tokio::spawn(async move { source.space().await });
        script.next().await.answer(0, Reply::Space(reply)).await;
        let space = space.await.expect("no panic");
        assert_eq!(is_nonsense(&space), reply != most, "{space:?}");
        if let Ok(space) = space {
            assert_eq!((space.blocks_free, space.files_free), (1 << 20, 3));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_says_cannot_command_a_terminal() {
    let mut script = Script::begun().await;
    let message = format!("\x1b[2J{}", "long ".repeat(1000));
    let problem = FilesProblem { error: 0, message };
    let Err(SourceError::Failed(words)) = look(&mut script, Reply::Problem(problem)).await else {
        panic!("it did not fail");
    };
    assert!(!words.contains('\x1b') && words.len() < 300, "{words:?}");
    // An error that is not known yet is one as well.
    let unknown = FilesProblem { error: 12345, message: String::new() };
    assert!(is_nonsense(&look(&mut script, Reply::Problem(unknown)).await));
}
