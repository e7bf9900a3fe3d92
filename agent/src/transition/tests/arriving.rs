//! Content that is partly here already.

use super::*;
use crate::delta::Signature;
use crate::staging::PART_BYTES_MIN;

/// Bytes that look like nothing.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The chunks of `content` for a receiver that holds this, read from `world`.
fn chunks(world: &World, at: &str, content: &[u8], held: Held) -> Vec<Step> {
    let mut steps = Vec::new();
    let entry = file(content, 0o644);
    read_content(&world.root, &path(at), entry.as_file().expect("a file"), held, |chunk| {
        steps.push(Step::Chunk(chunk));
        std::ops::ControlFlow::Continue(())
    })
    .expect("read");
    steps
}

/// Bytes that are in the chunks.
fn carried(steps: &[Step]) -> usize {
    let bytes = steps.iter().map(|step| match step {
        Step::Chunk(Chunk { piece: Piece::Data(data), .. }) => data.len(),
        Step::Chunk(_) | Step::Transition(_) => 0,
    });
    bytes.sum()
}

fn held(world: &World, at: &str, prefix: u64) -> Held {
    let (size, signature) = sign_content(&world.root, &path(at)).expect("signed");
    Held { prefix, signature: Some(Signature::parse(&signature, size).expect("its own")) }
}

fn copy_of(from: &str, content: &[u8]) -> Step {
    let piece = Piece::Copy { from: path(from), offset: 0, length: content.len() as u64 };
    Step::Chunk(Chunk { digest: Digest::of(content), offset: 0, piece, last: true })
}

#[test]
fn a_delta_makes_the_new_content_of_the_old() {
    let (sender, receiver) = (World::new(), World::new());
    let old = noise(1, 3_000_000);
    let new = [&old[..1_000_000], b"inserted", &old[1_500_000..]].concat();
    sender.put("f", &new);
    receiver.put("f", &old);
    let mut steps = chunks(&sender, "f", &new, held(&receiver, "f", 0));
    assert!(carried(&steps) < 20_000, "{}", carried(&steps));
    steps.extend(step("f", Some(file(&old, 0o644)), Some(file(&new, 0o644))));
    assert_eq!(receiver.apply(steps), [Status::Applied]);
    assert!(std::fs::read(receiver.at("f")).expect("there") == new);
    receiver.assert_clean();
}

#[test]
fn a_base_that_changed_meanwhile_leaves_everything_as_it_is() {
    let (sender, receiver) = (World::new(), World::new());
    let (old, new) = (noise(1, 300_000), [&noise(1, 300_000), &b"more"[..]].concat());
    for meanwhile in [noise(2, 300_000), noise(2, 10), vec![]] {
        sender.put("f", &new);
        receiver.put("f", &old);
        let mut steps = chunks(&sender, "f", &new, held(&receiver, "f", 0));
        steps.extend(step("f", Some(file(&old, 0o644)), Some(file(&new, 0o644))));
        receiver.put("f", &meanwhile);
        assert_eq!(receiver.apply(steps), [Status::Stale]);
        assert!(std::fs::read(receiver.at("f")).expect("there") == meanwhile);
        receiver.assert_clean();
    }
}

#[test]
fn a_copy_is_checked_before_it_is_used() {
    for content in [noise(1, 1000), noise(1, 300_000)] {
        let world = World::new();
        world.put("a", &content);
        world.put("d/other", &noise(2, content.len()));
        std::os::unix::fs::symlink(world.at("a"), world.at("link")).expect("linked");
        let entry = || Some(file(&content, 0o644));
        for from in ["d/other", "d", "gone", "link", "", "d/other/x"] {
            let steps = [vec![copy_of(from, &content)], step("new", None, entry())].concat();
            assert_eq!(world.apply(steps), [Status::Stale], "{from}");
        }
        assert!(!world.at("new").exists());
        let steps = [vec![copy_of("a", &content)], step("d/new", None, entry())].concat();
        assert_eq!(world.apply(steps), [Status::Applied]);
        assert!(std::fs::read(world.at("d/new")).expect("there") == content);
        world.assert_clean();
    }
}

#[test]
fn a_file_is_moved_by_a_copy_and_a_removal() {
    let world = World::new();
    let contents = [noise(1, 10), noise(2, 70_000)];
    let mut steps = Vec::new();
    for (name, content) in ["a", "b"].iter().zip(&contents) {
        world.put(name, content);
        steps.push(copy_of(name, content));
        steps.extend(step(&format!("{name}-moved"), None, Some(file(content, 0o644))));
        steps.extend(step(name, Some(file(content, 0o644)), None));
    }
    assert_eq!(world.apply(steps), vec![Status::Applied; 4]);
    assert!(std::fs::read(world.at("b-moved")).expect("there") == contents[1]);
    assert!(!world.at("b").exists());
    world.assert_clean();
}

#[test]
fn an_interrupted_content_goes_on_where_it_ended() {
    let (sender, receiver) = (World::new(), World::new());
    let old = noise(1, 6_000_000);
    let new = [&old[..1_000_000], &noise(2, 3_000_000), &old[3_000_000..]].concat();
    sender.put("f", &new);
    receiver.put("f", &old);
    let first = chunks(&sender, "f", &new, held(&receiver, "f", 0));
    let sent = carried(&first);
    let half = first.len() / 2;
    assert_eq!(receiver.apply(first.into_iter().take(half)), []);
    let part = receiver.staging.part_of(&Digest::of(&new));
    assert!(part >= PART_BYTES_MIN, "{part}");
    let rest = chunks(&sender, "f", &new, held(&receiver, "f", part));
    assert!(carried(&rest) < sent, "{} of {sent}", carried(&rest));
    let change = step("f", Some(file(&old, 0o644)), Some(file(&new, 0o644)));
    // Not what is kept: as if it had been lost meanwhile.
    let mut wrong = rest.clone();
    wrong.remove(0);
    assert_eq!(receiver.apply([wrong, change.clone()].concat()), [Status::Stale]);
    assert_eq!(receiver.apply([rest, change].concat()), [Status::Applied]);
    assert!(std::fs::read(receiver.at("f")).expect("there") == new);
    receiver.assert_clean();
}

#[test]
fn a_kept_part_that_is_of_something_else_is_found_out_and_goes() {
    let world = World::new();
    let content = noise(1, 3_000_000);
    let kept = world.outside.join("staging").join(format!("{}.part", Digest::of(&content).hex()));
    std::fs::write(&kept, noise(2, 2_000_000)).expect("written");
    world.put("source", &content);
    let prefix = world.staging.part_of(&Digest::of(&content));
    let rest = chunks(&world, "source", &content, Held { prefix, signature: None });
    assert_eq!(carried(&rest), 1_000_000);
    let new = step("new", None, Some(file(&content, 0o644)));
    assert_eq!(world.apply([rest, new.clone()].concat()), [Status::Stale]);
    world.assert_clean();
    let whole = chunks(&world, "source", &content, Held::default());
    assert_eq!(world.apply([whole, new].concat()), [Status::Applied]);
}
