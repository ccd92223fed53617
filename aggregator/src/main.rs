//! `cidrift-aggregator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cidrift_aggregator::program::main()
}
