//! `cidrift-errand`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cidrift_agent::errand::main()
}
