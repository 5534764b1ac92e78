//! The commands of `docs/deploy.md`, as they stand there: only the namespaces' and midstat's names are changed, and it waits
//! longer.

use crate::harness::root;
use crate::lab::{fresh, midstat};
use crate::netns::Net;
use std::fs;
use std::process::{Command, Stdio};

/// The guide, and of it the section about DPDK.
fn guide() -> (String, String) {
    let text = fs::read_to_string(root().join("docs/deploy.md")).expect("docs/deploy.md");
    let start = text.find("\n## DPDK\n").expect("a section about DPDK");
    let end = text[start + 1..].find("\n## ").map_or(text.len(), |n| start + 1 + n);
    (text[..start].to_owned() + &text[end..], text[start..end].to_owned())
}

fn commands(text: &str) -> Vec<String> {
    text.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

#[test]
fn the_commands_of_the_guide_work() {
    let blocks = commands(&guide().0);
    assert!(blocks.len() >= 4, "the guide's blocks");
    work("deploy", &blocks.concat());
}

#[cfg(feature = "dpdk")]
#[test]
fn the_commands_of_the_guide_for_dpdk_work() {
    let _alone = crate::dpdk::HUGE_PAGES.lock();
    let (rest, dpdk) = guide();
    let blocks = commands(&dpdk);
    assert_eq!(blocks.len(), 2, "without huge pages, and with them");
    work("deploy_dpdk", &(commands(&rest)[0].clone() + &blocks.concat()));
}

/// Runs commands of the guide, in namespaces of the test's own.
fn work(test: &str, script: &str) {
    // It makes its namespaces itself; this only asks whether it can, and cleans up behind it.
    let Some(mut net) = Net::new("docs/deploy.md") else { return };
    for space in ["client", "box", "server"] {
        net.adopt(space);
    }
    let dir = fresh(test);
    for name in ["config", "README.md"] {
        std::os::unix::fs::symlink(root().join(name), dir.join(name)).expect("a link");
    }
    let script = script
        .replace("mos-", &net.name(""))
        .replace("examples/midstat/midstat", midstat().to_str().expect("UTF-8"))
        .replace("sleep 2\n", "sleep 4\n");
    // What is left running when a command fails must end, too.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    // Files, not pipes: those would wait for what runs in the background.
    let said = dir.join("said");
    let (out, err) = {
        let file = fs::File::create(&said).expect("a file for its words");
        (file.try_clone().expect("the file again"), file)
    };
    let status = Command::new("bash")
        .args(["-exc", &script])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .expect("bash runs");
    assert!(status.success(), "{}", fs::read_to_string(&said).unwrap_or_default());
}
