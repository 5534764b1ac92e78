//! Gives `libmos.so` its versioned SONAME, so that programs linked against it record `libmos.so.0`.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmos.so.0");
}
