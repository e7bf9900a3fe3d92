//! A sandbox that lies about what one side holds of a content.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use skync_agent::entry::Digest;
use skync_agent::proto::{Chunk, Copy, Held, Packed, Wanted};

use super::{file, root};
use crate::support::fake_agent::{Deceived, FakeAgent};
use crate::support::tree::{assert_same, untouched};

const SIZE: usize = 300_000;

fn old() -> Vec<u8> {
    vec![b'o'; SIZE]
}

/// The old content with something in front.
fn new() -> Vec<u8> {
    [&b"new"[..], &old()].concat()
}

fn put(deceived: &Deceived, content: &[u8]) {
    let mut file = std::fs::File::create(deceived.host().join("f")).expect("made");
    file.write_all(content).expect("written");
    // As the scan says.
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("set");
}

/// A project with the old content in `f`, of which the sandbox said first that it has the same, and
/// then that it has the new.
fn changed(supplies: impl Fn(&Wanted) -> Vec<Chunk> + Send + Sync + 'static) -> Deceived {
    let agent = FakeAgent::scanning(|number| {
        let content = if number == 0 { old() } else { new() };
        vec![root(), file(1, b"anchor", b""), file(1, b"f", &content)]
    });
    let mut deceived = Deceived::new(agent.supplying(supplies), &[]);
    put(&deceived, &old());
    deceived.sync().expect("synchronised");
    deceived
}

fn data(wanted: &Wanted, offset: u64, data: &[u8], last: bool) -> Chunk {
    let (digest, data) = (wanted.digest.clone(), Bytes::copy_from_slice(data));
    Chunk { digest, offset, data, last, ..Chunk::default() }
}

fn copy(wanted: &Wanted, at: u64, path: &[u8], offset: u64, length: u64, last: bool) -> Chunk {
    let copy = Some(Copy { path: path.to_vec(), offset, length });
    Chunk { copy, ..data(wanted, at, b"", last) }
}

/// The sandbox answers with these copies; what comes after them it sends whole.
#[track_caller]
fn mended(what: &'static str, copies: fn(&Wanted) -> Vec<Chunk>) {
    let mut deceived = changed(move |wanted| {
        let held = wanted.held.clone().unwrap_or_default();
        if held.signature.is_empty() { vec![data(wanted, 0, &new(), true)] } else { copies(wanted) }
    });
    let report = deceived.sync().expect(what);
    assert!(report.problems.is_empty(), "{what}: {report:?}");
    assert!(std::fs::read(deceived.host().join("f")).expect("there") == new(), "{what}");
}

#[test]
fn copies_that_make_another_content_are_replaced_by_the_content() {
    mended("the truth", |w| vec![data(w, 0, b"new", false), copy(w, 3, b"", 0, 300_000, true)]);
    mended("another stretch", |w| {
        vec![copy(w, 0, b"", 0, 299_000, false), data(w, 299_000, &[b'x'; 1003], true)]
    });
    mended("another file, which is not looked at", |w| {
        vec![data(w, 0, b"new", false), copy(w, 3, b"anchor", 0, 300_000, true)]
    });
    mended("a stretch outside of the file", |w| {
        vec![data(w, 0, b"new", false), copy(w, 3, b"", u64::MAX - 300_000, 300_000, true)]
    });
}

#[test]
fn copies_that_never_make_the_content_are_given_up() {
    for endless in [
        |w: &Wanted| vec![copy(w, 0, b"", 0, 300_003, true)],
        |w: &Wanted| vec![copy(w, 0, b"", 0, u64::MAX, true)],
        |w: &Wanted| vec![copy(w, 0, b"", u64::MAX, u64::MAX, true)],
        |w: &Wanted| (0..1000).map(|_| copy(w, 0, b"", 0, 0, false)).collect(),
        |w: &Wanted| (0..1000).map(|_| copy(w, 0, b"", 0, 300_000, false)).collect(),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let mut deceived = changed(move |wanted| {
            counted.fetch_add(1, Ordering::Relaxed);
            endless(wanted)
        });
        let before = untouched(deceived.outside());
        if let Ok(report) = deceived.sync() {
            assert!(!report.problems.is_empty(), "taken");
        }
        // Twice in each round: as copies, and then the content itself. A synchronisation has 4 times 4
        // rounds at most, for what was put off may be due again before the last one.
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked <= 2 * 4 * 4, "asked again and again: {asked}");
        assert_same(&before, &untouched(deceived.outside()));
    }
}

