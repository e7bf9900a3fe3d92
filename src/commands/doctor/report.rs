//! The report in words and as a document. Pure: findings in, text out.

use serde_json::{Value, json};

use super::Report;
use super::check::{Checked, Finding, Level};
use super::versions::VERSION;
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::visible;

/// What stands before a finding.
fn mark(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok      ",
        Level::Skipped => "-       ",
        Level::Warning => "WARNING ",
        Level::Problem => "PROBLEM ",
    }
}

/// The report for a person. With `details` the reasons stand behind what is skipped, too.
pub(super) fn text(report: &Report, details: bool) -> String {
    let mut out = String::new();
    let mut group = "";
    for checked in &report.checked {
        if checked.group != group {
            group = checked.group;
            let gap = if out.is_empty() { "" } else { "\n" };
            out += &format!("{gap}{group}\n");
        }
        for finding in &checked.findings {
            out += &lines(finding, details);
        }
    }
    if !report.fixed.is_empty() {
        out += "\nRepaired\n";
        for fixed in &report.fixed {
            match &fixed.error {
                None => out += &format!("  {}\n", visible(&fixed.what)),
                Some(error) => {
                    out += &format!("  FAILED: {}: {}\n", visible(&fixed.what), visible(error));
                }
            }
        }
    }
    out += &format!("\n{}\n", summary(report));
    if let Some(bundle) = &report.bundle {
        out += &format!("\n{}", bundle.text());
    }
    out
}

fn lines(finding: &Finding, details: bool) -> String {
    let what = format!("{}:", finding.what);
    let mut out = format!("  {}{what:<20} {}\n", mark(finding.level), visible(&finding.found));
    let is_bad = finding.level >= Level::Warning;
    if is_bad || details {
        if let Some(why) = &finding.why {
            out += &format!("            {}\n", visible(why));
        }
        for remedy in &finding.remedy {
            out += &format!("          $ {}\n", visible(remedy)).replace("$ or ", "or ");
        }
    }
    if is_bad && finding.fix.is_some() {
        out += "          $ skync doctor --fix\n";
    }
    out
}

/// All of it in one line.
fn summary(report: &Report) -> String {
    let all = || report.checked.iter().flat_map(|checked| &checked.findings);
    let count = |level: Level| all().filter(|finding| finding.level == level).count();
    let some = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    };
    let bad = [
        some(count(Level::Problem), "problem", "problems"),
        some(count(Level::Warning), "warning", "warnings"),
    ];
    let bad: Vec<String> = bad.into_iter().flatten().collect();
    match bad.is_empty() {
        true => format!("nothing is wrong: {} checks", all().count()),
        false => format!("{}, {} checks", bad.join(", "), all().count()),
    }
}

/// The report for a program.
pub(super) fn document(report: &Report) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "ok": report.is_good(),
        "version": VERSION,
        "checks": report.checked.iter().map(checked).collect::<Vec<_>>(),
        "fixed": report.fixed.iter().map(super::fix::Fixed::document).collect::<Vec<_>>(),
        "bundle": report.bundle.as_ref().map(super::bundle::Bundle::document),
    })
}

fn checked(checked: &Checked) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "what": finding.what,
            "level": finding.level.word(),
            "found": finding.found,
            "why": finding.why,
            "remedy": finding.remedy,
            "fixable": finding.fix.is_some(),
        })
    };
    json!({
        "group": checked.group,
        "name": checked.name,
        "level": checked.level().word(),
        "findings": checked.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fix::{Fix, Fixed};
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::ok("docker", "29.1"),
            Finding::skipped("allow other", "nobody needs it").why("because").remedy("do"),
        ];
        let bad = vec![
            Finding::problem("fuse", "there is no\x1b `/dev/fuse`")
                .why("nothing can be mounted")
                .remedy("sudo modprobe fuse")
                .remedy("or do without"),
            Finding::warning("state", "open").fix(Fix::MakePrivate("/x".into())),
        ];
        let done = Fixed { what: "made `/x`".into(), error: None };
        let failed = Fixed { what: "made `/y`".into(), error: Some("no room".into()) };
        Report {
            checked: vec![
                Checked { group: "One", name: "a", findings },
                Checked { group: "Two", name: "b", findings: bad },
            ],
            fixed: vec![done, failed],
            bundle: None,
        }
    }

    #[test]
    fn a_person_reads_what_was_found_why_it_matters_and_what_to_type() {
        insta::assert_snapshot!(text(&report(), false), @r"
        One
          ok      docker:              29.1
          -       allow other:         nobody needs it

        Two
          PROBLEM fuse:                there is no\u{1b} `/dev/fuse`
                    nothing can be mounted
                  $ sudo modprobe fuse
                  or do without
          WARNING state:               open
                  $ skync doctor --fix

        Repaired
          made `/x`
          FAILED: made `/y`: no room

        1 problem, 1 warning, 4 checks
        ");
        assert!(text(&report(), true).contains("          $ do\n"));
    }

    #[test]
    fn a_program_reads_the_same() {
        let document = document(&report());
        assert_eq!(document["ok"], false);
        assert_eq!(document["checks"][1]["findings"][0]["level"], "problem");
        assert_eq!(document["checks"][1]["findings"][1]["fixable"], true);
        assert_eq!(document["checks"][0]["level"], "skipped");
        assert_eq!(document["fixed"][1]["error"], "no room");
    }
}
