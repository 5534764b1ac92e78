//! The commands of `docs/deploy.md`, as they stand there: only the namespaces' and midstat's names are changed, and it waits
//! longer.

use crate::harness::root;
use crate::lab::{fresh, midstat};
use crate::netns::Net;
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn the_commands_of_the_guide_work() {
    // It makes its namespaces itself; this only asks whether it can, and cleans up behind it.
    let Some(mut net) = Net::new("docs/deploy.md") else { return };
    for space in ["client", "box", "server"] {
        net.adopt(space);
    }
    let text = fs::read_to_string(root().join("docs/deploy.md")).expect("docs/deploy.md");
    let blocks: Vec<&str> =
        text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 4, "the guide's blocks");
    let dir = fresh("deploy");
    for name in ["config", "README.md"] {
        std::os::unix::fs::symlink(root().join(name), dir.join(name)).expect("a link");
    }
    let script = blocks
        .concat()
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
