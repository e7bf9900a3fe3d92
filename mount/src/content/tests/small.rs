//! Small files, many at once.

use super::*;

/// So many files of so many bytes, so many in each directory.
async fn files(bench: &Bench, count: usize, bytes: usize, each: usize) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    for at in 0..count {
        let content = vec![at as u8; bytes];
        nodes.push(bench.file(&format!("d{:03}/f{at}", at / each), &content).await);
    }
    nodes
}

/// Reads a whole file as a program does, unless the kernel has it.
async fn cat(bench: &Bench, node: NodeId) -> Option<Bytes> {
    let fh = bench.open(node, READ).await;
    tokio::task::yield_now().await;
    let size = bench.tree.attributes(node).expect("a node").what.size as usize;
    let read = match bench.tree.has_stored(node) {
        true => None,
        false => Some(bench.read(fh, 0, size.next_multiple_of(4096)).await),
    };
    bench.contents.release(fh);
    read
}

#[tokio::test(start_paused = true)]
async fn small_files_in_many_directories_come_in_batches_that_grow() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 5000, 100, 50).await;
    for node in &nodes {
        let read = cat(&bench, *node).await;
        let expected = vec![(node - 2) as u8; 100];
        assert!(read.is_none_or(|read| read == expected), "{node}");
    }
    let fetches = bench.source.fetches();
    assert_eq!(fetches.iter().sum::<usize>(), nodes.len() - 1, "{fetches:?}");
    assert!(fetches.len() < 9, "{fetches:?}");
    assert!(fetches.iter().any(|count| *count >= 1000), "{fetches:?}");
    // The first one only was read for itself; none was opened in the source.
    assert_eq!(bench.count(Request::Read), 1);
    assert_eq!(bench.source.open_handles(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_is_given_to_the_kernel_and_not_fetched_again() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 300, 2000, 30).await;
    for _ in 0..3 {
        for node in &nodes {
            cat(&bench, *node).await;
        }
        bench.rest().await;
    }
    assert_eq!(bench.source.fetches().iter().sum::<usize>(), nodes.len() - 1);
    let stored = bench.tree.stored.lock().expect("a lock").clone();
    assert!(stored.len() >= nodes.len() - 3, "{}", stored.len());
    for (node, (version, data)) in stored {
        assert_eq!(data, vec![(node - 2) as u8; 2000]);
        assert_eq!(bench.contents.version(node), version);
    }
}

#[tokio::test(start_paused = true)]
async fn one_small_file_now_and_then_fetches_nothing_else() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 100, 100, 10).await;
    for node in [3, 55, 99] {
        cat(&bench, nodes[node]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(bench.source.fetches(), []);
    assert_eq!(bench.source.round_trips(), 3);
}

#[tokio::test(start_paused = true)]
async fn large_and_empty_files_between_them_are_left_out() {
    let bench = Bench::new().slow();
    let first = bench.file("d/1", b"one").await;
    let second = bench.file("d/2", b"two").await;
    bench.file("d/3", b"").await;
    bench.file("d/4", &pattern(100 * KIB)).await;
    bench.file("d/5", b"five").await;
    cat(&bench, first).await;
    cat(&bench, second).await;
    bench.rest().await;
    assert_eq!(bench.source.fetches(), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_what_the_tree_knows_is_read_again() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 10, 100, 10).await;
    cat(&bench, nodes[0]).await;
    // The tree has not heard of it.
    put(&bench.path(nodes[1]), b"longer or shorter");
    put(&bench.path(nodes[5]), &[9; 100]);
    assert_eq!(cat(&bench, nodes[1]).await.expect("read"), b"longer or shorter"[..]);
    bench.rest().await;
    assert!(!bench.tree.has_stored(nodes[5]));
    assert!(bench.tree.has_stored(nodes[6]));
    assert_eq!(cat(&bench, nodes[5]).await.expect("read"), vec![9; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_change_on_the_way_keeps_the_old_content_out() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 10, 100, 10).await;
    cat(&bench, nodes[0]).await;
    let (read, ()) = tokio::join!(cat(&bench, nodes[1]), async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        bench.contents.changed(nodes[4]);
    });
    assert!(read.is_some());
    bench.rest().await;
    assert!(!bench.tree.has_stored(nodes[4]));
    assert_eq!(cat(&bench, nodes[4]).await.expect("read"), vec![4; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_write_on_the_way_keeps_the_old_content_out() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 10, 100, 10).await;
    let fh = bench.open(nodes[4], WRITE).await;
    cat(&bench, nodes[0]).await;
    let (read, ()) = tokio::join!(cat(&bench, nodes[1]), async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        bench.write(fh, 0, b"new").await.expect("written");
    });
    assert!(read.is_some());
    bench.rest().await;
    assert!(!bench.tree.has_stored(nodes[4]));
    assert_eq!(bench.read(fh, 0, 4).await, b"new\x04"[..]);
}

#[tokio::test(start_paused = true)]
async fn files_that_fail_to_come_are_read_one_by_one() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 10, 100, 10).await;
    cat(&bench, nodes[0]).await;
    bench.source.fail_next(Request::Fetch, crate::source::SourceError::Unsupported);
    for (at, node) in nodes.iter().enumerate().skip(1) {
        if let Some(read) = cat(&bench, *node).await {
            assert_eq!(read, vec![at as u8; 100]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_makes_the_next_batch_smaller() {
    let bench = Bench::new().slow();
    let nodes = files(&bench, 3000, 100, 50).await;
    for at in (0..2500).step_by(300) {
        // Two of each neighbourhood, and on to the next.
        cat(&bench, nodes[at]).await;
        cat(&bench, nodes[at + 1]).await;
        bench.rest().await;
    }
    let fetches = bench.source.fetches();
    assert!(fetches.iter().all(|count| *count <= 257), "{fetches:?}");
    assert!(fetches.last().expect("some") < &150, "{fetches:?}");
}
