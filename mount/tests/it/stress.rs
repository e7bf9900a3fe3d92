//! Much at once: nothing hangs, and what is seen is right.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{World, wait_for, within};

/// A sequence of numbers that is the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Runs something again and again beside something else.
struct Beside {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Beside {
    fn run(mut act: impl FnMut() + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Acquire) {
                act();
                std::thread::yield_now();
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_file_is_written_and_read_while_changes_of_it_are_told() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "").unwrap()) else {
        return;
    };
    let source = world.source.clone();
    let noise = Beside::run(move || source.notice("f", true));
    let path = world.at("f");
    within(move || {
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        let mut model: Vec<u8> = Vec::new();
        let open = || std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut file = open();
        for step in 0..1500 {
            let offset = numbers.next(200_000) as usize;
            let length = 1 + numbers.next(20_000) as usize;
            match numbers.next(10) {
                0..=3 => {
                    let byte = numbers.next(256) as u8;
                    file.write_all_at(&vec![byte; length], offset as u64).unwrap();
                    if model.len() < offset + length {
                        model.resize(offset + length, 0);
                    }
                    model[offset..offset + length].fill(byte);
                }
                4..=7 => {
                    let mut read = vec![0; length];
                    let count = file.read_at(&mut read, offset as u64).unwrap();
                    let end = model.len().min(offset + length);
                    let expected = model.get(offset..end).unwrap_or_default();
                    assert!(read[..count] == *expected, "step {step} at {offset}: {count}");
                }
                8 => {
                    model.resize(offset, 0);
                    file.set_len(offset as u64).unwrap();
                }
                _ => file = open(),
            }
            assert_eq!(file.metadata().unwrap().len(), model.len() as u64, "step {step}");
        }
        drop(file);
        assert!(std::fs::read(&path).unwrap() == model);
    });
    drop(noise);
}

#[test]
fn many_work_at_once_while_others_change_things() {
    const WORKERS: u64 = 6;
    let fill = |root: &Path| {
        for worker in 0..WORKERS {
            std::fs::create_dir(root.join(format!("w{worker}"))).unwrap();
        }
        std::fs::create_dir(root.join("others")).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let source = world.source.clone();
    let mut round = 0u64;
    let others = Beside::run(move || {
        round += 1;
        let path = format!("others/{}", round % 7);
        source.outside(&[path.as_str()], |root| {
            if round.is_multiple_of(3) {
                let _ = std::fs::remove_file(root.join(&path));
            } else {
                std::fs::write(root.join(&path), vec![b'x'; (round % 5000) as usize]).unwrap();
            }
        });
        if round.is_multiple_of(100) {
            source.tell(skync_mount::source::Change::Below("others".into()));
        }
    });
    let root = world.at("");
    within(move || {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let root = root.clone();
                std::thread::spawn(move || work(&root, worker))
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    drop(others);
    world.told();
    let list = |root: &Path| {
        let mut found = Vec::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().to_owned();
                if path.is_dir() {
                    waiting.push(path);
                    found.push((name, None));
                } else {
                    found.push((name, Some(std::fs::read(&path).unwrap().len())));
                }
            }
        }
        found.sort();
        found
    };
    let (mount, real) = (world.at(""), list(&world.under("")));
    wait_for("the same on both sides", || {
        let mount = mount.clone();
        within(move || list(&mount)) == real
    });
}

/// Makes, moves and removes things in a directory of its own, and looks at what others do.
fn work(root: &Path, worker: u64) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 + worker);
    let own = root.join(format!("w{worker}"));
    for step in 0..150 {
        let (from, to) = (numbers.next(5), numbers.next(5));
        let path = own.join(format!("{from}"));
        match numbers.next(5) {
            0 | 1 => std::fs::write(&path, vec![b'y'; numbers.next(100_000) as usize]).unwrap(),
            2 => drop(std::fs::rename(&path, own.join(format!("{to}")))),
            3 => drop(std::fs::remove_file(&path)),
            _ => {
                let directory = own.join(format!("d{step}"));
                std::fs::create_dir(&directory).unwrap();
                std::fs::write(directory.join("f"), "z").unwrap();
                assert_eq!(std::fs::read(directory.join("f")).unwrap(), b"z");
                if from > 1 {
                    std::fs::remove_file(directory.join("f")).unwrap();
                    std::fs::remove_dir(&directory).unwrap();
                }
            }
        }
        // Any of these may be gone by now.
        for entry in std::fs::read_dir(root.join("others")).unwrap().flatten() {
            let _ = std::fs::read(entry.path());
        }
    }
}
