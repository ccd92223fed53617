//! The operator's program: `kubectl cidrift …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cidrift_aggregator::kubectl::main()
}
