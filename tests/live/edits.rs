//! Packets dropped, changed and made by callbacks, as the other end's kernel sees them.

use crate::lab::{KINDS, Kind, fresh, start};
use crate::netns::{Net, Process, eventually};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_dropped_port_is_closed_and_another_is_not() {
    for kind in KINDS {
        let Some(net) = Net::inline("MOS_DROP", false) else { return };
        let dir = fresh("drop");
        let _nginx = net.nginx("server", &dir);
        let running = start(&net, "drop", &kind.conf(&["b0", "b1"], true, 1, ""), &["-d", "81"]);
        net.run("client", "curl", &["-sf", "-m", "5", "-o", "/dev/null", "http://10.77.0.2:80/nginx.conf"]);
        let barred = net
            .command("client", "curl")
            .args(["-sf", "-m", "2", "-o", "/dev/null", "http://10.77.0.2:81/nginx.conf"])
            .status()
            .expect("ip runs");
        assert_eq!(barred.code(), Some(28), "a time-out was expected");
        let report = running.stop();
        report.check();
        assert!(report.sum("drop_callback") >= 2, "{report:#?}");
    }
}

/// Resets reach both ends, with numbers they take.
#[test]
fn a_reset_ends_both_ends() {
    for kind in KINDS {
        let Some(net) = Net::inline("mtcp_reset_conn", false) else { return };
        let dir = fresh("reset");
        let _nginx = net.nginx("server", &dir);
        let running = start(&net, "reset", &kind.conf(&["b0", "b1"], true, 1, ""), &["-r", "81"]);
        let cut = net
            .command("client", "curl")
            .args(["-sf", "-m", "5", "-o", "/dev/null", "http://10.77.0.2:81/nginx.conf"])
            .status()
            .expect("ip runs");
        assert_eq!(cut.code(), Some(56), "a reset connection was expected");
        eventually(Duration::from_secs(3), "the server has forgotten the connection", || {
            let table = net.run("server", "cat", &["/proc/net/tcp"]);
            table.lines().skip(1).all(|l| l.split_whitespace().nth(3) == Some("0A"))
        });
        let report = running.stop();
        report.check();
        assert_eq!(report.sum("sent_packets"), 2, "{report:#?}");
        assert_eq!(report.sum("sent_lost"), 0);
    }
}

/// A request is answered by the box, in the name of a server that never gets it.
#[test]
fn a_page_is_sent_in_the_servers_place() {
    for kind in KINDS {
        let Some(net) = Net::inline("mtcp_sendpkt", false) else { return };
        let dir = fresh("page");
        let _nginx = net.nginx("server", &dir);
        let page = "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nNot here.\n";
        let option = format!("81={page}");
        let running = start(&net, "page", &kind.conf(&["b0", "b1"], true, 1, ""), &["-p", &option]);
        let capture = dir.join("c0.pcap");
        let dump = listen(&net, "client", "c0", &capture);
        let got = net.run("client", "curl", &["-s", "-m", "5", "-i", "http://10.77.0.2:81/nginx.conf"]);
        assert_eq!(got, page, "{kind:?}");
        net.run("client", "curl", &["-sf", "-m", "5", "-o", "/dev/null", "http://10.77.0.2:80/nginx.conf"]);
        dump.signal(libc::SIGINT);
        dump.finish(Duration::from_secs(5));
        let report = running.stop();
        report.check();
        assert_eq!((report.sum("sent_packets"), report.sum("sent_lost")), (1, 0), "{report:#?}");
        assert!(checked(&capture) >= 12);
        let from_81 = "tcp src port 81 and tcp[((tcp[12] & 0xf0) >> 2):4] = 0x48545450";
        let out = Command::new("tcpdump")
            .args(["-nner"])
            .arg(&capture)
            .arg(from_81)
            .output()
            .expect("tcpdump runs");
        let seen = String::from_utf8_lossy(&out.stdout);
        assert_eq!(seen.lines().count(), 1, "{seen}");
        assert!(seen.contains("Flags [P.]"), "the request's flags: {seen}");
    }
}

