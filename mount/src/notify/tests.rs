use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A kernel that says what it is told, and lets nobody go on before `gate` is free.
#[derive(Clone)]
struct Heard {
    told: mpsc::Sender<(&'static str, NodeId)>,
    gate: Arc<Mutex<()>>,
}

impl Heard {
    fn hear(&self, what: &'static str, node: NodeId) -> io::Result<()> {
        let _ = self.told.send((what, node));
        Ok(())
    }
}

impl Kernel for Heard {
    fn entry(&self, parent: NodeId, _: &Name) -> io::Result<()> {
        self.hear("entry", parent)
    }

    fn attributes(&self, node: NodeId) -> io::Result<()> {
        self.hear("attributes", node)
    }

    fn content(&self, node: NodeId) -> io::Result<()> {
        self.hear("content", node)?;
        drop(self.gate.lock());
        self.hear("content is gone", node)
    }

    fn store(&self, node: NodeId, _: &[u8]) -> io::Result<()> {
        self.hear("store", node)
    }
}

#[derive(Default)]
struct Use {
    reading: AtomicBool,
    replying: AtomicBool,
}

impl Files for Arc<Use> {
    fn is_reading(&self, _: NodeId) -> bool {
        self.reading.load(Ordering::Acquire)
    }

    fn is_still(&self, _: NodeId, _: ContentVersion) -> bool {
        true
    }

    fn is_replying(&self) -> bool {
        self.replying.load(Ordering::Acquire)
    }

    fn event(&self, _: Event) {}
}

struct Bench {
    outbox: Arc<Outbox>,
    told: mpsc::Receiver<(&'static str, NodeId)>,
    gate: Arc<Mutex<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new(files: Use) -> Self {
        let (tell, told) = mpsc::channel();
        let (outbox, gate) = (Arc::new(Outbox::default()), Arc::new(Mutex::new(())));
        let kernel = Heard { told: tell, gate: Arc::clone(&gate) };
        let run = Arc::clone(&outbox);
        let thread = Some(std::thread::spawn(move || run.run(&kernel, &Arc::new(files))));
        Self { outbox, told, gate, thread }
    }

    #[track_caller]
    fn expect(&self, expected: &[(&'static str, NodeId)]) {
        for told in expected {
            assert_eq!(self.told.recv_timeout(DEADLINE).as_ref(), Ok(told));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.outbox.end();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn pages_that_are_always_read_are_told_of_and_nothing_waits_for_that() {
    let bench = Bench::new(Use { reading: true.into(), replying: false.into() });
    let gate = bench.gate.lock().expect("free");
    bench.outbox.send(vec![Notice::Content(5)]);
    bench.expect(&[("attributes", 5), ("content", 5)]);
    bench.outbox.send(vec![Notice::Attributes(6)]);
    bench.expect(&[("attributes", 6)]);
    assert!(bench.outbox.is_waiting(5));
    drop(gate);
    bench.expect(&[("content is gone", 5)]);
    while bench.outbox.is_waiting(5) {
        std::thread::yield_now();
    }
}

#[test]
fn a_new_content_during_a_reply_is_told_of_once_more_as_attributes() {
    let bench = Bench::new(Use { reading: false.into(), replying: true.into() });
    bench.outbox.send(vec![Notice::Content(5)]);
    bench.expect(&[("content", 5), ("content is gone", 5), ("attributes", 5)]);
}

#[test]
fn of_each_notice_one_waits_and_of_events_not_too_many() {
    let outbox = Outbox::default();
    for _ in 0..WAITING_COUNT_MAX {
        let entry = Notice::Entry(1, OsStr::new("f").into());
        outbox.send(vec![Notice::Content(5), Notice::Attributes(5), entry]);
    }
    assert_eq!(outbox.state().jobs.len(), 3);
    for _ in 0..2 * WAITING_COUNT_MAX {
        outbox.send(vec![Notice::Event(Event::Modified(5))]);
    }
    assert_eq!(outbox.state().jobs.len(), WAITING_COUNT_MAX);
    assert_eq!(outbox.state().contents[&5], 1);
}
