//! Generates the lab's client of container runtimes from `proto/` and the agent's messages.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../agent/proto");
    let descriptors = protox::compile(["proto/lab/cri.proto"], ["proto", "../agent/proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
