//! The `crucial` command.

fn main() {
    crucial::cli::run(std::env::args_os())
}
