//! What the verbs of `profile` do and print.

use super::*;
use crate::cli::{ShowArgs, UseArgs, ValidateArgs};

fn run(context: &Context, command: &ProfileCommand) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(super::run(command, context))
}

fn docker(name: &str, image: &str) -> AddArgs {
    AddArgs {
        name: name.into(),
        driver: "docker".into(),
        image: Some(image.into()),
        ..AddArgs::default()
    }
}

fn add_profile(context: &Context, args: AddArgs) -> Result<ExitCode, CliError> {
    run(context, &ProfileCommand::Add(Box::new(args)))
}

/// A context below a directory, without its path in what is printed.
fn context(home: &tempfile::TempDir) -> Context {
    Context::below(home.path())
}

fn show_text(context: &Context, name: &str) -> Result<String, CliError> {
    show::text(&ShowArgs { name: Some(name.to_owned()) }, context)
}

#[test]
fn profiles_are_listed_with_the_one_that_is_used_and_why() {
    let home = tempfile::tempdir().unwrap();
    let mut context = context(&home);
    let limits = AddArgs {
        memory: Some("2g".into()),
        cpus: Some("1.5".into()),
        network: Some("none".into()),
        ..docker("dev", "python:3.12")
    };
    add_profile(&context, limits).unwrap();
    add_profile(&context, docker("web", "b")).unwrap();
    let shown = |context: &Context| {
        list(context).unwrap().replace(&home.path().display().to_string(), "[HOME]")
    };
    insta::assert_snapshot!(shown(&context), @r"
        NAME       DRIVER     WHAT
     *  dev        docker     image python:3.12, 2GiB memory, 1.5 CPUs, network none
        web        docker     image b
        local      local      runs in place, without a sandbox
        directory  directory  a directory below [HOME]/state/sandboxes

    `dev` is used because of `skync profile use`
    ");
    context.profile_env = Some("web".to_owned());
    assert!(shown(&context).ends_with(
        "`web` is used because of SKYNC_PROFILE, which wins over `dev` in the configuration\n"
    ));
    context.profile_env = Some("wbe".to_owned());
    assert!(shown(&context).ends_with("and there is no such profile\n"));
    context.json = true;
    let document: serde_json::Value = serde_json::from_str(&list(&context).unwrap()).unwrap();
    assert_eq!(document["profiles"][0]["name"], "dev");
    assert_eq!(document["active"]["origin"], "environment");
}

#[test]
fn a_broken_profile_is_listed_as_such() {
    let home = tempfile::tempdir().unwrap();
    let context = context(&home);
    crate::state::make_directory(&context.places.config).unwrap();
    let text = "[profiles.a]\ndriver = \"docker\"\n";
    crate::state::write_atomic(&context.places.config_file(), text.as_bytes(), 0o600).unwrap();
    assert!(list(&context).unwrap().contains("cannot be used"));
    let error = run(&context, &ProfileCommand::Validate(ValidateArgs::default())).unwrap_err();
    assert_eq!(error.code, ExitCode::Config);
    assert!(error.details[0].contains("config.toml:1:11: the profile `a` has neither"));
    let good = UseArgs { name: "local".to_owned(), here: false, everywhere: true };
    run(&context, &ProfileCommand::Use(good)).unwrap();
    run(&context, &ProfileCommand::Validate(ValidateArgs::default())).unwrap();
    let all = ValidateArgs { all: true, offline: true, ..ValidateArgs::default() };
    assert!(run(&context, &ProfileCommand::Validate(all)).is_err());
}

#[test]
fn a_profile_is_shown_with_its_defaults_and_without_its_secrets() {
    let home = tempfile::tempdir().unwrap();
    let mut context = context(&home);
    let args = AddArgs {
        env: vec!["CI=1".into(), "API_TOKEN=hunter2=".into()],
        exclude: vec!["dist/".into()],
        memory: Some("512MiB".into()),
        ..docker("dev", "python:3.12")
    };
    add_profile(&context, args).unwrap();
    insta::assert_snapshot!(show_text(&context, "dev").unwrap(), @r#"
    dev
      driver            docker
      image             python:3.12
      host              (DOCKER_HOST, the docker context, or the default socket)
      memory            512MiB
      cpus              (no limit)
      pids              (no limit)
      network           (the engine's default)
      user              (the image's)
      link              auto
      setup_image       false
      mode              two-way-safe
      exclude           ["dist/"]
      gitignore         false
      guarded           (what git, direnv, husky and VS Code would run, and rule files)
      root              (where the project is here)
      max_runtime       (no limit)
      on_disconnect     (10m)
      reconnect_timeout (10m)
      setup             nothing
      setup_timeout     (30m)
      mount             false
      mount_at          (~/.remote and the profile's name)
      mount_root        (the project)
      mount_rw          false
      mount_timeout     (30s)
      env               API_TOKEN=***
      env               CI=1
    "#);
    assert!(show_text(&context, "local").unwrap().contains("driver            local"));
    assert_eq!(show_text(&context, "dve").unwrap_err().code, ExitCode::NotFound);
    let selected = show::text(&ShowArgs { name: None }, &context).unwrap();
    assert!(selected.starts_with("dev (because of `skync profile use`)\n"), "{selected}");
    context.json = true;
    let document: serde_json::Value =
        serde_json::from_str(&show_text(&context, "dev").unwrap()).unwrap();
    assert_eq!(document["profile"]["memory"], 512 << 20);
    assert_eq!(document["profile"]["env"]["API_TOKEN"], "***");
}

#[test]
fn all_that_is_wrong_with_a_new_profile_is_said_at_once() {
    let home = tempfile::tempdir().unwrap();
    let context = context(&home);
    let args = AddArgs {
        driver: "docekr".into(),
        memory: Some("lots".into()),
        cpus: Some("many".into()),
        pids: Some("0".into()),
        root: Some("app".into()),
        env: vec!["1A=x".into()],
        ..docker("dev", "Python")
    };
    let error = add_profile(&context, args).unwrap_err();
    insta::assert_snapshot!(
        crate::ui::render::error_text(&error, crate::ui::render::Style { color: false }),
        @r"
        error: cannot add the profile `dev`

          there is no driver `docekr`
            = did you mean `docker`?

          `1A` cannot be the name of a variable
            = a name has letters, digits and `_`, and does not start with a digit

          `root`: `app` is not an absolute path
            = start it with `/`

          `image`: `Python` cannot be the name of an image
            = the name of an image is lower case, only its tag may be other

          `memory`: `lots` is not a size
            = write `512MiB`, `2g` or a number of bytes

          `cpus` must be a number, not text

          `pids`: `0` is not a number of processes
            = 1 is the least

        hint: nothing was written; give it again without what is named here
        "
    );
    let without = AddArgs { env: vec!["HOME".into()], ..docker("dev", "a") };
    assert_eq!(add_profile(&context, without).unwrap_err().code, ExitCode::Usage);
    assert!(!context.places.config_file().exists());
}

#[test]
fn removing_the_used_profile_falls_back() {
    let home = tempfile::tempdir().unwrap();
    let context = context(&home);
    add_profile(&context, docker("dev", "a")).unwrap();
    let args = RemoveArgs { name: "dev".to_owned() };
    run(&context, &ProfileCommand::Remove(args.clone())).unwrap();
    assert_eq!(context.select().unwrap().profile.name, "directory");
    let error = run(&context, &ProfileCommand::Remove(args)).unwrap_err();
    assert_eq!(error.code, ExitCode::NotFound);
}

#[test]
fn sizes_are_shown_in_their_largest_whole_unit() {
    assert_eq!(size(2 << 30), "2GiB");
    assert_eq!(size(1536 << 20), "1536MiB");
    assert_eq!(size(6_291_457), "6291457 bytes");
}
