//! Any order of reads, writes, truncations and changes by others gives what a vector would.

use proptest::prelude::*;

use super::*;

/// The longest that the file becomes.
const SIZE_MAX: usize = 3 * MIB;

#[derive(Clone, Debug)]
enum Step {
    Read {
        by: usize,
        at: usize,
        length: usize,
    },
    /// Several at once, and none of them has to be in order.
    ReadOn {
        by: usize,
        at: usize,
        count: usize,
    },
    Write {
        by: usize,
        at: usize,
        length: usize,
        byte: u8,
    },
    Append {
        length: usize,
        byte: u8,
    },
    Cut(usize),
    Change {
        at: usize,
        length: usize,
        byte: u8,
    },
    Flush(usize),
    Reopen(usize),
    Wait(u64),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..20_000usize, 2 => 1..300_000usize, 1 => Just(4096), 1 => Just(128 * KIB)]
}

fn place() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..40_000usize, 2 => 0..SIZE_MAX, 1 => (0..24usize).prop_map(|n| n * 128 * KIB)]
}

fn step() -> impl Strategy<Value = Step> {
    let by = 0..4usize;
    prop_oneof![
        5 => (by.clone(), place(), length()).prop_map(|(by, at, length)| Step::Read { by, at, length }),
        2 => (by.clone(), place(), 1..6usize).prop_map(|(by, at, count)| Step::ReadOn { by, at, count }),
        6 => (by.clone(), place(), length(), any::<u8>())
            .prop_map(|(by, at, length, byte)| Step::Write { by, at, length, byte }),
        1 => (length(), any::<u8>()).prop_map(|(length, byte)| Step::Append { length, byte }),
        1 => place().prop_map(Step::Cut),
        1 => (place(), length(), any::<u8>())
            .prop_map(|(at, length, byte)| Step::Change { at, length, byte }),
        1 => by.clone().prop_map(Step::Flush),
        1 => by.prop_map(Step::Reopen),
        2 => (0..60u64).prop_map(Step::Wait),
    ]
}

/// How the four open files are opened: the last two cannot be written to.
fn how(by: usize) -> OpenHow {
    if by < 2 { WRITE } else { READ }
}

struct Model {
    bench: Bench,
    node: NodeId,
    open: Vec<FileHandle>,
    append: FileHandle,
    expected: Vec<u8>,
}

impl Model {
    async fn new(seed: u64, first: usize) -> Self {
        let limits = Limits {
            cache_bytes: MIB as u64,
            window_bytes: MIB as u64,
            dirty_bytes: MIB as u64,
            ..Limits::default()
        };
        let bench = Bench::with(limits);
        bench.source.seed(seed);
        bench.source.behave(|to| to.jitter = Duration::from_millis(40));
        let expected = pattern(first);
        let node = bench.file("a", &expected).await;
        let mut open = Vec::new();
        for by in 0..4 {
            open.push(bench.open(node, how(by)).await);
        }
        let append = bench.open(node, APPEND).await;
        Self { bench, node, open, append, expected }
    }

    fn slice(&self, at: usize, length: usize) -> &[u8] {
        let end = self.expected.len();
        &self.expected[at.min(end)..(at + length).min(end)]
    }

    fn put(&mut self, at: usize, length: usize, byte: u8) -> Vec<u8> {
        let data: Vec<u8> = (0..length).map(|n| byte.wrapping_add((n / 97) as u8)).collect();
        if self.expected.len() < at + length {
            self.expected.resize(at + length, 0);
        }
        self.expected[at..at + length].copy_from_slice(&data);
        data
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Read { by, at, length } => {
                let read = self.bench.read(self.open[by], at, length).await;
                assert!(read == self.slice(at, length), "{step:?}");
            }
            Step::ReadOn { by, at, count } => {
                let size = 64 * KIB;
                let reads =
                    (0..count).rev().map(|n| self.bench.read(self.open[by], at + n * size, size));
                let reads = futures_util::future::join_all(reads).await;
                for (n, read) in (0..count).rev().zip(reads) {
                    assert!(read == self.slice(at + n * size, size), "{step:?} {n}");
                }
            }
            Step::Write { by, at, length, byte } => {
                let data = self.put(at, length, byte);
                self.bench.write(self.open[by % 2], at, &data).await.expect("taken");
            }
            Step::Append { length, byte } => {
                let at = self.expected.len();
                let data = self.put(at, length, byte);
                self.bench.write(self.append, at, &data).await.expect("taken");
            }
            Step::Cut(size) => {
                self.bench.cut(self.node, size).await;
                self.expected.resize(size, 0);
            }
            Step::Change { at, length, byte } => {
                self.bench.contents.settle(self.node).await.expect("written");
                let data = self.put(at, length, byte);
                self.bench.change(self.node, |path| {
                    let file = std::fs::File::options().write(true).open(path).expect("open");
                    std::os::unix::fs::FileExt::write_all_at(&file, &data, at as u64).expect("put");
                });
            }
            Step::Flush(by) => self.bench.contents.flush(self.open[by]).await.expect("written"),
            Step::Reopen(by) => {
                self.bench.contents.release(self.open[by]);
                self.open[by] = self.bench.open(self.node, how(by)).await;
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        let mut attributes = self.bench.tree.attributes(self.node).expect("a node").what;
        self.bench.contents.adjust(self.node, &mut attributes);
        assert_eq!(attributes.size, self.expected.len() as u64, "{step:?}");
    }

    async fn end(self) {
        for fh in self.open.iter().chain([&self.append]) {
            self.bench.contents.release(*fh);
        }
        self.bench.contents.settle_all().await.expect("written");
        assert!(self.bench.on_disk(self.node) == self.expected);
        self.bench.rest().await;
        assert_eq!(self.bench.source.open_handles(), 0);
        assert_eq!(self.bench.contents.dirty_bytes(), 0);
        assert_eq!(self.bench.contents.open_files(), 0);
        assert!(self.bench.contents.cached_bytes() <= MIB as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_is_what_a_vector_would_be(
        seed in any::<u64>(),
        first in prop_oneof![Just(0usize), 1..100usize, 1..SIZE_MAX],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut model = Model::new(seed, first).await;
            for step in &steps {
                model.take(step).await;
            }
            model.end().await;
        });
    }
}
