//! Takes out of a text what is nobody else's business: secrets, the home directory, the user's name.
//! Pure.
//!
//! What looks like a secret is taken out though it may be none: a report that lacks a word is worth
//! more than one that cannot be sent.

use crate::config::problem::looks_secret;

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "***";
/// What keys of services begin with.
const PREFIXES: [&str; 17] = [
    "e2b_",
    "sk_e2b_",
    "dtn_",
    "sk-",
    "sk_",
    "pk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "npm_",
    "pypi-",
    "AKIA",
];
/// A word behind one of those is a key from this length on.
const KEY_BYTES_MIN: usize = 8;
/// Any word of letters and digits mixed is one from this length on: ids of ours have 16.
const MIXED_BYTES_MIN: usize = 24;
/// Shorter values are not looked for elsewhere: `1` and `true` are everywhere.
const VALUE_BYTES_MIN: usize = 6;

/// What is to be taken out.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    /// Known secrets, longest first.
    values: Vec<String>,
    home: Option<String>,
    user: Option<String>,
}

impl Redactor {
    /// With these values of variables as secrets.
    pub(super) fn new(
        values: impl IntoIterator<Item = String>,
        home: Option<&str>,
        user: Option<&str>,
    ) -> Self {
        let mut values: Vec<String> =
            values.into_iter().filter(|value| value.trim().len() >= VALUE_BYTES_MIN).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        let home = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
        // `root` is on every machine, and a word of its own.
        let user = user.filter(|user| !user.is_empty() && *user != "root");
        Self { values, home: home.map(str::to_owned), user: user.map(str::to_owned) }
    }

    /// The text without them.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            text = text.replace(value.as_str(), HIDDEN);
        }
        if let Some(home) = &self.home {
            text = replace_word(&text, home, "~");
        }
        if let Some(user) = &self.user {
            text = replace_word(&text, user, "USER");
        }
        text.split_inclusive('\n').map(line).collect()
    }

    /// A document with all its texts without them, and with the values of secret names hidden.
    pub(super) fn document(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(all) => all.into_iter().map(|one| self.document(one)).collect(),
            Value::Object(all) => {
                let one = |(name, value): (String, Value)| {
                    let value = match value {
                        // Variables are nobody's business, whatever they are called.
                        Value::Object(variables) if name == "env" => {
                            let hidden = |(name, _)| (name, Value::from(HIDDEN));
                            Value::Object(variables.into_iter().map(hidden).collect())
                        }
                        Value::String(_) if looks_secret(&name) => Value::from(HIDDEN),
                        other => self.document(other),
                    };
                    (name, value)
                };
                Value::Object(all.into_iter().map(one).collect())
            }
            other => other,
        }
    }
}

/// Replaces a text where it does not go on with a letter or digit.
fn replace_word(text: &str, word: &str, with: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, behind) = (&rest[..at], &rest[at + word.len()..]);
        let last = before.chars().next_back().or_else(|| out.chars().next_back());
        let is_inside =
            behind.starts_with(is_part) || (word.starts_with(is_part) && last.is_some_and(is_part));
        out += before;
        out += if is_inside { word } else { with };
        rest = behind;
    }
    out + rest
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '~')
}

