//! Real captures with ground truth: what a C program reassembles through the API (`tests/c/streams.c`) must equal, byte
//! count and SHA-256, what independent tools found. The captures are not part of the project: they are read in the folder
//! `MOS_TEST_CAPTURES` (default `../shared/traffic`), and without it nothing is checked.
mod harness;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{compile, note, root, run, scratch};

/// One direction: bytes and SHA-256 in hex.
type Half = (u64, String);
/// Client address, client port, server address, server port, as printed.
type Tuple = [String; 4];
/// Client to server, server to client.
type Halves = [Half; 2];

/// A stream of `truth.tsv`.
struct Truth {
    file: String,
    stream: String,
    instance: usize,
    tuple: Tuple,
    halves: Halves,
    tier: String,
    flags: HashSet<String>,
    ipv6: bool,
}

/// What `MANIFEST.tsv` says of a file that its streams do not.
#[derive(Default)]
struct Capture {
    fragments: bool,
    encapsulated: bool,
    bad_checksums: bool,
}

/// The rows of a table with a header line, each as a map from column name to value.
fn table(path: &Path) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().expect("a header line").split('\t').collect();
    lines
        .map(|l| head.iter().zip(l.split('\t')).map(|(&k, v)| (k.to_owned(), v.to_owned())).collect())
        .collect()
}

fn number(row: &HashMap<String, String>, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|e| panic!("{column} = {:?}: {e}", row[column]))
}

fn truths(dir: &Path) -> Vec<Truth> {
    let half = |r: &HashMap<String, String>, d: &str| {
        (number(r, &format!("{d}_bytes")), r[&format!("{d}_sha256")].clone())
    };
    table(&dir.join("truth.tsv"))
        .iter()
        .map(|r| Truth {
            file: r["file"].clone(),
            stream: r["stream"].clone(),
            instance: number(r, "instance") as usize,
            tuple: ["client", "cport", "server", "sport"].map(|c| r[c].clone()),
            halves: [half(r, "c2s"), half(r, "s2c")],
            tier: r["tier"].clone(),
            flags: r["flags"].split(',').map(str::to_owned).collect(),
            ipv6: r["ipver"] != "4",
        })
        .collect()
}

fn captures(dir: &Path) -> HashMap<String, Capture> {
    table(&dir.join("MANIFEST.tsv"))
        .iter()
        .map(|r| {
            let capture = Capture {
                fragments: number(r, "ipv4_frags") > 0,
                encapsulated: r["category"] == "pppoe-mpls",
                bad_checksums: number(r, "bad_tcp_csum") + number(r, "bad_ip_csum") > 0,
            };
            (r["file"].clone(), capture)
        })
        .collect()
}

/// Why a stream is not compared, if so.
fn skipped(t: &Truth, capture: &Capture) -> Option<String> {
    let reason = match t.tier.as_str() {
        "GOLD" | "MID" if t.ipv6 => "IPv6",
        "GOLD" | "MID" if t.flags.contains("vlan") => "VLAN",
        "GOLD" | "MID" if t.flags.contains("tun") || capture.encapsulated => "tunnelled",
        "GOLD" | "MID" if capture.fragments => "fragmented",
        "GOLD" | "MID" => return None,
        other => return Some(format!("tier {other}")),
    };
    Some(reason.to_owned())
}

/// The flows the program found, by tuple and instance.
fn flows_of(out: &str) -> HashMap<Tuple, HashMap<usize, Halves>> {
    let mut flows: HashMap<Tuple, HashMap<usize, Halves>> = HashMap::new();
    for line in out.lines() {
        let w: Vec<&str> = line.split(' ').collect();
        let [client, cport, server, sport, instance, c2s, c2s_sha, s2c, s2c_sha] = w[..] else { continue };
        let (Ok(instance), Ok(c2s), Ok(s2c)) = (instance.parse(), c2s.parse(), s2c.parse()) else { continue };
        let tuple = [client, cport, server, sport].map(str::to_owned);
        let halves = [(c2s, c2s_sha.to_owned()), (s2c, s2c_sha.to_owned())];
        flows.entry(tuple).or_default().insert(instance, halves);
    }
    flows
}

