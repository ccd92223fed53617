//! Agent, errand and aggregator as another release of them: the same programs, which say an older version. Which of
//! them it is says the name that it is called by. With it the tests upgrade what is installed.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(told) = cidrift_proto::version::release(cidrift_lab::image::OLDER) {
        eprintln!("cidrift-older: it has said that it is {told}");
        return ExitCode::FAILURE;
    }
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("cidrift-agent") => cidrift_agent::program::main(),
        Some("cidrift-errand") => cidrift_agent::errand::main(),
        Some("cidrift-aggregator") => cidrift_aggregator::program::main(),
        _ => {
            eprintln!("cidrift-older: call it by the name cidrift-agent, cidrift-errand or cidrift-aggregator");
            ExitCode::FAILURE
        }
    }
}
