//! How a fix that stopped is gone on with: the options that are not kept with it are given again.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use super::args::{Args, DRAIN, FixArgs, NAMESPACE, NODE, TIMEOUT, VERIFY, duration};
use super::render::Again;

/// An option as it was given this time, and whether taking back has a use for it too.
type Given = (&'static str, Option<String>, bool);

/// The commands, as they are typed.
pub(super) fn again(args: &Args, wanted: &FixArgs) -> Again {
    let other = |now: Duration, usual: &str| (duration(usual) != Ok(now)).then(|| text(now));
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let given: [Given; 13] = [
        ("--server", args.server.clone(), true),
        ("--ca", path(&args.ca), true),
        ("--token-file", path(&args.token_file), true),
        ("--kubeconfig", path(&args.kubeconfig), true),
        ("--context", args.context.clone(), true),
        (
            "--namespace",
            (args.namespace != NAMESPACE).then(|| args.namespace.clone()),
            true,
        ),
        ("--timeout", other(args.timeout, TIMEOUT), true),
        ("--drain-timeout", other(wanted.drain_timeout, DRAIN), false),
        ("--node-timeout", other(wanted.node_timeout, NODE), true),
        ("--verify-timeout", other(wanted.verify_timeout, VERIFY), false),
        ("--restart-command", wanted.restart_command.clone(), true),
        ("--after-command", wanted.after_command.clone(), false),
        ("--window", wanted.window.map(|window| window.to_string()), false),
    ];
    Again {
        resume: typed("kubectl cidrift fix --resume --yes", &given, false),
        abort: typed("kubectl cidrift fix --abort --yes", &given, true),
    }
}

fn typed(command: &str, given: &[Given], back: bool) -> String {
    let mut line = command.to_owned();
    for (name, value, both) in given {
        let Some(value) = value.as_deref().filter(|_| *both || !back) else {
            continue;
        };
        // Only what no command line can have is not quoted.
        let value = shlex::try_quote(value).unwrap_or_default();
        line += &format!(" {name} {value}");
    }
    line
}

/// A time, as [`duration`] reads it.
fn text(time: Duration) -> String {
    SignedDuration::try_from(time).map_or_else(|_| time.as_secs().to_string(), |time| format!("{time:#}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::Command;
    use super::*;

    fn of(given: &[&str]) -> Again {
        let words = ["kubectl-cidrift", "fix"].iter().chain(given);
        let args = Args::try_parse_from(words).unwrap();
        let Command::Fix(wanted) = &args.command else { panic!() };
        again(&args, wanted)
    }

    #[test]
    fn what_is_not_kept_is_said_again_as_it_was_given() {
        let plain = of(&["n1", "--force", "--node-timeout", "2m"]);
        assert_eq!(plain.resume, "kubectl cidrift fix --resume --yes");
        assert_eq!(plain.abort, "kubectl cidrift fix --abort --yes");
        let given = [
            "--server",
            "https://10.0.0.1:7440",
            "--ca",
            "/tmp/the ca.pem",
            "--token-file",
            "token",
            "--context",
            "lab",
            "--timeout",
            "20s",
            "--drain-timeout",
            "90s",
            "--node-timeout",
            "10m",
            "--restart-command",
            "ssh {node} 'x y'",
            "--after-command",
            "tell {node} {cidrs}",
            "--window",
            "22:00-6:00",
        ];
        let all = of(&[["n1"].as_slice(), &given].concat());
        assert_eq!(
            all.abort,
            "kubectl cidrift fix --abort --yes --server https://10.0.0.1:7440 --ca '/tmp/the ca.pem' --token-file token \
             --context lab --timeout 20s --node-timeout 10m --restart-command \"ssh {node} 'x y'\""
        );
        // It is read as it was given.
        let words = shlex::split(all.resume.strip_prefix("kubectl cidrift fix ").unwrap()).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(words.len(), 2 + given.len());
        assert_eq!(of(&words).resume, all.resume);
        assert!(
            all.resume
                .contains("--after-command 'tell {node} {cidrs}' --window 22:00-06:00"),
            "{}",
            all.resume
        );
    }
}
