//! Tests of `portcullis dev`: the commands that it prints do what it says.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use crate::process::{Folder, command, component, eventually};

/// Killed when dropped.
struct Sandbox(Child);

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_that_it_prints_gives_what_it_says() {
    let folder = Folder::new();
    let (output, log) = (folder.path("output"), folder.path("log"));
    let child = command()
        .args(["dev", "--any-port", "--policy"])
        .arg(component("portcullis_rules"))
        .arg("--swap-with")
        .arg(component("portcullis_maintenance"))
        .arg("--folder")
        .arg(folder.path("sandbox"))
        .stdin(Stdio::null())
        .stdout(File::create(&output).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut sandbox = Sandbox(child);
    let text = eventually("the sandbox says what to try", || {
        let ended = sandbox.0.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", fs::read_to_string(&log).unwrap());
        let text = fs::read_to_string(&output).unwrap();
        (text.contains("\n# ") && text.ends_with("\n\n")).then_some(text)
    });
    let steps = steps(&text);
    assert!(steps.len() >= 8, "{text}");
    for (command, expected) in steps {
        let output = Command::new("bash").args(["-c", command]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            printed.trim_end(),
            expected,
            "$ {command}\nof\n{text}\nlog:\n{}",
            fs::read_to_string(&log).unwrap()
        );
    }
}

/// The commands, each with the line that follows it.
fn steps(text: &str) -> Vec<(&str, &str)> {
    let lines: Vec<_> = text.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| Some((pair[0].strip_prefix("$ ")?, pair[1].strip_prefix("# ")?)))
        .collect()
}
