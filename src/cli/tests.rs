//! What a command line means, and what the help says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::CommandFactory;

use super::*;
use crate::error::ExitCode;

fn exec(arguments: &[&str]) -> ExecArgs {
    match Cli::try_parse_from([&["skync", "exec"], arguments].concat()).unwrap().command {
        Command::Exec(args) => *args,
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn everything_behind_the_first_word_is_the_commands() {
    let args = exec(&["-e", "A=1", "git", "log", "--json", "-e", "B=2", "--", "-x", "--help"]);
    assert_eq!(args.env, ["A=1"]);
    assert_eq!(args.command, ["git", "log", "--json", "-e", "B=2", "--", "-x", "--help"]);
    assert_eq!(exec(&["--", "-x", "--", "y"]).command, ["-x", "--", "y"]);
    assert_eq!(exec(&["--force", "--", "--force"]).command, ["--force"]);
}

#[test]
fn a_mistyped_flag_before_the_command_is_not_run() {
    assert!(Cli::try_parse_from(["skync", "exec", "--exclde", "x", "make"]).is_err());
    assert!(Cli::try_parse_from(["skync", "exec"]).is_err());
    assert!(Cli::try_parse_from(["skync", "exec", "--"]).is_err());
}

#[test]
fn arguments_that_are_not_text_stay_as_they_are() {
    let odd = OsString::from_vec(vec![b'a', 0xff, b'\n']);
    let arguments = ["skync", "exec", "printf"].map(OsString::from);
    let cli = Cli::try_parse_from(arguments.into_iter().chain([odd.clone()])).unwrap();
    let Command::Exec(args) = cli.command else { panic!("not exec") };
    assert_eq!(args.command[1], odd);
}

#[test]
fn global_flags_stand_before_and_behind_the_verb() {
    for line in [["skync", "--json", "-qq", "status"], ["skync", "status", "--json", "-qq"]] {
        let cli = Cli::try_parse_from(line).unwrap();
        assert!(cli.global.json && cli.global.quiet == 2);
    }
    assert!(Cli::try_parse_from(["skync", "-q", "-v", "status"]).is_err());
}

#[test]
fn a_glimpse_sees_the_verb_and_the_wish_for_json() {
    let of = |line: &str| {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let glimpse = Glimpse::of(&arguments);
        (glimpse.exec, glimpse.json)
    };
    assert_eq!(of("exec --bad x"), (true, false));
    assert_eq!(of("--json --profile gc exec --bad"), (true, true));
    assert_eq!(of("exec ls --json"), (true, false));
    assert_eq!(of("exec --json --bad ls"), (true, true));
    assert_eq!(of("profile list --json --bad"), (false, true));
    assert_eq!(of("profile show exec"), (false, false));
    assert_eq!(of("--profile exec gc --bad"), (false, false));
    let of = |line: &str| Glimpse::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
    assert_eq!(of("gc --color never --bad").color, ColorChoice::Never);
    assert_eq!(of("--color=always gc --bad").color, ColorChoice::Always);
}

#[test]
fn a_refusal_says_what_is_missing_and_what_may_have_been_meant() {
    let of = |line: &str| {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).expect_err("wrong");
        let error = Glimpse::of(&arguments[1..]).error(&error);
        (error.code, error.message, error.hints)
    };
    let (code, message, hints) = of("skync up --exclde x");
    assert_eq!((code, message.as_str()), (ExitCode::Usage, "unexpected argument '--exclde' found"));
    assert_eq!(hints[0], "a similar argument exists: '--exclude'");
    let (code, message, _) = of("skync exec");
    assert_eq!(code, ExitCode::NotStarted);
    assert_eq!(message, "the following required arguments were not provided: <COMMAND>...");
    assert_eq!(of("skync profile").1, "a command is missing");
}

#[test]
fn the_help_of_the_program() {
    let help = Cli::command().term_width(90).render_long_help().to_string();
    let (head, rest) = help.split_once("Options of every command:\n").unwrap();
    insta::assert_snapshot!(head.trim_end(), @r"
    Mirror a project into a sandbox, run commands there as if they were local, and leave
    nothing behind

    Usage: skync [OPTIONS] <COMMAND>

    Commands:
      exec         Run a command in the sandbox, on this project's files
      ps           Show the commands that run
      logs         Show what a command has written
      attach       Be the terminal, or the streams, of a command that runs
      wait         Wait until a command has ended
      cancel       Stop a command and everything that it started
      init         Set up a profile for this project, with at most four questions
      profile      Name, choose and check kinds of sandboxes
      use          Choose the profile that is used from now on; the same as `skync profile
                   use`
      auth         Log in to a provider, log out, and see which keys there are
      config       Show what is configured, and where it is said
      trust        Let what this project's `skync.toml` says count, as it is now
      up           Mirror the project into a sandbox and keep it mirrored, both ways
      status       Show the sessions, and what state they are in; or one command
      flush        Wait until everything that was done before, on either side, is on both
      pause        Let nothing move between the two sides until `skync resume`
      resume       Go on after `skync pause`, or allow what was halted
      conflicts    List where the two sides disagree, and what may not come home unasked
      resolve      Say whose version of a path in conflict is wanted
      undo         Bring back what the sandbox overwrote or deleted on this side
      mount        Show the sandbox's files as a directory, without copying them
      unmount      Take away what `skync mount` has mounted
      down         End the session of a project and remove its sandbox
      gc           Remove what crashes left behind: sandboxes, containers, files of ours
      doctor       Check this machine, the project and the profile, and say what is in the way
      completions  Print the script with which a shell completes command lines of skync
      man          Print the manual page, or write one for each command
      help         Print the help of a command, or the exit codes

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
    assert!(rest.contains("--json"), "{rest}");
}

#[test]
fn the_help_of_every_command() {
    let help = Cli::command().term_width(90).render_long_help().to_string();
    let (_, rest) = help.split_once("Options of every command:\n").unwrap();
    insta::assert_snapshot!(rest, @r"
          --profile <NAME>
              Use this profile; else SKYNC_PROFILE, else the project's, else the one that
              `skync use` chose

          --set <KEY=VALUE>
              A setting of the profile for this command, as in `--set image=python:3.13`; so
              does the variable SKYNC_IMAGE

          --json
              Print one JSON document on stdout, for errors too

      -q, --quiet...
              Say less: once for no progress, twice for errors only

      -v, --verbose...
              Say more: once for what is done, twice for all of it

          --color <WHEN>
              Use colours

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always: Always
              - never:  Never
              
              [default: auto]

    Examples:
      skync profile add dev --driver docker --image python:3.12
      skync exec pytest -q            run the tests in the sandbox, with this project's files
      skync exec -- make -j4          everything behind `--` belongs to the command
      skync exec -d ./train.py        in the background; `skync logs`, `attach`, `cancel`
      skync up                        keep the project mirrored, both ways, until Ctrl-C
      skync use local                 run commands in place from now on

    Exit codes of every command but `exec`, `attach` and `wait`:
      0    done
      1    it failed
      2    the command line is wrong
      3    the configuration or the profile is wrong
      4    a key is missing, refused or cannot be read
      5    what was named is not there
      6    the two sides disagree and a person must say
      7    the engine or provider cannot be reached
      8    no room, memory or quota
      130  interrupted by Ctrl-C
    `skync exec --help` has those of `exec`, `attach` and `wait`.
    ");
}

#[test]
fn the_help_of_up() {
    let mut command = Cli::command().term_width(90);
    command.build();
    let help = command.find_subcommand_mut("up").unwrap().render_long_help().to_string();
    assert!(help.contains("\nCtrl-C brings home what the sandbox has"), "{help}");
    let (own, _) = help.split_once("Options of every command").unwrap();
    insta::assert_snapshot!(own.trim_end(), @r"
    Mirror the project into a sandbox and keep it mirrored, both ways

    What changes on either side is carried over at once. A second `skync up` shows the same
    mirror; `skync exec` uses its sandbox.

    Usage: skync up [OPTIONS]

    Options:
          --root <DIR>
              The project's directory; else the one around the current directory

      -d, --detach
              Return once both sides are the same, and go on in the background until `skync
              down`

          --exclude <PATTERN>
              Leave out what this pattern matches, gitignore syntax

          --force
              Go on although the project is `/`, the home directory, or otherwise a likely
              mistake

          --mount
              Mount the sandbox as long as it is mirrored (`skync mount --help` says what that
              is)

          --no-mount
              Do not, although the profile says so

          --mount-at <DIR>
              Mount it there; else in ~/.remote/PROFILE

          --mount-rw
              Mount it, and let it be written

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn a_mount_is_named_by_its_place_or_its_project() {
    let parsed = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
    for good in [
        "skync mount",
        "skync mount ../other --at /mnt/x --root / --rw --timeout 5s",
        "skync unmount --all --force",
        "skync unmount /mnt/x",
        "skync up -d --mount --mount-at /mnt/x",
    ] {
        assert!(parsed(good), "{good}");
    }
    for bad in [
        "skync mount --rw --ro",
        "skync mount --timeout soon",
        "skync unmount /mnt/x --all",
        "skync unmount --at /mnt/x --all",
        "skync up --no-mount --mount-rw",
    ] {
        assert!(!parsed(bad), "{bad}");
    }
}

#[test]
fn flags_about_terminals_and_the_background_are_those_of_other_tools() {
    let args = exec(&["-it", "vim"]);
    assert!(args.tty && args.interactive && args.command == ["vim"]);
    assert!(exec(&["-T", "ls"]).no_tty && exec(&["-d", "ls"]).detach);
    assert!(Cli::try_parse_from(["skync", "exec", "-t", "-T", "ls"]).is_err());
    let args = exec(&["--timeout", "1h30m", "--on-disconnect", "keep", "--spool", "64MiB", "ls"]);
    assert_eq!(args.timeout.unwrap().as_secs(), 5_400);
    assert_eq!((args.on_disconnect.unwrap().to_ms(), args.spool), (u64::MAX, Some(64 << 20)));
    for (flag, value) in
        [("--timeout", "soon"), ("--spool", "much"), ("--name", "-x"), ("--name", "a b")]
    {
        let wrong = format!("{flag}={value}");
        assert!(Cli::try_parse_from(["skync", "exec", &wrong, "ls"]).is_err(), "{wrong}");
    }
}

#[test]
fn the_verbs_about_operations_name_one() {
    for verb in ["logs", "attach", "wait", "cancel"] {
        assert!(Cli::try_parse_from(["skync", verb]).is_err(), "{verb}");
        assert!(Cli::try_parse_from(["skync", verb, "train"]).is_ok(), "{verb}");
    }
    assert!(Cli::try_parse_from(["skync", "status", "train"]).is_ok());
    assert!(Cli::try_parse_from(["skync", "status", "--watch", "train"]).is_err());
    assert!(Cli::try_parse_from(["skync", "logs", "--tail", "2", "--since", "1m", "x"]).is_err());
}

/// What `skync exec --help` says of its own flags: first those about the command, then those about
/// what becomes of it.
fn help_of_exec() -> (String, String) {
    let mut command = Cli::command().term_width(90);
    command.build();
    let exec = command.find_subcommand_mut("exec").unwrap();
    let help = exec.render_long_help().to_string();
    assert!(help.contains("\n  125  skync failed before the command started"), "{help}");
    let (own, _) = help.split_once("Options of every command").unwrap();
    let (first, second) = own.split_once("\n\n  -t, --tty").unwrap();
    (first.to_owned(), format!("  -t, --tty{}", second.trim_end()))
}

#[test]
fn the_help_of_exec() {
    let (own, _) = help_of_exec();
    insta::assert_snapshot!(own, @r"
    Run a command in the sandbox, on this project's files

    The project is synchronised into the sandbox before the command starts and back before
    `skync exec` returns, also when the command fails. Streams and exit code are the
    command's.

    Usage: skync exec [OPTIONS] <COMMAND>...

    Arguments:
      <COMMAND>...
              The command and its arguments, passed on exactly

    Options:
          --root <DIR>
              The project's directory; else the one around the current directory

      -w, --workdir <DIR>
              Where the command starts: a directory of the project, or an absolute path in the
              sandbox

      -e, --env <NAME[=VALUE]>
              Set a variable for the command; without a value it is taken from this shell

          --exclude <PATTERN>
              Leave out what this pattern matches, gitignore syntax

          --force
              Go on although the project is `/`, the home directory, or otherwise a likely
              mistake
    ");
}

#[test]
fn the_help_of_exec_about_what_becomes_of_the_command() {
    let (_, own) = help_of_exec();
    insta::assert_snapshot!(own, @r"
      -t, --tty
              Give the command a terminal; else it gets one if stdin and stdout are terminals

      -T, --no-tty
              Give the command pipes, also at a terminal

      -d, --detach
              Return once it has started, and print its id; it goes on in the background

          --name <NAME>
              Call it so, for `skync logs NAME` and the like

          --timeout <TIME>
              Stop it when it has run so long, as in 90s, 10m or 1h30m; the exit code is 124

          --grace <TIME>
              Time between the steps of stopping it; else 5s

          --on-disconnect <WHAT>
              What becomes of it if this client goes without a word: keep, cancel, or how long
              it goes on; else 10m

          --no-wait
              Do not wait until its results are here

          --sync-timeout <TIME>
              Give up if synchronising before it makes no progress for so long; else 60s

          --reconnect-timeout <TIME>
              Give up a link that is lost after so long, with exit code 123; else 10m, and at
              a terminal never

          --spool <SIZE>
              How much of its output is kept while nobody takes it, as in 64MiB; else 256MiB

          --report <FILE>
              Write how it went into this file, as a JSON document

      -h, --help
              Print help (see a summary with '-h')
    ");
}
