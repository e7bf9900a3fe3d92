//! Shows how two versions of a file differ. Pure: bytes in, text out.

use std::time::Duration;

use similar::{Algorithm, TextDiff};

use super::visible;

/// Above this, in bytes, two versions are told apart by their size only.
pub const BYTES_MAX: usize = 1 << 20;
/// Lines of a difference that are shown.
const LINES_MAX: usize = 200;
/// After this the difference may be larger than it need be, so that it comes at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// A unified difference between the host's version and the sandbox's; a sentence where there can be
/// none. Nothing in it can command a terminal.
pub fn unified(path: &str, host: &[u8], sandbox: &[u8]) -> String {
    let sizes = format!("{} bytes on the host, {} in the sandbox", host.len(), sandbox.len());
    if host.len().max(sandbox.len()) > BYTES_MAX {
        return format!("too large to compare: {sizes}\n");
    }
    let texts = [host, sandbox].map(|bytes| {
        let text = std::str::from_utf8(bytes).ok();
        text.filter(|text| !text.contains('\0'))
    });
    let [Some(host), Some(sandbox)] = texts else {
        return format!("not text: {sizes}\n");
    };
    if host == sandbox {
        return "the content is the same\n".to_owned();
    }
    let mut config = TextDiff::configure();
    config.algorithm(Algorithm::Myers).timeout(PATIENCE);
    let diff = config.diff_lines(host, sandbox);
    let names = [format!("{path} (host)"), format!("{path} (sandbox)")];
    let text = diff.unified_diff().context_radius(3).header(&names[0], &names[1]).to_string();
    let mut lines = text.lines();
    // Tabs are layout, not commands.
    let shown = |line: &str| line.split('\t').map(visible).collect::<Vec<_>>().join("\t") + "\n";
    let mut out: String = lines.by_ref().take(LINES_MAX).map(shown).collect();
    let rest = lines.count();
    if rest > 0 {
        out += &format!("… and {rest} more lines\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_by_lines() {
        let diff = unified("a", b"1\n2\n3\n\tx\n", b"1\ntwo\n3\n\tx\n");
        insta::assert_snapshot!(diff, @r"
        --- a (host)
        +++ a (sandbox)
        @@ -1,4 +1,4 @@
         1
        -2
        +two
         3
         	x
        ");
        let last = unified("a", b"1", b"1\n");
        assert!(last.contains("No newline at end of file"), "{last}");
    }

    #[test]
    fn what_has_no_lines_is_told_by_its_size() {
        let sizes = "3 bytes on the host, 2 in the sandbox\n";
        assert_eq!(unified("a", b"a\0b", b"ab"), format!("not text: {sizes}"));
        assert_eq!(unified("a", b"a\xffb", b"ab"), format!("not text: {sizes}"));
        let large = vec![b'\n'; BYTES_MAX + 1];
        assert!(unified("a", &large, b"").starts_with("too large to compare: 1048577 bytes"));
        assert_eq!(unified("a", b"a", b"a"), "the content is the same\n");
    }

    #[test]
    fn nothing_in_a_difference_commands_the_terminal() {
        let diff = unified("a", b"\x1b[2J\r\n", b"b\n");
        assert!(!diff.contains('\x1b') && !diff.contains('\r'), "{diff:?}");
        let long: String = (0..1000).map(|line| format!("{line}\n")).collect();
        let diff = unified("a", long.as_bytes(), b"");
        assert!(diff.ends_with("… and 803 more lines\n"), "{diff}");
    }
}
