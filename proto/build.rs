//! Generates the `cidrift.v1` API from `proto/` without a protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 3] = [
        "proto/cidrift/v1/types.proto",
        "proto/cidrift/v1/report.proto",
        "proto/cidrift/v1/query.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .extern_path(".google.protobuf.Timestamp", "crate::time::WireTime")
        .compile_well_known_types(true)
        .compile_fds(descriptors)?;
    Ok(())
}
