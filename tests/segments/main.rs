//! Scripts of segments and calls in virtual time, in the style of packetdrill.
//!
//! `scripts/*/*.seg`: one scenario a file, run against a bare connection and against a whole stack; the language is
//! described in `scripts/README.md`. `MOS_TEST_SEG=part` runs the scripts whose path contains `part` and prints what was on
//! the wire.

mod connection;
mod driver;
#[path = "../endpoint/lab.rs"]
#[allow(dead_code)]
mod lab;
mod matrix;
mod parse;
mod run;
mod stack;

use connection::Connection;
use driver::{Driver, Settings};
use parse::Script;
use stack::Stack;
use std::fs;
use std::path::{Path, PathBuf};

fn scripts(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            scripts(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "seg") {
            into.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/segments/scripts")
}

/// All scripts that `MOS_TEST_SEG` wants, by name, and whether what happens is to be printed.
fn wanted() -> (Vec<(String, Script)>, bool) {
    let root = root();
    let mut paths = Vec::new();
    scripts(&root, &mut paths);
    paths.retain(|path| !path.starts_with(root.join("common")));
    assert!(paths.len() >= 120, "only {} scripts", paths.len());
    let wanted = std::env::var("MOS_TEST_SEG").unwrap_or_default();
    let named = paths.iter().map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), path));
    let chosen = named.filter(|(name, _)| name.contains(&wanted)).map(|(name, path)| {
        let script = parse::script(path, &root.join("common")).unwrap_or_else(|why| panic!("{name}: {why}"));
        (name, script)
    });
    (chosen.collect(), !wanted.is_empty())
}

/// Runs a script; a driver that panics has failed, too.
fn outcome<D: Driver>(
    script: &Script,
    verbose: bool,
    make: fn(&Settings) -> Result<D, String>,
) -> Result<(), String> {
    let run = || run::run(script, &mut make(&script.settings)?, verbose);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").into())
    })
}

fn none_failed(failures: &[String], of: usize) {
    assert!(failures.is_empty(), "{} of {of} failed\n{}", failures.len(), failures.join("\n"));
}

/// All scripts against a bare connection.
#[test]
fn scripts_on_a_connection() {
    let (scripts, verbose) = wanted();
    let mut failures = Vec::new();
    for (name, script) in &scripts {
        if let Err(why) = outcome(script, verbose, Connection::new) {
            failures.push(format!("{name}:{why}"));
        }
    }
    none_failed(&failures, scripts.len());
}

/// The same against sockets over a link in memory. A script that says `alone` must fail there: the mark says no more than is so.
#[test]
fn scripts_on_the_whole_stack() {
    let (scripts, verbose) = wanted();
    let mut failures = Vec::new();
    let mut alone = 0;
    for (name, script) in &scripts {
        match (outcome(script, verbose, Stack::new), &script.alone) {
            (Ok(()), None) => {}
            (Err(_), Some(_)) => alone += 1,
            (Err(why), None) => failures.push(format!("{name}:{why}")),
            (Ok(()), Some(why)) => failures.push(format!("{name}: runs, though marked `alone {why}`")),
        }
    }
    none_failed(&failures, scripts.len());
    assert!(verbose || alone * 10 < scripts.len(), "{alone} of {} scripts only alone", scripts.len());
}

#[test]
fn a_script_that_is_wrong_fails() {
    let run = |text: &str| {
        let script = parse::text(text, Path::new(".")).unwrap();
        outcome(&script, false, Connection::new).and(outcome(&script, false, Stack::new))
    };
    let open = "+0 listen\n+0 < S 0:0(0) <mss 1000>\n";
    assert!(run(&format!("{open}+0 > S. 0:0(0) ack 1 <mss 1460>")).is_ok());
    for wrong in [
        "+0 state CLOSED",
        "+0 > S. 0:0(0) ack 2",
        "+0 > S 0:0(0) ack 1",
        "+0 > S. 1:1(0) ack 1",
        "+0 > S. 0:0(0) ack 1 win 7",
        "+0 > S. 0:0(0) ack 1 <>",
        "+0 > S. 0:0(0) ack 1 <mss 1000>",
        "+.5 > S. 0:0(0) ack 1",
        "+0 > S. 0:0(0) ack 1\n+0 > S. 0:0(0) ack 1",
        "+0 > S. 0:0(0) ack 1\n+0 state ESTABLISHED",
        "+0 > S. 0:0(0) ack 1\n+0 read 10 -> 3",
        "+0 > S. 0:0(0) ack 1\n+1.5 state SYN_RCVD",
    ] {
        let script = parse::text(&format!("{open}{wrong}"), Path::new(".")).unwrap();
        assert!(outcome(&script, false, Connection::new).is_err(), "{wrong}");
        assert!(outcome(&script, false, Stack::new).is_err(), "{wrong}");
    }
    for nonsense in [
        "+0 fly",
        "+x < S 0:0(0)",
        "+0 < S 0:5(0)",
        "+0 > S. 0:0(0) ack",
        "+0 < . 1:1(0) <mss>",
        "use nothing",
    ] {
        assert!(parse::text(nonsense, Path::new(".")).is_err(), "{nonsense}");
    }
}
