//! Compiles the wire contract with protox: no `protoc` is needed on any machine.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = std::env::var("CARGO_CFG_TARGET_OS")?;
    if !matches!(system.as_str(), "linux" | "macos") {
        // Here, and not as hundreds of errors of the compiler. What is missing is in skync's src/lib.rs.
        return Err(
            format!("skync runs on Linux and macOS; for `{system}` it is not written").into()
        );
    }
    println!("cargo::rerun-if-changed=proto/skync.proto");
    let descriptors = protox::compile(["proto/skync.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Content is shared, not copied, from the HTTP/2 frame to the file.
        .bytes(".skync.v1.Chunk.data")
        .bytes(".skync.v1.Packed.data")
        .bytes(".skync.v1.OutputFrame.data")
        .bytes(".skync.v1.InputFrame.data")
        .bytes(".skync.v1.FilesReply.data")
        .bytes(".skync.v1.FilesContent.data")
        .bytes(".skync.v1.FilesWrite.data")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
