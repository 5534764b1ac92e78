//! What needs a process of its own: configuration, several cores, signals, the life of contexts (`tests/c/lifecycle.c`).

use crate::harness::{compile, root, run, scratch};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

fn program() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = scratch("lifecycle").join("lifecycle");
        compile(&root().join("tests/c/lifecycle.c"), &out, &["-pthread"]);
        out
    })
}

fn capture(name: &str) -> String {
    root().join("tests/cases").join(name).with_extension("pcap").display().to_string()
}

/// Runs the program in a mode with a configuration; it must say "ok". What was on stderr.
fn said(mode: &str, name: &str, conf: &str, log: &str) -> (PathBuf, String) {
    let path = scratch("lifecycle").join(format!("{name}.conf"));
    fs::write(&path, conf).expect("write the configuration");
    let args = [mode.as_ref(), path.as_os_str()];
    let env = [("MOS_REPLAY_START", "join"), ("MOS_LOG", log)];
    let outcome = run(program(), &args, &env, Duration::from_secs(30));
    let (stdout, stderr) = (
        String::from_utf8_lossy(&outcome.stdout).into_owned(),
        String::from_utf8_lossy(&outcome.stderr).into_owned(),
    );
    let failure = outcome.failure();
    assert!(failure.is_none() && stdout.ends_with("ok\n"), "{failure:?}\n{stdout}\n{stderr}");
    (path, stderr)
}

fn plain(capture_name: &str, mask: &str) -> String {
    format!(
        "mos {{\n\tforward = 0\n\tmax_concurrency = 1000\n\tnetdev {{\n\t\t{} {mask}\n\t}}\n}}\n",
        capture(capture_name)
    )
}

#[test]
fn d14_masks_are_honoured() {
    // Often, since threads may start in any order.
    for _ in 0..20 {
        said("masks", "masks", &plain("tuple_reuse", "0x5"), "off");
    }
}

#[test]
fn d15_what_is_odd_is_a_warning() {
    let conf = format!(
        "mos {{\n\tforward = 0\n\tno_such_key = 1\n\tnetdev {{ {} 0x1 }}\n\tno_such_block {{\n\t\tx 1\n\t}}\n}}\n",
        capture("normal")
    );
    let (path, stderr) = said("init", "odd", &conf, "warn");
    for (line, word) in [(3, "no_such_key"), (5, "no_such_block")] {
        let at = format!("{}:{line}", path.display());
        assert!(stderr.lines().any(|l| l.contains(&at) && l.contains(word)), "{at} {word} in:\n{stderr}");
    }
}

#[test]
fn d15_what_cannot_be_used_is_an_error() {
    let (path, stderr) = said("refused", "nothing", "# no mos block\n", "error");
    assert!(stderr.contains(&path.display().to_string()), "names the file:\n{stderr}");
    let (_, stderr) = said("refused", "device", &plain("no_such_capture", "0x1"), "error");
    assert!(stderr.contains("no_such_capture"), "names the device:\n{stderr}");
}

#[test]
fn d17_sigint_handler_on_an_ordinary_thread() {
    said("sigint", "sigint", &plain("tuple_reuse", "0x1"), "off");
}

#[test]
fn d18_context_can_be_created_again() {
    said("again", "again", &plain("tuple_reuse", "0x1"), "off");
}

#[test]
fn cancellation_is_off_inside_the_library() {
    said("cancel", "cancel", &plain("tuple_reuse", "0x1"), "debug");
}

#[test]
fn x5_mos_log() {
    let conf = plain("normal", "0x1").replace("forward = 0", "forward = 0\n\tno_such_key = 1");
    let (_, quiet) = said("init", "log", &conf, "error");
    assert!(!quiet.contains("no_such_key"), "a warning is below error:\n{quiet}");
    let (_, loud) = said("init", "log_debug", &conf, "debug");
    assert!(loud.contains("no_such_key"), "{loud}");
}
