//! What the tests that run C programs share: find `libmos.so`, compile a program against it, run it with a time limit.
#![allow(dead_code)] // each test binary uses its own part

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// The package root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Prints a line that `cargo test` shows even when the test passes.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The shared object this test binary was built with: `target/<profile>/deps/libmos.so`, else the copy one level up.
pub fn shared_object() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test executable");
    let deps = exe.parent().expect("directory of the test executable");
    let found = [Some(deps), deps.parent()]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("libmos.so"))
        .find(|so| so.is_file());
    found.unwrap_or_else(|| panic!("no libmos.so beside or above {}", deps.display()))
}

/// A directory of this test binary's own below the target directory; used again by the next run.
pub fn scratch(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("path of the test executable");
    let stem = exe.file_stem().expect("name of the test executable");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(stem).join(name);
    fs::create_dir_all(&dir).expect("scratch directory");
    dir
}

/// Where `-lmos` and, at run time, its SONAME `libmos.so.0` are found.
fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = scratch("lib");
        for name in ["libmos.so", "libmos.so.0"] {
            let link = dir.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(shared_object(), &link).expect("link to libmos.so");
        }
        dir
    })
}

/// Compiles one C file against our headers and `libmos.so`; panics with the compiler's words when it does not build.
pub fn compile(source: &Path, out: &Path, flags: &[&str]) {
    let lib = library_dir();
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(lib);
    let built = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall"])
        .args(flags)
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(source.parent().expect("a file has a directory"))
        .arg(source)
        .arg("-o")
        .arg(out)
        .arg("-L")
        .arg(lib)
        .arg("-lmos")
        .arg("-lpthread")
        .arg(rpath)
        .output()
        .expect("cc runs");
    assert!(built.status.success(), "cc {}:\n{}", source.display(), String::from_utf8_lossy(&built.stderr));
}

/// What a program left behind.
pub struct Outcome {
    /// Exit status; `None` when the time limit ended it.
    pub status: Option<ExitStatus>,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Why the run cannot be believed, if so: killed by the limit, by a signal, or a nonzero exit code.
    pub fn failure(&self) -> Option<String> {
        let tail = |b: &[u8]| {
            let text = String::from_utf8_lossy(b).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(5)..].join("\n")
        };
        match self.status {
            None => Some(format!("time limit reached; stderr ends:\n{}", tail(&self.stderr))),
            Some(s) if !s.success() => Some(format!("{s}; stderr ends:\n{}", tail(&self.stderr))),
            Some(_) => None,
        }
    }
}

/// Runs a program with the library's environment variables cleared and `env` set, and kills it after `limit`.
pub fn run<S: AsRef<OsStr>>(program: &Path, args: &[S], env: &[(&str, &str)], limit: Duration) -> Outcome {
    let mut cmd = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("MOS_") {
            cmd.env_remove(&key);
        }
    }
    let mut child = cmd
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let drain = |mut pipe: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut all = Vec::new();
            let _ = pipe.read_to_end(&mut all);
            all
        })
    };
    let stdout = drain(Box::new(child.stdout.take().expect("piped")));
    let stderr = drain(Box::new(child.stderr.take().expect("piped")));
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("wait for the program") {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    Outcome {
        status,
        stdout: stdout.join().expect("reader of stdout"),
        stderr: stderr.join().expect("reader of stderr"),
    }
}
