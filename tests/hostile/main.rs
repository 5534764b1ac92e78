//! Hostile packets and hostile callbacks, together, for a whole monitor: nothing panics, nothing is lost count of,
//! nothing is left behind, and no byte is read that was not on the wire.
//!
//! Each case comes from a seed. A failure prints it: `HOSTILE_SEED=… cargo test --test hostile` runs that case alone
//! (with `HOSTILE_TRACE=1` it tells what happens), `HOSTILE_CASES=…` runs more cases than the usual ones.

mod random;
mod run;
mod traffic;
mod world;

use random::Random;
use run::{Case, run};
use std::path::Path;
use std::sync::OnceLock;
use traffic::Shape;

/// Runs `make` for many seeds, on the case each gives.
fn many(name: &str, usual: u64, make: impl Fn(&mut Random) -> Case) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("HOSTILE_SEED") {
        let (_, wrong) = run(make(&mut Random::new(seed)));
        assert!(wrong.is_empty(), "{name}, seed {seed}: {wrong:#?}");
        return;
    }
    let (first, cases) = (number("HOSTILE_FIRST").unwrap_or(0), number("HOSTILE_CASES").unwrap_or(usual));
    let mut failed = Vec::new();
    let mut reached = run::Reached::default();
    for seed in first..first + cases {
        let (found, wrong) = run(make(&mut Random::new(seed)));
        reached.add(&found);
        if !wrong.is_empty() {
            failed.push(format!("seed {seed}: {}", wrong[0]));
        }
    }
    println!("{name}: {reached:?}");
    let some = failed.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    assert!(failed.is_empty(), "{name}: {} of {cases} cases failed:\n  {some}", failed.len());
    // Cases that reach nothing would show nothing.
    assert!(reached.flows > cases / 2 && reached.calls > cases, "{name}: {reached:?}");
}

fn talking(r: &mut Random, checked: bool) -> Case {
    let mut case = Case::new(r, checked);
    let shape = Shape {
        calm: r.pick(&[6, 15, 60]),
        talks: r.pick(&[1, 1, 2, 5, 40]),
        packets: r.pick(&[10, 40, 150]),
        checked,
    };
    case.batches = traffic::conversations(r, shape);
    case
}

#[test]
fn bent_conversations_whose_bytes_are_checked() {
    many("checked", 500, |r| talking(r, true));
}

#[test]
fn bent_conversations_and_callbacks_that_edit_anything() {
    many("unchecked", 500, |r| talking(r, false));
}

#[test]
fn mangled_captures() {
    many("mangled", 500, |r| {
        let mut case = Case::new(r, false);
        let (packets, calm) = (r.pick(&[30, 100, 400]), r.pick(&[2, 10, 50]));
        case.batches = traffic::mangled(r, captured(), packets, calm);
        case
    });
}

/// The frames of the test captures.
fn captured() -> &'static [Vec<u8>] {
    static FRAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let mut frames = Vec::new();
        for directory in ["tests/cases", "tests/data"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
            let mut files: Vec<_> =
                std::fs::read_dir(path).expect("captures").map(|e| e.expect("an entry").path()).collect();
            files.sort();
            for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "pcap" || e == "pcapng")) {
                frames.extend(run::frames_of(file).into_iter().take(400));
            }
        }
        assert!(frames.len() > 100, "{} captured frames", frames.len());
        frames
    })
}
