use super::*;
use crate::config::{DirectoryConfig, DriverConfig, Profile};

fn live(id: &str, name: &str, root: &str, began_ms: u64, state: OperationState) -> Live {
    let id: OperationId = format!("{id:0<32}").parse().expect("an id");
    let profile = Profile::new("dev", DriverConfig::Directory(DirectoryConfig::default()));
    let spec = Spec { id: String::new(), root: root.into(), profile };
    let (name, state) = (name.to_owned(), state as i32);
    let operation = Operation { id: id.to_vec(), name, state, began_ms, ..Operation::default() };
    Live { operation, id, spec }
}

fn found(text: &str) -> Result<Option<String>, CliError> {
    let (running, ended) = (OperationState::OperationRunning, OperationState::OperationEnded);
    let all = vec![
        live("aaaa1", "test", "/here", 1, running),
        live("aaaa2", "test", "/here", 2, ended),
        live("bbbb1", "test", "/there", 3, running),
        live("cccc1", "only", "/there", 4, running),
        live("cccc2", "", "/there", 5, running),
        live("bbbb2", "", "/here", 6, running),
    ];
    let found = meant(all, text, Some("/here".into()))?;
    Ok(found.map(|live| live.id.to_string()[..5].to_owned()))
}

#[test]
fn this_projects_operations_come_first_and_those_that_run_before_those_that_ended() {
    for (text, expected) in [
        ("test", Some("aaaa1")),
        ("only", Some("cccc1")),
        ("bbbb", Some("bbbb2")),
        ("bbbb1", Some("bbbb1")),
        ("aaaa2", Some("aaaa2")),
        ("nothing", None),
        ("ccc", None),
    ] {
        assert_eq!(found(text).expect("clear").as_deref(), expected, "{text}");
    }
}

#[test]
fn what_may_be_several_is_refused_with_their_names() {
    let error = found("cccc").expect_err("ambiguous");
    assert_eq!(error.code, ExitCode::Usage);
    assert!(error.details[0].contains("cccc1") && error.details[0].contains("cccc2"));
}

#[tokio::test]
async fn what_was_running_when_its_session_went_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let context = Context::below(directory.path());
    let store = Store::open(&context.places).expect("a store");
    let id = OperationId::random();
    let record = Record::new(id, "/p".into(), "dev".into(), &[b"make".to_vec()]);
    store.begin(&record).expect("written");
    let Ok(Found::Kept(record)) = find(&id.short(), &context).await else { panic!("not kept") };
    assert_eq!(record.state, RecordState::Lost);
    assert_eq!(no_outcome(&record).code, ExitCode::OutcomeUnknown);
    let error = find("nothing", &context).await.err().expect("there is none");
    assert_eq!(error.code, ExitCode::NotFound);
}
