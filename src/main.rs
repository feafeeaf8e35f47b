//! The binary: the built-in extractors and the command line.

fn main() -> std::process::ExitCode {
    graphmill::cli::main(graphmill::extractors::Extractors::builtin())
}
