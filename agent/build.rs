//! Generates the clients of the container runtime interface from `proto/` without a protoc on the machine.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let output = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo says OUT_DIR")?);
    generate("cri/runtime.proto", &output)?;
    // The same service with another call: two files of one name.
    let errand = output.join("errand");
    std::fs::create_dir_all(&errand)?;
    generate("errand/cri.proto", &errand)
}

fn generate(file: &str, output: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure()
        // Only the tests have a runtime of their own.
        .server_mod_attribute("runtime.v1", "#[cfg(test)]")
        .out_dir(output)
        .compile_fds(descriptors)?;
    Ok(())
}
