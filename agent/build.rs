//! Generates the client of the container runtime interface from `proto/` without a protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/cri/runtime.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Only the tests have a runtime of their own.
        .server_mod_attribute("runtime.v1", "#[cfg(test)]")
        .compile_fds(descriptors)?;
    Ok(())
}