fn reassemble(
    program: &Path,
    capture: &Path,
    verify: bool,
    midstream: bool,
    join: bool,
) -> Result<String, String> {
    let name = capture.file_name().expect("a file").to_string_lossy();
    let conf = scratch("traffic").join(format!("{name}.{}.conf", u8::from(midstream)));
    let text = format!(
        "mos {{\n\tforward = 0\n\tmax_concurrency = 10000\n\trmem_size = 4194304\n\ttcp_timeout = 3600\n\ttcp_tw_interval = 0\n\
         \tverify_checksums = {}\n\tmidstream = {}\n\tnetdev {{\n\t\t{} 0x1\n\t}}\n\tarp_table {{\n\t}}\n\troute_table {{\n\t}}\n}}\n",
        u8::from(verify),
        u8::from(midstream),
        capture.display()
    );
    fs::write(&conf, text).expect("write mos.conf");
    let env = [("MOS_REPLAY_START", "join"), ("MOS_LOG", "off")];
    let mut args = vec!["-f".as_ref(), conf.as_os_str()];
    args.extend(join.then_some(std::ffi::OsStr::new("-j")));
    let outcome = run(program, &args, &env, Duration::from_secs(60));
    match outcome.failure() {
        Some(why) => Err(why),
        None => String::from_utf8(outcome.stdout).map_err(|e| e.to_string()),
    }
}

/// Compares one direction; `None` when equal.
fn difference(t: &Truth, side: &str, want: &Half, got: &Half) -> Option<String> {
    (want != got).then(|| {
        let what = if want.0 == got.0 { ", other bytes" } else { "" };
        let flags: Vec<&str> = t.flags.iter().map(String::as_str).collect();
        format!(
            "{} stream {} {} side {side}: expected {} got {}{what} (flags {})",
            t.file,
            t.stream,
            t.tier,
            want.0,
            got.0,
            flags.join(",")
        )
    })
}

#[test]
fn streams_equal_the_ground_truth() {
    let dir = std::env::var_os("MOS_TEST_CAPTURES")
        .map_or_else(|| root().join("../shared/traffic"), |d| root().join(PathBuf::from(d)));
    let Ok(dir) = dir.canonicalize() else {
        note(&format!("traffic: no captures at {}, nothing checked", dir.display()));
        return;
    };
    let program = scratch("traffic").join("streams");
    compile(&root().join("tests/c/streams.c"), &program, &[]);

    let manifest = captures(&dir);
    let mut by_run: BTreeMap<(String, bool), Vec<Truth>> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut unverified: HashSet<String> = HashSet::new();
    for t in truths(&dir) {
        let capture = manifest.get(&t.file).unwrap_or_else(|| panic!("{} is not in MANIFEST.tsv", t.file));
        if t.flags.contains("badck") || capture.bad_checksums {
            unverified.insert(t.file.clone());
        }
        match skipped(&t, capture) {
            Some(reason) => *reasons.entry(reason).or_default() += 1,
            None => by_run.entry((t.file.clone(), t.tier == "MID")).or_default().push(t),
        }
    }

    let mut report = String::new();
    let (mut checked, mut equal) = (0, 0);
    for ((file, midstream), streams) in &by_run {
        let run = |join| reassemble(&program, &dir.join(file), !unverified.contains(file), *midstream, join);
        let flows = match run(false) {
            Ok(out) => flows_of(&out),
            Err(why) => {
                checked += streams.len();
                let _ = writeln!(report, "{file}: {why}");
                continue;
            }
        };
        for t in streams {
            checked += 1;
            let [c, cp, s, sp] = t.tuple.clone();
            let find = |tuple: &Tuple| flows.get(tuple).and_then(|f| f.get(&t.instance)).cloned();
            // Who is the client of a conversation seen from the middle is a guess, ours or theirs.
            let turned = || find(&[s, sp, c, cp]).filter(|_| *midstream).map(|[c2s, s2c]| [s2c, c2s]);
            let Some([c2s, s2c]) = find(&t.tuple).or_else(turned) else {
                let _ = writeln!(report, "{file} stream {} {}: no such flow", t.stream, t.tier);
                continue;
            };
            let differences = |[c2s, s2c]: &[Half; 2]| -> Vec<String> {
                let both = [difference(t, "c2s", &t.halves[0], c2s), difference(t, "s2c", &t.halves[1], s2c)];
                both.into_iter().flatten().collect()
            };
            let mut wrong = differences(&[c2s, s2c]);
            if !wrong.is_empty() && *midstream && t.flags.contains("rst") {
                // A valid reset ends our flow (D8); what the peer had under way is picked up as another. The truth counts
                // them as one stream: so do we, then.
                if let Some(whole) =
                    run(true).ok().and_then(|out| flows_of(&out).get(&t.tuple)?.get(&0).cloned())
                {
                    wrong = differences(&whole);
                }
            }
            if wrong.is_empty() {
                equal += 1;
            }
            for line in wrong {
                let _ = writeln!(report, "{line}");
            }
        }
    }
    let skips: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    note(&format!("traffic: {checked} streams checked, {equal} equal; skipped: {}", skips.join(", ")));
    assert!(checked > 0, "{} is there, but no stream of it was checked", dir.display());
    assert!(equal == checked, "{report}traffic: {equal} of {checked} streams equal");
}
