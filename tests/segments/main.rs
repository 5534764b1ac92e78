//! Scripts of segments and calls in virtual time, in the style of packetdrill.
//!
//! `scripts/*/*.seg`: one scenario a file; the language is described in `scripts/README.md`. `MOS_TEST_SEG=part` runs the
//! scripts whose path contains `part` and prints what was on the wire.

mod connection;
mod driver;
mod parse;
mod run;

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

/// All scripts against a bare connection.
#[test]
fn scripts_on_a_connection() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/segments/scripts");
    let mut paths = Vec::new();
    scripts(&root, &mut paths);
    paths.retain(|path| !path.starts_with(root.join("common")));
    let wanted = std::env::var("MOS_TEST_SEG").unwrap_or_default();
    let mut failures = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if !name.contains(&wanted) {
            continue;
        }
        let outcome = parse::script(path, &root.join("common")).and_then(|script| {
            let mut driver = connection::Connection::default();
            run::run(&script, &mut driver, !wanted.is_empty())
        });
        if let Err(why) = outcome {
            failures.push(format!("{name}:{why}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), paths.len(), failures.join("\n"));
    assert!(paths.len() >= 120, "only {} scripts", paths.len());
}

#[test]
fn a_script_that_is_wrong_fails() {
    let run = |text: &str| {
        let script = parse::text(text, Path::new(".")).unwrap();
        run::run(&script, &mut connection::Connection::default(), false)
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
        assert!(run(&format!("{open}{wrong}")).is_err(), "{wrong}");
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
