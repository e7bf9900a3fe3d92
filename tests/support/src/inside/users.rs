//! The accounts of a sandbox: found, and made when the image has none.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its main group's number.
    pub gid: u32,
    /// Its home directory.
    pub home: PathBuf,
}

/// Makes an account with a home directory, unless there is one of that name.
pub fn ensure(name: &str, id: u32, home: &str) -> io::Result<User> {
    if let Some(user) = find(name) {
        return Ok(user);
    }
    append("/etc/passwd", &format!("{name}:x:{id}:{id}::{home}:/bin/bash\n"))?;
    append("/etc/group", &format!("{name}:x:{id}:\n"))?;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(home)?;
    chown(home, Some(id), Some(id))?;
    Ok(User { name: name.to_owned(), uid: id, gid: id, home: home.into() })
}

/// Finds an account by its name.
pub fn find(name: &str) -> Option<User> {
    read().into_iter().find(|user| user.name == name)
}

/// Returns the name of a user's number, or the number itself.
pub fn user_name(uid: u32) -> String {
    let user = read().into_iter().find(|user| user.uid == uid);
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Returns the name of a group's number, or the number itself.
pub fn group_name(gid: u32) -> String {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut groups = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    });
    groups.next().unwrap_or_else(|| gid.to_string())
}

fn read() -> Vec<User> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(User {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5)?.into(),
        })
    };
    text.lines().filter_map(parse).collect()
}

fn append(path: &str, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(Path::new(path))?;
    file.write_all(line.as_bytes())
}
