//! The example applications `epserver` and `epwget` against curl, nginx and each other, in network namespaces.

#[path = "harness/mod.rs"]
mod harness;
#[path = "netns/mod.rs"]
mod netns;

use harness::{compile, root, scratch};
use netns::{Net, Process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Output, Stdio};
use std::time::Duration;

fn program(name: &str, test: &str) -> PathBuf {
    let out = scratch(test).join(name);
    compile(&root().join(format!("examples/{name}/{name}.c")), &out, &["-Wextra", "-Werror"]);
    out
}

/// The configuration that comes with a program, for another device and address.
fn conf(name: &str, test: &str, device: &str, address: &str) -> PathBuf {
    let text = fs::read_to_string(root().join(format!("examples/{name}/mos.conf"))).expect("mos.conf");
    assert!(text.contains("mos0 0x1 10.77.0.1/24"), "{name}'s mos.conf");
    let path = scratch(test).join(format!("{name}.conf"));
    fs::write(&path, text.replace("mos0 0x1 10.77.0.1/24", &format!("{device} 0x1 {address}")))
        .expect("written");
    path
}

fn net(test: &str) -> Option<Net> {
    let mut net = Net::new(test)?;
    net.space("client");
    net.space("server");
    net.veth(("client", "c0"), ("server", "s0"));
    net.offloads_off("client", "c0");
    net.offloads_off("server", "s0");
    Some(net)
}

/// Files of several sizes, each byte its own.
fn files(test: &str) -> PathBuf {
    let dir = scratch(test).join("www");
    fs::create_dir_all(dir.join("deeper")).expect("directories");
    for size in [0usize, 1, 64, 8192, 1_000_000, 20_000_000] {
        let body: Vec<u8> = (0..size).map(|n| ((n as u64 * 0x9e37_79b9) >> 13) as u8).collect();
        fs::write(dir.join(size.to_string()), body).expect("written");
    }
    fs::write(dir.join("index.html"), "<p>the first page").expect("written");
    fs::write(dir.join("deeper/a file.txt"), "with a space\n").expect("written");
    let link = dir.join("out");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink("/etc/passwd", link).expect("a link");
    dir
}

