//! Our packetdrill scripts, `scripts/*/*.pkt`, or those below the directory PACKETDRILL_SCRIPTS: all through the adapter by a
//! small interpreter of the language, and, where the environment variable PACKETDRILL names a packetdrill, by that as well.
//!
//! Each script runs in a process of its own, under a time limit: `cargo test -p mos-packetdrill --test scripts PART` runs
//! those whose path contains PART. PACKETDRILL_SO_FLAGS holds for all of them, before what a script says itself.

mod calls;
mod lex;
mod packets;
mod parse;
mod run;
mod value;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Real time a script may take: it should be milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

fn scripts(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            scripts(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "pkt") {
            into.push(path);
        }
    }
}

/// What is wanted of the stack: by the environment, and by a script in its comment `// so_flags: …`.
fn so_flags(text: &str) -> String {
    let all = std::env::var("PACKETDRILL_SO_FLAGS").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("// so_flags:")).unwrap_or("").trim();
    format!("{all},{own}")
}

/// Runs a command to its end, or for as long as it may take. `Err`: what it said.
fn bounded(command: &mut Command) -> Result<(), String> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{command:?}: {e}"))?;
    let begun = Instant::now();
    let late = loop {
        match child.try_wait() {
            Ok(None) if begun.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                let _ = child.kill();
                break true;
            }
            _ => break false,
        }
    };
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() && !late {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(if late { format!("not over after {LIMIT:?}\n{said}") } else { said.into_owned() })
}

/// The adapter this test was built with.
fn shared_object() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test");
    let deps = exe.parent().expect("directory of the test");
    deps.join("libmos_packetdrill.so")
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [run, path] = &args[..]
        && run == "--run"
    {
        let text = std::fs::read_to_string(path).expect("a script");
        let outcome = parse::script(&text).and_then(|script| run::run(script, &so_flags(&text)));
        return match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("{path}:{why}");
                ExitCode::FAILURE
            }
        };
    }
    let others = std::env::var_os("PACKETDRILL_SCRIPTS").map(PathBuf::from);
    let own = others.is_none();
    let root = others.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"));
    let part = args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let mut paths = Vec::new();
    scripts(&root, &mut paths);
    paths.sort();
    let all = paths.len();
    paths.retain(|path| path.to_string_lossy().contains(&part));
    let exe = std::env::current_exe().expect("path of the test");
    let packetdrill = std::env::var_os("PACKETDRILL");
    let (mut passed, mut failed) = (0, 0);
    let mut note = |name: &str, by: &str, outcome: Result<(), String>| match outcome {
        Ok(()) => passed += 1,
        Err(why) => {
            failed += 1;
            println!("{name}, by {by}: FAILED\n{why}");
        }
    };
    println!("\nrunning {} packetdrill scripts", paths.len());
    for path in &paths {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        note(&name, "the interpreter", bounded(Command::new(&exe).arg("--run").arg(path)));
        if let Some(packetdrill) = &packetdrill {
            let flags = so_flags(&std::fs::read_to_string(path).unwrap_or_default());
            let mut command = Command::new(packetdrill);
            command.arg(format!("--so_filename={}", shared_object().display()));
            command.arg(format!("--so_flags={flags}")).arg(path);
            note(&name, "packetdrill", bounded(&mut command));
        }
    }
    if packetdrill.is_none() {
        println!("skipped: the same by packetdrill itself (PACKETDRILL names none)");
    }
    if part.is_empty() && own {
        let enough = if all >= 20 { Ok(()) } else { Err(format!("only {all}")) };
        note("the number of scripts", "count", enough);
        note("wrong scripts", "the interpreter", run::wrong_scripts_fail());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
