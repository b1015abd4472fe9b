//! The binary: the command line of the library beside it.

fn main() -> std::process::ExitCode {
    holdfast::cli::run()
}
