//! Who the agent runs as: `uid[:gid]` or names, looked up in the container's own files.
//!
//! The host's users have no say here: the same name is another number in an image.

use super::archive;
use super::engine::Engine;
use crate::driver::excerpt::printable;
use crate::driver::{DriverError, ErrorKind};

/// A user and a group, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// The user.
    pub(super) uid: u32,
    /// Its group.
    pub(super) gid: u32,
}

impl Ids {
    /// The superuser of the container.
    pub(super) const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// One half of a `user` setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who<'a> {
    Number(u32),
    Name(&'a str),
}

/// A `user` setting, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserName<'a> {
    user: Who<'a>,
    group: Option<Who<'a>>,
}

impl<'a> UserName<'a> {
    /// Reads `user[:group]`; an empty text is root.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what neither a number nor a name can be.
    pub(super) fn parse(text: &'a str) -> Result<Self, DriverError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if text.is_empty() {
            return Ok(Self { user: Who::Number(0), group: None });
        }
        let parsed = who(user).map(|user| (user, group.map(who)));
        match parsed {
            Some((user, None)) => Ok(Self { user, group: None }),
            Some((user, Some(Some(group)))) => Ok(Self { user, group: Some(group) }),
            Some((_, Some(None))) | None => {
                let message = format!("`{}` is no user", printable(text));
                Err(DriverError::new(ErrorKind::Invalid, message)
                    .hint("set `user` in the profile to `uid`, `uid:gid` or a name from the image"))
            }
        }
    }

    /// The numbers, by the contents of `/etc/passwd` and `/etc/group`.
    fn resolve(&self, passwd: &str, group: &str) -> Result<Ids, DriverError> {
        let entry = match self.user {
            Who::Number(uid) => {
                lines(passwd).find(|fields| fields.get(2) == Some(&&*uid.to_string()))
            }
            Who::Name(name) => Some(
                lines(passwd)
                    .find(|fields| fields.first() == Some(&name))
                    .ok_or_else(|| missing("user", name, "/etc/passwd"))?,
            ),
        };
        let number = |at: usize| entry.as_ref()?.get(at)?.parse::<u32>().ok();
        let uid = match self.user {
            Who::Number(uid) => uid,
            Who::Name(name) => number(2).ok_or_else(|| missing("user", name, "/etc/passwd"))?,
        };
        let gid = match self.group {
            Some(Who::Number(gid)) => gid,
            Some(Who::Name(name)) => lines(group)
                .find(|fields| fields.first() == Some(&name))
                .and_then(|fields| fields.get(2)?.parse().ok())
                .ok_or_else(|| missing("group", name, "/etc/group"))?,
            // The engine does the same: a number without an entry has group 0.
            None => number(3).unwrap_or(0),
        };
        Ok(Ids { uid, gid })
    }
}

fn who(text: &str) -> Option<Who<'_>> {
    if text.is_empty() || text.len() > 256 {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The engine refuses what a signed number cannot hold.
        return text.parse::<u32>().ok().filter(|id| *id <= i32::MAX as u32).map(Who::Number);
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/');
    (!text.contains(odd)).then_some(Who::Name(text))
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.trim().split(':').collect())
}

fn missing(what: &str, name: &str, file: &str) -> DriverError {
    let message = format!("the {what} `{}` is not in the container's {file}", printable(name));
    DriverError::new(ErrorKind::Invalid, message)
        .hint("set `user` in the profile to a name that is there, or to `uid:gid`")
}

/// The numbers of `user` in `container`; reads its files only if they are needed.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a name that is not there.
pub(super) async fn ids(engine: &Engine, container: &str, user: &str) -> Result<Ids, DriverError> {
    let name = UserName::parse(user)?;
    match (&name.user, &name.group) {
        (Who::Number(0), None) => return Ok(Ids::ROOT),
        (Who::Number(uid), Some(Who::Number(gid))) => {
            return Ok(Ids { uid: *uid, gid: *gid });
        }
        _ => {}
    }
    let passwd = archive::read_text(engine, container, "/etc/passwd").await?.unwrap_or_default();
    let group = match &name.group {
        Some(Who::Name(_)) => archive::read_text(engine, container, "/etc/group").await?,
        _ => None,
    };
    name.resolve(&passwd, &group.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nbroken\nbob:x:1000:1001::/home/bob:/bin/sh\nodd:x:y:z\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:bob\nodd:x\n";

    fn check(text: &str, ids: Option<(u32, u32)>) {
        let found = UserName::parse(text).and_then(|name| name.resolve(PASSWD, GROUP));
        match ids {
            Some((uid, gid)) => assert_eq!(found.unwrap(), Ids { uid, gid }, "{text}"),
            None => assert_eq!(found.unwrap_err().kind, ErrorKind::Invalid, "{text}"),
        }
    }

    #[test]
    fn numbers_and_names_are_found_as_the_engine_finds_them() {
        check("", Some((0, 0)));
        check("7", Some((7, 0)));
        check("1000", Some((1000, 1001)));
        check("7:8", Some((7, 8)));
        check("bob", Some((1000, 1001)));
        check("bob:staff", Some((1000, 50)));
        check("bob:7", Some((1000, 7)));
        check("7:staff", Some((7, 50)));
    }

    #[test]
    fn what_is_not_there_or_no_user_is_invalid() {
        for text in [
            "alice",
            "bob:nobody",
            "odd",
            "bob:odd",
            "a b",
            ":",
            "bob:",
            ":1",
            "4294967296",
            "2147483648",
            "a/b",
            "a:b:c",
            "\x1b",
        ] {
            check(text, None);
        }
    }
}
