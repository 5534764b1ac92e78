//! Every exported function with every kind of wrong argument: the contract's error, never a crash (`tests/c/badargs.c`).
mod harness;

use std::fs;
use std::time::Duration;

use harness::{compile, note, root, run, scratch};

#[test]
fn every_export_has_a_row() {
    let source = fs::read_to_string(root().join("tests/c/badargs.c")).expect("badargs.c");
    let exports = fs::read_to_string(root().join("tests/exports.txt")).expect("exports.txt");
    let missing: Vec<&str> = exports
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.starts_with('#') && !source.contains(&format!("{name}(")))
        .collect();
    assert!(missing.is_empty(), "not called by badargs.c: {missing:?}");
}

#[test]
fn wrong_arguments_get_the_contracts_error() {
    let dir = scratch("badargs");
    let (program, conf) = (dir.join("badargs"), dir.join("mos.conf"));
    compile(&root().join("tests/c/badargs.c"), &program, &["-Wno-nonnull"]);
    let text = format!(
        "mos {{\n\tforward = 0\n\tmax_concurrency = 1000\n\trmem_size = 8192\n\ttcp_timeout = 30\n\
         \tnetdev {{\n\t\t{} 0x1\n\t}}\n\tarp_table {{\n\t}}\n\troute_table {{\n\t}}\n}}\n",
        root().join("tests/cases/tuple_reuse.pcap").display()
    );
    fs::write(&conf, text).expect("write mos.conf");
    let env = [("MOS_REPLAY_BURST", "1"), ("MOS_REPLAY_START", "join"), ("MOS_LOG", "off")];
    let outcome = run(&program, &["-f".as_ref(), conf.as_os_str()], &env, Duration::from_secs(60));
    let said: Vec<String> = String::from_utf8_lossy(&outcome.stdout)
        .lines()
        .filter(|l| l.starts_with("line ") || l.starts_with("badargs:"))
        .map(str::to_owned)
        .collect();
    if let Some(why) = outcome.failure() {
        panic!("{}\n{why}", said.join("\n"));
    }
    note(said.last().expect("badargs says how many rows it ran"));
}