#[test]
fn a_copy_where_nothing_was_said_of_what_is_here_is_refused() {
    // The host has no file of that name, and the content is in another one.
    let scan = [root(), file(1, b"anchor", b""), file(1, b"f", &new())];
    let agent = FakeAgent::scanning(move |_| scan.to_vec())
        .supplying(|w| vec![copy(w, 0, b"secret", 0, SIZE as u64 + 3, true)]);
    let mut deceived = Deceived::new(agent, &[]);
    let mut secret = std::fs::File::create(deceived.host().join("secret")).expect("made");
    secret.write_all(&new()).expect("written");
    drop(secret);
    if let Ok(report) = deceived.sync() {
        assert!(!report.problems.is_empty());
    }
    assert!(!deceived.host().join("f").exists());
}

#[test]
fn a_sandbox_that_lies_about_what_it_holds_is_sent_the_content() {
    let signature = vec![7; SIZE / 4096 * 12];
    let held = Held { signature: signature.clone(), size: SIZE as u64, ..Held::default() };
    for lie in [
        Held::default(),
        Held { prefix: u64::MAX, ..Held::default() },
        Held { prefix: SIZE as u64 + 4, ..Held::default() },
        held.clone(),
        Held { size: u64::MAX, ..held.clone() },
        Held { size: 0, ..held.clone() },
        Held { signature: signature[1..].to_vec(), ..held.clone() },
        Held { signature: vec![0; 4 << 20], size: u64::MAX, ..held.clone() },
    ] {
        let told = format!("{} bytes of {}", lie.signature.len(), lie.size);
        let agent =
            FakeAgent::scanning(|_| vec![root(), file(1, b"anchor", b""), file(1, b"f", &old())])
                .holding(move |offered| {
                    assert_eq!(offered.digest, Digest::of(&new()).0);
                    lie.clone()
                });
        let received = agent.received();
        let mut deceived = Deceived::new(agent, &[]);
        put(&deceived, &old());
        deceived.sync().expect("synchronised");
        assert_eq!(received.load(Ordering::Relaxed), 0, "there was nothing to send");
        put(&deceived, &new());
        deceived.sync().expect("synchronised");
        assert!(received.load(Ordering::Relaxed) >= new().len() as u64, "{told}");
    }
}

#[test]
fn content_goes_packed_over_a_slow_link() {
    // More than the windows of HTTP/2 take at once, so that the sender gets to wait.
    const LENGTH: usize = 24 << 20;
    let agent = FakeAgent::scanning(|_| vec![root(), file(1, b"anchor", b"")])
        .slow(Duration::from_millis(8));
    let (received, packed) = (agent.received(), agent.packed());
    let mut deceived = Deceived::new(agent, &[]);
    put(&deceived, &b"the same again and again ".repeat(LENGTH / 25));
    deceived.sync().expect("synchronised");
    assert!(received.load(Ordering::Relaxed) > LENGTH as u64 - 25);
    let packed = packed.load(Ordering::Relaxed);
    assert!(packed > 0, "nothing was packed");
    assert!(packed < LENGTH as u64 / 10, "{packed} bytes");
}

#[test]
fn packed_content_is_taken_and_what_only_claims_to_be_is_not() {
    let whole: fn(&Wanted) -> Vec<Chunk> = |wanted| vec![data(wanted, 0, &new(), true)];
    let sync = |packs: fn(Packed) -> Packed| {
        let scan = [root(), file(1, b"anchor", b""), file(1, b"f", &new())];
        let agent = FakeAgent::scanning(move |_| scan.to_vec()).supplying(whole).packing(packs);
        let mut deceived = Deceived::new(agent, &[]);
        let result = deceived.sync();
        let there = std::fs::read(deceived.host().join("f")).ok();
        (result, there)
    };
    let (result, there) = sync(|packed| packed);
    assert!(result.is_ok() && there == Some(new()), "{result:?}");
    for lie in [
        |packed: Packed| Packed { size: packed.size - 1, ..packed },
        |packed: Packed| Packed { size: packed.size + 1, ..packed },
        |packed: Packed| Packed { size: u32::MAX, ..packed },
        |packed: Packed| Packed { size: 4 << 20, ..packed },
        |packed: Packed| Packed { data: packed.data.slice(..packed.data.len() - 1), ..packed },
        |packed: Packed| Packed { data: Bytes::from_static(b"nothing of the kind"), ..packed },
        |packed: Packed| Packed { data: Bytes::new(), ..packed },
    ] {
        let (result, there) = sync(lie);
        assert!(result.is_err(), "{result:?}");
        assert_eq!(there, None);
    }
}
