//! Large files and many files, in bounded memory.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::World;
use crate::support::tree::{agreed, assert_same};

/// What a session or an agent may hold in memory while 2 GiB go through it, KiB.
const MEMORY_KIB_MAX: u64 = 150 << 10;

#[test]
fn a_file_of_more_than_2_gib_comes_through_both_ways_in_bounded_memory() {
    const SIZE: u64 = (2 << 30) + 1;
    let world = World::new();
    let path = world.project().join("big");
    let file = std::fs::File::create(&path).expect("made");
    file.set_len(SIZE).expect("room");
    for at in [0, 4095, 1 << 20, (1 << 31) - 3, SIZE - 8] {
        file.write_all_at(b"written!", at).expect("written");
    }
    drop(file);
    let held = world.hold();
    assert_same(&agreed(world.project()), &agreed(held.sandbox()));
    // Changed in the sandbox at its very end, it comes back whole.
    let there = std::fs::File::options().write(true).open(held.sandbox().join("big"));
    there.expect("open").write_all_at(b"and more", SIZE - 1).expect("written");
    held.sync();
    assert_same(&agreed(world.project()), &agreed(held.sandbox()));
    let processes = processes_of(&world);
    assert!(processes.len() >= 2, "session and agent: {processes:?}");
    for (name, peak_kib) in processes {
        eprintln!("{name}: at most {} MiB", peak_kib >> 10);
        assert!(peak_kib < MEMORY_KIB_MAX, "{name} held {peak_kib} KiB");
    }
    held.release();
}

/// The session's and the agent's processes of this world, with the most memory that each held.
fn processes_of(world: &World) -> Vec<(String, u64)> {
    let ours = world.path("r").canonicalize().expect("there");
    let of_process = |process: &Path| -> Option<(String, u64)> {
        let command = std::fs::read(process.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let environment = std::fs::read(process.join("environ")).ok()?;
        let all = format!("{command} {}", String::from_utf8_lossy(&environment));
        let is_ours = all.contains(ours.to_str()?);
        if !is_ours || !(command.contains("__session") || command.contains("skync-agent")) {
            return None;
        }
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some((command, line.trim().trim_end_matches(" kB").parse().ok()?))
    };
    let all = std::fs::read_dir("/proc").expect("there").flatten();
    all.filter_map(|entry| of_process(&entry.path())).collect()
}

#[test]
fn twenty_thousand_small_files_come_through_both_ways() {
    let world = World::new();
    for number in 0..20_000 {
        world.write(&format!("in/{}/{number}", number % 200), format!("{number}").repeat(50));
    }
    world.exec(&["cp", "-a", "in", "out"]).expect_code(0);
    assert_same(&agreed(&world.project().join("in")), &agreed(&world.project().join("out")));
}
