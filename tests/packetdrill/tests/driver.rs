//! The adapter's shared object, loaded and driven from C as packetdrill does: `driver.c`, one process for each case.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shared_object() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test");
    exe.parent().expect("directory of the test").join("libmos_packetdrill.so")
}

fn driver() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver.c");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packetdrill-driver");
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o"]);
    let built = cc.arg(&out).arg(source).args(["-ldl", "-lpthread"]).output().expect("cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    out
}

fn run(driver: &Path, case: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(driver).arg(shared_object()).args(case).output().expect("timeout")
}

#[test]
fn c_drives_the_shared_object() {
    let driver = driver();
    let listed = run(&driver, &[]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(names.lines().count() >= 10, "{names}");
    let mut failures = String::new();
    for case in names.lines() {
        let output = run(&driver, &[case]);
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            failures += &format!("{case}: {}\n{said}", output.status);
        }
        if case == "bad_flags" {
            assert!(said.contains("--so_flags: 'sack=perhaps': expected on or off"), "{said}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