/// A download of which every byte arrives in packets of the box's own.
#[test]
fn what_carries_data_is_sent_anew() {
    for kind in KINDS {
        let Some(net) = Net::inline("mtcp_sendpkt for all data", false) else { return };
        let dir = fresh("anew");
        let _nginx = net.nginx("server", &dir);
        let body: Vec<u8> = (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(dir.join("body"), &body).expect("write the body");
        let running = start(&net, "anew", &kind.conf(&["b0", "b1"], true, 1, ""), &["-s", "81"]);
        let to = dir.join("got");
        let args = ["-sf", "-m", "20", "-o", to.to_str().expect("UTF-8"), "http://10.77.0.2:81/body"];
        net.run("client", "curl", &args);
        assert!(fs::read(&to).expect("what curl wrote") == body, "{kind:?}: other bytes arrived");
        let report = running.stop();
        report.check();
        // At 1,448 bytes a packet at most; each was dropped and sent.
        assert!(report.sum("sent_packets") >= 1_000_000 / 1448, "{report:#?}");
        assert_eq!(report.sum("sent_packets"), report.sum("drop_callback"), "{report:#?}");
        assert_eq!(report.sum("sent_lost"), 0, "{report:#?}");
    }
}

const PAGE: &str = "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nThe word is BEFORE, and text follows it.\n";

/// A server that sends the page in one segment and more behind it in others, without saying how much.
const SERVER: &str = "
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8080)); s.listen(8)
while True:
    c, _ = s.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.recv(65536); c.sendall(PAGE); time.sleep(0.05); c.sendall(b'x' * 5000 + b'!'); c.close()
";

fn edited(kind: Kind, new: &str) {
    let Some(net) = Net::inline("an edited response", false) else { return };
    let dir = fresh("edit");
    let script = dir.join("server.py");
    fs::write(&script, SERVER.replace("PAGE", &format!("{PAGE:?}.encode()"))).expect("write the server");
    let _server = net.start("server", "python3", &[script.to_str().expect("UTF-8")]);
    net.wait_for_port("server", 8080);
    let edit = format!("BEFORE={new}");
    let running = start(&net, "edit", &kind.conf(&["b0", "b1"], true, 1, ""), &["-e", &edit]);
    let seen = [("client", "c0"), ("server", "s0")].map(|(space, device)| {
        let file = dir.join(format!("{device}.pcap"));
        let dump = listen(&net, space, device, &file);
        (file, dump)
    });
    let got = net.run("client", "curl", &["-sf", "-m", "10", "http://10.77.0.2:8080/"]);
    let (_, body) = PAGE.split_once("\r\n\r\n").expect("a header");
    let expected = body.replacen("BEFORE", new, 1) + &"x".repeat(5000) + "!";
    assert_eq!(got, expected);
    eventually(Duration::from_secs(3), "both ends have closed in order", || {
        net.run("client", "cat", &["/proc/net/tcp"]).lines().count() <= 2
            && net
                .run("server", "cat", &["/proc/net/tcp"])
                .lines()
                .skip(1)
                .all(|l| l.split_whitespace().nth(3) != Some("09"))
    });
    std::thread::sleep(Duration::from_millis(50));
    let report = running.stop();
    report.check();
    for (file, dump) in seen {
        dump.signal(libc::SIGINT);
        dump.finish(Duration::from_secs(5));
        let packets = checked(&file);
        assert!(packets >= 8, "{packets} packets in {}", file.display());
    }
}

/// tcpdump, writing what passes an interface to a file.
fn listen(net: &Net, space: &str, device: &str, file: &Path) -> Process {
    let mut command = net.command(space, "tcpdump");
    command.args(["-i", device, "--immediate-mode", "-U", "-w"]).arg(file).arg("tcp");
    command.stderr(std::process::Stdio::null());
    let dump = Process::start(command);
    eventually(Duration::from_secs(5), "tcpdump listens", || fs::metadata(file).is_ok_and(|m| m.len() >= 24));
    dump
}

/// How many packets a capture has; all their checksums are right, says tcpdump.
fn checked(file: &Path) -> usize {
    let out = Command::new("tcpdump").args(["-nnvvr"]).arg(file).output().expect("tcpdump runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(!text.contains("incorrect") && !text.contains("bad cksum"), "{text}");
    text.matches("(correct)").count()
}

#[test]
fn a_response_changed_in_flight() {
    for kind in KINDS {
        for new in ["BEHIND", "NO", "SOMETHING RATHER LONGER THAN THAT"] {
            edited(*kind, new);
        }
    }
}
