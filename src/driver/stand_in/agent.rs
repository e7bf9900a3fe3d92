//! A stand-in for the agent, for tests of drivers: it does what a driver relies on, and no more.
//! Compiled by `../stand_in.rs` with rustc alone. What it says on a stream: the 32 bytes of the
//! secret, then everything that it receives.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io, process, thread};

fn main() {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let mut options: HashMap<String, String> = HashMap::new();
    let mut name = String::new();
    for word in words {
        if word.starts_with("--") {
            options.insert(word.clone(), String::new());
            name = word;
        } else {
            options.insert(name.clone(), word);
        }
    }
    let done = match verb.as_str() {
        "serve" => serve(&options),
        "bridge" => bridge(&options),
        "stop" => stop(&options),
        "clean" => clean(Path::new(&options["--dir"])),
        _ => Err(io::Error::other(format!("no verb `{verb}`"))),
    };
    if let Err(error) = done {
        eprintln!("stand-in: {verb}: {error}");
        process::exit(1);
    }
}

/// What the test appended to the executable: ` MODE` at its very end.
fn mode() -> String {
    let own = fs::read("/proc/self/exe").unwrap_or_default();
    let end = &own[own.len().saturating_sub(32)..];
    String::from_utf8_lossy(end)
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn socket(options: &HashMap<String, String>) -> PathBuf {
    match options.get("--socket") {
        Some(path) => path.into(),
        None => Path::new(&options["--state"]).join("agent.sock"),
    }
}

fn serve(options: &HashMap<String, String>) -> io::Result<()> {
    let state = PathBuf::from(&options["--state"]);
    let mode = mode();
    if mode == "fails" {
        eprintln!("stand-in:\x1b[31m I was told to fail");
        process::exit(3);
    }
    if mode == "eats" {
        let mut all = Vec::new();
        loop {
            all.push(vec![1u8; 1 << 20]);
        }
    }
    let secret = fs::read(state.join("secret"))?;
    fs::remove_file(state.join("secret"))?;
    fs::write(state.join("agent.pid"), process::id().to_string())?;
    if let Some(path) = options.get("--dial").cloned().filter(|_| mode != "blind") {
        let secret = secret.clone();
        thread::spawn(move || {
            loop {
                if let Ok(stream) = UnixStream::connect(&path) {
                    let _ = echo(stream, &secret);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
    }
    let stopper = UnixListener::bind(state.join("stop.sock"))?;
    let cleanup = options.get("--cleanup").cloned();
    let stubborn = mode == "stubborn";
    if stubborn {
        let child = process::Command::new("sleep").arg("60").spawn()?;
        fs::write(state.join("child.pid"), child.id().to_string())?;
    }
    thread::spawn(move || {
        while stopper.accept().is_ok() {
            if stubborn {
                continue;
            }
            if let Some(dir) = &cleanup {
                let _ = clean(Path::new(dir));
            }
            process::exit(0);
        }
    });
    let lifetime = Duration::from_secs(60);
    thread::spawn(move || {
        thread::sleep(lifetime);
        process::exit(9);
    });
    let path = socket(options);
    let _ = fs::remove_file(&path);
    for stream in UnixListener::bind(path)?.incoming() {
        let (stream, secret) = (stream?, secret.clone());
        thread::spawn(move || echo(stream, &secret));
    }
    Ok(())
}

fn echo(mut stream: UnixStream, secret: &[u8]) -> io::Result<()> {
    stream.write_all(secret)?;
    io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Both)
}

fn bridge(options: &HashMap<String, String>) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket(options))?;
    let mut up = stream.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let mut out = io::stdout();
    let mut bytes = [0; 65536];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => {
                out.write_all(&bytes[..count])?;
                out.flush()?;
            }
        }
    }
}

fn stop(options: &HashMap<String, String>) -> io::Result<()> {
    let Ok(mut stream) = UnixStream::connect(Path::new(&options["--state"]).join("stop.sock"))
    else {
        return Ok(());
    };
    if mode() == "stubborn" {
        return Ok(());
    }
    // Ends when the process does.
    let _ = stream.read(&mut [0]);
    Ok(())
}

fn clean(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(parent) = dir.parent() {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}
