//! The `crucial` command.

fn main() {
    crucial_cli::run(std::env::args_os())
}
