//! `cidrift-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cidrift_agent::program::main()
}
