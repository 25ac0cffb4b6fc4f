//! Makes the types and services of every file in `proto/vintner/v1`. protox parses them, so no protoc is needed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked when it runs: clones that share a target folder may share this program too.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let folder = root.join("vintner/v1");
    println!("cargo:rerun-if-changed={}", folder.display());

    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    // The order of a folder is the file system's; the generated code must not depend on it.
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("vintner.v1.descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        // Ordered maps make the same message the same bytes.
        .btree_map(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