/// One line without what looks like a secret.
fn line(line: &str) -> String {
    let line = without_logins(line);
    let mut out = String::with_capacity(line.len());
    let mut rest = line.as_str();
    // What the next word is, by what stands before it.
    let mut is_value = false;
    while let Some(first) = rest.chars().next() {
        if !is_word(first) {
            let end = rest.find(is_word).unwrap_or(rest.len());
            let between = &rest[..end];
            let joins = |c: char| matches!(c, '=' | ':' | ' ' | '"' | '\'' | '`' | '\\');
            is_value &= between.chars().all(joins);
            out += between;
            rest = &rest[end..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        if is_value && !is_scheme {
            // To the end of what is quoted, or of the word.
            let quoted = out.ends_with(['"', '\'']).then(|| out.chars().next_back()).flatten();
            let end = quoted.and_then(|quote| rest.find(quote));
            let end = end.unwrap_or_else(|| {
                rest.find(|c: char| c.is_whitespace() || c == ',' || c == ';').unwrap_or(rest.len())
            });
            out += HIDDEN;
            rest = &rest[end..];
            is_value = false;
            continue;
        }
        out += &shown(word);
        rest = behind;
        let names = looks_secret(word)
            && behind.trim_start_matches(['"', '\'', '\\']).starts_with([':', '=']);
        is_value = is_scheme || names;
    }
    out
}

/// A word, or what stands in its place: each part of a path is a word of its own.
fn shown(word: &str) -> String {
    let part = |part: &str| if is_secret(part) { HIDDEN.to_owned() } else { part.to_owned() };
    if is_secret(word) && !word.starts_with(['/', '.', '~']) {
        return HIDDEN.to_owned();
    }
    word.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn is_secret(word: &str) -> bool {
    let word = word.trim_matches(['.', '-', '+', '~']);
    if PREFIXES
        .iter()
        .any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= KEY_BYTES_MIN))
    {
        return true;
    }
    if word.starts_with("eyJ") && word.len() >= MIXED_BYTES_MIN {
        return true;
    }
    let has = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
    let plain =
        word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/'));
    plain
        && word.len() >= MIXED_BYTES_MIN
        && !word.contains('/')
        && has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic)
}

/// `https://user:password@host` without who logs in.
fn without_logins(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out += before;
        let end = behind.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '`'));
        let authority = &behind[..end.unwrap_or(behind.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                out += HIDDEN;
                &behind[at..]
            }
            None => behind,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let values = ["hunter2-canary".to_owned(), "1".to_owned()];
        Redactor::new(values, Some("/home/ada/"), Some("ada"))
    }

    #[test]
    fn secrets_go_wherever_they_stand_and_the_rest_stays() {
        for (text, expected) in [
            ("said hunter2-canary, 1 time", "said ***, 1 time"),
            ("E2B_API_KEY=abc next", "E2B_API_KEY=*** next"),
            (r#"{"api_key": "a b c", "n": 1}"#, r#"{"api_key": "***", "n": 1}"#),
            ("MY_TOKEN: xyz", "MY_TOKEN: ***"),
            ("token is fine", "token is fine"),
            ("authorization: Bearer abc.def", "authorization: Bearer ***"),
            ("key e2b_0123456789abcdef!", "key ***!"),
            ("at dtn_00112233", "at ***"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "***"),
            ("http://me:pass@proxy:3128/x", "http://***@proxy:3128/x"),
            ("session 0123456789abcdef", "session 0123456789abcdef"),
            ("/a/0123456789abcdef0123456789abcdef/b", "/a/***/b"),
            (
                "cannot connect: a_long_name_without_any_number",
                "cannot connect: a_long_name_without_any_number",
            ),
        ] {
            assert_eq!(redactor().text(text), expected, "{text}");
        }
    }

    #[test]
    fn home_and_user_are_replaced_as_words() {
        for (text, expected) in [
            ("/home/ada/p and /home/adam/p", "~/p and /home/adam/p"),
            ("/home/ada", "~"),
            ("by ada (ada.l), not adapter", "by USER (USER.l), not adapter"),
        ] {
            assert_eq!(redactor().text(text), expected, "{text}");
        }
        let root = Redactor::new([], Some("/root"), Some("root"));
        assert_eq!(root.text("/root/p of root"), "~/p of root");
    }

    #[test]
    fn a_document_keeps_its_shape_and_loses_its_variables() {
        let document = serde_json::json!({
            "env": { "A": "anything" }, "api_key": "k", "list": ["/home/ada/x", 1], "token": 7,
        });
        let expected = serde_json::json!({
            "env": { "A": "***" }, "api_key": "***", "list": ["~/x", 1], "token": 7,
        });
        assert_eq!(redactor().document(document), expected);
    }
}
