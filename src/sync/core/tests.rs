use skync_agent::entry::Entry;
use skync_agent::rules::Rules;
use skync_agent::transition::Status;

use std::path::Path;

use super::*;
use crate::sync::trees::{dir, file, husk, path};

fn core(agreed: Entry) -> Core {
    Core::new(SyncMode::TwoWaySafe, Ancestor::from_tree(Some(agreed)).expect("valid"))
}

fn plan(core: &mut Core, host: &Entry, sandbox: &Entry, folds_case: bool, now_ns: u64) -> Batch {
    let rules = Rules::default();
    let folds = [Folds { case: folds_case, form: folds_case }, Folds::default()];
    let guards = Guards::new(Path::new("/project"), None, false);
    let view =
        View { host: Some(host), sandbox: Some(sandbox), rules: &rules, guards: &guards, folds };
    core.plan(&view, now_ns).expect("no halt").expect("something to do")
}

#[test]
fn a_step_that_is_stale_again_and_again_is_told() {
    let mut core = core(dir([]));
    let (host, sandbox) = (dir([]), dir([("x", file("1"))]));
    let mut now_ns = 1;
    for _ in 0..STALE_AT_ONCE_MAX {
        let batch = plan(&mut core, &host, &sandbox, false, now_ns);
        core.finish(&batch, &[vec![Some(Status::Stale)], vec![]], now_ns);
        assert_eq!(core.problems().count(), 0);
    }
    let batch = plan(&mut core, &host, &sandbox, false, now_ns);
    core.finish(&batch, &[vec![Some(Status::Stale)], vec![]], now_ns);
    let told: Vec<_> = core.problems().map(|problem| (problem.side, problem.path)).collect();
    assert_eq!(told, [(Side::Host, path("x"))]);
    now_ns = core.next_due_ns().expect("it is tried again");
    let batch = plan(&mut core, &host, &sandbox, false, now_ns);
    core.finish(&batch, &[vec![Some(Status::Applied)], vec![]], now_ns);
    assert_eq!(core.problems().count(), 0);
}

#[test]
fn where_cases_are_not_told_apart_the_old_name_goes_before_the_new_one_comes() {
    let order = |folds_case| {
        let mut core = core(dir([("A", file("1"))]));
        let (host, sandbox) = (dir([("A", file("1"))]), dir([("a", file("1"))]));
        let batch = plan(&mut core, &host, &sandbox, folds_case, 1);
        batch.steps[0].iter().map(|step| step.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(true), ["A", "a"]);
    assert_eq!(order(false), ["a", "A"], "elsewhere no instant is without a copy");
}

#[test]
fn sharing_does_not_take_an_empty_directory_for_one_with_excluded_content() {
    let mut core = core(dir([]));
    let host = dir([("a", husk()), ("b", dir([("x", file("1"))]))]);
    let mut sandbox = dir([("a", dir([])), ("b", dir([("x", file("1"))]))]);
    let batch = plan(&mut core, &host, &sandbox, false, 1);
    core.finish(&batch, &[vec![], vec![]], 1);
    core.share(&batch, &host, &mut sandbox);
    let directory = |tree: Option<&Entry>, name: &str| {
        let found = tree.and_then(|tree| tree.find(&path(name))).and_then(Entry::as_directory);
        found.cloned().expect("a directory")
    };
    for tree in [Some(&sandbox), core.ancestor().root()] {
        assert!(!directory(tree, "a").only_excluded);
        let b = directory(tree, "b").children;
        assert!(b.is_shared_with(&directory(Some(&host), "b").children));
    }
}
