//! The test servers as a program of their own: for `scripts/bench`, for the providers' SDKs by hand,
//! and, inside of each test sandbox, as what runs processes there. `test-servers --help`.

fn main() -> std::process::ExitCode {
    test_servers::main()
}