/// epserver in the namespace "server", as 10.77.0.1.
fn server(net: &Net, test: &str, www: &Path) -> (Process, BufReader<ChildStdout>) {
    let mut command = net.command("server", program("epserver", test));
    command.arg("-f").arg(conf("epserver", test, "s0", "10.77.0.1/24")).arg("-d").arg(www);
    command.stdout(Stdio::piped()).stderr(fs::File::create(scratch(test).join("stderr")).expect("a file"));
    let mut child = command.spawn().expect("epserver starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let process = Process::of(child);
    let mut line = String::new();
    out.read_line(&mut line).expect("its first line");
    assert!(line.starts_with("8 files"), "{line} {:?}", fs::read_to_string(scratch(test).join("stderr")));
    (process, out)
}

/// Ctrl-C; its last line.
fn end(process: Process, mut out: BufReader<ChildStdout>) -> String {
    process.signal(libc::SIGINT);
    assert!(process.finish(Duration::from_secs(10)).status.success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("its words");
    rest.lines().last().unwrap_or_default().to_owned()
}

/// epwget in the namespace "client", as 10.77.0.3.
fn client(net: &Net, test: &str, args: &[&str]) -> (Output, String) {
    let mut command = net.command("client", program("epwget", test));
    command.arg("-f").arg(conf("epwget", test, "c0", "10.77.0.3/24")).arg("-q").args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = Process::start(command).finish(Duration::from_secs(60));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    (out, said)
}

fn curl(net: &Net, args: &[&str]) -> String {
    let out = net.command("client", "curl").args(["-sS", "-m", "20"]).args(args).output().expect("curl runs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn epserver_and_curl() {
    let test = "epserver";
    if !netns::has("curl") {
        return harness::note("skipped: curl is not there (make deps)");
    }
    let Some(net) = net(test) else { return };
    net.address("client", "c0", "10.77.0.2/24");
    let www = files(test);
    let (process, out) = server(&net, test, &www);
    let at = |path: &str| format!("http://10.77.0.1/{path}");
    let got = scratch(test).join("got");
    let got = got.to_str().expect("UTF-8");

    for size in [0, 1, 64, 8192, 1_000_000, 20_000_000] {
        let said = curl(&net, &["-o", got, "-w", "%{http_code} %{size_download}", &at(&size.to_string())]);
        assert_eq!(said, format!("200 {size}"));
        assert!(fs::read(got).ok() == fs::read(www.join(size.to_string())).ok(), "{size} bytes");
    }
    assert_eq!(curl(&net, &[&at("")]), "<p>the first page");
    assert_eq!(curl(&net, &[&at("deeper/a%20file.txt?query")]), "with a space\n");
    // What is not there, does not lead there, or is not served.
    let status = |more: &[&str]| curl(&net, &[&["-o", "/dev/null", "-w", "%{http_code}"], more].concat());
    for path in ["nothing", "../Cargo.toml", "%2e%2e/x", "out", "deeper"] {
        assert_eq!(status(&["--path-as-is", &at(path)]), "404", "{path}");
    }
    let long = format!("X-Long: {}", "x".repeat(10_000));
    assert_eq!(status(&["--path-as-is", &at("%zz")]), "400");
    assert_eq!(status(&["-d", "a=b", &at("")]), "413");
    assert_eq!(status(&["-X", "DELETE", &at("")]), "501");
    assert_eq!(status(&["-H", &long, &at("")]), "431");
    // HEAD; one connection for two requests; none is kept that is not to be.
    let head = curl(&net, &["-I", &at("8192")]);
    assert!(
        head.contains("Content-Length: 8192\r\n") && head.contains("Connection: keep-alive\r\n"),
        "{head}"
    );
    let two = ["-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} "];
    assert_eq!(curl(&net, &[&two[..], &[&at("64"), &at("8192")]].concat()), "1 0 ");
    assert_eq!(
        curl(&net, &[&["-H", "Connection: close"], &two[..], &[&at("64"), &at("8192")]].concat()),
        "1 1 "
    );
    let last = end(process, out);
    assert!(last.ends_with(" 0 errors"), "{last}");
}

#[test]
fn epserver_takes_requests_as_they_come() {
    let test = "epserver_requests";
    let Some(net) = net(test) else { return };
    net.address("client", "c0", "10.77.0.2/24");
    let www = files(test);
    let (process, out) = server(&net, test, &www);
    // A byte at a time, in one piece with others, and big responses that the client does not read for a while.
    let script = r#"
import socket, time
def all(s):
    got = b""
    while True:
        d = s.recv(1 << 20)
        if not d: return got
        got += d
def ask(*parts, pause=0.0):
    s = socket.create_connection(("10.77.0.1", 80), 10)
    for p in parts:
        s.sendall(p)
    time.sleep(pause)
    return all(s)
one = b"GET /64 HTTP/1.1\r\nHost: x\r\n\r\n"
last = b"GET /deeper/a%20file.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
got = ask(*[bytes([b]) for b in last])
assert got.count(b"HTTP/1.1 200") == 1 and got.endswith(b"\r\n\r\nwith a space\n"), got
got = ask(one * 100 + last)
assert got.count(b"HTTP/1.1 200") == 101 and got.endswith(b"with a space\n"), got[-200:]
big = b"GET /1000000 HTTP/1.1\r\nHost: x\r\n\r\n"
got = ask(big * 5 + last, pause=1.0)
assert got.count(b"HTTP/1.1 200") == 6 and len(got) > 5000000 and got.endswith(b"with a space\n"), len(got)
print("fine")
"#;
    assert_eq!(net.run("client", "python3", &["-c", script]), "fine\n");
    let last = end(process, out);
    assert!(last.starts_with("3 connections, 108 requests (0 without a file)"), "{last}");
}

#[test]
fn epwget_and_nginx() {
    let test = "epwget";
    if !netns::has("nginx") {
        return harness::note("skipped: nginx is not there (make deps)");
    }
    let Some(net) = net(test) else { return };
    net.address("server", "s0", "10.77.0.2/24");
    let www = files(test);
    let _nginx = net.nginx("server", &www);
    let got = scratch(test).join("got");
    for size in [0, 1, 8192, 1_000_000, 20_000_000] {
        let (out, said) =
            client(&net, test, &["-o", got.to_str().expect("UTF-8"), &format!("10.77.0.2/{size}")]);
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        assert!(fs::read(&got).ok() == fs::read(www.join(size.to_string())).ok(), "{size} bytes");
    }
    for (more, connections) in [(&["-k"][..], 10), (&[][..], 2000)] {
        let (out, said) =
            client(&net, test, &[&["-n", "2000", "-c", "10"], more, &["http://10.77.0.2:81/64"]].concat());
        let first = format!("2000 requests done, 0 failed, over {connections} connections in ");
        assert!(out.status.success() && said.starts_with(&first), "{said}");
        assert!(said.contains("status     2xx 2000  3xx 0  4xx 0  5xx 0\n"), "{said}");
        assert!(["connect ", "response "].iter().all(|name| said.contains(name)), "{said}");
    }
    // For a time; what is not found; nobody there.
    let (out, said) = client(&net, test, &["-t", "0.5", "-c", "4", "-k", "10.77.0.2/64"]);
    assert!(out.status.success() && said.contains(" in 0.500 s\n"), "{said}");
    let (_, said) = client(&net, test, &["-n", "3", "10.77.0.2/nothing"]);
    assert!(said.contains("4xx 3 "), "{said}");
    let (out, said) = client(&net, test, &["-n", "3", "-c", "2", "10.77.0.2:82/"]);
    assert!(out.status.code() == Some(1) && said.contains("refused 3 "), "{said}");
}

#[test]
fn epwget_and_epserver() {
    let test = "both";
    let Some(net) = net(test) else { return };
    let www = files(test);
    let (process, out) = server(&net, test, &www);
    let got = scratch(test).join("got");
    let (ran, said) = client(
        &net,
        test,
        &["-n", "500", "-c", "20", "-k", "-o", got.to_str().expect("UTF-8"), "10.77.0.1/8192"],
    );
    assert!(
        ran.status.success() && said.starts_with("500 requests done, 0 failed, over 20 connections"),
        "{said}"
    );
    assert!(fs::read(&got).ok() == fs::read(www.join("8192")).ok());
    let last = end(process, out);
    assert!(last.starts_with("20 connections, 500 requests (0 without a file)"), "{last}");
}
