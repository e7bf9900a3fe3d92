//! Content for the other side.

use super::*;

fn data_of(chunk: &Chunk) -> &[u8] {
    match &chunk.piece {
        Piece::Data(data) => data,
        Piece::Copy { .. } => panic!("nobody said what the receiver holds"),
    }
}

#[test]
fn reading_gives_what_was_asked_for_or_no_end() {
    let world = World::new();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    world.put("large", &large);
    world.put("empty", b"");
    let read = |at: &str, entry: &Entry| {
        let mut chunks: Vec<Chunk> = Vec::new();
        let wanted = entry.as_file().expect("a file");
        let result = read_content(&world.root, &path(at), wanted, Held::default(), |chunk| {
            chunks.push(chunk);
            std::ops::ControlFlow::Continue(())
        });
        (result, chunks)
    };
    let (result, chunks) = read("large", &file(&large, 0o644));
    assert_eq!(result, Ok(()));
    assert!(chunks.iter().all(|c| c.piece.length() <= 256 * 1024));
    assert!(chunks.last().is_some_and(|c| c.last));
    assert_eq!(chunks.iter().filter(|c| c.last).count(), 1);
    assert_eq!(chunks.iter().flat_map(|c| data_of(c).to_vec()).collect::<Vec<_>>(), large);
    let (result, chunks) = read("empty", &file(b"", 0o644));
    assert_eq!((result, chunks.len(), chunks[0].last), (Ok(()), 1, true));
    let mut changed = large.clone();
    changed[large.len() - 1] ^= 1;
    let (result, chunks) = read("large", &file(&changed, 0o644));
    assert_eq!(result, Err(ReadProblem::Changed(path("large"))));
    assert!(chunks.iter().all(|c| !c.last));
    for (at, entry) in [("large", file(b"short", 0)), ("gone", file(b"", 0)), ("", file(b"", 0))] {
        assert!(read(at, &entry).0.is_err(), "{at}");
    }
    let stopped = read_content(
        &world.root,
        &path("large"),
        file(&large, 0).as_file().expect("a file"),
        Held::default(),
        |_| std::ops::ControlFlow::Break(()),
    );
    assert_eq!(stopped, Err(ReadProblem::Stopped(path("large"))));
}
