//! The test servers as a program of their own, see the crate.

fn main() -> std::process::ExitCode {
    test_servers::main()
}
